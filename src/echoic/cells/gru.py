"""The gated recurrent unit, with the reset gate after or before the recurrent product.

    r = sigma(W_r x_t + b_ir + U_r h_(t-1) + b_hr)
    z = sigma(W_z x_t + b_iz + U_z h_(t-1) + b_hz)
    n = tanh(W_n x_t + b_in + r * (U_n h_(t-1) + b_hn))     reset="after": torch, cuDNN; the default
    n = tanh(W_n x_t + b_in + U_n (r * h_(t-1)) + b_hn)     reset="before"
    h_t = (1 - z) * n + z * h_(t-1)

Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", eq. 5 to 8. Its last
version (arXiv:1406.1078v3) resets before the product, its first (v1) after. They are different
functions: weights trained with one are wrong in the other. Layer norm as Ba et al. 2016: r and z together, n by itself. Gates in torch's order r z n.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from echoic.cells.base import NO_MASKS, Cell, Masks, apply_mask
from echoic.core.config import Section
from echoic.core.registry import register


class GRUState(NamedTuple):
    h: Tensor
    """(B, H)"""


class GRUOptions(Section):
    reset: Literal["after", "before"] = Field("after", description="reset gate after (torch) or before (Cho) U h")


@register
class GRUCell(Cell):
    """The GRU; with reset="after" torch.nn.GRUCell."""

    gates = ("r", "z", "n")
    State = GRUState
    Options = GRUOptions
    variants = ({}, {"reset": "before"})
    norm_groups = (2, 1)

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, GRUState]:
        h, size = state.h, self.hidden_size
        a_rz, a_n = torch.split(a, [2 * size, size], dim=-1)
        if self.options.reset == "after":
            u_rz, u_n = torch.split(self.recur(h, masks.hidden), [2 * size, size], dim=-1)
            r, z = torch.sigmoid(a_rz + u_rz).chunk(2, dim=-1)
            n = torch.tanh(a_n + r * u_n)
        else:
            r, z = torch.sigmoid(a_rz + self.recur(h, masks.hidden, 0, 2)).chunk(2, dim=-1)
            n = torch.tanh(a_n + self.recur(r * h, masks.hidden, 2, 3))
        n = apply_mask(n, masks.candidate)
        self.show(r=r, z=z, n=n)
        h = (1.0 - z) * n + z * h
        return h, GRUState(h)
