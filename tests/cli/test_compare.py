"""`echoic compare`: JSON, a table, a page, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.commands import TINY, Answer

Call = Callable[..., Answer]

SMALL = [each for each in TINY if not any(key in each for key in ("train.epochs", "train.updates", "model.ngrams"))]
"""What is not the verb's own to say."""


def test_the_verb(call: Call, csv_file: Path, tmp_path: Path) -> None:
    how = [csv_file, "--out", tmp_path / "c", "--cells", "gru", "--seeds", 1, "--updates", 1, *SMALL]
    found = call("compare", *how, "--json", "-q")
    assert (found.code, found.err) == (0, "")
    assert [line["seeds"] for line in found.json["table"]] == [1, 1, 1]
    people = call("compare", *how)
    assert "going on after 3 finished pieces" in people.err
    assert "compare.html" in people.out
    assert "95 % interval" in people.out
    call("compare", csv_file, "--out", tmp_path / "c", "--pool", "min", "-q").refused(2, "there is no pooling")
    call("compare", tmp_path / "none.csv", "--out", tmp_path / "d", "-q").refused(66, "none.csv")
    call("compare", csv_file, "--out", tmp_path / "e", "--set", "train.updates=9").refused(78, "say --updates")
