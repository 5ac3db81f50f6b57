"""The LSTM whose output is projected, for `echoic.nn.LSTM(proj_size=...)`: the reference path alone has it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from echoic.cells.base import NO_MASKS, Masks
from echoic.cells.lstm import LSTMCell, LSTMState
from echoic.layers.stack import Stack


class ProjectedLSTMCell(LSTMCell):
    """The LSTM of Sak et al. 2014: h = W_hr (o * tanh c), of P units, is put out and fed back."""

    weight_hr: Tensor

    def __init__(self, input_size: int, hidden_size: int, proj_size: int, *, bias: bool, **rest: Any) -> None:
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, bias=bias, **rest)
        self.weight_hh = nn.Parameter(self.weight_hh.new_empty(4 * hidden_size, proj_size))
        self.reset_parameters()

    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight_hr": (self.proj_size, self.hidden_size), **super().extra_shapes()}

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"h": (self.proj_size,), "c": (self.hidden_size,)}

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, LSTMState]:
        h, state = super().step(a, state, masks)
        h = nn.functional.linear(h, self.weight_hr)
        return h, LSTMState(h, state.c)


def project(
    stack: Stack, hidden_size: int, proj_size: int, bias: bool, options: dict[str, Any], device: Any, dtype: Any
) -> None:
    """Projected cells in the place of the stack's plain ones, whose output size they share."""
    for place, cell in enumerate(list(stack.cells)):
        size: int = cell.input_size  # type: ignore[assignment]
        stack.cells[place] = ProjectedLSTMCell(
            size, hidden_size, proj_size, bias=bias, device=device, dtype=dtype, **options
        )
