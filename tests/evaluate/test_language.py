"""Scores of language models, and the page that tells them."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from echoic.core.errors import DataError
from echoic.evaluate.intervals import Paired
from echoic.evaluate.language import distinct, language
from echoic.evaluate.language_report import LanguageFacts, Sample, html, render_table, verdict

from .test_report import EVIL, _read


def test_scores_by_token_and_by_character() -> None:
    found = language(np.array([6.0, 2.0]), np.array([3, 1]), np.array([9.0, 7.0]), np.array([1.0, 0.0]))
    assert (found["tokens"], found["characters"], found["unknown"]) == (4, 16, 1)
    assert found["loss"] == 2.0
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert found["likelihood"] == pytest.approx(1 / found["perplexity"])
    assert found["nats_per_character"] == 0.5
    assert found["bits_per_character"] == pytest.approx(0.5 / math.log(2))


def test_a_fair_coin_costs_a_bit() -> None:
    found = language(np.full(3, 7 * math.log(2)), np.full(3, 7), np.full(3, 7.0), np.zeros(3))
    assert found["bits_per_character"] == pytest.approx(1.0)
    assert found["perplexity"] == pytest.approx(2.0)


def test_nothing_to_score_and_what_is_no_number() -> None:
    none = np.zeros(0)
    with pytest.raises(DataError, match="no text to score"):
        language(none, none, none, none)
    with pytest.raises(DataError, match="not all finite"):
        language(np.array([np.inf]), np.ones(1), np.ones(1), np.zeros(1))
    assert language(np.array([1e9]), np.ones(1), np.ones(1), np.zeros(1))["perplexity"] > 1e300


def test_distinct_counts_words_or_characters() -> None:
    assert distinct("a b a b", 1) == 0.5
    assert distinct("a b a b", 2) == pytest.approx(2 / 3)
    assert distinct("春眠不觉晓春眠不觉晓", 1) == 0.5
    assert distinct("", 2) == 0.0


def facts(**more: Any) -> LanguageFacts:
    own = language(np.array([120.0]), np.array([100]), np.array([100.0]), np.zeros(1))
    base = language(np.array([150.0]), np.array([100]), np.array([100.0]), np.zeros(1))
    made = LanguageFacts(
        title=EVIL,
        unit="codepoints",
        part="validation",
        scores={"model": own, "ngram": base},
        difference=Paired(0.3, 0.2, 0.4, 0.01),
        order=6,
        history=[{"epoch": i, "train_loss": 3 / i, "loss": 2 / i} for i in (1, 2, 3)],
        best_epoch=3,
        prompt="To be" + EVIL,
        samples=[Sample(0.5, "or not\nto be" + EVIL, 3.1, (0.9, 0.8, 0.7))],
        data=[("train", 1, 900, 0), ("valid", 1, 100, 0)],
        findings=[("note", EVIL)],
        cost={"time": "3 s"},
        commands=[("Ask it", f"echoic generate '{EVIL}'")],
        origin={EVIL: EVIL},
    )
    return dataclasses.replace(made, **more)


def test_the_verdict_says_which_is_better_and_how_sure() -> None:
    assert "0.300 nats a token better than an n-gram model (2.164 bits)" in verdict(facts())
    assert "quote a test file's score" in verdict(facts())
    worse = verdict(facts(difference=Paired(-0.3, -0.4, -0.2, 0.01), part="given"))
    assert "worse than" in worse
    assert "The simple thing is better here" in worse
    assert "chose" not in worse
    assert "cannot be told apart" in verdict(facts(difference=Paired(0.0, -0.1, 0.1, 0.9)))
    assert "too short" in verdict(facts(difference=None))
    own = facts().scores["model"] | {"unknown": 7}
    assert "7 of 100 tokens are unknown" in verdict(facts(scores={"model": own}))


def test_the_page_holds_everything_and_runs_nothing() -> None:
    page = _read(html(facts()))
    assert page.sections == ["verdict", "curves", "writing", "data", "cost", "use", "origin"]
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert "or not\nto be" in page.text
    assert "6-grams, Kneser-Ney" in page.text
    assert "temperature 0.5" in page.text
    bare = _read(html(facts(history=(), samples=(), difference=None)))
    assert "writing" not in bare.sections


def test_the_table_for_a_terminal() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_table(facts()))
    shown = console.export_text()
    assert "bits a character" in shown
    assert "this model" in shown
