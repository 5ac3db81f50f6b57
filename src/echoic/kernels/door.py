"""The NumPy door: prediction with a recurrent layer where torch need not be installed.

    layer = Layer("gru_after", weights)         packed once; weights under torch's names, gates in torch's order
    y, last = layer.run(x, lengths)             a ragged batch: no padded step is computed
    y, state = layer.step(x, state)             one step, the state in the caller's hands
    stepper = layer.stepper()                   the same in place, for who counts microseconds

`kernel` and `why` say what computes: the native core, or, where there is none, NumPy (plain.py), which is
slow and is warned of. `products` says what is multiplied: the weights' own numbers (""), "bfloat16", which is faster for
many rows where the processor has instructions for it, or "int8": weights and vectors quantised to eight bits (plain.py says
how), which reads a quarter of the memory. Sums and the gates' functions stay in float32.
"""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from echoic.core.errors import Unavailable
from echoic.kernels import native, plain
from echoic.kernels.plain import Array, State

MATRICES, BIASES = ("weight_ih", "weight_hh"), ("bias_ih", "bias_hh")
PEEPHOLES = ("weight_pi", "weight_pf", "weight_po")
LARGEST_DEPTH = 1 << 16
"""Beyond it a sum of products of eight bits may not fit 32."""
LARGEST_BATCH, MOST_THREADS = 1 << 16, 1 << 10
"""Rows of a stepper; threads of a call."""

Products = Literal["", "bfloat16", "int8"]
"""What is multiplied: the weights' own numbers, or theirs rounded."""


class Layer:
    """A recurrent layer in one direction or both. Many threads may run it at once.

    kind: one of `native.KINDS`.
    weights: "weight_ih" (G*H, D) and "weight_hh" (G*H, H); perhaps "bias_ih" and "bias_hh" (G*H,), and an
        LSTM's peepholes "weight_pi", "weight_pf", "weight_po" (H,); all float32 or all float64. Copied.
    backwards: those of the direction that reads each row from its last valid step; None: one direction.
    products: what is multiplied; other numbers than the weights' own are for float32 weights alone.
    threads: at most so many work at a call. More than one meet at every step of a sequence, which is slow where
        other work keeps a core busy: so one, unless somebody who knows says more.
    known: (N, D), inputs that come again and again, as the vectors of a small vocabulary do. What they add to the
        gates, (N, G*H), is kept, and `step` takes their numbers.
    """

    def __init__(
        self,
        kind: str,
        weights: Mapping[str, Array],
        backwards: Mapping[str, Array] | None = None,
        *,
        products: Products = "",
        threads: int = 1,
        known: Array | None = None,
    ) -> None:
        """Raises TypeError or ValueError where weights are not those of such a layer, ConfigError for a
        wrong ECHOIC_ISA, Unavailable for bfloat16 where the processor or the core lacks it."""
        if kind not in native.KINDS:
            raise ValueError(f"kind {kind!r}, wanted one of {', '.join(native.KINDS)}")
        self.kind, self.threads = kind, operator.index(threads)
        if not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads={threads}, wanted 1 to {MOST_THREADS}")
        require(products)
        checked = [_check_weights(kind, each, products) for each in (weights, backwards) if each is not None]
        self.dtype, self.features, self.hidden = (checked[0][name] for name in ("dtype", "features", "hidden"))
        for each in checked[1:]:
            if (each["dtype"], each["features"], each["hidden"]) != (self.dtype, self.features, self.hidden):
                raise ValueError("the two directions differ in their sizes or dtype")
        why_not = native.why_not()
        if why_not is None:
            self.kernel, self.why = _kernel(products), "the native core computes this cell"
        else:
            self.kernel, self.why = "numpy", why_not
            warnings.warn(f"NumPy computes this layer, slowly: {why_not}", RuntimeWarning, stacklevel=2)
        make: Any = partial(_Native, products=products) if why_not is None else plain.Predictor
        self._predictors = [make(kind, each, reverse) for each, reverse in zip(checked, (False, True), strict=False)]
        self.gates = native.GATES[native.KINDS.index(kind)] * self.hidden
        """G*H"""
        self.knows = 0 if known is None else len(known)
        if known is not None:
            for each in self._predictors:
                each.know(dense(known, "known", self.dtype, (None, self.features)))
        self._here = threading.local()

    @property
    def fields(self) -> int:
        """How many arrays a state has: 2 of an LSTM (h, c), else 1."""
        return 1 + native.has_memory(native.KINDS.index(self.kind))

    def run(self, x: Array, lengths: Any = None, state: Sequence[State] | None = None) -> tuple[Array, list[State]]:
        """x (B, T, D); lengths (B,) whole numbers in 0..T, None: all T; state: for each direction (h,) or
        (h, c), (B, H) each, None: zeros -> (y (B, T, H * directions), 0 on padding; the last states).

        Raises TypeError for another dtype, ValueError for another shape or lengths outside 0..T.
        What stands after a row's length is never read."""
        x = dense(x, "x", self.dtype, (None, None, self.features))
        batch, steps, _ = x.shape
        lengths = None if lengths is None else _check_lengths(lengths, batch, steps)
        states = self._check_states(state, batch)
        done = [each.run(x, lengths, first, self.threads) for each, first in zip(self._predictors, states, strict=True)]
        y = done[0][0] if len(done) == 1 else np.concatenate([each for each, _ in done], axis=2)
        return y, [last for _, last in done]

    def step(self, x: Array, state: State | None = None, more: Array | None = None) -> tuple[Array, State]:
        """One step of a layer in one direction: x (B, D), or (B,) int64 numbers of the `known` inputs; state (h,) or
        (h, c), (B, H) each, None: zeros -> (y (B, H), the state after), as `Stepper.step`. `more` (B, G*H) is added to
        the gates beside W x. On one thread, whatever `threads` says.

        Raises TypeError for another dtype, ValueError for another shape, IndexError for a number that is none."""
        batch = len(x)
        if getattr(self._here, "batch", None) != batch:
            self._here.batch, self._here.stepper = batch, self.stepper(batch)
        stepper: Stepper = self._here.stepper
        return stepper.step(x, state, more)

    def stepper(self, batch: int = 1) -> Stepper:
        """For `batch` rows, which take their steps together."""
        if len(self._predictors) > 1:
            raise ValueError("a layer that reads in both directions has no next step")
        if not 1 <= operator.index(batch) <= LARGEST_BATCH:
            raise ValueError(f"batch={batch}, wanted 1 to {LARGEST_BATCH}")
        return Stepper(self._predictors[0].stepper(operator.index(batch)), self.gates)

    def _check_states(self, state: Sequence[State] | None, batch: int) -> Sequence[State | None]:
        if state is None:
            return [None] * len(self._predictors)
        if len(state) != len(self._predictors) or any(len(each) != self.fields for each in state):
            raise ValueError(f"state: wanted {len(self._predictors)} tuples of {self.fields}, one tuple a direction")
        shape = (batch, self.hidden)
        return [tuple(dense(a, f, self.dtype, shape) for a, f in zip(each, "hc", strict=False)) for each in state]


