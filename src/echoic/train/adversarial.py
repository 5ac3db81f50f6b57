"""Adversarial training on words: the loss again, with every embedded word moved to where it hurts most.

    r = size * s * g / |g|        g: the loss's gradient by the embedding table E, s: E's mean row norm
    loss = L(E) + L(E + r)        r is taken as a constant

Miyato, Dai and Goodfellow 2017, "Adversarial training methods for semi-supervised text
classification" (arXiv:1605.07725), eq. 3 and 4, but for two things: a word is moved alike wherever it
stands in the batch, so that the table itself can be moved, and the step is measured in lengths of a
word's vector, where they normalise the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from echoic.layers.embed import Embed


def tables(network: nn.Module) -> list[Tensor]:
    """The embedding tables of `network` that hold a gradient."""
    return [m.weight for m in network.modules() if isinstance(m, Embed) and m.weight.grad is not None]


@contextmanager
def moved(tables: list[Tensor], size: float) -> Iterator[None]:
    """Inside, each table stands at E + r, by the gradient it holds; afterwards its bits are what they were."""
    kept = [table.detach().clone() for table in tables]
    with torch.no_grad():
        for table in tables:
            assert table.grad is not None
            length = size * table.norm(dim=1).mean()
            table.add_(table.grad * (length / table.grad.norm().clamp(min=1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for table, before in zip(tables, kept, strict=True):
                table.copy_(before)
