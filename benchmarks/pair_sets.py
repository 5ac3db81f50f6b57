"""The pairs of benchmarks/translate.py: where each set lies, how it is parted, by what recipe it is learned.

| name                                   | pairs                                                             | parts                          |
| -------------------------------------- | ----------------------------------------------------------------- | ------------------------------ |
| multi30k-de-en, multi30k-en-de         | captions of pictures, raw                                         | train, val, test2016 of task 1 |
| tatoeba-en-zh, tatoeba-zh-en           | short sentences                                                   | by a hash of the English side  |
| classical-modern                       | classical Chinese to modern Chinese, sentence by sentence         | the set's own                  |
| headlines                              | Reuters stories, of which 100 words are read, to their headlines   | ModApte, a tenth validates     |

Each but headlines has a twin without attention, `-plain` behind its name. But for multi30k, whose parts are as everybody has them, rows of an
earlier part that share a side with one of a later part (validation, test) are left out.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from echoic.evaluate.translation import rouge
from echoic.read.keys import text_key
from echoic.read.named import data_dir

csv.field_size_limit(1 << 30)

Pairs = list[tuple[str, str]]
Parts = dict[str, Pairs]
"""{"train", "valid", "test": (source, target)}"""


def nobody(parts: Parts, part: str) -> dict[str, list[str]]:
    return {}


@dataclass(frozen=True)
class Set:
    parts: Callable[[], Parts]
    settings: tuple[str, ...]
    budget: str
    shown: tuple[str, ...] = ("bleu", "bleu_lc", "chrf")
    """The scores that are quoted."""
    beside: Callable[[Parts, str], dict[str, list[str]]] = nobody
    """What else answers a part: {its name: its answers}."""


def lines(folder: str, name: str) -> list[str]:
    with lzma.open(data_dir() / folder / name, "rt", encoding="utf-8", newline="") as file:
        return file.read().removesuffix("\n").split("\n")


def drawn(text: str) -> int:
    """0 to 255, by a hash of the text."""
    return hashlib.sha256(text_key(text)).digest()[0]


def apart(parts: Parts) -> Parts:
    """Without pairs that share a side with one of a later part."""
    seen: set[bytes] = set()
    kept: Parts = {}
    for part in ("test", "valid", "train"):
        keys = [[text_key(side) for side in pair] for pair in parts[part]]
        kept[part] = [pair for pair, own in zip(parts[part], keys, strict=True) if not seen.intersection(own)]
        seen.update(key for own in keys for key in own)
    return kept


def multi30k(source: str, target: str) -> Parts:
    files = {"train": "train", "valid": "val", "test": "test2016"}
    sides = {p: [lines("multi30k", f"{f}.{side}.txt.xz") for side in (source, target)] for p, f in files.items()}
    return {part: list(zip(*both, strict=True)) for part, both in sides.items()}


def tatoeba(swap: bool) -> Parts:
    rows = [(line.split("\t")[0], line.split("\t")[1]) for line in lines("tatoeba_en_zh", "cmn.tsv.xz")]
    parts: Parts = {"test": [], "valid": [], "train": []}
    for english, chinese in dict.fromkeys(rows):
        draw = drawn(english)
        parts["test" if draw < 13 else "valid" if draw < 26 else "train"].append((english, chinese))  # a twentieth each
    return {part: [(b, a) if swap else (a, b) for a, b in pairs] for part, pairs in apart(parts).items()}


def classical() -> Parts:
    files = {"train": "train", "valid": "dev", "test": "test"}
    rows = {p: [each.split("\t") for each in lines("classical_modern_zh", f"{f}.tsv.xz")[1:]] for p, f in files.items()}
    return apart({part: [(old, new) for _, old, new in found] for part, found in rows.items()})


def headlines() -> Parts:
    """Stories that ModApte has in neither part are trained on too."""
    parts: Parts = {"test": [], "valid": [], "train": []}
    with lzma.open(data_dir() / "reuters21578" / "reuters.csv.xz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            title, body = (" ".join(row[name].split()) for name in ("title", "body"))
            if title and body:
                part = "test" if row["modapte"] == "test" else "valid" if drawn(title) < 26 else "train"
                parts[part].append((" ".join(body.split()[:100]), title))
    return apart(parts)


def extracts(parts: Parts, part: str) -> dict[str, list[str]]:
    """The first words of a story, and of the sentence that is most like all of it (cosine of TF-IDF: the centroid of Radev
    et al. 2004): as many words as give the best ROUGE-1 on the validation part."""
    words = TfidfVectorizer(sublinear_tf=True).fit(source for source, _ in parts["train"])

    def central(text: str) -> str:
        found = re.split(r"(?<=[.!?])\s+", text)
        x = words.transform([text, *found])
        return found[int(np.argmax((x[1:] @ x[0].T).toarray()[:, 0]))]

    ways: dict[str, Callable[[str], str]] = {"lead words": str, "TF-IDF extract": central}
    out = {}
    for name, way in ways.items():
        valid, wanted = [way(source) for source, _ in parts["valid"]], [target for _, target in parts["valid"]]
        scores = {k: rouge([first(text, k) for text in valid], wanted, False)["rouge1"] for k in range(5, 21)}
        most = max(scores, key=lambda k: scores[k])
        out[f"{name} ({most})"] = [first(way(source), most) for source, _ in parts[part]]
    return out


def first(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


def with_plain(sets: dict[str, Set]) -> Iterator[tuple[str, Set]]:
    for name, each in sets.items():
        yield name, each
        yield f"{name}-plain", replace(each, settings=(*each.settings, "task.attention=none"))


WIDE = ("model.hidden=384", "model.embedding=256", "train.bfloat16=true")
MULTI30K = (*WIDE, "text.max_vocab=8000", "train.epochs=18")
TATOEBA = (*WIDE, "text.max_vocab=6000", "train.epochs=18")
CLASSICAL = (*WIDE, "text.max_vocab=7000", "train.epochs=3", "train.batch_size=128", "model.variational=0.1")
HEADLINES = (*WIDE, "text.max_vocab=10000", "text.lowercase=true", "task.vocabulary=joint", "train.epochs=15")
SETS = dict(
    with_plain(
        {
            "multi30k-de-en": Set(lambda: multi30k("de", "en"), MULTI30K, "40 minutes of two cores"),
            "multi30k-en-de": Set(lambda: multi30k("en", "de"), MULTI30K, "40 minutes of two cores"),
            "tatoeba-en-zh": Set(lambda: tatoeba(False), TATOEBA, "30 minutes of two cores"),
            "tatoeba-zh-en": Set(lambda: tatoeba(True), TATOEBA, "30 minutes of two cores"),
            "classical-modern": Set(classical, CLASSICAL, "an hour of two cores"),
        }
    )
) | {
    "headlines": Set(
        headlines,
        (*HEADLINES, "task.copying=true"),
        "40 minutes of two cores",
        ("rouge1", "rouge2", "rougeL"),
        extracts,
    )
}
