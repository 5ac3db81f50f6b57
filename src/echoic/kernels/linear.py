"""The NumPy door's other half: linear layers, and the likeliest of what they say.

    linear = Linear(weight, bias)                       x W^T + b of rows, the weights packed once
    values, places, norms = likeliest(Pending(linear, x), k)   of each row the k largest, and log sum exp

As door.py has it, whose `products` these are: the native core computes, or NumPy where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from echoic.kernels import native, plain
from echoic.kernels.door import Products, address, dense, require
from echoic.kernels.plain import Array


class Linear:
    """x W^T + b. weight (R, K), bias (R,), float32 each; copied. Many threads may ask it at once.

    Raises as `Layer` does; `products` is "" or "bfloat16"."""

    def __init__(self, weight: Array, bias: Array | None = None, *, products: Products = "") -> None:
        require(products)
        if products == "int8":
            raise ValueError("products='int8': of a recurrence alone")
        weight = dense(weight, "weight", np.dtype(np.float32), (None, None))
        bias = None if bias is None else dense(bias, "bias", weight.dtype, (len(weight),))
        self.outputs, self.inputs = weight.shape
        self._plain = None if native.why_not() is None else (weight.copy(), 0 if bias is None else bias.copy())
        if self._plain is None:
            core: Any = native.core()
            places = address(weight), address(bias)
            self._core = core.linear(native.isa(), products == "bfloat16", self.inputs, self.outputs, *places)

    def __call__(self, x: Array) -> Array:
        """(..., K) float32 -> (..., R). Raises TypeError for another dtype, ValueError for another shape."""
        lead = np.shape(x)[:-1]
        rows: Array = dense(x, "x", np.dtype(np.float32), (*lead, self.inputs)).reshape(math.prod(lead), self.inputs)
        if self._plain is None:
            out: Array = np.empty((len(rows), self.outputs), np.float32)
            self._core.run(len(rows), address(rows), address(out))
        else:
            out = rows @ self._plain[0].T + self._plain[1]
        return out.reshape(*lead, self.outputs)

    def likeliest(self, x: Array, k: int) -> tuple[Array, Array, Array]:
        """`likeliest` of x (N, K) times the weights, which is never written down."""
        _require(k)
        if self._plain is not None:
            return plain.likeliest(self(x), k)
        x = dense(x, "x", np.dtype(np.float32), (None, self.inputs))
        return _told(len(x), min(k, self.outputs), lambda k, out: self._core.likeliest(len(x), k, [address(x), *out]))


@dataclass(frozen=True)
class Pending:
    """`linear(x)` (N, R), multiplied when it is wanted and not written down to find the likeliest of its rows."""

    linear: Linear
    x: Array
    """(N, K)"""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.linear(self.x), dtype)


def likeliest(logits: Array | Pending, k: int) -> tuple[Array, Array, Array]:
    """(N, V) float32 -> the k largest numbers of each row (N, min(k, V)), in no order, their places int64 (of a -inf it
    means nothing), and log sum exp (N,), which is no number where one of the row is none or all are -inf."""
    if isinstance(logits, Pending):
        return logits.linear.likeliest(logits.x, k)
    _require(k)
    if native.why_not() is not None:
        return plain.likeliest(logits, k)
    logits = dense(logits, "logits", np.dtype(np.float32), (None, None))
    (rows, size), core, isa = logits.shape, native.core(), native.isa()
    call: Any = core.likeliest  # type: ignore[union-attr]
    return _told(rows, min(k, size), lambda k, out: call(isa, rows, size, k, [address(logits), *out]))


def _require(k: int) -> None:
    if k < 1:
        raise ValueError(f"k={k}, wanted at least 1")


def _told(rows: int, k: int, call: Callable[[int, list[int]], None]) -> tuple[Array, Array, Array]:
    """values, places, norms, which `call` writes at their addresses."""
    values, places = np.empty((rows, k), np.float32), np.empty((rows, k), np.int64)
    norms = np.empty(rows, np.float32)
    call(k, [address(each) for each in (values, places, norms)])
    return values, places, norms
