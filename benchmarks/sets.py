"""The data sets of the accuracy table: where each part lies, how it is split, and why so.

Every loader returns named parts of Examples: `train` (validation is split from it, unless the set
has a `valid` part of its own) and one or more test parts, scored once, at the end.
"""

from __future__ import annotations

import csv
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

from sklearn.datasets._twenty_newsgroups import (
    strip_newsgroup_footer,
    strip_newsgroup_header,
    strip_newsgroup_quoting,
)

from echoic.cli import demo
from echoic.core.types import Example
from echoic.read.named import data_dir

Parts = dict[str, list[Example]]

csv.field_size_limit(1 << 30)


def rows(path: Path) -> Iterator[dict[str, str]]:
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def examples(folder: str, part: str, label: str = "label") -> list[Example]:
    path = data_dir() / folder / f"{part}.csv.xz"
    return [Example(row["text"], row[label], row=i) for i, row in enumerate(rows(path), 1)]


def imdb() -> Parts:
    """Train and test share no film, by design; the films are not named, but reviews of one film stand
    side by side, so blocks of 50 neighbouring ids are kept together when validation is split off.
    Otherwise a validation score speaks of films that were trained on, and is too high."""
    train = [
        Example(row["text"], row["label"], group=f"{row['label']}-{int(row['id'].partition('_')[0]) // 50}", row=i)
        for i, row in enumerate(rows(data_dir() / "imdb" / "train.csv.xz"), 1)
    ]
    return {"train": train, "test": examples("imdb", "test")}


def newsgroups() -> Parts:
    return {"train": examples("20newsgroups", "train", "group"), "test": examples("20newsgroups", "test", "group")}


def newsgroups_stripped() -> Parts:
    """Headers, footers and quotes removed, by scikit-learn's own rules for this set."""

    def strip(text: str) -> str:
        return strip_newsgroup_footer(strip_newsgroup_quoting(strip_newsgroup_header(text)))

    return {name: [Example(strip(e.input), e.target, row=e.row) for e in part] for name, part in newsgroups().items()}


def chnsenticorp() -> Parts:
    """The published split: dev is the validation part. Test rows that are also in train or dev are
    found by the evaluation itself (`unseen`)."""
    return {
        "train": examples("chnsenticorp", "train"),
        "valid": examples("chnsenticorp", "dev"),
        "test": examples("chnsenticorp", "test"),
    }


def rotten_tomatoes() -> Parts:
    """No published split: the one of `echoic demo`, by SHA-1 of the text."""
    return {name: [Example(text, label) for label, text in part] for name, part in demo.split(demo.reviews()).items()}


def with_dev(folder: str) -> Callable[[], Parts]:
    def load() -> Parts:
        return {"train": examples(folder, "train"), "valid": examples(folder, "dev"), "test": examples(folder, "test")}

    return load


def tnews() -> Parts:
    """CLUE's test labels are not public: its dev part is the test, as usual."""
    return {"train": examples("tnews", "train", "class"), "test": examples("tnews", "dev", "class")}


def trec() -> Parts:
    return {"train": examples("trec", "train"), "test": examples("trec", "test")}


SETS: dict[str, Callable[[], Parts]] = {
    "imdb": imdb,
    "20newsgroups": newsgroups,
    "20newsgroups-stripped": newsgroups_stripped,
    "chnsenticorp": chnsenticorp,
    "rotten_tomatoes_mr": rotten_tomatoes,
    "airline_tweets": with_dev("airline_tweets"),
    "smp2020_ewect": with_dev("smp2020_ewect"),
    "tnews": tnews,
    "trec": trec,
}
