"""One file, one thing: a registered name is its file's name.

A room that can be extended (cells, tasks, tokenizers) is a package whose modules each hold one
class decorated with `@register`. Listing the names reads the folder, so that `--help` and a
config check import nothing heavy; using one imports its file and no other.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from echoic.core.errors import ConfigError, nearest, show

ROOMS = {"cell": "echoic.cells", "task": "echoic.tasks", "tokenizer": "echoic.prepare.tokenizers"}

_registered: dict[str, Any] = {}
_Class = TypeVar("_Class", bound=type)


def register(cls: _Class) -> _Class:
    """Class decorator: enrols `cls` under its module's name."""
    if cls.__module__ in _registered:
        raise TypeError(f"{cls.__module__} registers two classes; one file holds one")
    _registered[cls.__module__] = cls
    return cls


def _modules(kind: str) -> dict[str, Path]:
    package = importlib.import_module(ROOMS[kind])
    folder = Path(str(package.__path__[0]))
    found = (m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base")
    return {name: folder / f"{name}.py" for name in sorted(found)}


def names(kind: str) -> list[str]:
    """The registered names of a kind, by the files of its room; nothing in it is imported."""
    return list(_modules(kind))


def summaries(kind: str) -> dict[str, str]:
    """{name: first line of its file's docstring}, read without importing the file."""
    out = {}
    for name, path in _modules(kind).items():
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        out[name] = doc.strip().split("\n", 1)[0]
    return out


def defaults(kind: str, name: str) -> dict[str, Any]:
    """The settings in `<name>.toml` beside its file, as nested mappings: where its defaults differ from
    those of `core.config`. Read as data, so that a config check imports nothing."""
    path = _modules(kind)[name].with_suffix(".toml")
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def flat_defaults(kind: str, name: str) -> dict[str, Any]:
    """`defaults`, flat."""
    return flat(defaults(kind, name))


def flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Nested sections as {"section.key": value}."""
    return {f"{section}.{key}": value for section, inner in sections.items() for key, value in inner.items()}


def get(kind: str, name: str) -> Any:
    """The class registered as `name`. Raises ConfigError with the nearest name if there is none."""
    if name not in _modules(kind):
        raise ConfigError(f"there is no {kind} named {show(name)!r}{nearest(name, names(kind))}")
    module = f"{ROOMS[kind]}.{name}"
    importlib.import_module(module)
    return _registered[module]
