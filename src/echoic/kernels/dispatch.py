"""Which code runs a layer, and why: the one place that chooses.

| name           | runs                                                 | serves                                   |
| -------------- | ---------------------------------------------------- | ---------------------------------------- |
| `native-...`   | the package's own core, named by its instruction set | RNN, LSTM, GRU on the CPU, all but layer norm |
| `torch`        | torch's own kernel over dense rows, padded at the end | a cell that torch has, nothing dropped   |
| `torch-packed` | the same over packed rows                            | an LSTM's last state over ragged rows    |
| `reference`    | the time loop handed in, step by step                | everything                               |

The choice is a function of the cell and of what is asked of it, never of timing. Under torch.autocast
to bfloat16 the core multiplies bfloat16, where the processor can; its sums and states stay float32. torch's fast LSTM
(oneDNN) takes dense rows only and forgets c of every step but the last, which on a ragged batch is
a step of padding: there the packed form, slower, gives the exact c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from echoic.cells.base import NO_MASKS, NO_ZONEOUT, Cell, Masks, Zoneout
from echoic.cells.gru import GRUCell
from echoic.cells.lstm import LSTMCell
from echoic.cells.rnn import RNNCell
from echoic.kernels import bridge, native

ROWS, WEIGHTS = 32, 16_384
"""A step of fewer rows with more weights is not worth packing them (`python benchmarks/kernels.py grid`). torch's LSTM
lays out its weights for each call too."""
AT_ONCE = {"rnn_tanh": math.inf, "rnn_relu": math.inf, "gru": 64}
"""Rows of a single step up to which torch's kernel, which packs nothing, is faster (the same grid)."""


class Run(Protocol):
    """x (B, T, D), lengths (B,) or None, state or None -> (Y (B, T, H), State).
    The State is None where `choose` was told that nobody wants it and the kernel does not know it."""

    def __call__(
        self, cell: Cell, x: Tensor, lengths: Tensor | None, state: Any, *, reverse: bool = False
    ) -> tuple[Tensor, Any]: ...


@dataclass(frozen=True)
class Choice:
    name: str
    why: str
    run: Run


def choose(
    cell: Cell,
    loop: Callable[..., tuple[Tensor, Any]],
    *,
    ragged: bool,
    masks: Masks = NO_MASKS,
    zoneout: Zoneout = NO_ZONEOUT,
    want_state: bool = True,
    rows_of_one_step: int | None = None,
) -> Choice:
    """The kernel for one direction of one layer. `loop` is the time loop, which takes masks and
    zoneout; `ragged` says that rows have different lengths, `rows_of_one_step` how many there are where
    each has a single step, as when a text is written."""
    reference: Run = partial(loop, masks=masks, zoneout=zoneout)
    plain = not zoneout.rate and all(mask is None for mask in masks)
    u = cell.weight_hh
    if rows_of_one_step is not None:
        why = "for so few rows of one step the core's packing of the weights costs more than it gains"
        if plain and step_of_torch(cell, rows_of_one_step) is not None:
            return Choice("torch", why, _run_dense)
        if rows_of_one_step < ROWS and u.numel() + cell.weight_ih.numel() > WEIGHTS:
            return Choice("reference", why, reference)
    if cell.layer_norm:
        return Choice("reference", "no kernel has layer norm", reference)
    kind = _native_kind(cell)
    why_not = native.why_not()
    if kind is not None and u.device.type == "cpu" and u.dtype in (torch.float32, torch.float64):
        if why_not is None:
            half = u.dtype == torch.float32 and _autocast_to_bfloat16() and native.has_bfloat16()
            run: Run = partial(bridge.run, kind=kind, masks=masks, zoneout=zoneout, bfloat16=half)
            why = "the native core computes this cell" + (", its products in bfloat16" if half else "")
            return Choice(native.name(), why, run)
        instead = f"{why_not}; "
    else:
        instead = ""
    kernel = _torch_kernel(cell)
    if kernel is None:
        why = f"{instead}torch has no kernel for {type(cell).__name__}({cell.extra_repr()})"
        return Choice("reference", why, reference)
    if not plain:
        return Choice("reference", f"{instead}torch has no kernel with recurrent dropout or zoneout", reference)
    if ragged and want_state and isinstance(cell, LSTMCell):
        return Choice("torch-packed", f"{instead}rows differ in length and the last c is wanted", _run_packed)
    return Choice("torch", f"{instead}torch's {kernel} computes this cell", _run_dense)


def step_of_torch(cell: Cell, rows: int) -> str | None:
    """The name of torch's kernel where it is the faster one for a single step of so many rows. Not where a call is
    traced, as the tracer does not know it, nor under autocast, where its answers are of half the precision."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return None
    kernel = None if cell.layer_norm else _torch_kernel(cell)
    return kernel if kernel is not None and rows <= AT_ONCE.get(kernel, -1) else None


def _autocast_to_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _native_kind(cell: Cell) -> int | None:
    """The native core's number of just this cell's recurrence; a subclass is another cell."""
    if type(cell) is LSTMCell:
        return native.KINDS.index("lstm")
    if type(cell) is GRUCell:
        return native.KINDS.index(f"gru_{cell.options.reset}")
    if type(cell) is RNNCell:
        return native.KINDS.index(f"rnn_{cell.options.nonlinearity}")
    return None


def _torch_kernel(cell: Cell) -> str | None:
    """The name in torch._VF of the kernel that computes just this cell; a subclass is another cell."""
    if type(cell) is LSTMCell and not cell.options.peephole:
        return "lstm"
    if type(cell) is GRUCell and cell.options.reset == "after":
        return "gru"
    if type(cell) is RNNCell and cell.options.nonlinearity in ("tanh", "relu"):
        return f"rnn_{cell.options.nonlinearity}"
    return None


def _arguments(cell: Cell, state: Any) -> tuple[Any, list[Tensor], bool]:
    """(initial states, weights, whether there are biases) as torch's kernels want them."""
    weights: list[Tensor] = [cell.weight_ih, cell.weight_hh]
    if cell.bias_ih is not None and cell.bias_hh is not None:
        weights += [cell.bias_ih, cell.bias_hh]
    initial = [field[None].contiguous() for field in state]
    return (initial if len(initial) > 1 else initial[0]), weights, len(weights) > 2


