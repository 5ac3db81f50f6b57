"""Labels -> numbers: one class a row, several at once, or a probability for each class.

    labels = Labels.fit(targets)           # kind "single", "several" or "soft", told by what a target is
    y = labels.encode(targets)             # (N,) int64, or (N, C) float32

The classes are those of the training rows, in order: numbers by value ("2" before "10"), then the others
by code point.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from echoic.core.bundle import canonical
from echoic.core.errors import BundleError, DataError, nearest, show
from echoic.core.types import Label
from echoic.read.labels import like_ids, over_their_sum

Kind = Literal["single", "several", "soft"]

FILE = "labels.json"

_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]{1,300})?")


@dataclass(frozen=True)
class Labels:
    """The classes and how a target names them."""

    kind: Kind
    names: list[str]

    @classmethod
    def fit(cls, targets: Sequence[Label], multilabel: bool | None = None, rows: Sequence[int] | None = None) -> Labels:
        """`multilabel`: True, a row may have several labels (or none); False, it has one; None, by looking.
        `rows`: row numbers for messages, 1, 2, ... if not given. Raises DataError."""
        kind = _kind(targets, multilabel)
        seen: set[str] = set()
        for i, target in enumerate(targets):
            seen.update(_named(target, kind, _row(rows, i)))
        names = sorted(seen, key=_order)
        least = 1 if kind == "several" else 2
        if len(names) < least:
            raise DataError(
                f"needs >= {least} classes, found {len(names)}{': ' + repr(show(names[0])) if names else ''}"
            )
        if kind == "single" and (what := like_ids(names, len(targets))):
            raise DataError(what)
        return cls(kind, names)

    def encode(self, targets: Sequence[Label], rows: Sequence[int] | None = None) -> np.ndarray:
        """(N,) int64 class ids where `kind` is "single"; else (N, C) float32: 0 and 1 for "several",
        probabilities that sum to 1 for "soft". Raises DataError naming the row of a label that training
        did not have."""
        place = {name: i for i, name in enumerate(self.names)}
        single = self.kind == "single"
        shape, kind = ((len(targets),), np.int64) if single else ((len(targets), len(place)), np.float32)
        out: np.ndarray = np.zeros(shape, kind)
        for i, target in enumerate(targets):
            row = _row(rows, i)
            for name, value in _named(target, self.kind, row).items():
                if name not in place:
                    raise DataError(f"row {row}: label {show(name)!r} was not in training{nearest(name, self.names)}")
                if single:
                    out[i] = place[name]
                else:
                    out[i, place[name]] = value
        return out

    def balanced_weights(self, encoded: np.ndarray) -> np.ndarray:
        """(C,) float32: a class's weight is N / (C n_c), n_c its rows (its share of them for soft labels),
        so that each class weighs the same in all. A class without a row weighs 0."""
        one_hot = np.eye(len(self.names), dtype=np.float64)[encoded] if self.kind == "single" else encoded
        mass = one_hot.sum(axis=0, dtype=np.float64)
        weights = np.divide(mass.sum(), len(mass) * mass, out=np.zeros_like(mass), where=mass > 0)
        balanced: np.ndarray = weights.astype(np.float32)
        return balanced

    def files(self) -> dict[str, bytes]:
        return {FILE: canonical({"kind": self.kind, "names": self.names})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Labels:
        """What `files` wrote. Raises BundleError."""
        try:
            content = json.loads(files[FILE])
            kind, names = content["kind"], content["names"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BundleError(f"{FILE}: missing, or not labels that echoic wrote") from None
        distinct = isinstance(names, list) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names)
        if kind not in ("single", "several", "soft") or not distinct or not names:
            raise BundleError(f"{FILE}: not a kind of label and a list of distinct names")
        return cls(kind, names)


def _kind(targets: Sequence[Label], multilabel: bool | None) -> Kind:
    if any(isinstance(target, Mapping) for target in targets):
        return "soft"
    if multilabel is None:
        multilabel = any(isinstance(target, (tuple, list)) for target in targets)
    return "several" if multilabel else "single"


def _named(target: Label, kind: Kind, row: int) -> Mapping[str, float]:
    """{name: 1} or {name: probability} of one target. A single name is welcome in every kind."""
    if isinstance(target, str):
        return {target: 1.0}
    if kind == "soft" and isinstance(target, Mapping):
        return _probabilities(target, row)
    if kind == "several" and isinstance(target, (tuple, list)) and all(isinstance(name, str) for name in target):
        return dict.fromkeys(target, 1.0)
    if target is None:
        raise DataError(f"row {row}: no label; give one, or drop such rows with --drop-unlabelled")
    wanted = {"single": "one label", "several": "a list of labels", "soft": "probabilities of classes"}[kind]
    raise DataError(f"row {row}: wants {wanted}, got {show(target)!r}")


def _probabilities(target: Mapping[str, float], row: int) -> dict[str, float]:
    for name, value in target.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float, np.floating))
            or not math.isfinite(value)
            or value < 0
        ):
            raise DataError(
                f"row {row}: the probability of {show(name)!r} is {show(value)!r}, not a number from 0 to 1"
            )
    return over_their_sum({str(name): float(value) for name, value in target.items()}, f"row {row}")


def _row(rows: Sequence[int] | None, i: int) -> int:
    return i + 1 if rows is None else rows[i]


def _order(name: str) -> tuple[int, float, str]:
    return (0, float(name), name) if _NUMBER.fullmatch(name) else (1, 0.0, name)
