"""A cell as a label: one class, several at once, or a probability for each class."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from echoic.core.config import Section, check
from echoic.core.errors import DataError, show
from echoic.core.types import Example

SUM_SLACK = 0.05
"""How far the probabilities of a row may sum from 1, for tables that round."""
IDS_FROM = 20
"""From this many rows on, labels of which most rows have their own are taken for an id column."""
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Options(Section):
    """A classifier's, which say how its labels are read."""

    several: bool = Field(False, description="a text may have several labels, or none")
    separator: Annotated[str, Field(min_length=1)] = Field(
        "|", description="what stands between several labels in one field"
    )


def separator(options: Mapping[str, Any]) -> str | None:
    """What stands between several labels of a row, by a task's options; None where a row has one. Raises ConfigError for
    options that make no sense."""
    known = check(Options, {name: value for name, value in options.items() if name in Options.model_fields}, "/task")
    return known.separator if known.several else None


class Unlabelled(Exception):
    """The row has no label."""


def label_of(cell: Any, separator: str | None, where: str) -> str | tuple[str, ...]:
    """The label as it stands; with a separator (or from a JSON array) a tuple, empty where no class
    applies. Raises Unlabelled for a cell that holds nothing."""
    if isinstance(cell, list):
        return tuple(dict.fromkeys(_one(each, where) for each in cell))
    if separator is not None and (cell is None or isinstance(cell, str)):
        parts = (part.strip() for part in (cell or "").split(separator))
        return tuple(dict.fromkeys(part for part in parts if part))
    return _one(cell, where)


def _one(cell: Any, where: str) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)) or (isinstance(cell, str) and not cell.strip()):
        raise Unlabelled
    if isinstance(cell, (list, dict, bytes)):
        raise DataError(f"{where}: the label is {show(cell, 30)}, want a string, a number or an array of them")
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def soft_label_of(cells: Mapping[str, Any], where: str) -> tuple[dict[str, float], bool]:
    """({class: probability} that sums to 1, whether it had to be scaled). All cells empty: Unlabelled."""
    if len(cells) < 2:
        raise DataError(f"{where}: soft labels need at least 2 columns, one a class")
    if all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells.values()):
        raise Unlabelled
    values = {name: _probability(cell, f"{where}, column {show(name, 30)!r}") for name, cell in cells.items()}
    return over_their_sum(values, where), abs(math.fsum(values.values()) - 1.0) > 1e-6


def over_their_sum(values: Mapping[str, float], where: str) -> dict[str, float]:
    """Probabilities that sum to about 1 -> to 1. Raises DataError where they are SUM_SLACK away."""
    total = math.fsum(values.values())
    if abs(total - 1.0) > SUM_SLACK:
        raise DataError(f"{where}: the soft labels sum to {total:.4g}, want 1")
    return {name: value / total for name, value in values.items()}


def like_ids(names: Collection[str], rows: int) -> str:
    """What to say where the labels of `rows` rows, one each, look like ids; else "". Of several labels a
    row there may well be more than rows."""
    if rows < IDS_FROM or len(names) <= rows / 2:
        return ""
    some = ", ".join(repr(show(name, 20)) for name in itertools.islice(names, 3))
    return f"labels look like ids: {len(names):,} different ones in {rows:,} rows ({some} …); name the label column with --label"


def _probability(cell: Any, where: str) -> float:
    spelled = repr(cell) if isinstance(cell, float) else str(cell).strip()
    if isinstance(cell, bool) or not _PLAIN_NUMBER.fullmatch(spelled):
        raise DataError(f"{where}: {show(cell, 30)!r} is not a number such as 0.25")
    value = float(spelled)
    if not 0.0 <= value <= 1.0 + SUM_SLACK:
        raise DataError(f"{where}: {show(cell, 30)} is no probability from 0 to 1")
    return value


def same_kind(examples: list[Example], said: Callable[[str], None]) -> list[Example]:
    """If any row carries several labels, every row's label becomes a tuple."""
    several = sum(isinstance(example.target, tuple) for example in examples)
    if not several:
        return examples
    none = sum(example.target == () for example in examples)
    said("Rows carry several labels at once." + (f" {none:,} rows carry none." if none else ""))
    return [replace(e, target=(e.target,)) if isinstance(e.target, str) else e for e in examples]