def _call(cell: Cell, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """torch's kernel over dense rows, forwards."""
    initial, weights, biased = _arguments(cell, state)
    kernel = getattr(torch._VF, str(_torch_kernel(cell)))  # type: ignore[attr-defined]
    train = torch.is_grad_enabled()
    y, *last = kernel(x, initial, weights, biased, 1, 0.0, train, False, True)
    return y, cell.State(*(field[0] for field in last))


def _run_dense(
    cell: Cell, x: Tensor, lengths: Tensor | None, state: Any, *, reverse: bool = False
) -> tuple[Tensor, Any]:
    """Dense rows: what is computed after a row's end is cut off, and cannot reach back before it."""
    batch, steps, _ = x.shape
    state = cell.initial(batch) if state is None else state
    longest = steps if lengths is None else int(lengths.max()) if batch else 0
    if batch == 0 or longest == 0:
        return x.new_zeros(batch, steps, cell.hidden_size), state
    x = x[:, :longest]
    if lengths is None or bool((lengths == longest).all()):
        y, last = _call(cell, x.flip(1) if reverse else x, state)
        return _widen(y.flip(1) if reverse else y, steps), last
    padding = torch.arange(longest, device=x.device) >= lengths[:, None]
    x = x.masked_fill(padding[:, :, None], 0.0)  # a NaN there would reach the weights' gradient as 0 * NaN
    turn = _turn_order(lengths, longest) if reverse else None
    y, _ = _call(cell, x if turn is None else _reorder(x, turn), state)
    h = torch.where((lengths > 0)[:, None], _last_step(y, lengths), state[0])
    y = (y if turn is None else _reorder(y, turn)).masked_fill(padding[:, :, None], 0.0)
    return _widen(y, steps), cell.State(h) if len(state) == 1 else None


def _run_packed(
    cell: Cell, x: Tensor, lengths: Tensor | None, state: Any, *, reverse: bool = False
) -> tuple[Tensor, Any]:
    """Packed rows: exact last states. A row of length 0, which packing refuses, runs as one step that is cut off."""
    batch, steps, _ = x.shape
    longest = 0 if lengths is None or batch == 0 else int(lengths.max())
    if lengths is None or longest == 0:
        return _run_dense(cell, x, lengths, state, reverse=reverse)
    state = cell.initial(batch) if state is None else state
    real = (lengths > 0)[:, None]
    turn = _turn_order(lengths, longest) if reverse else None
    x = x[:, :longest].masked_fill(~real[:, :, None], 0.0)  # the step of an empty row may be NaN, and NaN * 0 is too
    packed = pack_padded_sequence(
        x if turn is None else _reorder(x, turn), lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    assert packed.sorted_indices is not None
    assert packed.unsorted_indices is not None
    initial, weights, biased = _arguments(cell, [field[packed.sorted_indices] for field in state])
    kernel = getattr(torch._VF, str(_torch_kernel(cell)))  # type: ignore[attr-defined]
    data, *last = kernel(
        packed.data, packed.batch_sizes, initial, weights, biased, 1, 0.0, torch.is_grad_enabled(), False
    )
    y, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=longest)
    y = (y if turn is None else _reorder(y, turn)).masked_fill(~real[:, :, None], 0.0)
    fields = (field[0][packed.unsorted_indices] for field in last)
    return _widen(y, steps), cell.State(*(torch.where(real, new, old) for new, old in zip(fields, state, strict=True)))


def _widen(y: Tensor, steps: int) -> Tensor:
    """(B, t, H) -> (B, T, H) with zeros after."""
    return y if y.shape[1] == steps else torch.nn.functional.pad(y, (0, 0, 0, steps - y.shape[1]))


def _turn_order(lengths: Tensor, steps: int) -> Tensor:
    """(B*T,) places that turn round the valid part of each row and leave its padding; twice is nothing."""
    t = torch.arange(steps, device=lengths.device)
    place = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return (place + steps * torch.arange(len(lengths), device=lengths.device)[:, None]).reshape(-1)


def _reorder(x: Tensor, places: Tensor) -> Tensor:
    """x (B, T, D) with its steps at `places`; index_select, as gather's gradient is an order slower."""
    return x.reshape(-1, x.shape[-1]).index_select(0, places).view(x.shape)


def _last_step(y: Tensor, lengths: Tensor) -> Tensor:
    """y (B, T, H) read forwards -> (B, H) at each row's last valid step (step 0 in an empty row)."""
    rows = torch.arange(len(lengths), device=y.device)
    return y[rows, (lengths - 1).clamp(min=0)]
