"""Elman's network: the hidden state is fed back.

    h_t = phi(W x_t + b_ih + U h_(t-1) + b_hh)        phi: tanh, relu or the logistic function

Elman 1990, "Finding structure in time"; written as Goodfellow, Bengio, Courville 2016, eq. 10.8 and
10.9. An Elman network is nothing but its candidate, so the candidate mask drops units of h_t.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from echoic.cells.base import NO_MASKS, Cell, Masks, apply_mask
from echoic.core.config import Section
from echoic.core.registry import register

PHI = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


class RNNState(NamedTuple):
    h: Tensor
    """(B, H)"""


class RNNOptions(Section):
    nonlinearity: Literal["tanh", "relu", "sigmoid"] = Field("tanh", description="phi, applied to every unit")


@register
class RNNCell(Cell):
    """Elman's recurrence; the default is torch.nn.RNNCell."""

    gates = ("h",)
    State = RNNState
    Options = RNNOptions
    variants = ({}, {"nonlinearity": "relu"}, {"nonlinearity": "sigmoid"})
    norm_groups = (1,)

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, RNNState]:
        h = PHI[self.options.nonlinearity](a + self.recur(state.h, masks.hidden))
        h = apply_mask(h, masks.candidate)
        self.show(h=h)
        return h, RNNState(h)
