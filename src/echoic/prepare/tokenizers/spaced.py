"""Words as the file parts them: what stands between white space, and a token for each line end.

For text that was cut into tokens before, such as the Penn Treebank: `n't`, `u.s.` and `$` stay whole,
and the line end, which ends a sentence there, is predicted like a word. A word that is spelled like one
of the specials is cut behind its first character. Lower-cased if `text.lowercase`. Decoding puts one
space between words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from echoic.core.config import TextConfig
from echoic.core.registry import register
from echoic.core.types import SPECIALS, UNKNOWN
from echoic.prepare.tokenizers.base import ListedTokenizer, Said, Spans, choose_vocabulary, lower, surfaces

_WORD = re.compile("|".join([r"\n", *(rf"<(?={s[1:]}(?:\s|$))|(?<=<){s[1:]}(?=\s|$)" for s in SPECIALS), r"\S+"]))


@register
class Spaced(ListedTokenizer):
    """Vocabulary of what white space parts, counted."""

    def __init__(self, vocabulary: list[str], lowercase: bool) -> None:
        super().__init__(vocabulary, lowercase)
        self._ids = {word: i for i, word in enumerate(self.vocabulary) if i >= len(SPECIALS)}

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Spaced:
        counts = Counter(word for text in texts for word in _words(text, config.lowercase))
        return cls(choose_vocabulary(counts, config, said), config.lowercase)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        known = self._ids
        return [
            np.array([known.get(word, UNKNOWN) for word in _words(text, self.lowercase)], dtype=np.int32)
            for text in texts
        ]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        whole = lower(text) if self.lowercase else text
        return self.encode([text])[0], [found.span() for found in _WORD.finditer(whole)]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(surfaces(self.vocabulary, ids)).replace(" \n", "\n").replace("\n ", "\n")


def _words(text: str, lowercase: bool) -> Iterator[str]:
    return (found.group() for found in _WORD.finditer(lower(text) if lowercase else text))
