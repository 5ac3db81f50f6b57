"""Noise as an argument: nothing is dropped unless a `Noise` is handed in.

A network is called as `network(batch, noise=None)`; there is no other switch, so dropout cannot be
left on at prediction. The noise of a training step is a pure function of (seed, step).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Noise:
    """The random draws of one training step. Draws depend on their order, so a network draws in
    a fixed order; two Noises of equal (seed, step) on one device draw the same. `progress`: how much of the
    training is behind it, 0 to 1, for noise that grows."""

    def __init__(self, seed: int, step: int, device: torch.device | str = "cpu", progress: float = 0.0) -> None:
        mixed = int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:8], "little") >> 1
        self.device, self.progress = torch.device(device), progress
        self.generator = torch.Generator(self.device).manual_seed(mixed)
        self._drawn: list[Tensor] = []
        self._given = 0

    def rewind(self) -> None:
        """From here on the same draws again, for a second pass over the same step; they were kept, as drawing takes time."""
        self._given = 0

    def _next(self, draw: Callable[[], Tensor]) -> Tensor:
        if self._given == len(self._drawn):
            self._drawn.append(draw())
        self._given += 1
        return self._drawn[self._given - 1]

    def keep(self, shape: Sequence[int], rate: float) -> Tensor:
        """Booleans, False with probability `rate`."""
        return self._next(lambda: torch.rand(tuple(shape), generator=self.generator, device=self.device) >= rate)

    def mask(self, shape: Sequence[int], rate: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """An inverted-dropout mask: 0 with probability `rate`, else 1/(1-rate), so that its mean is 1."""

        def draw() -> Tensor:
            uniform = torch.rand(tuple(shape), generator=self.generator, device=self.device, dtype=dtype)
            return uniform.ge_(rate).mul_(1.0 / (1.0 - rate))

        return self._next(draw)


def dropout(x: Tensor, rate: float, noise: Noise | None, *, locked: bool = False) -> Tensor:
    """Each number of x dropped by itself (Srivastava et al. 2014). `locked`: x is (B, T, D), and one mask
    holds for all steps of a row (Gal and Ghahramani 2016; Merity et al. 2018, section 4.2)."""
    if noise is None or rate == 0.0:
        return x
    shape = (x.shape[0], 1, *x.shape[2:]) if locked else x.shape
    return x * noise.mask(shape, rate, x.dtype)
