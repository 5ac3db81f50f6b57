"""Scores against scikit-learn's, against numbers done by hand, and on the edges."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from echoic.core.errors import DataError
from echoic.evaluate import metrics

NAMES = ["a", "b", "c", "d"]


def _rows(seed: int, rows: int = 60, classes: int = 4, held: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(classes), rows), generator.integers(0, held, rows)


@pytest.mark.parametrize("seed", range(5))
def test_single_equals_scikit_learn(seed: int) -> None:
    p, y = _rows(seed)
    answers = p.argmax(1)
    found = metrics.classification(p, y, NAMES)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, answers))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(y, answers, average="macro", zero_division=0))
    assert found["micro_f1"] == pytest.approx(reference.f1_score(y, answers, average="micro"))
    assert found["loss"] == pytest.approx(reference.log_loss(y, p, labels=range(4)))
    assert found["confusion"] == reference.confusion_matrix(y, answers, labels=range(4)).tolist()
    for i, row in enumerate(
        zip(*reference.precision_recall_fscore_support(y, answers, labels=range(4), zero_division=0), strict=True)
    ):
        assert list(found["per_class"][NAMES[i]].values()) == pytest.approx(list(row))


def test_an_absent_class_is_listed_and_left_out_of_the_mean() -> None:
    p, y = _rows(0, held=2)
    p[:, 3] = 0.0
    found = metrics.classification(p / p.sum(1, keepdims=True), y, NAMES)
    assert found["per_class"]["d"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["macro_f1"] == pytest.approx(reference.f1_score(y, p.argmax(1), average="macro", zero_division=0))


@pytest.mark.parametrize("seed", range(3))
def test_several_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    p, y = generator.random((50, 4)), (generator.random((50, 4)) < 0.3).astype(np.float32)
    cut = np.array([0.3, 0.5, 0.7, 0.9])
    found, answers = metrics.classification(p, y, NAMES, kind="several", thresholds=cut), p >= cut
    assert found["macro_f1"] == pytest.approx(reference.f1_score(y, answers, average="macro", zero_division=0))
    assert found["micro_f1"] == pytest.approx(reference.f1_score(y, answers, average="micro", zero_division=0))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, answers))
    assert found["hamming"] == pytest.approx(reference.hamming_loss(y, answers))
    assert found["loss"] == pytest.approx(sum(reference.log_loss(y[:, i], p[:, i]) for i in range(4)))
    assert found["brier"] == pytest.approx(np.mean([reference.brier_score_loss(y[:, i], p[:, i]) for i in range(4)]))
    assert found["thresholds"] == dict(zip(NAMES, cut, strict=True))


def test_soft_by_hand() -> None:
    targets = np.array([[0.75, 0.25], [0.0, 1.0]], np.float32)
    found = metrics.classification(np.array([[0.5, 0.5], [0.25, 0.75]]), targets, ["a", "b"], kind="soft")
    assert found["loss"] == pytest.approx((np.log(2) - np.log(0.75)) / 2)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / 2
    assert found["divergence"] == pytest.approx(found["loss"] - entropy)
    assert found["accuracy"] == 1.0
    assert found["brier"] == pytest.approx((2 * 0.25**2 + 2 * 0.25**2) / 2)


def test_brier_by_hand() -> None:
    found = metrics.classification(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]), ["a", "b"])
    assert found["brier"] == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)


@pytest.mark.parametrize("kind", ["single", "several", "soft"])
def test_perfect_answers_score_perfectly_and_are_json(kind: metrics.Kind) -> None:
    hot = np.eye(4)[[0, 1, 2, 3, 3]]
    found = metrics.classification(hot, hot.argmax(1) if kind == "single" else hot.astype(np.float32), NAMES, kind=kind)
    assert (found["accuracy"], found["macro_f1"], found["micro_f1"], found["brier"], found["ece"]) == (1, 1, 1, 0, 0)
    assert found["loss"] == pytest.approx(0, abs=1e-9)
    json.dumps(found, allow_nan=False)


def test_a_zero_probability_of_the_truth_is_a_large_number() -> None:
    found = metrics.classification(np.array([[1.0, 0.0]]), np.array([1]), ["a", "b"])
    assert found["loss"] == pytest.approx(-np.log(metrics.FLOOR))


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="0 rows"):
        metrics.classification(np.zeros((0, 4)), np.zeros(0, np.int64), NAMES)
    with pytest.raises(DataError, match="not all finite"):
        metrics.classification(np.full((1, 4), np.nan), np.zeros(1, np.int64), NAMES)
    with pytest.raises(ValueError, match="wants"):
        metrics.classification(np.ones((1, 4)), np.zeros((1, 4)), NAMES)


def test_calibration_error_by_hand() -> None:
    sure, true = np.repeat([0.6, 0.9], 10), np.array([1] * 5 + [0] * 5 + [1] * 9 + [0])
    bins = metrics.reliability(sure, true)
    assert [(b["count"], round(b["confidence"], 9), b["accuracy"]) for b in bins] == [(10, 0.6, 0.5), (10, 0.9, 0.9)]
    assert metrics.expected_error(bins) == pytest.approx(0.05)


def test_bins_hold_equal_mass() -> None:
    bins = metrics.reliability(np.linspace(0, 1, 150), np.ones(150))
    assert [b["count"] for b in bins] == [10] * metrics.BINS


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_no_score_depends_on_the_order_of_rows(seed: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    p = np.round(generator.dirichlet(np.ones(3), rows), 1) + 0.01
    y, order = generator.integers(0, 3, rows), generator.permutation(rows)
    here, there = (metrics.classification(p[o], y[o], NAMES[:3]) for o in (np.arange(rows), order))
    assert sum(b["count"] for b in here["bins"]) == rows
    for key in ("ece", "macro_f1", "loss", "brier"):
        assert here[key] == pytest.approx(there[key], abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_no_threshold_gives_a_better_f1(seed: int, rows: int) -> None:
    """Every possible set of "at least this probable" answers is tried."""
    generator = np.random.default_rng(seed)
    p, y = np.round(generator.random((rows, 2)), 1), generator.random((rows, 2)) < 0.5
    cut = metrics.choose_thresholds(p, y.astype(np.float32))
    for i in range(2):
        if not y[:, i].any():
            assert cut[i] == 0.5
            continue
        best = max(reference.f1_score(y[:, i], p[:, i] >= t, zero_division=0) for t in [*p[:, i], 2.0])
        assert reference.f1_score(y[:, i], p[:, i] >= cut[i]) == pytest.approx(best)


def test_a_label_at_its_threshold_is_given() -> None:
    answers = metrics.decide(np.array([[0.5, 0.3]]), kind="several", thresholds=np.array([0.5, 0.31]))
    assert answers.tolist() == [[True, False]]


def test_a_threshold_lies_midway_and_near_a_half() -> None:
    assert metrics.choose_thresholds(
        np.array([[0.9], [0.7], [0.3]]), np.array([[1], [1], [0]])
    ).tolist() == pytest.approx([0.5])
    assert metrics.choose_thresholds(np.array([[0.2], [0.1]]), np.array([[1], [0]])).tolist() == pytest.approx([0.15])


def test_the_hardest_rows_are_the_wrong_ones_worst_first() -> None:
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.01, 0.99], [0.3, 0.7]])
    assert metrics.hardest(p, np.array([0, 0, 0, 1]), 5).tolist() == [2, 1]


def test_macro_f1_of_answers_is_that_of_the_report() -> None:
    for seed, kind in itertools.product(range(3), ("single", "several")):
        p, y = _rows(seed)
        y = np.eye(4)[y] if kind == "several" else y
        answers = metrics.decide(p, kind=kind)
        assert (
            metrics.macro_f1(answers, metrics.hard(y, kind), 4)
            == metrics.classification(p, y, NAMES, kind=kind)["macro_f1"]
        )
