"""Long short-term memory, with a forget gate and, if asked for, peepholes.

    i = sigma(W_i x_t + U_i h_(t-1) + b_i [+ p_i * c_(t-1)])
    f = sigma(W_f x_t + U_f h_(t-1) + b_f [+ p_f * c_(t-1)])
    g =  tanh(W_g x_t + U_g h_(t-1) + b_g)
    c_t = f * c_(t-1) + i * g
    o = sigma(W_o x_t + U_o h_(t-1) + b_o [+ p_o * c_t])
    h_t = o * tanh(c_t)                               with layer norm: o * tanh(gain_c * norm(c_t) + bias_c)

Hochreiter and Schmidhuber 1997; the forget gate of Gers, Schmidhuber and Cummins 2000; the peepholes
of Gers and Schmidhuber 2000, "Recurrent nets that time and count": one weight a unit, and the output
gate sees the new c. Equations as Graves 2013 (arXiv:1308.0850), eq. 7 to 11. Layer norm as Ba et al.
2016, supplement. b is b_ih + b_hh, the gates stand in torch's order i f g o.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from echoic.cells.base import NO_MASKS, Cell, Masks, apply_mask
from echoic.core.config import Section
from echoic.core.registry import register


class LSTMState(NamedTuple):
    h: Tensor
    """(B, H), the output"""
    c: Tensor
    """(B, H), the memory"""


class LSTMOptions(Section):
    peephole: bool = Field(False, description="the gates see the memory c (Gers and Schmidhuber 2000)")


@register
class LSTMCell(Cell):
    """The LSTM; without peepholes torch.nn.LSTMCell."""

    gates = ("i", "f", "g", "o")
    State = LSTMState
    Options = LSTMOptions
    variants = ({}, {"peephole": True})
    norm_groups = (4,)
    open_gates = ("f",)

    weight_pi: Tensor
    weight_pf: Tensor
    weight_po: Tensor
    gain_c: Tensor
    bias_c: Tensor

    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        names = ["weight_pi", "weight_pf", "weight_po"] if self.options.peephole else []
        return dict.fromkeys(names + (["gain_c", "bias_c"] if self.layer_norm else []), (self.hidden_size,))

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, LSTMState]:
        h, c = state
        i, f, g, o = (a + self.recur(h, masks.hidden)).chunk(4, dim=-1)
        if self.options.peephole:
            i, f = i + self.weight_pi * c, f + self.weight_pf * c
        i, f, g = torch.sigmoid(i), torch.sigmoid(f), apply_mask(torch.tanh(g), masks.candidate)
        c = f * c + i * g
        o = torch.sigmoid(o + self.weight_po * c if self.options.peephole else o)
        self.show(i=i, f=f, g=g, o=o)
        shown = F.layer_norm(c, c.shape[-1:], self.gain_c, self.bias_c) if self.layer_norm else c
        h = o * torch.tanh(shown)
        return h, LSTMState(h, c)
