"""What a report says beyond the scores: the words that misled, and the words that tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli.commands import sentences, write_csv
from echoic import pipeline
from echoic.core.config import Config
from echoic.facts import classify
from echoic.facts.classify import telling
from echoic.tasks.base import Dataset


def test_telling_tokens_are_those_of_one_class() -> None:
    rows = [np.array([3, 4, 4, 5 if i % 2 else 6]) for i in range(40)]
    dense = np.eye(2)[np.arange(40) % 2]
    assert telling(Dataset(rows, None), dense, 8)[:2] == [5, 6]
    assert telling(Dataset(rows[:4], None), dense[:4], 8) == []


def test_a_report_marks_the_words_that_misled_and_shows_neighbours(tmp_path: Path) -> None:
    rows = sentences(80)
    wrong = [("neg" if label == "pos" else "pos", text) for label, text in sentences(6, 5)]
    train = write_csv(tmp_path / "t.csv", rows)
    valid = write_csv(tmp_path / "v.csv", [*sentences(30, 7), *wrong])
    settings = ["model.hidden=8", "model.embedding=8", "text.min_count=1", "train.updates=60", "train.lr=0.02",
                "train.adversarial=0", "train.average=0", "threads=1"]  # fmt: skip
    done = pipeline.train(train, tmp_path / "run", Config().override(settings), valid=valid)
    facts = done["facts"]
    assert len(facts.errors) == 6
    told = {word for words in ("good great lovely warm bright", "bad awful dull cold grim") for word in words.split()}
    marked = [{e.text[a:b] for a, b in e.misled} for e in facts.errors]
    assert sum(bool(words & told) for words in marked) > len(marked) / 2
    assert set(facts.neighbours) <= told
    assert list(next(iter(facts.neighbours.values()))) == ["after training"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<u>" in page
    assert facts.faithful.startswith("On 36 texts, gradient-x-input is faithful: deleting its top words takes ")
    assert facts.faithful in page
    assert "attention" not in facts.faithful, "this model has none"


def test_telling_tokens_are_found_in_a_file_sorted_by_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "TELLING_ROWS", 10)
    rows = [np.array([5])] * 50 + [np.array([6])] * 50
    assert telling(Dataset(rows, None), np.repeat(np.eye(2), 50, 0), 8) == [5, 6]
