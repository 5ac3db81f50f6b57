"""Pairs of texts: which columns, what is refused, what stays together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, UsageError
from echoic.core.types import Example
from echoic.read.pairs import read_pairs, split_pairs

ROWS = [("Ein Hund.", "A dog."), ("Zwei Männer, drei Bälle.", "Two men, three balls."), ("Rot", "Red")]


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def pairs(path: Path, **settings: object) -> list[tuple[str, str]]:
    return [(e.input, e.target) for e in read_pairs(path, DataConfig(**settings)).examples]


@pytest.mark.parametrize(
    ("name", "text", "settings"),
    [
        ("p.tsv", "".join(f"{a}\t{b}\n" for a, b in ROWS), {"header": False}),
        ("p.txt", "".join(f"{a}\t{b}\n" for a, b in ROWS), {"header": False}),
        ("p.csv", "target,source\n" + "".join(f'"{b}","{a}"\n' for a, b in ROWS), {}),
        ("p.csv", "id,de,en\n" + "".join(f'{i},"{a}","{b}"\n' for i, (a, b) in enumerate(ROWS)), {}),
        ("p.csv", "en,x,de\n" + "".join(f'"{b}",1,"{a}"\n' for a, b in ROWS), {"text": "de", "label": "en"}),
        ("p.csv", "en,x,de\n" + "".join(f'"{b}",1,"{a}"\n' for a, b in ROWS), {"text": "de"}),
        ("p.jsonl", "".join(json.dumps({"译文": b, "原文": a}) + "\n" for a, b in ROWS), {}),
        ("p.tsv", "".join(f"{a}\t{b}\tCC-BY by somebody\n" for a, b in ROWS), {"header": False}),
    ],
)
def test_the_two_columns_are_found_or_named(tmp_path: Path, name: str, text: str, settings: dict[str, object]) -> None:
    said: list[str] = []
    table = read_pairs(put(tmp_path / name, text), DataConfig(**settings), said=said.append)
    assert [(e.input, e.target) for e in table.examples] == ROWS
    assert [e.row for e in table.examples] == [1, 2, 3]
    assert "label" in settings or any("The source is column" in each for each in said)
    again = read_pairs(tmp_path / name, DataConfig(header=settings.get("header")), like=table.chosen)
    assert [(e.input, e.target) for e in again.examples] == ROWS


@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p.jsonl"])
def test_one_column_is_no_pair(tmp_path: Path, name: str) -> None:
    text = '{"text": "Ein Hund"}\n' if name == "p.jsonl" else "text\nEin Hund\nZwei\n"
    with pytest.raises(DataError, match=r"one column \('text'\), and a pair needs two"):
        pairs(put(tmp_path / name, text))


def test_no_two_columns_of_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no two columns of texts; name them"):
        pairs(put(tmp_path / "p.csv", "a,b,c\nein,1,2\nzwei,3,4\n"))


def test_an_empty_side_is_refused_or_dropped(tmp_path: Path) -> None:
    path = put(tmp_path / "p.csv", "source,target\nein,a\n,b\nzwei, \ndrei,three\n")
    with pytest.raises(DataError, match=r"column 'source' is empty in 1 rows: 2; a pair needs both sides"):
        pairs(path)
    said: list[str] = []
    table = read_pairs(path, DataConfig(drop_unlabelled=True), said=said.append)
    assert [e.row for e in table.examples] == [1, 4]
    assert table.skipped == 2
    assert sum("were dropped" in each for each in said) == 2
    with pytest.raises(DataError, match="0 pairs"):
        pairs(put(tmp_path / "q.csv", "source,target\nein,\n"), drop_unlabelled=True)


def test_one_column_cannot_be_both_sides(tmp_path: Path) -> None:
    path = put(tmp_path / "p.csv", "source,target\nein,a\n")
    with pytest.raises(UsageError, match="cannot be both sides"):
        pairs(path, text="source", label="1")
    with pytest.raises(DataError, match=r"no column 'sourc'.*'source'"):
        pairs(path, text="sourc")
    with pytest.raises(UsageError, match="leave out --soft-labels"):
        pairs(path, soft_labels=("source", "target"))


def test_what_shares_a_side_stays_on_one_side_of_the_split() -> None:
    examples = [Example(f"s{i % 40}", f"t{i // 2}", None, i) for i in range(120)]
    train, valid = split_pairs(examples, 0.2, 0)
    assert len(train) + len(valid) == 120
    assert 10 <= len(valid) <= 24
    assert not {e.input for e in train} & {e.input for e in valid}
    assert not {e.target for e in train} & {e.target for e in valid}
    assert all(e.target is not None and e.group is None for e in train)
