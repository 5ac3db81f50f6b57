"""How sure a difference is: intervals for one share, for two models on the same rows, for any score.

"Above the baseline" means that the paired interval of the difference excludes zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def over_seeds(right: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of a model trained with S seeds and scored on the same N rows; right (S, N), 0 to 1.

    Two things are drawn, rows and seeds, and both widen it: the variance is that of the rows' means over seeds, over N,
    and that of the seeds' means over rows, over S; Student's t with Welch's and Satterthwaite's degrees of freedom. With one seed only
    the rows speak (`wilson`). Of the rows' variance a row right and a row wrong are added, so that few rows are not taken for all."""
    right = np.asarray(right, float)
    if len(right) == 1:
        return float(right.mean()), *wilson(int(right.sum()), right.shape[1], level)
    mean, spread, freedom = _moments(right, ())
    half = _t(level, freedom) * math.sqrt(spread)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def paired_seeds(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> Paired:
    """Model a's mean less model b's; (S_a, N) and (S_b, N) on the same rows. As `over_seeds`: the rows are paired, the
    seeds are not."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.size or not b.size:
        raise ValueError(f"{a.shape} and {b.shape}: seeds by the same rows are wanted twice")
    if len(a) == len(b) == 1:
        return mcnemar(a[0] > 0.5, b[0] > 0.5, level=level)
    mean, spread, freedom = _moments(a.mean(0)[None] - b.mean(0), (a, b))
    half = _t(level, freedom) * math.sqrt(spread)
    return Paired(mean, mean - half, mean + half, 2 * _tail(abs(mean) / math.sqrt(spread), freedom))


def _moments(right: np.ndarray, models: tuple[np.ndarray, ...]) -> tuple[float, float, float]:
    """(mean, variance of the mean, degrees of freedom): that of the rows, and of the seeds of `models` (none: `right`)."""
    rows = right.mean(0)
    ends = (-1.0, 1.0) if models else (0.0, 1.0)
    parts = [(np.append(rows, ends).var(ddof=1) / len(rows), len(rows) + 1)]
    for each in models or (right,):
        if len(each) > 1:
            parts.append((each.mean(1).var(ddof=1) / len(each), len(each) - 1))
    spread = float(sum(variance for variance, _ in parts))
    weights = sum(variance**2 / freedom for variance, freedom in parts if freedom)
    return float(rows.mean()), spread, spread**2 / weights if weights > 0 else 1.0


def _t(level: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, freedom))


def _tail(value: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.sf(value, freedom))


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of several comparisons, each corrected for all of them (Holm 1979): compare them with the
    level itself, and the chance that any of the differences called real is none stays below it."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    out, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        least = out[i] = max(least, min(1.0, (len(ps) - rank) * ps[i]))
    return out


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
