"""Characters as they stand: one code point, one token, spaces and line ends too. For language models.

`chars` runs white space together, as a classifier wants it; here nothing is folded, and decoding gives the
text back wherever no character is unknown (lower-cased if `text.lowercase`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from echoic.core.config import TextConfig
from echoic.core.errors import BundleError
from echoic.core.registry import register
from echoic.core.types import SPECIALS, UNKNOWN
from echoic.prepare.tokenizers.base import ListedTokenizer, Said, Spans, choose_vocabulary, chunks, lower, surfaces

_ALL = 0x110000


@register
class Codepoints(ListedTokenizer):
    """Vocabulary of code points, counted."""

    def __init__(self, vocabulary: list[str], lowercase: bool) -> None:
        super().__init__(vocabulary, lowercase)
        known = self.vocabulary[len(SPECIALS) :]
        if any(len(token) != 1 for token in known):
            raise BundleError("tokenizer.json: a token of the tokenizer codepoints is one code point")
        self._ids = np.full(_ALL, UNKNOWN, dtype=np.int32)
        self._ids[_codes("".join(known))] = np.arange(len(SPECIALS), len(self.vocabulary), dtype=np.int32)

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Codepoints:
        counts = np.zeros(_ALL, dtype=np.int64)
        for part in chunks(texts):
            counts += np.bincount(_codes(_normal("".join(part), config.lowercase)), minlength=_ALL)
        seen = {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
        return cls(choose_vocabulary(seen, config, said), config.lowercase)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._ids[_codes(_normal(text, self.lowercase))] for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        return self.encode([text])[0], [(i, i + 1) for i in range(len(text))]

    def settled(self, text: str) -> int:
        return len(text)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(surfaces(self.vocabulary, ids))


def _normal(text: str, lowercase: bool) -> str:
    return lower(text) if lowercase else text


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
