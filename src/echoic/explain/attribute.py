"""Which tokens an answer rests on: functions of embedded tokens and of the one number that is explained.

    gradient x input       a_t = sum_d x_td df/dx_td                      Denil et al. 2014; Shrikumar et al. 2017
    integrated gradients   a_t = sum_d x_td integral_0^1 df/dx_td(z x) dz     Sundararajan, Taly and Yan 2017, eq. 1
    occlusion              a_t = f(x) - f(x with token t unknown)         Zeiler and Fergus 2014; Li, Monroe and Jurafsky 2016

Nothing here knows a task: a `Score` is any function of embedded tokens, and what belongs to one word
or step of an output is explained by the `Score` of that word or step. The baseline is the zero embedding.

Integrated gradients are complete: sum_t a_t = d = f(x) - f(0). That is the integral's; a sum over P
points misses it by what `error` says, so P is doubled until that is at most TOLERANCE. The points are
those of Gauss and Legendre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""(B, T, D) embedded tokens, every row T long -> (B,) the number that is explained. Rows do not see each other."""

TOLERANCE = 0.01
SMALLEST = 0.05
"""A difference below this is not divided by: a hundredth of next to nothing cannot be asked of a sum in float32."""
FEWEST, MOST = 16, 1024
"""Points of the path, at first and at last."""
PATH_TOKENS = 16_384
"""Tokens of a batch of path points; changes speed and memory, no answer."""


@dataclass(frozen=True)
class Attribution:
    """What each token is worth to the number explained."""

    scores: np.ndarray
    """(T,) float64"""
    difference: float | None = None
    """d, for a method whose scores should add up to it."""
    points: int | None = None
    """P, for a method that walks a path."""
    window: int = 1
    """So many neighbouring tokens were tried together, and share what was found."""

    @property
    def completeness(self) -> float | None:
        """How far the sum of the scores is from d; None for a method that promises no sum."""
        return None if self.difference is None else error(float(self.scores.sum()), self.difference)


def error(total: float, difference: float) -> float:
    """|sum - d| / max(|d|, SMALLEST)"""
    return abs(total - difference) / max(abs(difference), SMALLEST)


def gradient_x_input(score: Score, x: Tensor) -> np.ndarray:
    """x (T, D) -> (T,)."""
    return np.asarray(_gradients(score, x[None], x)[0])


def integrated_gradients(
    score: Score, x: Tensor, *, added: np.ndarray | None = None, fewest: int = FEWEST, most: int = MOST
) -> Attribution:
    """x (T, D) -> Attribution. `added` (T,) is what a linear path beside the network gives each token, exactly.

    `fewest` points, and twice as many again until they are complete or `most`.
    """
    added = np.zeros(len(x)) if added is None else added
    with torch.inference_mode():
        ends = score(torch.stack([torch.zeros_like(x), x])).double()
    difference = float(ends[1] - ends[0]) + float(added.sum())
    points = fewest
    while True:
        found = Attribution(added + _path(score, x, points), difference, points)
        if error(float(found.scores.sum()), difference) <= TOLERANCE or 2 * points > most:
            return found
        points *= 2


def _path(score: Score, x: Tensor, points: int) -> np.ndarray:
    """(T,): the mean of gradient times input over the path from 0 to x, at `points` points of Gauss and Legendre."""
    places, weights = np.polynomial.legendre.leggauss(points)
    along = torch.as_tensor((places + 1) / 2, dtype=x.dtype, device=x.device)
    size = max(1, PATH_TOKENS // len(x))
    parts = [_gradients(score, part[:, None, None] * x, x) for part in torch.split(along, size)]
    return np.asarray((weights / 2) @ np.concatenate(parts))


def _gradients(score: Score, at: Tensor, x: Tensor) -> np.ndarray:
    """at (B, T, D), x (T, D) -> (B, T) float64: the gradient at each row, times x, summed over D."""
    with torch.enable_grad():
        at = at.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(at).sum(), at)
    return (gradient.double() * x.detach().double()).sum(2).cpu().numpy()


def occlusion(score: Callable[[Tensor], Tensor], tokens: int, most: int) -> Attribution:
    """(T,): by how much the number falls when a token cannot be read.

    score: (V, T) booleans, True where a token is hidden -> (V,). Of more than `most` tokens, neighbours are
    hidden together.
    """
    window = -(-tokens // most)
    group = torch.arange(tokens) // window
    groups = int(group[-1]) + 1
    hidden = group == torch.arange(-1, groups)[:, None]  # the first hides nothing
    found = score(hidden).double().cpu().numpy()
    size = np.bincount(group.numpy())
    return Attribution(((found[0] - found[1:]) / size)[group.numpy()], window=window)
