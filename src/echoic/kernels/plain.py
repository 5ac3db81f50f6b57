"""The NumPy door where the native core is not there: the same numbers, step by step, slowly.

Here too is what eight bits mean. A weight's row is its scale times whole numbers in -127..127, and so is
each vector that meets it, quantised as it comes; the sum of products of whole numbers is exact, on the
core as here. Vectors and rows whose largest number is under 1e-30 are zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = tuple[Array, ...]
"""(h,), or (h, c) of an LSTM: (B, H) each."""

LARGEST, NOTHING = np.float32(127), np.float32(1e-30)


class Eight(NamedTuple):
    """A weight (R, K) in eight bits."""

    values: Array
    """(R, K) whole numbers in -127..127"""
    scale: Array
    """(R,) float32: a row's true weights are `scale * values`"""


def eight_of(weight: Array) -> Eight:
    """weight: (R, K) float32, finite."""
    values, scale = _quantise(weight)
    return Eight(values.astype(np.int8), scale)


def _quantise(x: Array) -> tuple[Array, Array]:
    """x (..., K) float32 -> (whole numbers (..., K), scale (...))."""
    with np.errstate(invalid="ignore"):  # what is not finite makes its vector NaN
        largest = np.abs(x).max(axis=-1, initial=0)
        tiny = largest < NOTHING
        per_unit = np.where(tiny, np.float32(0), LARGEST / np.where(tiny, LARGEST, largest))
        return np.rint(x * per_unit[..., None]), largest / LARGEST


def times(x: Array, weight: Array | Eight) -> Array:
    """x (B, K) and a weight (R, K) -> (B, R)."""
    if isinstance(weight, np.ndarray):
        product: Array = x @ weight.T
        return product
    values, scale = _quantise(x)
    sums: Array = values.astype(np.float64) @ weight.values.astype(np.float64).T  # exact: far under 2^53
    answer: Array = sums.astype(np.float32) * (scale[:, None] * weight.scale)
    return answer


def _sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


