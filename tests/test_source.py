"""What the source must not do: run code out of a file, or hand a text to a shell. Read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import echoic

HOUSE = Path(echoic.__file__).parent
FILES = sorted(path for path in HOUSE.rglob("*.py") if "__pycache__" not in path.parts)

MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "torch.load", "torch.save", "torch.hub", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen",
    "np.random.seed", "numpy.random.seed", "pandas.read_pickle",
}  # fmt: skip
METHODS = {"extractall"}
KEYWORDS = {"allow_pickle", "shell", "trust_remote_code"}


def forbidden(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    names = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{a.name}" for a in node.names if node.module.split(".")[0] in MODULES)
            yield from (f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in ATTRIBUTES)
        elif isinstance(node, ast.Attribute):
            name = _dotted(node)
            head, _, rest = name.partition(".")
            if name in ATTRIBUTES or f"{names.get(head, head)}.{rest}" in ATTRIBUTES or node.attr in METHODS:
                yield name
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield node.func.id
            for keyword in node.keywords:
                if keyword.arg in KEYWORDS and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    yield f"{keyword.arg}="


def _aliases(tree: ast.AST) -> dict[str, str]:
    """{name in this file: module}"""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import))
    return {alias.asname or alias.name: alias.name for node in imports for alias in node.names}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_nothing_unsafe(file: Path) -> None:
    assert list(forbidden(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "exec(text)",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=True)",
        "from torch import load",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import yaml\nyaml.load(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import subprocess\nsubprocess.run(text, shell=wanted)",
        "import os\nos.system(text)",
        "archive.extractall(folder)",
        "def f():\n    import marshal",
    ],
)
def test_each_unsafe_thing_is_found(source: str) -> None:
    assert list(forbidden(source))


def test_safe_things_pass() -> None:
    source = (
        "import numpy as np\nimport re\nnp.load(p, allow_pickle=False)\nre.compile('x')\nmodel.eval()\nlike.load(p)"
    )
    assert list(forbidden(source)) == []


def test_a_file_is_read_in_one_sitting() -> None:
    """400 lines, as a wall: whoever comes to it has two pages in one file."""
    core = [path for path in (HOUSE / "kernels/csrc").rglob("*") if path.is_file()]
    assert len(core) > 10
    assert [f.name for f in [*FILES, *core] if len(f.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_no_absolute_path_of_somebodys_machine() -> None:
    homes = ("/home/", "/root/", "/Users/", "C:\\\\Users")
    assert [f.name for f in FILES if any(home in f.read_text(encoding="utf-8") for home in homes)] == []
