"""How sure a difference is: intervals for one share, for two models on the same rows, for any score.

"Above the baseline" means that the paired interval of the difference excludes zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Paired(NamedTuple):
    """Model a's score less model b's, its interval, and the p value of "no difference"."""

    difference: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """ "above", "below", or "level" where the interval holds zero."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "level"


def wilson(hits: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share `hits / rows` (Wilson 1927; the choice of Brown, Cai and
    DasGupta 2001 for small samples)."""
    if rows <= 0 or not 0 <= hits <= rows:
        raise ValueError(f"{hits} of {rows} is no share")
    z, share = _z(level), hits / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == rows else min(1.0, centre + half))


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray, level: float = 0.95) -> Paired:
    """The difference in accuracy of two models on the same N rows; (N,) bool each.

    p: McNemar's mid-p test on the rows where only one is right (Fagerland, Lydersen and Laake
    2013). Interval: Wald's with one row added to each way of disagreeing (Bonett and Price 2012;
    recommended with the mid-p test by Fagerland, Lydersen and Laake 2014). The two are computed apart,
    and right at the border one may say "different" and the other not."""
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"{a.shape} and {b.shape}: the same rows are wanted twice, at least one")
    rows, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    first, second = (only_a + 1) / (rows + 2), (only_b + 1) / (rows + 2)
    half = _z(level) * math.sqrt(max(0.0, first + second - (first - second) ** 2) / (rows + 2))
    middle = first - second
    return Paired((only_a - only_b) / rows, max(-1.0, middle - half), min(1.0, middle + half), _mid_p(only_a, only_b))


def paired_bootstrap(
    score: Callable[[np.ndarray, np.ndarray], float],
    answers_a: np.ndarray,
    answers_b: np.ndarray,
    truth: np.ndarray,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Paired:
    """The difference in any `score(answers, truth)`, such as macro F1: rows drawn again with
    replacement, the same for both models; the interval is the percentiles of `draws` differences
    (Efron and Tibshirani 1993, chapter 13; for paired systems Berg-Kirkpatrick et al. 2012). p is
    twice the smaller share of draws on either side of zero, one counted in (Davison and Hinkley 1997,
    equation 4.11)."""
    generator = np.random.default_rng(seed)
    found = np.empty(draws)
    for i in range(draws):
        rows = generator.integers(0, len(truth), len(truth))
        found[i] = score(answers_a[rows], truth[rows]) - score(answers_b[rows], truth[rows])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    tail = min((found <= 0).sum(), (found >= 0).sum())
    whole = score(answers_a, truth) - score(answers_b, truth)
    return Paired(float(whole), float(low), float(high), float(min(1.0, 2 * (tail + 1) / (draws + 1))))


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _mid_p(only_a: int, only_b: int) -> float:
    """Two-sided mid-p of a fair coin: 2 P(X <= k) - P(X = k), k the rarer side."""
    n, k = only_a + only_b, min(only_a, only_b)
    terms = [
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2))
        for i in range(k + 1)
    ]
    return min(1.0, 2 * math.fsum(terms) - terms[-1])
