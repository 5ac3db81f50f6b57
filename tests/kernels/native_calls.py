"""The core's own door, without torch: a problem, its numbers, and the two calls.

Whatever the core must not read is NaN here (the tape before forward too), and whatever it must write holds 7.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echoic.kernels import native

Array = NDArray[Any]

NAMES = [
    "x",
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
    "weight_pi",
    "weight_pf",
    "weight_po",
    "h",
    "c",
    "mask_hidden",
    "mask_candidate",
    "keep_h",
    "keep_c",
]
"""The inputs, in the order of `Inputs` in csrc/recurrence.h."""
LEARNED = NAMES[:10]
"""Those that have gradients."""


@dataclass(frozen=True)
class Problem:
    kind: str
    batch: int = 3
    steps: int = 5
    features: int = 2
    hidden: int = 3
    double: bool = True
    reverse: bool = False
    ragged: bool = True
    """Lengths are drawn from 0..steps; else no lengths are given."""
    bias: bool = True
    peephole: bool = False
    state: bool = True
    hidden_mask: bool = False
    candidate_mask: bool = False
    zoneout: str = ""
    """"", drawn (0 or 1) or mean (the expectation)."""
    bfloat16: bool = False
    seed: int = 0

    @property
    def numbers(self) -> int:
        """What the core calls the type of its numbers."""
        return 2 if self.bfloat16 else int(self.double)

    @property
    def number(self) -> int:
        return native.KINDS.index(self.kind)

    @property
    def fields(self) -> int:
        return 1 + native.has_memory(self.number)


@dataclass(frozen=True)
class Numbers:
    """What is handed in: the inputs by name, the outputs' gradients, the lengths."""

    inputs: dict[str, Array | None]
    dy: Array
    dlast: list[Array]
    lengths: Array | None

    def padding(self) -> Array:
        """(B, T) True where no step is."""
        batch, steps = self.dy.shape[:2]
        lengths = np.full(batch, steps) if self.lengths is None else self.lengths
        return np.arange(steps) >= lengths[:, None]


def draw(p: Problem) -> Numbers:
    rng, kind = np.random.default_rng(p.seed), np.float64 if p.double else np.float32
    rows, row = native.GATES[p.number] * p.hidden, (p.batch, p.hidden)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(kind)

    def weight(*shape: int) -> Array:
        return (rng.uniform(-1, 1, shape) / max(1, p.hidden) ** 0.5).astype(kind)

    def mask() -> Array:
        return ((rng.random(row) > 0.3) / 0.7).astype(kind)

    def keep() -> Array:
        drawn = rng.random((p.steps, *row)) > 0.4
        return np.full_like(drawn, 0.6, dtype=kind) if p.zoneout == "mean" else drawn.astype(kind)

    made: dict[str, Array | None] = dict.fromkeys(NAMES)
    made |= {"x": normal(p.batch, p.steps, p.features)}
    made |= {"weight_ih": weight(rows, p.features), "weight_hh": weight(rows, p.hidden)}
    if p.bias:
        made |= {"bias_ih": weight(rows), "bias_hh": weight(rows)}
    if p.peephole:
        made |= {f"weight_p{gate}": weight(p.hidden) for gate in "ifo"}
    if p.state:
        made |= {field: normal(*row) for field in "hc"[: p.fields]}
    made["mask_hidden"] = mask() if p.hidden_mask else None
    made["mask_candidate"] = mask() if p.candidate_mask else None
    if p.zoneout:
        made |= {f"keep_{field}": keep() for field in "hc"[: p.fields]}
    lengths = rng.integers(0, p.steps, p.batch, endpoint=True) if p.ragged else None
    drawn = Numbers(made, normal(p.batch, p.steps, p.hidden), [normal(*row) for _ in range(p.fields)], lengths)
    for given in (made["x"], drawn.dy):
        assert given is not None
        given[drawn.padding()] = np.nan
    for field in "hc":
        keeps = made[f"keep_{field}"]
        if keeps is not None:
            keeps[drawn.padding().T] = np.nan
    return drawn


def address(array: Array | None) -> int:
    return 0 if array is None or array.size == 0 else array.ctypes.data


def shape_of(core: Any, p: Problem, lengths: Array | None, threads: int) -> Any:
    sizes = p.batch, p.steps, p.features, p.hidden
    return core.Shape(p.number, *sizes, address(lengths), p.reverse, threads)


def forward(core: Any, isa: int, p: Problem, n: Numbers, threads: int, *, train: bool) -> tuple[list[Array], Array]:
    """([y, h, and c where there is one], the tape)"""
    shape = shape_of(core, p, n.lengths, threads)
    row = p.batch, p.hidden
    out = [np.full(s, 7, n.dy.dtype) for s in ((p.batch, p.steps, p.hidden), row, row if p.fields == 2 else 0)]
    tape = core.lasting(core.tape_size(shape) if train else 0, p.double)
    tape[:] = np.nan
    inputs = [address(n.inputs[name]) for name in NAMES]
    core.forward(isa, p.numbers, shape, inputs, [*map(address, out), address(tape)])
    return out[: 1 + p.fields], tape


def backward(
    core: Any, isa: int, p: Problem, n: Numbers, tape: Array, threads: int, *, want_x: bool = True
) -> dict[str, Array]:
    """The gradients of every input that is given."""
    given = {name: n.inputs[name] for name in LEARNED if want_x or name != "x"}
    out = {name: np.full_like(array, 7) for name, array in given.items() if array is not None}
    inputs = [address(n.inputs[name]) for name in NAMES]
    last = [*map(address, n.dlast), 0][:2]
    core.backward(
        isa,
        p.numbers,
        shape_of(core, p, n.lengths, threads),
        inputs,
        address(tape),
        [address(n.dy), *last],
        p.hidden,
        [address(out.get(name)) for name in LEARNED],
    )
    return out


def interpreter_is_free(call: Callable[[], object]) -> bool:
    """Whether another thread runs during one of 2,000 calls, where the interpreter is never taken away within 1000 s."""
    go, done = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: go.wait() and done.set())
    other.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        go.set()
        for _ in range(2000):
            call()
            if done.is_set():
                break
        free = done.is_set()
    finally:
        sys.setswitchinterval(before)
    other.join()
    return free


def both(core: Any, isa: int, p: Problem, n: Numbers, threads: int = 1) -> dict[str, Array]:
    """Everything a training step gives: y, the last states, and d_<input> for each input."""
    outputs, tape = forward(core, isa, p, n, threads, train=True)
    gradients = backward(core, isa, p, n, tape, threads)
    named = dict(zip(("y", "last_h", "last_c"), outputs, strict=False))
    return named | {f"d_{name}": array for name, array in gradients.items()}
