"""`echoic demo` on a handful of the shipped reviews, and `echoic tune` with trials of a few steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import TINY, Answer
from echoic.cli import demo as page
from echoic.cli.tune import choice
from echoic.core.config import Config
from echoic.core.errors import ConfigError, UsageError
from echoic.tuning import Range

Call = Callable[..., Answer]


def test_the_shipped_reviews_and_their_split() -> None:
    rows = list(page.reviews())
    assert len(rows) == 10_662
    assert {label for label, _ in rows} == {"negative", "positive"}
    parts = page.split(iter(rows))
    assert {name: len(part) for name, part in parts.items()} == {"train": 8505, "valid": 1101, "test": 1056}
    for label, text in parts["test"][:20]:
        assert int(hashlib.sha1(text.encode()).hexdigest(), 16) % 10 == 0, label
    texts = {name: {text for _, text in part} for name, part in parts.items()}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["valid"]


@pytest.fixture
def handful(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(page.reviews())[::150]
    monkeypatch.setattr(page, "reviews", lambda: iter(rows))


@pytest.mark.usefixtures("handful")
def test_the_demo_scores_and_asks_and_is_not_trained_twice(call: Call, tmp_path: Path) -> None:
    first = call("demo", "--out", tmp_path / "demo", *TINY)
    assert first.code == 0, first.err
    assert "test rows: accuracy" in first.out
    for text in ("this is a good film", "this is not a good film"):
        assert text in first.out
    weights = (tmp_path / "demo/run/bundle/model.safetensors").read_bytes()
    second = call("demo", "--out", tmp_path / "demo", *TINY)
    assert second.out == first.out
    assert second.err.count("\n") == 1
    assert "--force trains it anew" in second.err
    assert (tmp_path / "demo/run/bundle/model.safetensors").read_bytes() == weights
    third = call("demo", "--out", tmp_path / "demo", "--force", "--seed", "3", "--json", "-q", *TINY)
    assert [p["text"] for p in third.json["predictions"]] == list(page.TWO)
    assert third.json["test"]["baselines"].keys() == {"majority", "tfidf_lr"}
    assert (tmp_path / "demo/run/bundle/model.safetensors").read_bytes() != weights


def test_tune_searches_writes_and_goes_on(call: Call, csv_file: Path, tmp_path: Path) -> None:
    line = ["tune", csv_file, "--out", tmp_path / "t", "--updates", "4", *TINY]
    searched = ["--search", "model.hidden=2,3", "--search", "train.lr=0.001:0.1"]
    answer = call(*line, *searched, "--trials", "2")
    assert answer.code == 0, answer.err
    assert "best.toml" in answer.out
    assert "trial 1" in answer.err
    found = call(*line, *searched, "--trials", "3", "--json", "-q").json
    assert len(found["trials"]) == 3
    best = Config.load(tmp_path / "t" / "best.toml")
    assert best.model.hidden == found["best"]["settings"]["model.hidden"]
    assert best.train.lr == found["best"]["settings"]["train.lr"]
    assert best.model.ngrams is False
    assert best.train.updates == 8
    call(*line, "--search", "model.hidden=2,4", "--trials", "4").refused(78, "space")


def test_what_is_searched() -> None:
    assert choice("model.hidden=8,16", Config()) == ("model.hidden", (8, 16))
    assert choice("model.cell.kind=gru,lstm", Config()) == ("model.cell.kind", ("gru", "lstm"))
    assert choice("train.lr=0.001:0.1", Config()) == ("train.lr", Range(0.001, 0.1, log=True))
    assert choice("model.dropout_output=0:0.5", Config()) == ("model.dropout_output", Range(0.0, 0.5))
    for wrong, kind in (
        ("model.hidden", UsageError),
        ("model.hidden=", UsageError),
        ("model.hidden=8:16", ConfigError),
    ):
        with pytest.raises(kind):
            choice(wrong, Config())
    with pytest.raises(ConfigError, match="did you mean"):
        choice("model.hiden=8,16", Config())
    with pytest.raises(ConfigError, match="lower first"):
        choice("train.lr=0.1:0.01", Config())
