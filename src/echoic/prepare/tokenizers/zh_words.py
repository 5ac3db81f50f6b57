"""Chinese words, segmented by rjieba (a dictionary and a hidden Markov model; needs the zh extra).

White space parts words and is no token. Lower-cased if `text.lowercase`. Decoding joins Chinese
words directly and puts a space between two words of letters or digits; it is for reading, as the segmenter
may find other words in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from echoic.core.config import TextConfig
from echoic.core.errors import Unavailable
from echoic.core.registry import register
from echoic.core.types import UNKNOWN
from echoic.prepare.tokenizers.base import ListedTokenizer, Said, Spans, choose_vocabulary, lower, surfaces


@register
class ZhWords(ListedTokenizer):
    """Vocabulary of segmented words, counted."""

    def __init__(self, vocabulary: list[str], lowercase: bool) -> None:
        super().__init__(vocabulary, lowercase)
        self._ids = {word: i for i, word in enumerate(self.vocabulary)}
        self._cut = _segmenter()

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> ZhWords:
        cut = _segmenter()
        counts = Counter(word for text in texts for word in _words(cut, text, config.lowercase))
        return cls(choose_vocabulary(counts, config, said), config.lowercase)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [
            np.array([self._ids.get(word, UNKNOWN) for word in _words(self._cut, text, self.lowercase)], dtype=np.int32)
            for text in texts
        ]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        spans, start = [], 0
        for word in self._cut(lower(text) if self.lowercase else text):
            if not word.isspace():
                spans.append((start, start + len(word)))
            start += len(word)
        return self.encode([text])[0], spans

    def decode(self, ids: Iterable[int]) -> str:
        out = ""
        for word in surfaces(self.vocabulary, ids):
            between = " " if out and out[-1].isascii() and word[0].isascii() else ""
            out += between + word
        return out


def _words(cut: Callable[[str], list[str]], text: str, lowercase: bool) -> list[str]:
    return [word for word in cut(lower(text) if lowercase else text) if not word.isspace()]


def _segmenter() -> Any:
    try:
        import rjieba
    except ImportError:
        raise Unavailable(
            "tokenizer zh_words needs rjieba: pip install 'echoic[zh]'; or take --set text.tokenizer=chars"
        ) from None
    return rjieba.cut
