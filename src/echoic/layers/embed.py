"""Token ids -> vectors. The padding row is zero and stays so.

Two kinds of noise, both only if a Noise is handed in: `word_dropout` reads a token as <unk>
(so that the network learns what to do with an unknown one), `dropout` drops single numbers of the
embedded tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from echoic.core.types import EMPTY, PAD, UNKNOWN
from echoic.layers.dropout import Noise, dropout

SPREAD = 0.1
"""Standard deviation of a new embedding; rows start as N(0, SPREAD^2)."""


class Embed(nn.Module):
    """`vectors` (V, D) starts the table; `trained=False` keeps it as it is. Without vectors rows are
    drawn by `generator` (None: torch's own). `by_rows` says that nobody reads the table but through a
    call, so that a training step may leave alone what it did not read (train/lazy_adam.py)."""

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        *,
        vectors: np.ndarray | Tensor | None = None,
        trained: bool = True,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        by_rows: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        table = torch.empty(vocabulary_size, size).normal_(0.0, SPREAD, generator=generator)
        if vectors is not None:
            if tuple(vectors.shape) != (vocabulary_size, size):
                raise ValueError(f"vectors: expected shape ({vocabulary_size}, {size}), got {tuple(vectors.shape)}")
            table.copy_(torch.as_tensor(vectors))
        table[PAD] = 0.0
        self.weight = nn.Parameter(table, requires_grad=trained)
        self.dropout, self.word_dropout, self.by_rows = dropout, word_dropout, by_rows
        self.rows_of: Callable[[Tensor], tuple[Tensor, Tensor, int | None]] | None = None
        """Set while the table is trained by rows (train/lazy_adam.py): ids -> the few rows that a call in training
        reads instead of the table, each id's place among them, and padding's."""

    def forward(self, ids: Tensor, noise: Noise | None = None) -> Tensor:
        """(B, T) int64 ids -> (B, T, D)."""
        ids = drop_words(ids, self.word_dropout, noise)
        rows_of = self.rows_of if self.training else None
        table, places, padding = (self.weight, ids, PAD) if rows_of is None else rows_of(ids)
        return dropout(nn.functional.embedding(places, table, padding), self.dropout, noise)


def drop_words(ids: Tensor, rate: float, noise: Noise | None) -> Tensor:
    """The ids with a share `rate` of the tokens, never padding or <empty>, replaced by <unk>."""
    if noise is None or rate == 0:
        return ids
    return ids.masked_fill(~noise.keep(ids.shape, rate) & (ids != PAD) & (ids != EMPTY), UNKNOWN)
