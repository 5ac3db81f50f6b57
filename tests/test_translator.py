"""The Python door to translation."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from sklearn.base import clone

import echoic
from echoic import Translator
from echoic.core.errors import ConfigError, DataError

PARTS = [f"{a} {b}" for a in ("ein", "zwei", "drei") for b in ("Hund", "Mann", "Ball", "Haus")]
SOURCES = [f"{a} und {b}" for a in PARTS for b in PARTS if a != b][::2]
WORDS = {
    "ein": "one",
    "zwei": "two",
    "drei": "three",
    "und": "and",
    "Hund": "dog",
    "Mann": "man",
    "Ball": "ball",
    "Haus": "house",
}
TARGETS = [" ".join(WORDS[w] for w in text.split()) for text in SOURCES]


def small(**parameters: object) -> Translator:
    usual = {"hidden_size": 12, "embedding_size": 8, "tokenizer": "words", "epochs": 2, "batch_size": 8}
    return Translator(**{**usual, **parameters})


@cache
def fitted() -> Translator:
    plain = {"threads": 1, "model.variational": 0, "model.dropout_words": 0}
    size = {"hidden_size": 32, "embedding_size": 16}
    return small(**size, epochs=60, lr=0.01, dropout=0.0, settings=plain).fit(SOURCES, TARGETS)


def test_fit_predict_and_score() -> None:
    model = fitted()
    assert model.n_iter_ == len(model.history_) == 60
    told = model.predict(SOURCES[:8])
    assert model.score(SOURCES[:8], told) == pytest.approx(100)
    assert model.score(SOURCES[:8], TARGETS[:8]) > 50 > model.score(SOURCES[:8], TARGETS[8:16])
    assert all(text.startswith("three") for text in model.predict(SOURCES[:8], prefix="three"))
    assert model.predict(SOURCES[:8], prefix=" ") == told


def test_save_and_load(tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "m")
    assert Translator.load(tmp_path / "m").predict(SOURCES[:4]) == model.predict(SOURCES[:4])
    assert echoic.load(tmp_path / "m").predict(SOURCES[:1])[0].translation == model.predict(SOURCES[:1])[0]


def test_parameters_go_where_they_belong() -> None:
    model = clone(small(attention="additive", cell="gru")).fit(SOURCES[:24], TARGETS[:24])
    config = model.model_.config
    assert (config.model.cell.kind, config.task.options["attention"], config.model.hidden) == ("gru", "additive", 12)
    assert model.get_params()["attention"] == "additive"


def test_wrong_use_is_refused() -> None:
    with pytest.raises(DataError, match="X has 2 texts and y 1"):
        small().fit(["a", "b"], ["c"])
    with pytest.raises(DataError, match="row 2: the target is empty"):
        small().fit(["a x", "b y", "c z"] * 9, ["c", "", "d"] * 9)
    with pytest.raises(ConfigError, match="attention"):
        small(attention="luong").fit(SOURCES, TARGETS)
    with pytest.raises(DataError, match="X is one text"):
        fitted().predict("ein Hund")
