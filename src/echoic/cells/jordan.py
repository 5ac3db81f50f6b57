"""Jordan's network: the output, not the hidden state, is fed back.

    h_t = phi(W x_t + b_ih + U y_(t-1) + b_hh)
    y_t = phi(V h_t + b_ho)                           phi: tanh, relu or the logistic function

Jordan 1986, "Attractor dynamics and parallelism in a connectionist sequential machine", without
that paper's decaying trace of older outputs. V is `weight_ho` (H, H); the state is y.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from echoic.cells.base import NO_MASKS, Cell, Masks, apply_mask
from echoic.cells.rnn import PHI
from echoic.core.config import Section
from echoic.core.registry import register


class JordanState(NamedTuple):
    y: Tensor
    """(B, H)"""


class JordanOptions(Section):
    nonlinearity: Literal["tanh", "relu", "sigmoid"] = Field("tanh", description="phi, of hidden and output units")


@register
class JordanCell(Cell):
    """Jordan's recurrence. torch.nn has none to compare with."""

    gates = ("h",)
    State = JordanState
    Options = JordanOptions
    variants = ({}, {"nonlinearity": "relu"}, {"nonlinearity": "sigmoid"})
    norm_groups = (1,)

    weight_ho: Tensor

    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"weight_ho": (self.hidden_size, self.hidden_size)}
        return shapes if self.bias_ih is None else shapes | {"bias_ho": (self.hidden_size,)}

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, JordanState]:
        phi = PHI[self.options.nonlinearity]
        h = apply_mask(phi(a + self.recur(state.y, masks.hidden)), masks.candidate)
        self.show(h=h)
        y = phi(F.linear(h, self.weight_ho, getattr(self, "bias_ho", None)))
        return y, JordanState(y)
