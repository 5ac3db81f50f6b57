"""What scikit-learn hands over as y, in any of its forms, as the house's labels (for estimators.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from echoic.core.errors import DataError, show
from echoic.core.types import Label


@dataclass(frozen=True)
class Targets:
    """y as the house writes it: `classes` in the type they came in, their `names`, one Label a text."""

    form: Literal["single", "soft", "indicator", "lists"]
    classes: np.ndarray
    names: list[str]
    labels: list[Label]


def read_targets(y: Any, multilabel: bool) -> Targets:
    if y is None:
        raise DataError("requires y to be passed, but the target y is None: fit needs a label for each text")
    if hasattr(y, "tolist") and not isinstance(getattr(y, "dtype", np.dtype(object)), np.dtype):
        y = np.array(y.tolist())  # a type of pandas' own
    if multilabel:
        return _indicator(np.asarray(y)) if _is_table(y) else _lists(y)
    if _is_table(y) and np.asarray(y).shape[1] > 1:
        return _soft(np.asarray(y))
    if isinstance(y, (list, tuple)):
        _one_type(y)
    try:
        y = column_or_1d(y, warn=True)
    except ValueError as error:
        raise DataError(f"y: {error}; for several labels a text set multilabel=True") from None
    if y.dtype == object:
        _no_nothing(y)
    else:
        check_classification_targets(y)
    classes = _sorted(y)
    names = _names(classes)
    place = dict(zip(classes.tolist(), names, strict=True))
    return Targets("single", classes, names, [place[label] for label in y.tolist()])


def _is_table(y: Any) -> bool:
    """Whether y is two axes of numbers, which no collection of labels of unequal number can be."""
    if not (hasattr(y, "shape") or hasattr(y, "__array__")):
        return False
    array = np.asarray(y)
    return array.ndim == 2 and array.dtype.kind in "buif"


def _soft(y: np.ndarray) -> Targets:
    y = y.astype(np.float64)
    classes = np.arange(y.shape[1])
    names = _names(classes)
    return Targets("soft", classes, names, [dict(zip(names, row.tolist(), strict=True)) for row in y])


def _indicator(y: np.ndarray) -> Targets:
    if not np.isin(y, (0, 1)).all():
        raise DataError("y: with multilabel=True a table holds 0 and 1 only, one column a label")
    classes = np.arange(y.shape[1])
    names = _names(classes)
    return Targets("indicator", classes, names, [tuple(names[i] for i in np.flatnonzero(row)) for row in y])


def _lists(y: Any) -> Targets:
    rows = list(y)
    for i, row in enumerate(rows, 1):
        if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__"):
            raise DataError(f"y: row {i} is {show(row)!r}; with multilabel=True each row is a collection of labels")
    rows = [[label.item() if isinstance(label, np.generic) else label for label in row] for row in rows]
    flat = [label for row in rows for label in row]
    for i, row in enumerate(rows, 1):
        if any(map(is_nothing, row)):
            raise DataError(f"y: row {i}: {show(row)}: a label is none; leave it out")
        if any(hasattr(label, "__iter__") and not isinstance(label, str) for label in row):
            raise DataError(f"y: row {i}: {show(row)}: a label is a collection itself; want text or a number")
    _one_type(flat)
    classes = _sorted(np.array(flat)) if flat else np.empty(0, object)
    names = _names(classes)
    place = dict(zip(classes.tolist(), names, strict=True))
    return Targets("lists", classes, names, [tuple(place[label] for label in row) for row in rows])


def _one_type(labels: Sequence[Any]) -> None:
    if len({isinstance(label, str) for label in labels if label is not None}) > 1:
        raise DataError("y: some labels are text and some are not; make them all text, or all numbers")


def _sorted(y: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(np.unique(y))
    except TypeError:
        raise DataError("y: labels of several types cannot be sorted; make them all text, or all numbers") from None


def _names(classes: np.ndarray) -> list[str]:
    names = [str(label) for label in classes.tolist()]
    if len(set(names)) < len(names):
        raise DataError("y: different labels have the same text; make them all text, or all numbers")
    return names


def _no_nothing(y: np.ndarray) -> None:
    for i, label in enumerate(y.tolist(), 1):
        if is_nothing(label):
            raise DataError(f"y: row {i} has no label ({label!r}); drop such rows")


def is_nothing(value: Any) -> bool:
    """Whether it stands for no value: None, NaN, NaT, pandas.NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA says neither yes nor no
        return True
    except ValueError:  # an array
        return False
