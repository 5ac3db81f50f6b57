"""Texts -> token ids, and everything needed to do the same again later.

    preparer = TextPreparer.fit(training_texts, config.text, said=print)
    rows = preparer.encode(texts)          # list of (T,) int32, each T >= 1; rows.cut says what was cut
    files = preparer.files()               # for the bundle; TextPreparer.from_files(files) is equal

The tokenizer sees training texts only. An empty text, or one without a token, is one `<empty>`.
`tokenizer = "auto"` looks at the characters: text in Chinese or Japanese is read by characters,
anything else by words; the choice and its reason are said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echoic.core import registry
from echoic.core.bundle import canonical
from echoic.core.config import TextConfig
from echoic.core.errors import BundleError, ConfigError, DataError, show
from echoic.core.types import EMPTY
from echoic.prepare.tokenizers.base import Spans, Tokenizer, chunks

TOKENIZER, SETTINGS = "tokenizer.json", "text.json"
HAN_SHARE = 0.3
"""Of the letters of a Chinese text this many at least are Chinese, even where it quotes English."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What `max_tokens` took away."""

    texts: int
    tokens: int


class Encoded(list[np.ndarray]):
    """(T,) int32 ids of each text, each T >= 1; `cut` counts what `max_tokens` took from them."""

    cut: Cut


def _quiet(message: str) -> None:
    del message


class TextPreparer:
    """A fitted tokenizer and the rules around it; never changes after `fit`."""

    def __init__(self, kind: str, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.kind = kind
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Callable[[str], None] = _quiet) -> TextPreparer:
        """Fitted on training texts, the same for every order of them. Raises DataError for a text
        that is none (a number, a lone surrogate) or if no token is left to know."""
        check(texts)
        kind = choose(texts, said) if config.tokenizer == "auto" else config.tokenizer
        return cls(kind, registry.get("tokenizer", kind).fit(texts, config, said), config.max_tokens)

    def extended(self, texts: Sequence[str], config: TextConfig, said: Callable[[str], None] = _quiet) -> TextPreparer:
        """This tokenizer, with the tokens of more texts (Tokenizer.with_tokens); ids stay what they were."""
        check(texts)
        return TextPreparer(self.kind, self.tokenizer.with_tokens(texts, config, said), config.max_tokens)

    @property
    def vocabulary(self) -> list[str]:
        """Index = id; 0 `<pad>`, 1 `<unk>`, 2 `<empty>`."""
        return self.tokenizer.vocabulary

    def encode(self, texts: Sequence[str]) -> Encoded:
        check(texts)
        rows = Encoded(self.tokenizer.encode(texts))
        limit = self.max_tokens or max(map(len, rows), default=0)
        over = [len(row) - limit for row in rows if len(row) > limit]
        rows.cut = Cut(len(over), sum(over))
        rows[:] = [row[:limit] if len(row) else np.array([EMPTY], dtype=np.int32) for row in rows]
        return rows

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        """The ids of `encode([text])[0]` and (start, end) of each, in code points of `text`; `<empty>` has (0, 0)."""
        check([text])
        ids, spans = self.tokenizer.encode_with_offsets(text)
        if not len(ids):
            return np.array([EMPTY], dtype=np.int32), [(0, 0)]
        limit = self.max_tokens or len(ids)
        return ids[:limit], spans[:limit]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` in the tokenizer's normal form (its page says which)."""
        return self.tokenizer.decode(ids)

    def files(self) -> dict[str, bytes]:
        settings = {"tokenizer": self.kind, "max_tokens": self.max_tokens}
        return {TOKENIZER: self.tokenizer.to_json(), SETTINGS: canonical(settings)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> TextPreparer:
        """What `files` wrote. Raises BundleError naming the file that is missing or wrong."""
        for name in (TOKENIZER, SETTINGS):
            if name not in files:
                raise BundleError(f"{name}: missing")
        try:
            settings = json.loads(files[SETTINGS])
            kind, max_tokens = str(settings["tokenizer"]), int(settings["max_tokens"])
            if max_tokens < 0:
                raise ValueError("max_tokens below 0")
            tokenizer_class: Any = registry.get("tokenizer", kind)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, ConfigError) as error:
            raise BundleError(f"{SETTINGS}: not the settings of a text preparer: {show(error)}") from None
        return cls(kind, tokenizer_class.from_json(files[TOKENIZER]), max_tokens)


def check(texts: Sequence[str]) -> None:
    """Raises DataError for the first of `texts` that is no text, or holds a lone surrogate."""
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"text {i + 1}: is a {type(text).__name__}, not a text ({show(text)})")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            raise DataError(
                f"text {i + 1}: lone surrogate U+{code:04X} at character {error.start + 1}; "
                "half of a pair is no character: mend the source or drop it"
            ) from None


def choose(texts: Sequence[str], said: Callable[[str], None] = _quiet) -> str:
    """The tokenizer for texts like these: by characters where no space parts the words (Chinese, Japanese)."""
    unspaced = letters = 0
    for part in chunks(texts):
        codes = np.frombuffer("".join(part).encode("utf-32-le"), dtype="<u4")
        here = int(
            _within(
                codes, (0x3041, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)
            ).sum()
        )
        other = _within(codes, (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x1FFF), (0xA000, 0xD7FF))
        unspaced, letters = unspaced + here, letters + here + int(other.sum())
    share = unspaced / letters if letters else 0.0
    kind = "chars" if share >= HAN_SHARE else "words"
    said(f"tokenizer: {kind}, since {share:.0%} of the letters are Chinese or Japanese (text.tokenizer sets another)")
    return kind


def _within(codes: np.ndarray, *ranges: tuple[int, int]) -> np.ndarray:
    out = np.zeros(len(codes), dtype=bool)
    for low, high in ranges:
        out |= (codes >= low) & (codes <= high)
    return out
