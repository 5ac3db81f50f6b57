"""Who may import whom, the light front door, and the names it offers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import echoic

HOUSE = Path(echoic.__file__).parent
PATH = [
    "core",
    "read",
    "prepare",
    "batch",
    "cells",
    "kernels",
    "layers",
    "decode",
    "tasks",
    "train",
    "evaluate",
    "explain",
    "export",
    "serve",
]
"""The rooms, in the order data travels: a room sees itself and those before it."""
ABOVE = {"cli", "facts"}
"""Folders above the rooms, which no room sees."""
TORCHLESS = {"core", "read", "prepare", "batch", "decode", "serve"}
NEVER = {"serve": {"train", "read", "tasks"}}
"""Beyond the order: what a room must not know although it lies before it."""

FILES = sorted(path for path in HOUSE.rglob("*.py") if "__pycache__" not in path.parts)


def imported(source: str, file: Path) -> set[str]:
    """Full module names of every import in the source, also inside functions; those only for types count too."""
    package = ["echoic", *file.relative_to(HOUSE).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names if module.startswith("echoic")}
    return found


def room_of(module: str) -> str | None:
    """`echoic.read.tables` -> `read`; None for what is not ours, or is a mere name of the front door."""
    parts = module.split(".")
    return parts[1] if parts[0] == "echoic" and len(parts) > 1 and parts[1] in {*PATH, *others()} else None


def others() -> set[str]:
    """What stands in the house outside the rooms."""
    return {p.stem for p in HOUSE.iterdir() if p.suffix == ".py" and p.stem != "__init__"} | ABOVE


def broken_rules(source: str, file: Path) -> list[str]:
    inside = file.relative_to(HOUSE).parts[0]
    if inside not in PATH:
        return []
    names = imported(source, file)
    allowed = set(PATH[: PATH.index(inside) + 1]) - NEVER.get(inside, set())
    wrong = [name for name in sorted(names) if room_of(name) not in {None, *allowed}]
    if inside in TORCHLESS:
        wrong += [name for name in sorted(names) if name.split(".")[0] == "torch"]
    if inside == "tasks":
        wrong += [
            n for n in sorted(names) if n.startswith("echoic.tasks.") and n.split(".")[2] not in ("base", file.stem)
        ]
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_a_room_looks_back_and_down_only(file: Path) -> None:
    assert broken_rules(file.read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize(
    ("room", "source", "named"),
    [
        ("read", "from echoic.prepare import text", "echoic.prepare"),
        ("train", "def f():\n    import echoic.evaluate.metrics", "echoic.evaluate.metrics"),
        ("train", "from echoic.pipeline import fit", "echoic.pipeline"),
        ("evaluate", "from echoic import model", "echoic.model"),
        ("cells", "from echoic.layers.unroll import unroll", "echoic.layers.unroll"),
        ("core", "from torch import nn", "torch"),
        ("prepare", "from ..layers import pool", "echoic.layers"),
        ("tasks", "from echoic.tasks.generate import Options", "echoic.tasks.generate"),
    ],
)
def test_a_forbidden_import_is_found(room: str, source: str, named: str) -> None:
    assert named in broken_rules(source, HOUSE / room / "invented.py")


def test_every_room_is_known() -> None:
    folders = {p.name for p in HOUSE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders <= {*PATH, *ABOVE}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after `code`."""
    show = "import sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "sklearn", "scipy", "pyarrow", "matplotlib", "onnx", "onnxruntime", "optuna", "pandas"}


def test_importing_echoic_loads_nothing_heavy() -> None:
    assert not loaded_by("import echoic") & (HEAVY | {"numpy", "pydantic"})


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["train"], ["nonsense"]])
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    code = f"import contextlib, io\nfrom echoic.cli.main import main\nwith contextlib.redirect_stdout(io.StringIO()): main({arguments!r})"
    assert not loaded_by(code) & HEAVY


def test_rooms_that_need_no_torch_load_none() -> None:
    modules = [
        ".".join(("echoic", *path.relative_to(HOUSE).with_suffix("").parts))
        for path in FILES
        if path.relative_to(HOUSE).parts[0] in TORCHLESS and path.name != "__init__.py"
    ]
    assert len(modules) > 10
    assert not loaded_by("import " + ", ".join(modules)) & (HEAVY - {"pyarrow"})


def test_the_public_door() -> None:
    assert set(echoic.__all__) == set(dir(echoic)) == {*echoic._DOOR, "__version__"}
    for name in echoic.__all__:
        assert getattr(echoic, name) is not None
    with pytest.raises(AttributeError, match="Sequencer"):
        echoic.Sequencer
