"""The command-line door: `main.py` finds the verbs, each verb is a file, `options.py` and `output.py` are shared."""
