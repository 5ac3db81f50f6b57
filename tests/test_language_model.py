"""The Python door to text."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import echoic
from echoic import LanguageModel
from echoic.core.errors import ConfigError, DataError, UsageError

VERSE = "the cat sat on the mat.\nthe dog ran to the cat.\n"


def small(**parameters: object) -> LanguageModel:
    usual = {"hidden_size": 8, "embedding_size": 6, "bptt": 16, "batch_size": 4, "epochs": 2}
    return LanguageModel(**{**usual, **parameters})


@cache
def fitted() -> LanguageModel:
    return small(settings={"threads": 1}).fit(VERSE * 20)


def test_fit_score_and_perplexity() -> None:
    model = fitted()
    assert model.fit.__doc__
    assert model.n_iter_ == len(model.history_) == 2
    assert model.score(VERSE) == pytest.approx(-math.log(model.perplexity(VERSE)))
    assert model.bits_per_character(VERSE) == pytest.approx(-model.score(VERSE) / math.log(2))
    assert model.score(VERSE) > model.score("zqzq " * 9)
    both = model.score([VERSE, VERSE])
    assert both == pytest.approx(model.score(VERSE), rel=1e-5)


def test_generate_and_stream() -> None:
    model = fitted()
    told = model.generate("the c", length=25, temperature=0.7, seed=2)
    assert isinstance(told, str)
    assert len(told) == 25
    assert "".join(model.stream("the c", length=25, temperature=0.7, seed=2)) == told
    assert model.generate("the c", length=25, temperature=0.7, seed=2, samples=2)[0] == told
    assert isinstance(model.generate(samples=1, length=3), list)
    assert "." not in model.generate("the c", length=80, stop=".")


def test_save_and_load(tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "m")
    for again in (LanguageModel.load(tmp_path / "m"), echoic.load(tmp_path / "m")):
        told = again.generate("the", length=20)
        assert getattr(told, "continuation", told) == model.generate("the", length=20)
    assert LanguageModel.load(tmp_path / "m").score(VERSE) == model.score(VERSE)


def test_it_is_an_estimator() -> None:
    model = small(lr=0.01, dropout=0.1)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(hidden_size=9).hidden_size == 9
    with pytest.raises(ValueError, match="not fitted"):
        model.generate("x")


def test_parameters_reach_the_model() -> None:
    model = small(
        cell="gru", num_layers=2, tied=True, tokenizer="bytes", dropout=0.25, random_state=np.random.RandomState(0)
    )
    made = model.fit([VERSE] * 12).model_
    config = made.config
    assert (config.model.cell.kind, config.model.layers, config.task.options["tied"]) == ("gru", 2, True)
    assert (config.text.tokenizer, config.model.dropout_layers, config.model.dropout_output) == ("bytes", 0.25, 0.25)
    assert config.seed > 0
    assert config.model.bidirectional is False


@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        (lambda: small().fit([]), DataError, "0 texts"),
        (lambda: small().fit("a"), DataError, "too short"),
        (lambda: small().fit([VERSE, 3]), DataError, "text 2 is a int"),
        (lambda: small(cell="lsmt").fit(VERSE), ConfigError, "lstm"),
        (lambda: small(settings={"model.hidden": 3}).fit(VERSE), ConfigError, "hidden_size"),
        (lambda: fitted().generate(3), UsageError, "not a text"),
        (lambda: fitted().generate("a", temperature=-1), UsageError, "temperature"),
        (lambda: fitted().score(""), DataError, "no text to score"),
    ],
    ids=range(8),
)
def test_bad_input(what: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        what()


def test_a_classifier_is_no_language_model(tmp_path: Path) -> None:
    rows = [f"word{i % 2} thing{i}" for i in range(20)]
    other = echoic.SequenceClassifier(hidden_size=4, epochs=1, ngrams=False).fit(rows, [i % 2 for i in range(20)])
    other.save(tmp_path / "c")
    with pytest.raises(UsageError, match="holds a model for classify; LanguageModel opens generate"):
        LanguageModel.load(tmp_path / "c")
