"""Pooling: the states of a text become one vector. Padding is masked and never changes an answer.

    last        the forward state of the last valid step; if bidirectional, beside it the backward
                state of step 0, each having read all of its segment
    mean, max   over the valid steps
    concat      last, mean and max, side by side
    attention   sum_j a_j y_j with a learned query (layers.attention); the a_j of a text sum to 1

A text that was cut into segments (layers.segments) is pooled over all of them: last takes the
forward state of its last segment and the backward state of its first. A text without a valid step
gives zeros, except that last reads step 0 of its row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from echoic.core.errors import nearest
from echoic.layers import segments
from echoic.layers.attention import SCORES, attend, masked_softmax
from echoic.layers.unroll import valid_steps

WIDTH = {"last": 1, "mean": 1, "max": 1, "concat": 3, "attention": 1}
"""Output size of each kind, in units of the state's size."""


class Pool(nn.Module):
    """`Pool("max", H, bidirectional=True)`: states (R, S, F) -> (B, output_size), F = H or 2 H."""

    def __init__(
        self,
        kind: str,
        hidden_size: int,
        bidirectional: bool = False,
        attention: str = "additive",
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kind not in WIDTH:
            raise ValueError(f"kind: there is no pooling named {kind!r}{nearest(kind, WIDTH)}")
        if attention not in SCORES:
            raise ValueError(f"attention: there is none named {attention!r}{nearest(attention, SCORES)}")
        self.kind, self.hidden_size, self.bidirectional = kind, hidden_size, bidirectional
        size = hidden_size * (2 if bidirectional else 1)
        self.output_size = WIDTH[kind] * size
        self.attention = SCORES[attention](size, generator=generator) if kind == "attention" else None

    def forward(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        """(R, S, F), (R,), (R,), B -> (B, output_size). Without segments R = B and owner is arange(B)."""
        if self.kind == "last":
            return self._last(states, lengths, owner, texts)
        if self.kind == "max":
            return self._max(states, lengths, owner, texts)
        states = _clean(states, lengths)
        if self.kind == "attention":
            return segments.total(attend(states, self._weigh(states, lengths, owner, texts)), owner, texts)
        mean = _mean(states, lengths, owner, texts)
        if self.kind == "mean":
            return mean
        last, top = (f(states, lengths, owner, texts) for f in (self._last, self._max))
        return torch.cat([last, mean, top], 1)

    def weights(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        """(R, S) attention weights, for explanation: those of one text's rows sum to 1, padding's are 0."""
        return self._weigh(_clean(states, lengths), lengths, owner, texts)

    def _weigh(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        if self.attention is None:
            raise ValueError(f"weights: pool={self.kind} has none; only pool=attention does")
        return masked_softmax(self.attention(states), valid_steps(lengths, states.shape[1]), owner, texts)

    def _last(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        first_row, last_row = segments.ends(owner, texts)
        forward = states[last_row, lengths[last_row].clamp_min(1) - 1]
        if not self.bidirectional:
            return forward
        return torch.cat([forward[:, : self.hidden_size], states[first_row, 0, self.hidden_size :]], 1)

    def _max(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        padding = ~valid_steps(lengths, states.shape[1])
        # max(1).values and not amax(1): on CPU its backward pass costs half
        top = segments.largest(states.masked_fill(padding[..., None], -math.inf).max(1).values, owner, texts)
        return top.masked_fill(segments.total(lengths, owner, texts)[:, None] == 0, 0.0)


def _clean(states: Tensor, lengths: Tensor) -> Tensor:
    """Zeros on padding, so that not even a NaN there can pass a weight of 0."""
    return states.masked_fill(~valid_steps(lengths, states.shape[1])[..., None], 0.0)


def _mean(clean: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
    count = segments.total(lengths, owner, texts).clamp_min(1)
    return segments.total(clean.sum(1), owner, texts) / count[:, None]
