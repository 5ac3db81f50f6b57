"""Where else a cell does the same: the tokens of a file at which each unit is highest and lowest, and those whose
whole state is nearest to a token's, after LSTMVis (Strobelt et al. 2018, arXiv:1606.07461).

    highest, lowest   of unit u: the tokens with the largest and the smallest y_u
    nearest           of token t: the tokens with the largest cosine of their y with y_t

The file is read by the reference loop in batches, and of each batch only what may be among the best is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echoic.core.types import pad
from echoic.explain.inside import Inside, watch
from echoic.layers.unroll import valid_steps
from echoic.tasks.classify import ClassifierNetwork

BEST = 6
"""Places kept of each list."""
MOST_TOKENS = 200_000
"""Of a file, so many tokens are looked at."""
BATCH = 64
"""Segments read at once; changes no answer."""
AROUND = 30
"""Characters shown on each side of a token."""


@dataclass(frozen=True)
class Place:
    """A token of another text."""

    row: int
    """1-based"""
    value: float
    """of the unit, or the cosine"""
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class Alike:
    """Of one cell."""

    highest: list[list[Place]]
    """for each unit, best first"""
    lowest: list[list[Place]]
    nearest: list[list[Place]]
    """for each token of the text that was inspected"""

    def document(self) -> dict[str, Any]:
        lists = {"highest": self.highest, "lowest": self.lowest, "nearest": self.nearest}
        return {name: [[vars(place) for place in places] for places in each] for name, each in lists.items()}


class _Best:
    """The BEST largest values of each row of a table that comes a few columns at a time."""

    def __init__(self) -> None:
        self.values, self.places = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def add(self, values: Tensor, places: Tensor) -> None:
        """values (rows, n) of the tokens `places` (n,)."""
        if len(self.values):
            values = torch.cat([self.values, values], 1)
            known = torch.cat([self.places, places.expand(len(values), -1)], 1)
        else:
            known = places.expand(len(values), -1)
        self.values, best = values.topk(min(BEST, values.shape[1]), dim=1)
        self.places = known.gather(1, best)


def alike(task: Any, network: ClassifierNetwork, found: Inside, texts: Sequence[str]) -> tuple[list[Alike], list[str]]:
    """(of each cell of `found`, notes). The text that was inspected is left out where it stands among `texts`."""
    outputs = [_unit(torch.from_numpy(cell.fields[cell.output])) for cell in found.cells]
    tops = [{name: _Best() for name in ("highest", "lowest", "nearest")} for _ in found.cells]
    rows, ends, notes = _rows(task, texts, found.text)
    for index in _batches(rows, network.model.segment):
        pieces = [rows[i][start : start + network.model.segment] for i, start in index]
        ids, lengths = (torch.from_numpy(each) for each in pad(pieces))
        valid = valid_steps(lengths, ids.shape[1])
        starts = torch.tensor([int(ends[i]) + start for i, start in index])
        places = (starts[:, None] + torch.arange(ids.shape[1]))[valid]
        with torch.inference_mode():
            device = network.out.weight.device
            for cell, watched in enumerate(watch(network, ids.to(device), lengths.to(device))):
                y = torch.from_numpy(watched.fields[watched.output])[valid]
                tops[cell]["highest"].add(y.T, places)
                tops[cell]["lowest"].add(-y.T, places)
                tops[cell]["nearest"].add(outputs[cell] @ _unit(y).T, places)
    shown = _Shown(task, texts, ends)
    return [
        Alike(shown.of(top["highest"]), shown.of(top["lowest"], -1.0), shown.of(top["nearest"])) for top in tops
    ], notes


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def _rows(task: Any, texts: Sequence[str], left_out: str) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """(ids of each text, none for those not looked at; the number of the first token of each; notes)"""
    rows: list[np.ndarray] = []
    total = 0
    for text, ids in zip(texts, task.text.encode(texts), strict=True):
        looked = total < MOST_TOKENS and text != left_out
        rows.append(ids if looked else ids[:0])
        total += len(rows[-1])
    looked_at = sum(len(row) > 0 for row in rows)
    notes = [] if looked_at >= len(texts) - 1 else [f"the first {looked_at:,} of {len(texts):,} texts were looked at"]
    return rows, np.cumsum([0, *map(len, rows)]), notes


def _batches(rows: Sequence[np.ndarray], segment: int) -> Iterator[list[tuple[int, int]]]:
    """(row, first token) of segments of like length."""
    every = [(i, start) for i, row in enumerate(rows) for start in range(0, len(row), segment)]
    every.sort(key=lambda each: min(segment, len(rows[each[0]]) - each[1]))
    for first in range(0, len(every), BATCH):
        yield every[first : first + BATCH]


class _Shown:
    """Numbers of tokens -> Places, the offsets of a text computed once."""

    def __init__(self, task: Any, texts: Sequence[str], ends: np.ndarray) -> None:
        self.task, self.texts, self.ends = task, texts, ends
        self.spans: dict[int, list[tuple[int, int]]] = {}

    def of(self, best: _Best, sign: float = 1.0) -> list[list[Place]]:
        return [
            [self.place(number, sign * value) for number, value in zip(numbers, values, strict=True)]
            for numbers, values in zip(best.places.tolist(), best.values.tolist(), strict=True)
        ]

    def place(self, number: int, value: float) -> Place:
        row = int(np.searchsorted(self.ends, number, side="right")) - 1
        if row not in self.spans:
            self.spans[row] = self.task.text.encode_with_offsets(self.texts[row])[1]
        start, end = self.spans[row][number - int(self.ends[row])]
        text = self.texts[row]
        around = text[max(0, start - AROUND) : start], text[end : end + AROUND]
        return Place(row + 1, float(f"{value:.4g}"), around[0], text[start:end], around[1])
