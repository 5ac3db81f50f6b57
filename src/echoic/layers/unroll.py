"""THE time loop: a cell over a batch of sequences. Whatever runs faster is proven equal to this.

Rows are padded at the end. A row's state is carried unchanged past its length, so the last State is
that of each row's last valid step, and a reverse pass, which meets the padding first, begins at each
row's own last valid step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from echoic.cells.base import NO_MASKS, NO_ZONEOUT, Cell, Masks, Zoneout


def unroll(
    cell: Cell,
    x: Tensor,
    lengths: Tensor | None = None,
    state: Any = None,
    *,
    reverse: bool = False,
    masks: Masks = NO_MASKS,
    zoneout: Zoneout = NO_ZONEOUT,
) -> tuple[Tensor, Any]:
    """x (B, T, D), lengths (B,) in 0..T (None: all T), state (None: zeros) -> (Y (B, T, H), State).

    Y is 0 on padding; with `reverse` Y[:, t] still belongs to x[:, t]. T = 0 is allowed.
    """
    batch, steps, _ = x.shape
    state = cell.initial(batch) if state is None else state
    valid = None if lengths is None else valid_steps(lengths, steps)
    if valid is not None:
        x = x.masked_fill(~valid[:, :, None], 0.0)  # a NaN in padding would reach the weights' gradient as 0 * NaN
    inputs = cell.project(x).unbind(1)
    outputs: list[Tensor] = [x.new_empty(0)] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        y, new = cell.step(inputs[t], state, masks)
        if zoneout.rate:
            y, new = _zone_out(y, new, state, zoneout, t)
        if valid is not None:
            real = valid[:, t]
            y = y.masked_fill(~real[:, None], 0.0)
            new = _merge(real, new, state)
        outputs[t], state = y, new
    return torch.stack(outputs, dim=1) if steps else x.new_zeros(batch, 0, cell.hidden_size), state


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """(B,) lengths -> (B, T) True where a step is real."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def _merge(take: Tensor, new: Any, old: Any) -> Any:
    """The State of `new` in the rows where `take` (B,) is True, of `old` elsewhere."""
    pairs = zip(new, old, strict=True)
    return type(new)(*(torch.where(take.view(-1, *[1] * (n.dim() - 1)), n, o) for n, o in pairs))


def _zone_out(y: Tensor, new: Any, old: Any, zoneout: Zoneout, t: int) -> tuple[Tensor, Any]:
    rate, keep = zoneout
    if keep is None:
        mixed = type(new)(*(rate * o + (1.0 - rate) * n for n, o in zip(new, old, strict=True)))
    else:
        mixed = type(new)(*(torch.where(k[t], n, o) for k, n, o in zip(keep, new, old, strict=True)))
    return (mixed[0] if y is new[0] else y), mixed
