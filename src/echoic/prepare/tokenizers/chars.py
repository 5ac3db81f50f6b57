"""Characters: one code point, one token. The choice for Chinese, and for character language models.

Runs of white space are one space, and none stands at either end. Lower-cased if `text.lowercase`.
Decoding joins the characters. Looked up in a table of all code points, so no slower than copying.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from echoic.core.config import TextConfig
from echoic.core.errors import BundleError
from echoic.core.registry import register
from echoic.core.types import SPECIALS, UNKNOWN
from echoic.prepare.tokenizers.base import (
    ListedTokenizer,
    Said,
    Spans,
    choose_vocabulary,
    chunks,
    lower,
    surfaces,
)

_SPACE = re.compile(r"\s+")
_UNIT = re.compile(r"\s+|\S")


@register
class Chars(ListedTokenizer):
    """Vocabulary of code points, counted."""

    def __init__(self, vocabulary: list[str], lowercase: bool) -> None:
        super().__init__(vocabulary, lowercase)
        known = self.vocabulary[len(SPECIALS) :]
        if any(len(token) != 1 for token in known):
            raise BundleError("tokenizer.json: a token of the tokenizer chars is one code point")
        self._ids = np.full(0x110000, UNKNOWN, dtype=np.int32)
        self._ids[_codes("".join(known))] = np.arange(len(SPECIALS), len(self.vocabulary), dtype=np.int32)

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Chars:
        counts = np.zeros(0x110000, dtype=np.int64)
        for part in chunks(texts):
            counts += np.bincount(
                _codes("".join(_normal(text, config.lowercase) for text in part)), minlength=len(counts)
            )
        seen = {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
        return cls(choose_vocabulary(seen, config, said), config.lowercase)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._ids[_codes(_normal(text, self.lowercase))] for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        inner = text.strip()
        start = text.find(inner)
        spans = [(start + unit.start(), start + unit.end()) for unit in _UNIT.finditer(inner)]
        return self.encode([text])[0], spans

    def settled(self, text: str) -> int:
        """White space at the end counts only if something follows it."""
        return len(text.rstrip())

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(surfaces(self.vocabulary, ids))


def _normal(text: str, lowercase: bool) -> str:
    text = _SPACE.sub(" ", text).strip()
    return lower(text) if lowercase else text


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