class Stepper:
    """One step at a time. Its own arrays may be written and read in place, which saves the copies:

        stepper.x[:] = x_t; stepper.advance(); use(stepper.h)

    h is the output too. One caller at a time."""

    def __init__(self, made: Any, gates: int) -> None:
        self._gates = gates
        self._x: Array = made.x
        self._h: Array = made.h
        self._c: Array | None = made.c
        self._ids: Array = made.ids
        self._advance, self._advance_known = made.step, made.step_known

    @property
    def x(self) -> Array:
        """(B, D): what the next step reads"""
        return self._x

    @property
    def h(self) -> Array:
        """(B, H): the state before the next step; zeros at first"""
        return self._h

    @property
    def c(self) -> Array | None:
        """(B, H), an LSTM's; else None"""
        return self._c

    @property
    def advance(self) -> Any:
        """Takes the step: x and the state give the next state, in place. Kept in a variable it is the
        fastest call there is."""
        return self._advance

    def step(self, x: Array, state: State | None = None, more: Array | None = None) -> tuple[Array, State]:
        """x (B, D) or (B,) numbers of known inputs, state (h,) or (h, c), None: zeros -> (y (B, H), the state after),
        new arrays; y is the state's h. more (B, G*H): added to the gates.

        Raises TypeError for another dtype, ValueError for another shape and IndexError for a number that is none."""
        h, c = self._h, self._c
        numbers = getattr(x, "ndim", 2) == 1
        if numbers:
            _put(self._ids, x, "x")
        else:
            _put(self._x, x, "x")
        if state is None:
            h.fill(0)
            if c is not None:
                c.fill(0)
        elif len(state) != (1 if c is None else 2):
            raise ValueError(f"a state of {len(state)} arrays, wanted {1 if c is None else 2}")
        else:
            _put(h, state[0], "h")
            if c is not None:
                _put(c, state[1], "c")
        if more is not None:
            more = dense(more, "more", h.dtype, (len(h), self._gates))
        if numbers:
            self._advance_known(more)
        else:
            self._advance(more)
        y = h.copy()
        return y, ((y,) if c is None else (y, c.copy()))


class _Native:
    """One direction on the core, which keeps the packed weights; `plain.Predictor` has the same two methods."""

    def __init__(self, kind: str, weights: dict[str, Any], reverse: bool, products: Products) -> None:
        core: Any = native.core()
        number, self.dtype = native.KINDS.index(kind), weights["dtype"]
        self.features, self.hidden, self.memory = weights["features"], weights["hidden"], native.has_memory(number)
        matrices = [weights[name] for name in MATRICES]
        others = [address(weights.get(name)) for name in (*BIASES, *PEEPHOLES)]
        about = native.isa(), number, self.features, self.hidden, reverse
        if isinstance(matrices[0], plain.Eight):
            scales = [address(m.scale) for m in matrices]
            self.core = core.predict_int8(*about, [*(address(m.values) for m in matrices), *others], scales)
        else:
            make = core.predict_double if self.dtype == np.float64 else core.predict_float
            make = core.predict_bfloat16 if products == "bfloat16" else make
            self.core = make(*about, [*map(address, matrices), *others])

    def run(self, x: Array, lengths: Array | None, state: State | None, threads: int) -> tuple[Array, State]:
        batch, steps, _ = x.shape
        y = np.empty((batch, steps, self.hidden), self.dtype)
        last = tuple(np.empty((batch, self.hidden), self.dtype) for _ in range(1 + self.memory))
        first = (0, 0) if state is None else (*map(address, state), 0)[:2]
        places = [address(x), *first, address(y), *(*map(address, last), 0)[:2]]
        self.core.run(batch, steps, address(lengths), threads, places)
        return y, last

    def know(self, x: Array) -> None:
        self.core.know(len(x), address(x))

    def stepper(self, batch: int) -> Any:
        return self.core.stepper(batch)


