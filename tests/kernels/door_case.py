"""A problem for the NumPy door, and what the time loop answers in float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from echoic.kernels.door import Layer
from echoic.layers.unroll import unroll
from kernels.native_calls import Array, Problem, draw
from kernels.native_reference import FORWARD, cell_of

WEIGHTS = [f"{what}_{which}" for what in ("weight", "bias") for which in ("ih", "hh")]
WEIGHTS += [f"weight_p{gate}" for gate in "ifo"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, what it is asked, and what the time loop answers in float64."""

    p: Problem
    weights: list[dict[str, Array | None]]
    x: Array
    lengths: Array | None
    state: list[tuple[Array, ...]] | None
    y: Array
    last: list[tuple[Array, ...]]

    def layer(self, **more: Any) -> Layer:
        return Layer(self.p.kind, *self.weights, **more)  # type: ignore[arg-type]


def case(p: Problem, directions: int = 1) -> Case:
    drawn = [draw(dataclasses.replace(p, seed=p.seed + 100 * i)) for i in range(directions)]
    x, lengths = drawn[0].inputs["x"], drawn[0].lengths
    assert x is not None
    states = [tuple(n.inputs[f] for f in "hc"[: p.fields]) for n in drawn]
    outputs, last = [], []
    for reverse, n, state in zip((False, True), drawn, states, strict=False):
        cell = cell_of(p, n)
        with torch.no_grad():
            y, end = unroll(
                cell,
                torch.from_numpy(x).double(),
                None if lengths is None else torch.from_numpy(lengths),
                cell.State(*(torch.from_numpy(f).double() for f in state)) if p.state else None,
                reverse=reverse,
            )
        outputs.append(y.numpy())
        last.append(tuple(f.numpy() for f in end))
    weights = [{name: n.inputs[name] for name in WEIGHTS} for n in drawn]
    return Case(p, weights, x, lengths, states if p.state else None, np.concatenate(outputs, axis=2), last)


def off(got: Array, wanted: Array) -> float:
    """The largest error over the largest number."""
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).max() / max(0.1, np.abs(wanted).max())) if got.size else 0.0


def check(c: Case, y: Array, last: list[tuple[Array, ...]], allowed: float | None = None) -> None:
    allowed = FORWARD[c.p.double] if allowed is None else allowed
    assert off(y, c.y) <= allowed
    for got, wanted in zip(last, c.last, strict=True):
        for field, right in zip(got, wanted, strict=True):
            assert off(field, right) <= allowed
    if c.lengths is not None:
        assert not y[np.arange(c.p.steps) >= c.lengths[:, None]].any()
