"""Neighbours and analogies in an embedding table, after training and before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from echoic.core.errors import UsageError
from echoic.core.types import SPECIALS
from echoic.explain.words import Table, tables
from explain.toys import trained

WORDS = [*SPECIALS, "king", "queen", "man", "woman", "car"]
MATRIX = np.array(
    [[0, 0, 0], [1, 1, 1], [9, 9, 9], [5, 0, 1], [5, 0, -1], [0, 2, 1], [0, 2, -1], [-1, -1, 0]], np.float32
)


def test_analogies_and_neighbours() -> None:
    table = Table(WORDS, MATRIX)
    assert table.analogy("man", "king", "woman")[0].word == "queen"
    near = table.neighbours("king")
    assert [each.word for each in near] == ["queen", "man", "woman", "car"]
    assert near[0].cosine == pytest.approx(24 / 26, abs=1e-4)
    assert table.neighbours("KING") == near
    with pytest.raises(UsageError, match="did you mean 'queen'"):
        table.neighbours("quen")


def test_a_row_that_means_nothing_is_nobodys_neighbour() -> None:
    table = Table(WORDS, MATRIX, np.array([True] * 7 + [False]))
    assert "car" not in [each.word for each in table.neighbours("king")]
    assert table.neighbours("car") == []
    assert table.analogy("car", "king", "man") == []


def test_without_vectors_there_is_no_before() -> None:
    model = trained()
    found, notes = tables(model)
    assert list(found) == ["after training"]
    assert "noise" in notes[0]
    assert all(-1.001 <= near.cosine <= 1.001 for near in found["after training"].neighbours("tell0"))


def test_before_and_after(tmp_path: Path) -> None:
    lines = ["tell0 1 0 0", "tell1 0.9 0.1 0", "a 0 1 0", "b 0 0 1", "c 0 0.1 1", "d 1 1 1", "e 1 0 1"]
    (tmp_path / "v.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = trained(f"text.vectors={tmp_path / 'v.txt'}", "train.lr=0.1")
    found, notes = tables(model)
    assert (list(found), notes) == (["before training", "after training"], [])
    assert found["before training"].neighbours("tell0")[0].word == "tell1"
    assert "f" not in [near.word for near in found["before training"].neighbours("tell0", 9)]
    (tmp_path / "v.txt").unlink()
    found, notes = tables(model)
    assert list(found) == ["after training"]
    assert "no such file" in notes[0]