def require(products: str) -> None:
    if products not in get_args(Products):
        raise ValueError(f"products={products!r}, wanted one of {', '.join(map(repr, get_args(Products)))}")
    if products == "bfloat16" and not native.has_bfloat16():
        raise Unavailable(f"bfloat16: {native.why_not() or f'{native.name()} has no instruction for its products'}")


def _kernel(products: Products) -> str:
    core: Any = native.core()
    more = {"": "", "bfloat16": ", products of bfloat16", "int8": f", int8 by {core.int8_name(native.isa())}"}
    return native.name() + more[products]


def address(array: Array | None) -> int:
    return 0 if array is None else int(array.__array_interface__["data"][0])


def dense(array: Any, name: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> Array:
    """The array without gaps. None in `shape`: any size."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise TypeError(f"{name}: wanted a NumPy array of {dtype}, got {_what(array)}")
    if len(array.shape) != len(shape) or any(w is not None and w != s for s, w in zip(array.shape, shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} of shape {array.shape}, wanted ({wanted})")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def _put(mine: Array, given: Any, name: str) -> None:
    if not isinstance(given, np.ndarray) or given.dtype != mine.dtype:
        raise TypeError(f"{name}: wanted a NumPy array of {mine.dtype}, got {_what(given)}")
    if given.shape != mine.shape:
        raise ValueError(f"{name} of shape {given.shape}, wanted {mine.shape}")
    mine[...] = given


def _what(given: Any) -> str:
    return f"one of {given.dtype}" if isinstance(given, np.ndarray) else type(given).__name__


def _check_lengths(lengths: Any, batch: int, steps: int) -> Array:
    """A copy, which nobody else can change."""
    given = np.asarray(lengths)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"lengths are {given.dtype}, wanted whole numbers")
    if given.shape != (batch,):
        raise ValueError(f"lengths of shape {given.shape}, wanted ({batch},)")
    if batch and not (given.min() >= 0 and given.max() <= steps):
        raise ValueError(f"lengths from {given.min()} to {given.max()}, but there are {steps} steps")
    return np.array(given, np.int64)


def _check_weights(kind: str, weights: Mapping[str, Array], products: Products) -> dict[str, Any]:
    """Dense weights by name, and their `dtype`, `features`, `hidden` and number of `rows`."""
    known = (*MATRICES, *BIASES, *(PEEPHOLES if kind == "lstm" else ()))
    given = {name: array for name, array in weights.items() if array is not None}
    if set(given) - set(known) or not set(MATRICES) <= set(given):
        raise ValueError(f"weights {', '.join(map(str, given))}; {kind} has {', '.join(known)}")
    for together in (BIASES, PEEPHOLES):
        if 0 < len(set(together) & set(given)) < len(together):
            raise ValueError(f"all of {', '.join(together)}, or none")
    w, u = (given[name] for name in MATRICES)
    dtype = getattr(u, "dtype", None)
    if dtype not in ((np.float32,) if products else (np.float32, np.float64)):
        raise TypeError(
            f"weight_hh: wanted a NumPy array of {'float32' if products else 'float32 or float64'}, got {_what(u)}"
        )
    if np.ndim(u) != 2 or np.ndim(w) != 2 or u.shape[1] < 1:
        raise ValueError(f"weight_ih of shape {np.shape(w)} and weight_hh of shape {u.shape}, wanted two matrices")
    hidden, features = u.shape[1], w.shape[1]
    rows = native.GATES[native.KINDS.index(kind)] * hidden
    shapes = {"weight_ih": (rows, features), "weight_hh": (rows, hidden), **dict.fromkeys(BIASES, (rows,))}
    checked: dict[str, Any] = {
        name: dense(array, name, np.dtype(dtype), shapes.get(name, (hidden,))) for name, array in given.items()
    }
    if products == "int8":
        checked |= {name: _eight(checked[name], name) for name in MATRICES}
    return checked | {"dtype": np.dtype(dtype), "features": features, "hidden": hidden, "rows": rows}


def _eight(weight: Array, name: str) -> plain.Eight:
    if weight.shape[1] > LARGEST_DEPTH:
        raise ValueError(f"{name} of shape {weight.shape}: eight bits are for at most {LARGEST_DEPTH} columns")
    if not np.isfinite(weight).all():
        raise ValueError(f"{name} has numbers that are not finite, which eight bits cannot hold")
    return plain.eight_of(weight)
