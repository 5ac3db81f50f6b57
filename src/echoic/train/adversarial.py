"""Adversarial training on words: the loss again, with every embedded word moved to where it hurts most.

    r = size * s * g / |g|        g: the loss's gradient by the embedding table E, s: E's mean row norm
    loss = L(E) + L(E + r)        r is taken as a constant

Miyato, Dai and Goodfellow 2017, "Adversarial training methods for semi-supervised text
classification" (arXiv:1605.07725), eq. 3 and 4, but for two things: a word is moved alike wherever it
stands in the batch, so that the table itself can be moved, and the step is measured in lengths of a
word's vector, where they normalise the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from echoic.layers.embed import Embed

Words = tuple[Tensor, Tensor]
"""What is moved, rows of an embedding table, and the table, whose mean row norm is s."""


def tables(network: nn.Module) -> list[Words]:
    """The embedding tables of `network` that are trained as a whole."""
    found = [m.weight for m in network.modules() if isinstance(m, Embed) and m.weight.requires_grad and not m.rows_of]
    return [(weight, weight) for weight in found]


def moved(words: list[Words], size: float) -> AbstractContextManager[None]:
    """Inside, the words stand at E + r, by the gradient they hold; afterwards their bits are what they were."""
    return shifted(words, [rows.grad for rows, _ in words], size)


@contextmanager
def shifted(words: Sequence[Words], ways: Sequence[Tensor | None], size: float) -> Iterator[None]:
    """Inside, each of `words` stands `size` lengths of a word's vector further along its way (None: where it stood);
    afterwards their bits are what they were."""
    moving = [(rows, table, way) for (rows, table), way in zip(words, ways, strict=True) if way is not None]
    kept = [rows.detach().clone() for rows, _, _ in moving]
    with torch.no_grad():
        for rows, table, way in moving:
            length = size * table.norm(dim=1).mean()
            rows.add_(way * (length / way.norm().clamp(min=1e-12)))
    try:
        yield
    finally:
        with torch.no_grad():
            for (rows, _, _), before in zip(moving, kept, strict=True):
                rows.copy_(before)
