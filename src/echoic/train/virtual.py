"""What a classifier learns from texts without labels: to answer alike beside them, and to be sure.

    p = softmax z(E), taken as a constant
    d = size * s * u / |u|                      u: standard normal; s: the embedding table's mean row norm
    g = the gradient of H(p, softmax z(E + d))  by E
    r = size * s * g / |g|
    loss = H(p, softmax z(E + r))               by `train.virtual`, the size
         + weight * H(softmax z(E))             by `train.entropy`, the weight

H(p, q) is the cross entropy, which differs from the divergence KL(p || q) by a constant. Virtual adversarial
training: Miyato, Dai and Goodfellow 2017 (arXiv:1605.07725), eq. 5 to 7, with the one step of power iteration
they take; words are moved as in `adversarial.py`. Small entropy: Grandvalet and Bengio 2004. Both at once, for
recurrent networks: Sachan, Zaheer and Salakhutdinov 2019.

The texts are drawn from the training rows and those without labels alike, a batch a step besides the labelled one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from echoic.core.config import TrainConfig
from echoic.core.types import Batch
from echoic.layers.dropout import Noise
from echoic.train.adversarial import Words, shifted


@dataclass(frozen=True)
class Beside:
    """Texts whose labels are not asked for, and what a task says of its answers to them."""

    batch: Callable[[int], Batch]
    """The batch of a step, from 0: a pure function."""
    answers: Callable[[nn.Module, Batch, Noise], Tensor]
    """-> logits (B, C)"""
    cross_entropy: Callable[[Tensor, Tensor], Tensor]
    """Logits z and w (B, C) -> (B,) that of the answers of w under those of z."""


def wanted(config: TrainConfig) -> bool:
    return config.virtual > 0.0 or config.entropy > 0.0


def learn(
    network: nn.Module,
    beside: Beside,
    batch: Batch,
    noise: Noise,
    words: Callable[[], list[Words]],
    config: TrainConfig,
) -> None:
    """Adds the gradient of the loss above, its mean over the batch, to the parameters. `words` are those that were read."""
    count = len(batch.inputs)

    def answers() -> Tensor:
        noise.rewind()
        return beside.answers(network, batch, noise)

    with torch.set_grad_enabled(config.entropy > 0.0):
        z = answers()
    if config.entropy:
        (config.entropy * beside.cross_entropy(z, z).sum() / count).backward()  # type: ignore[no-untyped-call]
    moving = words()
    if not (config.virtual and moving):
        return
    p, rows = z.detach(), [each for each, _ in moving]
    random = [torch.randn(each.shape, generator=noise.generator, device=each.device, dtype=each.dtype) for each in rows]
    with shifted(moving, random, config.virtual):
        gradients = torch.autograd.grad(beside.cross_entropy(p, answers()).sum(), rows, allow_unused=True)
    with shifted(moving, gradients, config.virtual):
        (beside.cross_entropy(p, answers()).sum() / count).backward()  # type: ignore[no-untyped-call]
