"""The n-gram path: which word sequences occur in a text, each with a weight for every class.

    g_i^n    = hash of tokens i .. i+n-1                     one integer below P = 2^31 - 1
    hash     : h <- (h A_n + token + 1) mod P, token by token, so that no product leaves int64
    slot     = g mod S,   check = g div S                   S a power of two
    F(x)     = the distinct slots of all n-grams of x, n = 1 .. N, whose stored check matches
    logits_c = b_c + sum over s in F(x) of W[s, c]

An n-gram counts once however often it occurs (Wang and Manning 2012 found presence better than
counts). The check keeps an n-gram never seen in training from borrowing the weight of another one
that shares its slot: only about one in 2^31 / S does. All of it is integer arithmetic on token
ids, gathers and one sort, so it can be exported, explained and streamed like the rest of the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from echoic.core.hashing import MULTIPLIERS, PRIME


def hashes(ids: Tensor, lengths: Tensor, order: int) -> Tensor:
    """(B, T) token ids -> (B, T * order) int64 n-gram hashes, -1 where an n-gram leaves its text."""
    steps = ids.shape[1]
    position = torch.arange(steps, device=ids.device)
    columns = []
    for n in range(1, order + 1):
        rolling = torch.zeros_like(ids)
        for k in range(n):
            ahead = torch.nn.functional.pad(ids[:, k:], (0, min(k, steps)))
            rolling = (rolling * MULTIPLIERS[n - 1] + ahead + 1) % PRIME
        inside = position[None, :] + n <= lengths[:, None]
        columns.append(torch.where(inside, rolling, -1))
    return torch.cat(columns, 1)


class NgramPath(nn.Module):
    """A linear classifier over hashed n-grams. Its numbers are fitted by `train.ngrams.fit_ngrams`,
    not by gradient steps, so they are buffers.

    `check` (S,) int32: hash div S of the n-gram that owns each slot, -1 where none does.
    `weight` (S, C), `bias` (C,): float32.
    """

    def __init__(self, slots: int, classes: int, order: int) -> None:
        """Raises ValueError without a slot, and for an order beyond the multipliers."""
        super().__init__()
        if slots < 1:
            raise ValueError(f"slots: expected at least 1, got {slots}")
        if not 1 <= order <= len(MULTIPLIERS):
            raise ValueError(f"order: expected 1 to {len(MULTIPLIERS)}, got {order}")
        self.order: Tensor
        self.check: Tensor
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("check", torch.full((slots,), -1, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(slots, classes))
        self.register_buffer("bias", torch.zeros(classes))

    def slots(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T), (B,) -> slots (B, T * order) sorted in each row, and which of them count."""
        hashed = hashes(ids, lengths, int(self.order)).sort(1).values
        slot, known = self.owned(hashed)
        repeated = torch.nn.functional.pad(hashed[:, 1:] == hashed[:, :-1], (1, 0))
        return slot, known & ~repeated

    def owned(self, hashed: Tensor) -> tuple[Tensor, Tensor]:
        """Hashes of any shape -> their slots, and which of them own theirs: the n-grams that are known."""
        size = self.check.shape[0]
        slot = hashed.clamp_min(0) % size
        return slot, (hashed >= 0) & (self.check[slot] == torch.div(hashed, size, rounding_mode="floor"))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) ids, (B,) lengths -> (B, C) logits."""
        slot, counts = self.slots(ids, lengths)
        summed = torch.nn.functional.embedding_bag(
            slot, self.weight, per_sample_weights=counts.to(self.weight), mode="sum"
        )
        return summed + self.bias
