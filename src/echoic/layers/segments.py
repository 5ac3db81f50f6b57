"""Long texts are read whole: cut into segments that run as rows of one batch, then pooled over.

    text 0   a b c d e          rows   a b c     owner  0
    text 1   f g            ->         d e .            0
                                       f g .            1

`split` cuts; `total`, `largest` and `ends` bring what was computed of each row back to its text.
The letters of shapes are core.types's, and R is the number of rows, S the steps of a row. Rows stand
in document order and every text has at least one, so that R == B says that no text was cut.
"""

from __future__ import annotations

import torch
from torch import Tensor

from echoic.core.types import PAD


def split(x: Tensor, lengths: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, ...) ids or embedded tokens, (B,) lengths -> rows (R, S, ...), their lengths (R,), the text that owns
    each (R,); S = min(T, size).

    A text of n tokens becomes max(1, ceil(n / size)) rows; all but its last are full.
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    texts, steps, *features = x.shape
    owner = torch.arange(texts, device=x.device)
    if steps <= size:
        return x, lengths, owner
    pieces = -(-steps // size)
    start = size * torch.arange(pieces, device=x.device)
    left = lengths[:, None] - start
    kept = (left > 0) | (start == 0)
    behind = (*[0, 0] * len(features), 0, pieces * size - steps)
    rows = torch.nn.functional.pad(x, behind, value=PAD).view(texts, pieces, size, *features)
    return rows[kept], left.clamp(0, size)[kept], owner[:, None].expand(texts, pieces)[kept]


def total(x: Tensor, owner: Tensor, texts: int) -> Tensor:
    """(R, ...) -> (B, ...): the sum over the rows of each text, added in document order."""
    if len(x) == texts:
        return x
    return x.new_zeros(texts, *x.shape[1:]).index_add(0, owner, x)


def largest(x: Tensor, owner: Tensor, texts: int) -> Tensor:
    """(R, F) -> (B, F): the maximum over the rows of each text."""
    if len(x) == texts:
        return x
    index = owner[:, None].expand_as(x)
    return x.new_zeros(texts, x.shape[1]).scatter_reduce(0, index, x, "amax", include_self=False)


def ends(owner: Tensor, texts: int) -> tuple[Tensor, Tensor]:
    """(R,) -> the first and the last row of each text, (B,) each."""
    text = torch.arange(texts, device=owner.device)
    if len(owner) == texts:
        return text, text
    return torch.searchsorted(owner, text), torch.searchsorted(owner, text, right=True) - 1
