"""`echoic doctor`: what this machine has, what is missing, and what would bring it."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

from echoic.cli.options import Talk, cores, verb
from echoic.cli.output import render, say_json, table

PACKAGES = {
    "torch": ("torch", "train"),
    "scikit-learn": ("sklearn", "train"),
    "scipy": ("scipy", "train"),
    "pyarrow": ("pyarrow", "train"),
    "matplotlib": ("matplotlib", "train"),
    "onnx": ("onnx", "train"),
    "rjieba": ("rjieba", "zh"),
    "optuna": ("optuna", "tune"),
    "sacrebleu": ("sacrebleu", "translate"),
    "fastapi": ("fastapi", "serve"),
    "uvicorn": ("uvicorn", "serve"),
}
"""{distribution: (module, the extra that installs it)}"""


@verb
def doctor(talk: Talk) -> None:
    """Say what this machine can do: versions, devices, kernels, what is missing."""
    found = examine()
    if talk.json:
        say_json(found)
        return
    rows = [["echoic", found["echoic"]], ["python", found["python"]], ["machine", found["machine"]]]
    rows += [[name, _package(state)] for name, state in found["packages"].items()]
    rows += [["devices", ", ".join(found["devices"]) or "none, as torch is missing"]]
    rows += [
        ["threads", str(found["threads"])],
        ["core", found["core"]],
        ["kernels", found["kernels"]],
        ["data", found["data"]],
    ]
    render(table({"": "left", " ": "left"}, rows))


def examine() -> dict[str, Any]:
    import echoic
    from echoic.kernels import native
    from echoic.read.named import data_dir

    why_not = native.why_not()
    there = importlib.util.find_spec("torch") is not None
    return {
        "echoic": echoic.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} logical processors",
        "packages": {name: _state(name, *where) for name, where in PACKAGES.items()},
        "devices": _devices() if there else [],
        "threads": _threads() if there else cores(),
        "core": native.name() if why_not is None else f"none: {why_not}",
        "kernels": _kernels() if there else "no training, as torch is missing",
        "data": str(data_dir()),
    }


def _state(name: str, module: str, extra: str) -> dict[str, str | None]:
    if importlib.util.find_spec(module) is None:
        return {"version": None, "install": f"pip install 'echoic[{extra}]'"}
    try:
        return {"version": metadata.version(name), "install": None}
    except metadata.PackageNotFoundError:  # its module came with another distribution
        return {"version": "there", "install": None}


def _package(state: dict[str, str | None]) -> str:
    return state["version"] or f"missing: {state['install']}"


def _devices() -> list[str]:
    import torch

    devices = ["cpu"] + [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return devices + (["mps"] if torch.backends.mps.is_available() else [])


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _kernels() -> str:
    """Which code runs a default layer, and why, asked of the one place that decides it."""
    import torch

    from echoic.core import registry
    from echoic.core.config import CellConfig
    from echoic.kernels.dispatch import choose

    kind = CellConfig().kind
    choice = choose(registry.get("cell", kind)(2, 2), _never, ragged=True, want_state=False)
    return f"{kind}: {choice.name} ({choice.why}); torch uses {torch.backends.cpu.get_cpu_capability()}"


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("asked which kernel runs, not to run it")
