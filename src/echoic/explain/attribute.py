"""Which tokens an answer rests on: functions of embedded tokens and of the one number that is explained.

    gradient x input       a_t = sum_d x_td df/dx_td                      Denil et al. 2014; Shrikumar et al. 2017
    integrated gradients   a_t = sum_d x_td integral_0^1 df/dx_td(z x) dz     Sundararajan, Taly and Yan 2017, eq. 1
    occlusion              a_t = f(x) - f(x with token t unknown)         Zeiler and Fergus 2014; Li, Monroe and Jurafsky 2016

Nothing here knows a task: a `Score` is any function of embedded tokens, and what belongs to one word
or step of an output is explained by the `Score` of that word or step. The baseline is the zero embedding.

Integrated gradients are complete: sum_t a_t = d = f(x) - f(0). That is the integral's; a sum over P
points misses it by what `error` says, so P is doubled until that is at most TOLERANCE. The points are
those of Gauss and Legendre. A gated cell latches: f may jump within a millionth of the path, which even points
step over however many they are. There points are put where the sum misses f's change most (adaptive quadrature:
Gander and Gautschi 2000, but that here the exact integral of each interval is known).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""(B, T, D) embedded tokens, every row T long -> (B,) the number that is explained, as exact as they
are (float32 or float64). Rows do not see each other."""

TOLERANCE = 0.01
SMALLEST = 0.05
"""A difference below this is not divided by: a hundredth of next to nothing cannot be asked of a sum in float32."""
FEWEST, EVEN, MOST = 16, 64, 1024
"""Points of the path: at first, as long as they lie evenly, and at last."""
HALVED = 0.75
"""Of what all intervals miss, the share of those that are halved before all are looked at again: many where the path is
smooth, one where f jumps."""
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
    return np.asarray(_gradients(score, x[None], x)[1][0])


def integrated_gradients(
    score: Score, x: Tensor, *, added: np.ndarray | None = None, fewest: int = FEWEST, most: int = MOST
) -> Attribution:
    """x (T, D) -> Attribution. `added` (T,) is what a linear path beside the network gives each token, exactly.

    `fewest` points, twice as many again up to EVEN, and then more of them where they miss most, until they are
    complete or `most`.
    """
    added = np.zeros(len(x)) if added is None else added
    with torch.inference_mode():
        ends = score(torch.stack([torch.zeros_like(x), x])).double()
    difference = float(ends[1] - ends[0]) + float(added.sum())

    def complete(scores: np.ndarray) -> bool:
        return error(float(scores.sum() + added.sum()), difference) <= TOLERANCE

    points = fewest
    while True:
        scores = _evenly(score, x, points)
        if complete(scores) or 2 * points > min(EVEN, most):
            break
        points *= 2
    if not complete(scores) and most > EVEN:
        wide = x if x.device.type == "mps" else x.double()  # where f jumps, neighbours in float32 lie too far apart
        scores, points = _closely(score, wide, most, complete)
    return Attribution(added + scores, difference, points)


def _evenly(score: Score, x: Tensor, points: int) -> np.ndarray:
    """(T,): the mean of gradient times input over the path from 0 to x, at `points` points of Gauss and Legendre."""
    places, weights = np.polynomial.legendre.leggauss(points)
    return np.asarray((weights / 2) @ _along(score, x, (places + 1) / 2)[1])


def _closely(score: Score, x: Tensor, most: int, complete: Callable[[np.ndarray], bool]) -> tuple[np.ndarray, int]:
    """((T,), points): the same by Simpson's rule over intervals, those that miss most halved until it is complete.

    An interval's sum should be f at its end less f at its begin, which is known, as are those of its halves
    but for two points: nothing is computed twice.
    """
    places = np.linspace(0, 1, EVEN + 1)
    values, slopes = _along(score, x, places)
    while True:
        begin, middle, end = slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2)
        sums = (slopes[begin] + 4 * slopes[middle] + slopes[end]) * ((places[end] - places[begin]) / 6)[:, None]
        missed = np.abs(sums.sum(1) - (values[end] - values[begin]))
        order = np.argsort(-missed, kind="stable")
        most_of_it = 1 + int(np.searchsorted(np.cumsum(missed[order]), HALVED * missed.sum()))
        count = min(most_of_it, (most - len(places)) // 2)
        if complete(scores := sums.sum(0)) or count < 1:
            return scores, len(places)
        worst = np.sort(order[:count])
        before = np.stack([2 * worst + 1, 2 * worst + 2], 1).ravel()
        between = (places[before - 1] + places[before]) / 2
        more, steeper = _along(score, x, between)
        places, values = np.insert(places, before, between), np.insert(values, before, more)
        slopes = np.insert(slopes, before, steeper, axis=0)


def _along(score: Score, x: Tensor, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """places (P,) of the path from 0 to x -> the score (P,) and gradient times x (P, T) there, float64."""
    along = torch.as_tensor(places, dtype=x.dtype, device=x.device)
    size = max(1, PATH_TOKENS // len(x))
    parts = [_gradients(score, part[:, None, None] * x, x) for part in torch.split(along, size)]
    values, slopes = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(slopes)


def _gradients(score: Score, at: Tensor, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """at (B, T, D), x (T, D) -> (B,) the score of each row and (B, T) its gradient there times x, summed over D;
    float64."""
    with torch.enable_grad():
        at = at.detach().clone().requires_grad_()
        values = score(at)
        (gradient,) = torch.autograd.grad(values.sum(), at)
    return values.detach().double().cpu().numpy(), (gradient.double() * x.detach().double()).sum(2).cpu().numpy()


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
