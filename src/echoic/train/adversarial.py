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

Words = tuple[Tensor, Tensor]
"""What is moved, rows of an embedding table that hold a gradient, and the table, whose mean row norm is s."""


def tables(network: nn.Module) -> list[Words]:
    """The embedding tables of `network` that hold a gradient."""
    found = [m.weight for m in network.modules() if isinstance(m, Embed) and m.weight.grad is not None]
    return [(weight, weight) for weight in found]


@contextmanager
def moved(words: list[Words], size: float) -> Iterator[None]:
    """Inside, the words stand at E + r, by the gradient they hold; afterwards their bits are what they were."""
    kept = [rows.detach().clone() for rows, _ in words]
    with torch.no_grad():
        for rows, table in words:
            assert rows.grad is not None
            length = size * table.norm(dim=1).mean()
            rows.add_(rows.grad * (length / rows.grad.norm().clamp(min=1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for (rows, _), before in zip(words, kept, strict=True):
                rows.copy_(before)


@contextmanager
def rewound(carry: dict[str, Tensor], before: dict[str, Tensor]) -> Iterator[None]:
    """Inside, `carry` (train/loop.py) is what it was `before` this batch; afterwards what the batch made of it."""
    after = dict(carry)
    carry.clear()
    carry.update(before)
    try:
        yield
    finally:
        carry.clear()
        carry.update(after)
