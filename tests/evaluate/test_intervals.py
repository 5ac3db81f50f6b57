"""Intervals: published examples, coverage by simulation, and what they must never say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from echoic.evaluate import metrics
from echoic.evaluate.intervals import holm, mcnemar, over_seeds, paired_bootstrap, paired_seeds, wilson


def _paired(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, only_a, only_b, neither)
    return np.repeat([1, 1, 0, 0], counts).astype(bool), np.repeat([1, 0, 1, 0], counts).astype(bool)


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (1, 10), (5, 10), (10, 10), (9160, 10000)])
def test_wilson_equals_scipy(hits: int, rows: int) -> None:
    found = stats.binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson(hits, rows) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 7), (7, 1), (5, 5), (400, 310), (5000, 5200)])
def test_mid_p_is_the_exact_p_less_half_of_its_border(only_a: int, only_b: int) -> None:
    n, k = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * stats.binom.cdf(k, n, 0.5) - stats.binom.pmf(k, n, 0.5))
    assert mcnemar(*_paired(20, only_a, only_b, 3)).p == pytest.approx(expected, rel=1e-7)


def test_the_published_example() -> None:
    """Airway hyper-responsiveness, Bentur et al. 2009, as worked in Fagerland et al. 2013 and 2014: pairs
    1, 1, 7, 12; mid-p 0.039. The interval by hand, a row added to each way of disagreeing."""
    found = mcnemar(*_paired(1, 1, 7, 12))
    assert found.p == pytest.approx(0.0391, abs=5e-5)
    middle, total = (2 - 8) / 23, 10 / 23
    half = 1.959964 * np.sqrt((total - middle**2) / 23)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert found.difference == pytest.approx(-6 / 21)


def test_the_sides_are_not_swapped() -> None:
    a, b = _paired(500, 90, 30, 100)
    assert mcnemar(a, b).verdict == "above"
    assert mcnemar(b, a).verdict == "below"
    assert mcnemar(a, a).verdict == "level"
    assert mcnemar(a, b).low == pytest.approx(-mcnemar(b, a).high)


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    shares, truth, held = [0.80, 0.08, 0.05, 0.07], 0.03, 0
    for counts in generator.multinomial(400, shares, size=1000):
        found = mcnemar(*_paired(*counts))
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 1000 <= 0.975


def test_bootstrap_agrees_with_the_formula_on_accuracy_and_repeats() -> None:
    a, b = _paired(1500, 150, 100, 250)
    truth = np.ones(2000, np.int64)

    def accuracy(answers: np.ndarray, truth: np.ndarray) -> float:
        return float((answers == truth).mean())

    found, formula = paired_bootstrap(accuracy, a, b, truth, seed=3), mcnemar(a, b)
    assert found.difference == pytest.approx(formula.difference)
    assert (found.low, found.high) == pytest.approx((formula.low, formula.high), abs=0.003)
    assert found == paired_bootstrap(accuracy, a, b, truth, seed=3)
    assert found != paired_bootstrap(accuracy, a, b, truth, seed=4)


def test_bootstrap_of_macro_f1() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 300)
    good, bad = (np.where(generator.random(300) < share, truth, generator.integers(0, 3, 300)) for share in (0.9, 0.3))
    found = paired_bootstrap(lambda x, y: metrics.macro_f1(x, y, 3), good, bad, truth, draws=200)
    assert found.verdict == "above"
    assert found.p < 0.05
    assert paired_bootstrap(lambda x, y: metrics.macro_f1(x, y, 3), good, good, truth, draws=50)[:3] == (0, 0, 0)


def test_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mcnemar(np.zeros(0, bool), np.zeros(0, bool))
    with pytest.raises(ValueError, match="no share"):
        wilson(0, 0)


# several seeds


def coins(seeds: int, rows: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, rows)) < share


def test_one_seed_is_what_one_model_gets_elsewhere() -> None:
    right = coins(1, 400, 0.8, 0)
    assert over_seeds(right)[1:] == wilson(int(right.sum()), 400)
    assert paired_seeds(right, ~right) == mcnemar(right[0], ~right[0])


def test_a_few_rows_all_right_are_not_all_rows() -> None:
    every, none = np.ones((3, 16), bool), np.zeros((3, 16), bool)
    assert over_seeds(every)[1] < 0.95
    assert paired_seeds(every[:, :1], none[:, :1]).p > 0.05
    assert 0 < paired_seeds(every, none).p < 0.05


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike = np.tile(coins(1, 500, 0.8, 1), (3, 1))
    apart = np.stack([coins(1, 500, share, 1)[0] for share in (0.7, 0.8, 0.9)])
    assert np.subtract(*over_seeds(apart)[:0:-1]) > 2 * np.subtract(*over_seeds(alike)[:0:-1])


def test_a_difference_of_rows_is_paired_and_one_of_seeds_is_not() -> None:
    base = coins(3, 800, 0.8, 2)
    better = base.copy()
    better[:, :200] = True
    found = paired_seeds(better, base)
    assert found.difference == pytest.approx(better.mean() - base.mean())
    assert found.verdict == "above"
    assert found.p < 0.05
    turned = paired_seeds(base, better)
    assert (turned.low, turned.high, turned.p) == pytest.approx((-found.high, -found.low, found.p))
    lucky = np.stack([np.tile(share, 800) for share in (0.2, 0.5, 0.8)])
    assert paired_seeds(lucky, lucky[::-1] - 0.1).p > 0.5
    assert paired_seeds(base, base).p == pytest.approx(1.0)
    with pytest.raises(ValueError, match="same rows"):
        paired_seeds(base, base[:, :9])


def test_equal_models_are_seldom_called_different() -> None:
    found = [paired_seeds(coins(3, 200, 0.8, i), coins(3, 200, 0.8, 1000 + i)).p for i in range(200)]
    assert np.mean(np.array(found) < 0.05) <= 0.06


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
