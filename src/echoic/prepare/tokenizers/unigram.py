"""Unigram pieces: many candidates, of which those that explain the training text best are kept.

Kudo 2018 ("Subword regularization"): a text is cut into the pieces of largest total log p (Viterbi, run
by the `tokenizers` library). Over bytes, so nothing is unknown and decoding gives the text back
(lower-cased if `text.lowercase`). At most `text.max_vocab` pieces.

Trained here, since the library's trainer gives another vocabulary each time it runs. Candidates are
the pieces of a byte-pair encoding `CANDIDATES` times as large. Then rounds of hard EM: cut each word its best way,
let p be the share of each piece, drop the pieces used least. Counts are integers, so their sums do not
depend on an order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from echoic.core.config import TextConfig
from echoic.core.registry import register
from echoic.core.types import SPECIALS, UNKNOWN
from echoic.prepare.tokenizers.base import Said, SubwordTokenizer, chunks, room_for_bytes

CANDIDATES = 3
LONGEST = 32
"""Bytes of a piece, at most: the search for the best cut takes time in proportion to it."""
SHRINK = 0.75
"""Share of the pieces that a round keeps, until they fit."""
_NEVER = -1e4
"""log p of the specials. Their names cannot be cut from a text; if one could, it would lose to any other cut."""


@register
class Unigram(SubwordTokenizer):
    """Vocabulary of likely pieces."""

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Unigram:
        room_for_bytes(config, "unigram")
        words, counts = _counted(texts, config)
        pieces = _candidates(texts, config)
        uses = 1.0 / np.arange(1, len(pieces) + 1)  # until they are counted: merged earlier, used more
        room = config.max_vocab - len(SPECIALS)
        while True:
            for _ in range(2):
                uses = _uses(pieces, uses, words, counts)
            if len(pieces) <= room:
                break
            pieces, uses = _drop_least(pieces, uses, max(room, int(SHRINK * len(pieces))))
        fitted = cls(cls.around(_model(pieces, uses), config))
        said(f"unigram: {len(fitted.vocabulary):,} pieces (text.max_vocab={config.max_vocab})")
        return fitted


def _counted(texts: Sequence[str], config: TextConfig) -> tuple[list[str], np.ndarray]:
    """The distinct words of the texts, spelled in the letters that stand for bytes, and (W,) how often each is there."""
    rust = SubwordTokenizer.around(models.WordLevel({}, unk_token=SPECIALS[1]), config)
    trainer = trainers.WordLevelTrainer(vocab_size=1 << 31, min_frequency=0, special_tokens=[], show_progress=False)
    rust.train_from_iterator(texts, trainer)
    ids = rust.get_vocab()
    counts = np.zeros(len(ids), dtype=np.int64)
    for part in chunks(texts):
        rows = [row.ids for row in rust.encode_batch_fast(part, add_special_tokens=False)]
        counts += np.bincount(np.array([i for row in rows for i in row], dtype=np.int64), minlength=len(ids))
    return sorted(ids, key=lambda word: ids[word]), counts


def _candidates(texts: Sequence[str], config: TextConfig) -> list[str]:
    """The 256 bytes, then merged pieces in the order of their merging."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=CANDIDATES * config.max_vocab,
        min_frequency=config.min_count,
        max_token_length=LONGEST,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    ids = SubwordTokenizer.train(models.BPE(), trainer, texts, config).get_vocab()
    return [*alphabet, *sorted(ids.keys() - set(alphabet), key=lambda piece: ids[piece])]


def _model(pieces: Sequence[str], uses: np.ndarray) -> models.Unigram:
    """log p of a piece is its share of all uses; one that was never used counts half a use."""
    floored = np.maximum(uses, 0.5 * uses[uses > 0].min())
    scores = np.log(floored / floored.sum()).round(6).tolist()  # so short that the library reads back what it wrote
    return models.Unigram([*((name, _NEVER) for name in SPECIALS), *zip(pieces, scores, strict=True)], unk_id=UNKNOWN)


def _uses(pieces: Sequence[str], uses: np.ndarray, words: list[str], counts: np.ndarray) -> np.ndarray:
    """(P,) how often each piece is used when every word is cut its best way."""
    rust = tokenizers.Tokenizer(_model(pieces, uses))
    rows = [row.ids for part in chunks(words) for row in rust.encode_batch_fast(part, add_special_tokens=False)]
    ids = np.array([i for row in rows for i in row], dtype=np.int64) - len(SPECIALS)
    weights = np.repeat(counts, [len(row) for row in rows])
    return np.bincount(ids, weights=weights, minlength=len(pieces))


def _drop_least(pieces: list[str], uses: np.ndarray, room: int) -> tuple[list[str], np.ndarray]:
    """The 256 bytes and the pieces used most; of equals, those merged first."""
    order = np.argsort(-uses[256:], kind="stable")[: room - 256] + 256
    kept = np.concatenate([np.arange(256), np.sort(order)])
    return [pieces[i] for i in kept], uses[kept]
