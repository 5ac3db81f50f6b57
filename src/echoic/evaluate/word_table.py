"""What a translator must beat: the source as it stands, and a word for a word. Frozen.

    table(s) = the target word t with the largest 2 n(s, t) / (n(s) + n(t))       Dice's coefficient

n counts training pairs that hold the words, each once. A word that is not in the table is copied. Words
stand in the source's order, so that what the network gains is order, agreement and context.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echoic.core.bundle import canonical
from echoic.core.errors import BundleError
from echoic.prepare.text import choose

FILE = "words.json"
MOST = 100_000
"""Pairs that are counted."""
LONGEST = 100
"""Words of a text that are looked at while counting: a pair gives the product of both."""
_PART = re.compile(r"\w+|[^\w\s]", re.UNICODE)


@dataclass(frozen=True)
class WordTable:
    table: dict[str, str]
    chinese: tuple[bool, bool]
    """Whether source and target are cut into characters."""

    @classmethod
    def fit(cls, sources: Sequence[str], targets: Sequence[str]) -> WordTable:
        chinese = choose(sources) == "chars", choose(targets) == "chars"
        own: Counter[str] = Counter()
        other: Counter[str] = Counter()
        both: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for source, target in zip(sources[:MOST], targets[:MOST], strict=True):
            words = set(_words(target, chinese[1])[:LONGEST])
            other.update(words)
            for word in set(_words(source, chinese[0])[:LONGEST]):
                own[word] += 1
                both[word].update(words)
        table = {
            s: min(((-2 * n / (own[s] + other[t]), t) for t, n in seen.items()), default=(0.0, s))[1]
            for s, seen in both.items()
        }
        return cls(table, chinese)

    def translate(self, text: str) -> str:
        words = [self.table.get(word, word) for word in _words(text, self.chinese[0])]
        return ("" if self.chinese[1] else " ").join(words)

    def files(self) -> dict[str, bytes]:
        return {FILE: canonical({"table": self.table, "chinese": list(self.chinese)})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> WordTable:
        """What `files` gave. Raises BundleError for anything else."""
        try:
            content = json.loads(files[FILE])
            first, second = content["chinese"]
            return cls({str(s): str(t) for s, t in content["table"].items()}, (bool(first), bool(second)))
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            raise BundleError(f"{FILE}: not a table of words that echoic wrote") from None


def _words(text: str, chinese: bool) -> list[str]:
    """Words and marks, as they stand; of Chinese, characters."""
    return list("".join(text.split())) if chinese else _PART.findall(text)
