"""The contract of a tokenizer: text in, token ids out, and the way back.

A tokenizer is fitted on training texts, encodes any text, and is one JSON file. `TextPreparer`
(`echoic.prepare.text`) adds what all of them share: checking, `<empty>`, cutting, choosing one.

Ids 0, 1 and 2 are `<pad>`, `<unk>` and `<empty>` (`echoic.core.types`). No text, whatever somebody
types, encodes to 0 or 2, and 1 only stands for a token the training texts did not hold.

A new tokenizer is one file beside this one with one `@register` class; it gains the `--set
text.tokenizer=` choice and `tests/contracts/test_tokenizers.py`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tokenizers

from echoic.core.bundle import canonical
from echoic.core.config import TextConfig
from echoic.core.errors import BundleError, ConfigError, DataError, show
from echoic.core.types import PAD, SPECIALS, UNKNOWN

Spans = list[tuple[int, int]]
"""(start, end) of each token, in code points of the text as given: `text[start:end]`."""

Said = Callable[[str], None]

REPLACEMENT = "\ufffd"
"""What `<unk>` decodes to. It stands for a character that was lost, so no vocabulary that is counted holds it: it
encodes to `<unk>` again, and a second round changes nothing."""

_WORD_END = re.compile(r"[ \t\n](?=[^\s])")
"""In a text read backwards: white space behind what is none."""

_CHUNK = 1 << 20
"""Characters handed to the Rust library at a time: its tokens take some 100 bytes each until they are ids."""


class Tokenizer(ABC):
    """A fitted tokenizer; never changes after `fit`."""

    vocabulary: list[str]
    """Index = id; the first three are the specials."""

    @classmethod
    @abstractmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Self:
        """Fitted on training texts; the same for every order of them. Raises DataError if nothing is left to know."""

    def with_tokens(self, texts: Sequence[str], config: TextConfig, said: Said) -> Self:
        """This tokenizer, with the tokens of `texts` that it does not know behind those it does. One that reads any
        text in pieces it knows has nothing to add."""
        del texts, config, said
        return self

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(T,) int32 ids of each text; T is 0 where a text has no token."""

    @abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        """The ids that `encode` gives, and the place of each in `text`."""

    def settled(self, text: str) -> int:
        """How many characters at the beginning of `text` have tokens that nothing written after it could change, nor
        do they change those of the rest, for a text that comes in pieces. Nought says that the end must be waited for."""
        del text
        return 0

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; `<pad>` and `<empty>` vanish, `<unk>` is U+FFFD."""

    @abstractmethod
    def to_json(self) -> bytes:
        """The whole tokenizer; equal tokenizers give equal bytes."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: bytes) -> Self:
        """What `to_json` wrote. Raises BundleError for anything else."""


def lower(text: str) -> str:
    """Lower case code point by code point, so that places in it are places in `text`. In `str.lower` U+0130
    (capital I with a dot) grows, here it is i; and capital sigma looks at its neighbours, here it does not."""
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


def choose_vocabulary(counts: Mapping[str, int], config: TextConfig, said: Said) -> list[str]:
    """The specials, then tokens by falling count, ties by code point: `vocabulary` of a counted tokenizer."""
    often = [token for token, count in counts.items() if count >= config.min_count]
    return capped(sorted(often, key=lambda token: (-counts[token], token)), config, said)


def capped(ranked: list[str], config: TextConfig, said: Said) -> list[str]:
    """The specials and as many of the `ranked` tokens as `max_vocab` leaves room for; what is left out is said."""
    ranked = [token for token in ranked if token != REPLACEMENT]
    if not ranked:
        raise DataError(
            f"the training texts hold no token {config.min_count} times; lower text.min_count or give more text"
        )
    room = config.max_vocab - len(SPECIALS)
    if len(ranked) > room:
        said(f"vocabulary capped: {room:,} of {len(ranked):,} tokens kept (text.max_vocab={config.max_vocab})")
    return [*SPECIALS, *ranked[:room]]


def joined(known: list[str], found: list[str], config: TextConfig, said: Said) -> list[str]:
    """The `known` vocabulary and behind it what else was `found`, as far as `max_vocab` leaves room; said."""
    before = set(known)
    new = [token for token in found if token not in before][: max(0, config.max_vocab - len(known))]
    said(f"vocabulary: {len(known):,} tokens of the base, {len(new):,} new")
    return [*known, *new]


def room_for_bytes(config: TextConfig, kind: str) -> None:
    least = len(SPECIALS) + 256
    if config.max_vocab < least:
        raise ConfigError(
            f"text.max_vocab={config.max_vocab}: tokenizer {kind} needs {least} (256 bytes and {len(SPECIALS)} specials)"
        )


def chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Runs of texts of about a million characters."""
    part: list[str] = []
    size = 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield part
            part, size = [], 0
    if part:
        yield part


def own_json(**content: Any) -> bytes:
    return canonical(content)


def read_own_json(data: bytes, *keys: str) -> tuple[Any, ...]:
    try:
        content = json.loads(data)
        return tuple(content[key] for key in keys)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"tokenizer.json: not a tokenizer that echoic wrote (wants {', '.join(keys)})") from None


def checked_vocabulary(tokens: Any) -> list[str]:
    """`tokens` if it can be a vocabulary: distinct texts, the specials first."""
    if not (isinstance(tokens, list) and all(isinstance(t, str) for t in tokens) and len(set(tokens)) == len(tokens)):
        raise BundleError("tokenizer.json: the vocabulary is not a list of distinct tokens")
    if tuple(tokens[: len(SPECIALS)]) != SPECIALS:
        raise BundleError(f"tokenizer.json: the vocabulary does not begin with {', '.join(SPECIALS)}")
    return tokens


class RustTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library, whose `tokenizer.json` other programmes read too.

    The specials are entries of the model's vocabulary and never "added tokens": those are searched
    for in the text, so that a user who types `<pad>` would get padding.
    """

    def __init__(self, rust: tokenizers.Tokenizer) -> None:
        self.rust = rust
        ids = rust.get_vocab(with_added_tokens=False)
        tokens = sorted(ids, key=ids.__getitem__)
        if [ids[token] for token in tokens] != list(range(len(tokens))):
            raise BundleError("tokenizer.json: the ids are not 0, 1, 2, ...")
        if rust.get_added_tokens_decoder():
            raise BundleError("tokenizer.json: added tokens could be typed by a user; echoic writes none")
        if rust.truncation is not None or rust.padding is not None:
            raise BundleError("tokenizer.json: truncates or pads, so the network would not see the text as it is")
        self.vocabulary = checked_vocabulary(tokens)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [
            np.array(found.ids, dtype=np.int32)
            for part in chunks(texts)
            for found in self.rust.encode_batch_fast(part, add_special_tokens=False)
        ]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        found = self.rust.encode(text, add_special_tokens=False)
        return np.array(found.ids, dtype=np.int32), list(found.offsets)

    def to_json(self) -> bytes:
        return bytes(self.rust.to_str(pretty=True).encode())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        try:
            rust = tokenizers.Tokenizer.from_buffer(data)
            rust.encode(REPLACEMENT, add_special_tokens=False)  # a model without its <unk> says so only now
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"tokenizer.json: not a tokenizer: {show(error, 120)}") from None
        return cls(rust)


class SubwordTokenizer(RustTokenizer):
    """Pieces of words over the 256 bytes: nothing is unknown, and decoding gives the text back."""

    @staticmethod
    def around(model: Any, config: TextConfig) -> tokenizers.Tokenizer:
        """`model`, given words spelled in the 256 letters that stand for bytes (Radford et al. 2019)."""
        rust = tokenizers.Tokenizer(model)
        if config.lowercase:
            rust.normalizer = tokenizers.normalizers.Lowercase()
        rust.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        rust.decoder = tokenizers.decoders.ByteLevel()
        return rust

    @classmethod
    def train(cls, model: Any, trainer: Any, texts: Sequence[str], config: TextConfig) -> tokenizers.Tokenizer:
        """The trainer's result, in which the specials are no added tokens."""
        rust = cls.around(model, config)
        rust.train_from_iterator(texts, trainer)
        content = json.loads(rust.to_str())
        content["added_tokens"] = []
        return tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))

    def settled(self, text: str) -> int:
        """White space begins a new word, whatever comes after it."""
        last = next((m.start() + 1 for m in _WORD_END.finditer(text[::-1])), None)
        return 0 if last is None else len(text) - last

    def decode(self, ids: Iterable[int]) -> str:
        kept = [int(i) for i in ids if i >= len(SPECIALS)]
        return str(self.rust.decode(kept, skip_special_tokens=False))


class ListedTokenizer(Tokenizer):
    """Tokens that Python cuts, looked up in a list."""

    def __init__(self, vocabulary: list[str], lowercase: bool) -> None:
        self.vocabulary = checked_vocabulary(vocabulary)
        self.lowercase = lowercase

    def with_tokens(self, texts: Sequence[str], config: TextConfig, said: Said) -> Self:
        found = type(self).fit(texts, config, said).vocabulary
        return type(self)(joined(self.vocabulary, found, config, said), self.lowercase)

    def to_json(self) -> bytes:
        return own_json(vocabulary=self.vocabulary, lowercase=self.lowercase)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        vocabulary, lowercase = read_own_json(data, "vocabulary", "lowercase")
        return cls(vocabulary, bool(lowercase))


def surfaces(vocabulary: Sequence[str], ids: Iterable[int]) -> list[str]:
    """The token of each id as text: padding and `<empty>` left out, `<unk>` as U+FFFD."""
    return [REPLACEMENT if i == UNKNOWN else vocabulary[int(i)] for i in ids if i == UNKNOWN or i >= len(SPECIALS)]


__all__ = ["PAD", "UNKNOWN", "ListedTokenizer", "RustTokenizer", "SubwordTokenizer", "Tokenizer"]
