"""Tokens that give a label away (LEAK002): `rating: 9/10` left in a review, a class's tag in its posts.

A token counts if it stands in at least 1 % of the rows (and 20 of them) and at least 99 % of those
have one class. On real data ordinary words pass that too: `worst` in complaints, `striker` in sports
news, 房间 in hotel reviews. They differ in recall: `worst` stands in 2 % of its class, `striker` in
11 %, 房间 in 52 %. So a plain word is called a leak only if it covers 70 % of its class, a token with
digits or signs, or one that holds the label's own name, from 10 %; the others are a note.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echoic.core.types import Example
from echoic.read.keys import classes_of

PRECISION, SUPPORT, ROWS = 0.99, 0.01, 20
WORD_RECALL, MARK_RECALL = 0.7, 0.1
SAMPLE = 10_000
_ENDS = 500
_PIECES = re.compile(r"[\u3400-\u9fff]+|[^\s\u3400-\u9fff]+")
_PLAIN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_EDGE = ".,;:!?()[]{}<>\"'“”‘’。，；：！？、（）《》【】…—-"


@dataclass(frozen=True)
class Telling:
    token: str
    label: str
    rows: int
    """Rows that hold the token."""
    precision: float
    recall: float
    """Share of the class's rows that hold it."""
    examples: tuple[int, ...]


def telling_tokens(examples: Sequence[Example]) -> tuple[list[Telling], list[Telling]]:
    """(leaks, ordinary words that are nearly as telling), each by rows, of a sample of SAMPLE rows."""
    sample = [e for e in examples if isinstance(e.input, str) and e.target is not None]
    if len(sample) > SAMPLE:
        drawn = np.random.default_rng(0).choice(len(sample), SAMPLE, replace=False)
        sample = [sample[i] for i in sorted(drawn.tolist())]
    rows: Counter[str] = Counter()
    bags = []
    for example in sample:
        bag = _tokens(example.input)
        rows.update(bag)
        bags.append(bag)
    floor = max(ROWS, SUPPORT * len(sample))
    frequent = {token for token, count in rows.items() if count >= floor}
    sizes: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for example, bag in zip(sample, bags, strict=True):
        classes = classes_of(example.target)
        sizes.update(classes)
        pairs.update((token, label) for token in bag & frequent for label in classes)
    found = [
        Telling(token, label, rows[token], count / rows[token], count / sizes[label], ())
        for (token, label), count in pairs.items()
        if count >= PRECISION * rows[token] and sizes[label] < 0.9 * len(sample)
    ]
    found.sort(key=lambda each: (-each.rows, each.token))
    leaks = [_located(each, sample, bags) for each in found if _is_leak(each)]
    return leaks, [_located(each, sample, bags) for each in found if not _is_leak(each)][:50]


def _is_leak(each: Telling) -> bool:
    named = len(each.label) >= 2 and each.label.casefold() in each.token
    return each.recall >= (WORD_RECALL if _PLAIN.fullmatch(each.token) and not named else MARK_RECALL)


def _located(each: Telling, sample: Sequence[Example], bags: Sequence[set[str]]) -> Telling:
    where = [example.row for example, bag in zip(sample, bags, strict=True) if each.token in bag]
    return Telling(each.token, each.label, each.rows, each.precision, each.recall, tuple(where[:20]))


def _tokens(text: str) -> set[str]:
    """Words without their punctuation, and pairs of Chinese characters, of the text's two ends."""
    text = (text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]} {text[-_ENDS:]}").casefold()
    out: set[str] = set()
    for piece in _PIECES.findall(text):
        if "\u3400" <= piece[0] <= "\u9fff":
            out.update(piece[i : i + 2] for i in range(max(1, len(piece) - 1)))
        elif word := piece.strip(_EDGE):
            out.add(word)
    return out
