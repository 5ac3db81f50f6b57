"""A running average of the weights: steadier than the last step's, and often better (Polyak and Juditsky 1992).

    a <- a + (1 - d_t) (w - a),    d_t = min(decay, (1 + t) / (10 + t)),    t = 0, 1, 2, ... steps done before

The short memory at the start keeps the random first weights out of the early epochs' averages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of a network's trained parameters. What is frozen or a buffer needs none."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.tensors = {name: p.detach().clone() for name, p in self._live.items()}

    def decay_at(self, step: int) -> float:
        """d of step `step` (from 0)."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int, but: Collection[str] = ()) -> None:
        """Takes in the weights as they are after step `step` (from 0), `but` those whose average another keeps."""
        names = [name for name in self.tensors if name not in but]
        live: list[Tensor] = [self._live[name] for name in names]
        torch._foreach_lerp_([self.tensors[name] for name in names], live, 1.0 - self.decay_at(step))

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Inside, the network has the averaged weights; after, its own again, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, live in self._live.items():
            own = live.clone()
            live.copy_(self.tensors[name])
            self.tensors[name].copy_(own)
