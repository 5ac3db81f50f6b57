"""Scales fitted on validation: they recover a known truth, never harm, and stay sane on few rows."""

from __future__ import annotations

import numpy as np
import pytest

from echoic.core.errors import DataError
from echoic.evaluate import calibration, metrics
from echoic.evaluate.calibration import fit_scales, probabilities


def _drawn(seed: int, logits: np.ndarray, kind: metrics.Kind = "single") -> np.ndarray:
    """Targets that the logits describe truly."""
    generator = np.random.default_rng(seed)
    p = probabilities(logits, kind)
    if kind == "several":
        return (generator.random(p.shape) < p).astype(np.float32)
    return (generator.random((len(p), 1)) > p.cumsum(1)).sum(1)


def fit_temperature(logits: np.ndarray, targets: np.ndarray, kind: metrics.Kind = "single") -> float:
    """The temperature of one path is 1 / its scale."""
    return 1 / float(fit_scales([logits], targets, kind)[0])


@pytest.mark.parametrize("kind", ["single", "several"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(kind: metrics.Kind, temperature: float) -> None:
    logits = np.random.default_rng(0).normal(size=(4000, 4)) * 2
    assert fit_temperature(logits * temperature, _drawn(1, logits, kind), kind) == pytest.approx(temperature, rel=0.08)


def test_soft_targets_give_their_own_temperature_exactly() -> None:
    logits = np.random.default_rng(0).normal(size=(3000, 3))
    assert fit_temperature(logits * 2, probabilities(logits), "soft") == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("kind", ["single", "several"])
def test_two_paths_get_their_own_scales(kind: metrics.Kind) -> None:
    generator = np.random.default_rng(0)
    one, two = generator.normal(size=(2, 6000, 3)) * 2
    scales = fit_scales([one / 0.8, two / 0.3], _drawn(1, one + two, kind), kind)
    assert scales == pytest.approx([0.8, 0.3], rel=0.1)


def test_the_scales_are_where_the_loss_is_least() -> None:
    generator = np.random.default_rng(2)
    paths = list(generator.normal(size=(2, 300, 3)))
    targets = _drawn(3, paths[0] * 0.7 + paths[1] * 0.1)

    def objective(scales: np.ndarray) -> float:
        loss = metrics.row_losses(probabilities(np.tensordot(scales, paths, 1)), targets).sum()
        return float(loss + calibration.PULL / 2 * ((2 * scales - 1) ** 2).sum())

    found = fit_scales(paths, targets)
    for step in ([1e-3, 0], [-1e-3, 0], [0, 1e-3], [0, -1e-3]):
        assert objective(found) <= objective(found + np.array(step))


def test_a_path_that_lies_is_left_out() -> None:
    truth = np.random.default_rng(0).normal(size=(2000, 3)) * 2
    scales = fit_scales([truth, -truth + np.random.default_rng(1).normal(size=truth.shape)], _drawn(1, truth))
    assert scales[1] == 0.0
    assert scales[0] > 0.5


def test_a_path_that_says_nothing_keeps_its_share() -> None:
    truth = np.random.default_rng(0).normal(size=(500, 3))
    assert fit_scales([truth, np.zeros_like(truth)], _drawn(1, truth))[1] == pytest.approx(0.5)


def test_few_and_faultless_rows_do_not_make_it_boundless() -> None:
    logits = np.eye(2)[[0, 1, 0, 1]] * 3.0
    scale = fit_scales([logits], np.array([0, 1, 0, 1]))[0]
    assert 1.0 < scale < 2.0
    assert fit_scales([np.zeros((0, 2))] * 2, np.zeros(0, np.int64)) == pytest.approx([0.5, 0.5])


def test_huge_logits_do_not_overflow() -> None:
    logits = np.random.default_rng(0).normal(size=(400, 3)) * 2
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert fit_temperature(logits * 1000, _drawn(1, logits)) == pytest.approx(1000, rel=0.2)


def test_it_lowers_the_loss_and_the_calibration_error() -> None:
    logits = np.random.default_rng(0).normal(size=(3000, 3)) * 2
    targets = _drawn(1, logits)
    before = metrics.classification(probabilities(logits * 3), targets, ["a", "b", "c"])
    after = metrics.classification(
        probabilities(logits * 3 / fit_temperature(logits * 3, targets)), targets, ["a", "b", "c"]
    )
    assert after["loss"] < before["loss"]
    assert after["ece"] < before["ece"] / 3
    assert after["accuracy"] == before["accuracy"]


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="not all finite"):
        fit_scales([np.array([[np.nan, 0.0]])], np.array([0]))
