"""One way to keep a figure: what was run, on what, when, and what came out, as a JSON file."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from echoic.read.named import data_dir

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("echoic", "torch", "numpy", "scikit-learn", "tokenizers")


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "system": platform.system()}


PLACES = {"--work", "--runs"}
"""Options that say where pieces are kept, which is a machine's own affair."""


def save(name: str, facts: dict[str, Any]) -> Path:
    """Writes results/<name>.json: `facts` and where they come from."""
    words = [argument.replace(str(data_dir()), "$ECHOIC_DATA") for argument in sys.argv[1:]]
    given = [word for before, word in zip(["", *words], words, strict=False) if not {before, word} & PLACES]
    about = {
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *given]),
        "versions": {p: version(p) for p in PACKAGES} | {"python": platform.python_version()},
        "machine": machine(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text({**facts, **about}), encoding="utf-8")
    return path


def text(facts: dict[str, Any]) -> str:
    """JSON with a line for each fact, and for each row of a list of records: a change of one shows as one."""

    def value(found: Any) -> str:
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return "[\n  " + ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in found) + "\n ]"
        return json.dumps(found, ensure_ascii=False)

    return "{\n" + ",\n".join(f" {json.dumps(name)}: {value(found)}" for name, found in facts.items()) + "\n}\n"
