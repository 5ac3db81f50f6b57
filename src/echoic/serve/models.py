"""The models that a server has: bundles by name, each opened by what it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from echoic.core.errors import UsageError, show
from echoic.kernels.door import Products
from echoic.serve.author import Author, author_of
from echoic.serve.gate import Problem
from echoic.serve.interpreter import Interpreter, interpreter_of
from echoic.serve.opening import NeedsTorch, opened_at
from echoic.serve.predictor import Predictor, predictor_of

Served = Predictor | Author | Interpreter
Kind = TypeVar("Kind", Predictor, Author, Interpreter)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
OPENERS: dict[str, Callable[..., Served]] = {
    "classify": predictor_of,
    "generate": author_of,
    "translate": interpreter_of,
}
DOES = {Predictor: "classifies", Author: "writes", Interpreter: "translates"}


@dataclass
class Models:
    """Bundles by name. A request takes its model once, so that a reload under it changes nothing for it."""

    paths: Mapping[str, str]
    threads: int = 1
    products: Products = ""
    loaded: dict[str, Served] = field(default_factory=dict)

    def load(self) -> None:
        """Opens every bundle, then takes them all at once. Raises BundleError or NeedsTorch, and changes nothing."""
        self.loaded = {name: self._open(path) for name, path in self.paths.items()}

    def get(self, name: str | None, kind: type[Kind]) -> tuple[str, Kind]:
        """(name, model); None: the first of this kind. Raises Problem."""
        if name is None:
            name = next((name for name, each in self.loaded.items() if isinstance(each, kind)), None)
            if name is None:
                raise Problem(404, "model", f"no model here {DOES[kind]}")
        if name not in self.loaded:
            raise Problem(404, "model", f"no model {show(name)!r}; there is {', '.join(self.loaded)}")
        found = self.loaded[name]
        if not isinstance(found, kind):
            raise Problem(422, "model", f"{name} {DOES[type(found)]}; this wants a model that {DOES[kind]}")
        return name, found

    def _open(self, path: str) -> Served:
        with opened_at(path) as (opened, config):
            if config.task.kind not in OPENERS:
                raise NeedsTorch(f"a model that does {config.task.kind}")
            return OPENERS[config.task.kind](opened, config, threads=self.threads, products=self.products)


def named(runs: list[str]) -> dict[str, str]:
    """RUN or NAME=RUN, each -> {name: path}. Raises UsageError for two of one name, or a name that is none."""
    out: dict[str, str] = {}
    for run in runs:
        name, equals, path = run.partition("=")
        if not equals or not NAME.fullmatch(name):
            place = Path(run).resolve()
            stem = place.parent.name if place.name == "bundle" else place.name
            name, path = re.sub(r"[^a-z0-9._-]", "-", stem.lower()).lstrip("._-")[:64] or "model", run
        if name in out:
            raise UsageError(f"two models named {name}: give one another name, as in {name}-2={show(path, 100)}")
        out[name] = path
    return out