class Predictor:
    """One direction of a layer. weights: as `door.Layer` has checked them, W and U perhaps in eight bits."""

    def __init__(self, kind: str, weights: dict[str, Any], reverse: bool) -> None:
        weights = {name: each.copy() if isinstance(each, np.ndarray) else each for name, each in weights.items()}
        self.cell, _, self.option = kind.partition("_")
        self.reverse, self.w, self.u = reverse, weights["weight_ih"], weights["weight_hh"]
        rows, self.dtype = weights["rows"], weights["dtype"]
        self.hidden, self.features = weights["hidden"], weights["features"]
        none = np.zeros(rows, self.dtype)
        self.bias_ih, self.bias_hh = weights.get("bias_ih", none), weights.get("bias_hh", none)
        self.known = np.empty((0, rows), self.dtype)
        self.peepholes = [weights.get(f"weight_p{gate}") for gate in "ifo"]

    def run(self, x: Array, lengths: Array | None, state: State | None, threads: int = 1) -> tuple[Array, State]:
        """x (B, T, D), lengths (B,) or None -> (y (B, T, H), the last state). NumPy has threads of its own."""
        batch, steps, _ = x.shape
        lengths = np.full(batch, steps) if lengths is None else lengths
        y = np.zeros((batch, steps, self.hidden), self.dtype)
        last = self.zeros(batch) if state is None else tuple(field.copy() for field in state)
        for step in range(int(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > step)
            at = lengths[rows] - 1 - step if self.reverse else step
            for field, new in zip(last, self.step(x[rows, at], tuple(f[rows] for f in last)), strict=True):
                field[rows] = new
            y[rows, at] = last[0][rows]
        return y, last

    def know(self, x: Array) -> None:
        """The products of x (N, D), for `Stepper.step_known`."""
        self.known = self.added(x)

    def stepper(self, batch: int) -> Stepper:
        return Stepper(self, batch)

    def zeros(self, batch: int) -> State:
        fields = 2 if self.cell == "lstm" else 1
        return tuple(np.zeros((batch, self.hidden), self.dtype) for _ in range(fields))

    def added(self, x: Array) -> Array:
        """What x (B, D) adds to the gates (B, G*H)."""
        with np.errstate(invalid="ignore", over="ignore"):
            a: Array = times(x, self.w) + self.bias_ih
            return a

    def step(self, x: Array, state: State) -> State:
        return self.gated(self.added(x), state)

    def gated(self, a: Array, state: State) -> State:
        """The cell's page (cells/) after the input's product a (B, G*H)."""
        with np.errstate(invalid="ignore", over="ignore"):
            if self.cell == "lstm":
                return self._lstm(a, *state)
            return (self._gru(a, state[0]) if self.cell == "gru" else self._rnn(a, state[0]),)

    def _rnn(self, a: Array, h: Array) -> Array:
        a = a + times(h, self.u) + self.bias_hh
        if self.option == "relu":
            return np.maximum(a, 0)
        return np.tanh(a) if self.option == "tanh" else _sigmoid(a)

    def _lstm(self, a: Array, h: Array, c: Array) -> State:
        i, f, g, o = np.split(a + times(h, self.u) + self.bias_hh, 4, axis=1)
        p_i, p_f, p_o = self.peepholes
        if p_i is not None and p_f is not None:
            i, f = i + p_i * c, f + p_f * c
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        if p_o is not None:
            o = o + p_o * c
        return _sigmoid(o) * np.tanh(c), c

    def _gru(self, a: Array, h: Array) -> Array:
        size = 2 * self.hidden
        first, second = (self.u[:size], self.u[size:]) if isinstance(self.u, np.ndarray) else self._halves(self.u, size)
        r, z = np.split(_sigmoid(a[:, :size] + times(h, first) + self.bias_hh[:size]), 2, axis=1)
        if self.option == "after":
            n = np.tanh(a[:, size:] + r * (times(h, second) + self.bias_hh[size:]))
        else:
            n = np.tanh(a[:, size:] + times(r * h, second) + self.bias_hh[size:])
        after: Array = n + z * (h - n)
        return after

    @staticmethod
    def _halves(u: Eight, size: int) -> tuple[Eight, Eight]:
        return Eight(u.values[:size], u.scale[:size]), Eight(u.values[size:], u.scale[size:])


class Stepper:
    """x (B, D), h and c (B, H), as the core's stepper shows them."""

    def __init__(self, predictor: Predictor, batch: int) -> None:
        self.predictor, self.state = predictor, predictor.zeros(batch)
        self.x = np.zeros((batch, predictor.features), predictor.dtype)
        self.ids = np.zeros(batch, np.int64)
        self.h, self.c = (*self.state, None)[:2]

    def step(self, more: Array | None = None) -> None:
        self._take(self.predictor.added(self.x), more)

    def step_known(self, more: Array | None = None) -> None:
        if (self.ids < 0).any():
            raise IndexError("no input of that number is known")
        self._take(self.predictor.known[self.ids], more)

    def _take(self, added: Array, more: Array | None) -> None:
        if more is not None and more.shape != added.shape:
            raise ValueError("more: wanted (B, G*H)")
        after = self.predictor.gated(added if more is None else added + more, self.state)
        for field, new in zip(self.state, after, strict=True):
            field[...] = new


BLOCK = 64
"""Logits are looked through in blocks of so many; changes speed, no answer."""


def likeliest(logits: Array, k: int) -> tuple[Array, Array, Array]:
    """As `linear.likeliest`."""
    least = logits.max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        norms = (least + np.log(np.exp(logits - least).sum(1, keepdims=True)))[:, 0]
    return *_largest(logits, k), norms


def _largest(logits: Array, k: int) -> tuple[Array, Array]:
    """The k largest stand in the k blocks with the largest maxima, so most of a row is read once. A block's members lie
    apart, so that maxima are taken of whole lines."""
    rows, size = logits.shape
    blocks = -(-size // BLOCK)
    if k >= blocks:
        k = min(k, size)
        places = np.argpartition(-logits, k - 1, axis=1)[:, :k] if k < size else np.tile(np.arange(size), (rows, 1))
        return np.take_along_axis(logits, places, 1), places
    if size < blocks * BLOCK:
        padded = np.full((rows, blocks * BLOCK), -np.inf, logits.dtype)
        padded[:, :size] = logits
        logits = padded
    largest = logits.reshape(rows, BLOCK, blocks).max(1)
    chosen = np.argpartition(-largest, k - 1, axis=1)[:, :k]
    among = (chosen[:, :, None] + blocks * np.arange(BLOCK)).reshape(rows, k * BLOCK)
    values = np.take_along_axis(logits, among, 1)
    inside = np.argpartition(-values, k - 1, axis=1)[:, :k]
    return np.take_along_axis(values, inside, 1), np.take_along_axis(among, inside, 1)
