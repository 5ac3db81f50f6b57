"""What goes on inside while a text is read: every gate and every state of every cell, token by token.

    found = inside(task, network, "a text")
    found.cells[0].fields["f"]        # (tokens, units): the forget gate of the first cell

The fast kernels keep no gates, so the text is read once more by the reference loop (`layers/unroll.py`) and cells
that are watched (`Cell.watched`); nothing is recorded unless this is called. What is recorded is what the equations of
the cell's page name: its gates, each after its function, and the fields of its State.

A long text is read in segments that know nothing of each other (`layers/segments.py`), so only those are read that
hold the tokens asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echoic.cells.base import NO_ZONEOUT, Cell, Zoneout
from echoic.core.errors import UsageError
from echoic.explain.reading import full, require_classifier
from echoic.explain.record import unread
from echoic.layers.segments import split
from echoic.layers.stack import Stack
from echoic.layers.unroll import unroll, valid_steps
from echoic.tasks.classify import ClassifierNetwork

MOST_TOKENS = 512
"""Tokens that are kept at once."""
MOST_NUMBERS = 1 << 23
"""Gates and states that are kept at once; of a large network fewer tokens are."""
DIRECTIONS = ("forwards", "backwards")


@dataclass(frozen=True)
class Watched:
    """What one cell did."""

    layer: int
    direction: str
    """forwards or backwards"""
    gates: tuple[str, ...]
    fields: dict[str, np.ndarray]
    """{gate or field of the State: (T, H) float32}"""

    output: str
    """The field that is handed on: the first of the State."""

    @property
    def name(self) -> str:
        return f"layer {self.layer} {self.direction}"

    @property
    def units(self) -> int:
        return int(self.fields[self.output].shape[-1])


@dataclass(frozen=True)
class Inside:
    text: str
    label: str
    probability: float
    spans: list[tuple[int, int]]
    """Of each token kept, its place in the text, in code points."""
    first: int
    """The first token kept, of `total`."""
    total: int
    cells: list[Watched]
    starts: list[int] = field(default_factory=list)
    """Tokens at which a segment begins: states start from zero there."""
    notes: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> list[str]:
        return [self.text[start:end] for start, end in self.spans]

    def document(self) -> dict[str, Any]:
        """As JSON has it: numbers of four digits, a list for each token of a number for each unit."""
        tokens = [{"text": self.text[a:b], "start": a, "end": b} for a, b in self.spans]
        cells = [
            {
                "layer": cell.layer,
                "direction": cell.direction,
                "gates": list(cell.gates),
                "fields": {name: _digits(values) for name, values in cell.fields.items()},
            }
            for cell in self.cells
        ]
        head = {"text": self.text, "label": self.label, "probability": self.probability}
        window = {"first": self.first, "total": self.total, "segment_starts": self.starts}
        return head | window | {"tokens": tokens, "cells": cells, "notes": self.notes}


def _digits(values: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values]


def inside(task: Any, network: ClassifierNetwork, text: str, first: int = 0) -> Inside:
    """Reads `text` and keeps what the cells do from token `first` on, as many tokens as fit.

    Raises UsageError for a task that is no classifier, or where the text has no token `first`."""
    require_classifier(task)
    ids, spans = task.text.encode_with_offsets(text)
    if not 0 <= first < len(ids):
        raise UsageError(f"token {first + 1:,}: the text has {len(ids):,}")
    cells: Any = network.stack.cells
    numbers = sum(fields_of(cell) * cell.hidden_size for cell in cells)
    count = min(MOST_TOKENS, max(1, MOST_NUMBERS // max(1, numbers)), len(ids) - first)
    inputs = torch.as_tensor(ids.astype(np.int64), device=network.out.weight.device)[None]
    with torch.inference_mode():
        logits = network(inputs, full(inputs)).double().cpu().numpy()
        segment = network.model.segment
        low, high = first // segment, (first + count - 1) // segment + 1
        part = inputs[:, low * segment : high * segment]
        rows, lengths, _ = split(part, full(part), segment)
        watched = [_kept(each, lengths, first - low * segment, count) for each in watch(network, rows, lengths)]
    p = task.probabilities(logits)[0]
    best = int(p.argmax())
    starts = [place for place in range(low * segment, first + count, segment) if place >= first]
    kept = spans[first : first + count]
    return Inside(
        text,
        task.names[best],
        float(p[best]),
        kept,
        first,
        len(ids),
        watched,
        starts,
        [*_notes(network, first, count, ids), *unread(task.text.max_tokens, len(ids))],
    )


def _notes(network: ClassifierNetwork, first: int, count: int, ids: np.ndarray) -> list[str]:
    out = []
    if count < len(ids):
        out.append(
            f"tokens {first + 1:,} to {first + count:,} of {len(ids):,} are shown; --from TOKEN begins at another"
        )
    if len(ids) > network.model.segment:
        out.append(f"a long text is read in segments of {network.model.segment} tokens, each of which begins at zero")
    if network.ngrams is not None:
        out.append("the n-gram path beside the recurrent network has no states; the answer is of both")
    if not network.stack.cells:
        out.append("this network has no recurrence, so there is nothing to watch")
    return out


def fields_of(cell: Any) -> int:
    """How many fields a watched cell has: its gates, and those of its State that are no gate's."""
    return len({*cell.gates, *cell.State._fields})


def _kept(watched: Watched, lengths: Tensor, first: int, count: int) -> Watched:
    valid = valid_steps(lengths, int(lengths.max())).cpu().numpy()
    fields = {name: values[valid][first : first + count] for name, values in watched.fields.items()}
    return replace(watched, fields=fields)


def watch(network: ClassifierNetwork, rows: Tensor, lengths: Tensor) -> Iterator[Watched]:
    """Of each cell of the network, layer by layer, its fields while it reads rows (R, S) of ids: (R, S, H) each."""
    stack: Stack = network.stack
    x = network.embed(rows)
    for layer in range(stack.layers):
        if stack.norms:
            x = stack.norms[layer](x, lengths, None)
        outputs = []
        for direction in range(stack.directions):
            cell: Any = stack.cells[layer * stack.directions + direction]
            y, fields = run(cell, x, lengths, reverse=direction == 1, zoneout=Zoneout(stack.zoneout))
            outputs.append(y)
            arrays = {name: values.float().cpu().numpy() for name, values in fields.items()}
            yield Watched(layer, DIRECTIONS[direction], cell.gates, arrays, cell.State._fields[0])
        x = torch.cat(outputs, dim=-1)


def run(
    cell: Cell, x: Tensor, lengths: Tensor, *, reverse: bool = False, zoneout: Zoneout = NO_ZONEOUT
) -> tuple[Tensor, dict[str, Tensor]]:
    """x (R, S, D), lengths (R,) -> (Y (R, S, H), {gate or field of the State: (R, S, H)}).

    THE time loop, given one step at a time: as the contract has it, whole == split at any step. A field of the
    State that is a matrix for each row is left out."""
    seen: list[dict[str, Tensor]] = [{} for _ in range(x.shape[1])]
    outputs: list[Tensor] = [x.new_empty(0)] * x.shape[1]
    state: Any = None
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        watched = cell.watched(seen[t].update)
        here = (lengths > t).to(lengths)
        y, state = unroll(watched, x[:, t : t + 1], here, state, reverse=reverse, zoneout=zoneout)
        outputs[t] = y[:, 0]
        seen[t].update((name, value) for name, value in state._asdict().items() if value.dim() == 2)
    return torch.stack(outputs, 1), {name: torch.stack([step[name] for step in seen], 1) for name in seen[0]}
