"""Pooling: the states of a text become one vector. Padding is masked and never changes an answer.

    last        the forward state of the last valid step; if bidirectional, beside it the backward
                state of step 0, each having read all of its segment
    mean, max   over the valid steps
    concat      last, mean and max, side by side
    attention   sum_j a_j y_j with a learned query (layers.attention); the a_j of a text sum to 1

A text that was cut into segments (layers.segments) is pooled over all of them: last takes the
forward state of its last segment and the backward state of its first. A text without a valid step
gives zeros, except that last reads step 0 of its row.

So pooling has two parts: `rows` makes of the S states of each row a few vectors, `join` makes of the
rows of each text one. A caller may give `rows` some rows at a time, and never hold all states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from echoic.core.config import WIDTH
from echoic.core.errors import nearest
from echoic.layers import segments
from echoic.layers.attention import SCORES, attend, masked_softmax
from echoic.layers.unroll import valid_steps


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
        return self.join(self.rows(states, lengths), lengths, owner, texts)

    def rows(self, states: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """(R, S, F), (R,) -> what `join` needs, R rows each: `end`, `sum`, `top` (R, F) of kinds last, mean, max;
        of attention `energy` (R, 1), the log of the row's sum of exp(e_j), and `context` (R, F), its own answer;
        beside them `scores` (R, S), the e_j themselves, for those who want the weights."""
        valid = valid_steps(lengths, states.shape[1])
        if self.kind not in ("last", "max"):
            states = _clean(states, lengths)
        if self.attention is not None:
            scores = self.attention(states)
            energy = scores.masked_fill(~valid, -math.inf).logsumexp(1, keepdim=True)
            context = attend(states, masked_softmax(scores, valid))
            return {"energy": energy, "context": context, "scores": scores}
        kept = {}
        if self.kind in ("last", "concat"):
            kept["end"] = self._end(states, lengths)
        if self.kind in ("mean", "concat"):
            kept["sum"] = states.sum(1)
        if self.kind in ("max", "concat"):
            kept["top"] = _largest(states, lengths, valid)
        return kept

    def join(self, rows: dict[str, Tensor], lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        """What `rows` gave, (R,), (R,), B -> (B, output_size)."""
        parts = []
        count = segments.total(lengths, owner, texts)[:, None]
        if "context" in rows:  # a softmax of softmaxes: a row weighs what its steps weigh together
            weights = masked_softmax(rows["energy"], lengths[:, None] > 0, owner, texts)
            parts.append(segments.total(weights * rows["context"], owner, texts))
        if "end" in rows:
            first_row, last_row = segments.ends(owner, texts)
            backward = rows["end"][first_row, self.hidden_size :]
            parts += [rows["end"][last_row, : self.hidden_size], backward]
        if "sum" in rows:
            parts.append(segments.total(rows["sum"], owner, texts) / count.clamp_min(1))
        if "top" in rows:
            parts.append(segments.largest(rows["top"], owner, texts).masked_fill(count == 0, 0.0))
        return torch.cat(parts, 1)

    def weights(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        """(R, S) attention weights, for explanation: those of one text's rows sum to 1, padding's are 0."""
        return self._weigh(_clean(states, lengths), lengths, owner, texts)

    def prefixes(self, states: Tensor) -> Tensor:
        """(T, F) -> (T, output_size): what `forward` gives for the first 1, 2, ... T steps of one text that is read
        in one direction. Sums are carried in float64, as T may be large."""
        if self.bidirectional:
            raise ValueError("prefixes: a backward state has read what comes after the prefix")
        wide = states.double()
        if self.attention is not None:
            scores = self.attention(states[None])[0].double()
            weights = (scores - scores.max()).exp()[:, None]
            return ((weights * wide).cumsum(0) / weights.cumsum(0)).to(states)  # type: ignore[no-any-return]
        parts = []
        if self.kind in ("last", "concat"):
            parts.append(states)
        if self.kind in ("mean", "concat"):
            count = torch.arange(1, len(states) + 1, device=states.device)[:, None]
            parts.append((wide.cumsum(0) / count).to(states))
        if self.kind in ("max", "concat"):
            parts.append(states.cummax(0).values)
        return torch.cat(parts, 1)

    def _weigh(self, states: Tensor, lengths: Tensor, owner: Tensor, texts: int) -> Tensor:
        if self.attention is None:
            raise ValueError(f"weights: pool={self.kind} has none; only pool=attention does")
        return masked_softmax(self.attention(states), valid_steps(lengths, states.shape[1]), owner, texts)

    def _end(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(R, F): the forward state of the last valid step beside the backward state of step 0."""
        row = torch.arange(len(states), device=states.device)
        forward = states[row, lengths.clamp_min(1) - 1, : self.hidden_size]
        return torch.cat([forward, states[:, 0, self.hidden_size :]], 1)


def _largest(states: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
    """(R, S, F), (R,), (R, S) -> (R, F), -inf for a row without a step. Found without a gradient and then taken,
    so that the backward pass writes one tensor of the states' size and not three."""
    place = states.detach().masked_fill(~valid[..., None], -math.inf).max(1, keepdim=True).indices
    return states.gather(1, place)[:, 0].masked_fill((lengths == 0)[:, None], -math.inf)


def _clean(states: Tensor, lengths: Tensor) -> Tensor:
    """Zeros on padding, so that not even a NaN there can pass a weight of 0."""
    return states.masked_fill(~valid_steps(lengths, states.shape[1])[..., None], 0.0)
