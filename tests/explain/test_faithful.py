"""Deleting words: the measure on functions whose answers can be written down, and on a model that looks at one word."""

from __future__ import annotations

import numpy as np
import pytest

from echoic.core.errors import DataError
from echoic.core.types import EMPTY
from echoic.explain import faithful
from echoic.explain.faithful import FEW, aopc, measure, summary, without
from explain.toys import toy, trained

IDS = np.arange(10, 50)


def test_the_first_of_the_ranking_are_deleted_and_the_rest_keeps_its_order() -> None:
    ranking = np.argsort(-IDS, kind="stable")
    shorter = without(IDS, ranking)
    assert [len(IDS) - len(row) for row in shorter] == [1, 2, 4, 8]
    for row in shorter:
        assert row.tolist() == list(range(10, 10 + len(row)))


def test_of_a_short_text_one_token_is_deleted_at_least_and_of_one_token_none_is_left() -> None:
    assert [len(row) for row in without(IDS[:3], np.arange(3))] == [2, 2, 2, 2]
    assert [row.tolist() for row in without(IDS[:1], np.arange(1))] == [[EMPTY]] * 4


def test_aopc_counted_by_hand() -> None:
    """p = a hundredth of the largest id that is left."""
    largest = aopc(lambda rows: np.array([row.max() / 100 for row in rows]), IDS, [np.arange(40)[::-1], np.arange(40)])
    np.testing.assert_allclose(largest, [np.mean([1, 2, 4, 8]) / 100, 0], atol=1e-12)


def falls(texts: int, random: float, *methods: float) -> np.ndarray:
    draws = np.random.default_rng(0)
    return np.array([[*methods, random]]) + 0.1 * draws.normal(size=(texts, len(methods) + 1))


def test_a_method_is_faithful_where_the_interval_of_its_gain_is_above_zero() -> None:
    found = summary(falls(200, 0.05, 0.4, 0.2, 0.05, 0.0), ["a", "b", "c", "d"])
    assert {name: each.faithful for name, each in found.methods.items()} == {
        "a": True,
        "b": True,
        "c": False,
        "d": False,
    }
    assert found.best == "a"
    assert found.methods["a"].times_random == pytest.approx(8, rel=0.3)
    assert found.methods["a"].low < found.methods["a"].aopc - found.random < found.methods["a"].high
    assert found.sentence() == "The most faithful method on these texts is a. No better than random words: c, d."


def test_the_verdict_names_what_is_not_to_be_trusted() -> None:
    found = summary(np.repeat([[0.4, 0.05, 0.05]], 30, 0), ["a", "b"])
    assert found.verdict() == (
        "On 30 texts, a is faithful: deleting its top words takes 40.0 points from the answer, 8.0 times as far as random "
        "ones; b is not faithful, and not to be trusted: deleting its top words takes 5.0 points from the answer, 1.0 times as far as random ones."
    )
    assert "random" not in summary(np.zeros((30, 2)), ["a"]).verdict()


def test_few_texts_decide_nothing() -> None:
    found = summary(falls(FEW - 1, 0.05, 0.9), ["a"])
    assert found.best is None
    assert "too few" in found.sentence()


def test_no_method_may_be_faithful() -> None:
    found = summary(falls(100, 0.05, 0.05), ["a"])
    assert found.best is None
    assert "No method is faithful" in found.sentence()
    assert summary(np.zeros((30, 2)), ["a"]).methods["a"].times_random is None


def test_methods_that_find_the_telling_word_are_faithful_and_the_reverse_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = trained("model.pool=mean")
    texts = [e.input for e in toy(FEW, 3)]
    found = measure(model.task, model.network, texts, ["occlusion", "gradient-x-input"])
    assert found.texts == FEW
    assert all(each.faithful and each.times_random > 3 for each in found.methods.values())
    ranking = faithful._ranking
    monkeypatch.setattr(faithful, "_ranking", lambda *given: ranking(*given)[::-1])
    assert measure(model.task, model.network, texts, ["occlusion"]).best is None


def test_without_a_text_nothing_is_measured() -> None:
    model = trained("model.pool=mean")
    with pytest.raises(DataError, match="no text"):
        measure(model.task, model.network, [])


def test_random_words_depend_on_the_seed_alone() -> None:
    model = trained("model.pool=mean")
    texts = [e.input for e in toy(4, 3)]
    first, again, other = (measure(model.task, model.network, texts, ["gradient-x-input"], seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.random != other.random
