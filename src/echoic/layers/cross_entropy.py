"""Cross entropy over a large vocabulary, a few rows at a time.

    nats_n = log sum_v exp z_nv - (1 - e) z_(n, t_n) - e mean_v z_nv
    dz_nv = dnats_n (softmax(z_n)_v - (1 - e) [v = t_n] - e / V)

for logits z, targets t and label smoothing e (Szegedy et al. 2016). The logits of a batch are larger than any cache,
and torch carries them through memory some ten times: as float32, as log probabilities, as the gradients of each.
Here what is made of a few rows stays in the cache, and only the logits and their gradient are whole, in the type
they came in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NUMBERS = 1 << 18
"""Logits that are looked at at a time; changes speed, no answer."""


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """logits (N, V), targets (N,) int64 -> (N,) nats, float32 where logits are halves."""
    return _CrossEntropy.apply(logits, targets, smoothing)  # type: ignore[no-any-return, no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        total = whole(logits[:, :1])[:, 0].clone()
        nats = torch.empty_like(total)
        for rows in _rows(logits):
            z = whole(logits[rows])
            total[rows] = z.logsumexp(1)
            nats[rows] = total[rows] - (1 - smoothing) * z.gather(1, targets[rows, None])[:, 0]
            if smoothing:
                nats[rows] -= smoothing * z.mean(1)
        ctx.save_for_backward(logits, targets, total)
        ctx.smoothing = smoothing
        return nats

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[misc, no-untyped-call]
    def backward(ctx: Any, dnats: Tensor) -> tuple[Tensor | None, ...]:
        logits, targets, total = ctx.saved_tensors
        dlogits = torch.empty_like(logits)
        for rows in _rows(logits):
            dz = (whole(logits[rows]) - total[rows, None]).exp_()
            if ctx.smoothing:
                dz -= ctx.smoothing / dz.shape[1]
            dz[torch.arange(len(dz), device=dz.device), targets[rows]] -= 1 - ctx.smoothing
            dlogits[rows] = dz.mul_(dnats[rows, None])
        return dlogits, None, None


def whole(x: Tensor) -> Tensor:
    """In float32 where it was multiplied in half of it; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def _rows(logits: Tensor) -> list[slice]:
    size = max(1, NUMBERS // max(1, logits.shape[1]))
    return [slice(i, i + size) for i in range(0, len(logits), size)]
