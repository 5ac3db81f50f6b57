"""Byte-pair encoding: the pair of pieces seen most often becomes a piece, until the vocabulary is full.

Sennrich, Haddow and Birch 2016, over bytes as in Radford et al. 2019: nothing is unknown, and decoding gives
the text back (lower-cased if `text.lowercase`). Merges never cross from a word to its neighbour.
Trained and run by the `tokenizers` library; at most `text.max_vocab` pieces, merged while a pair is
seen `text.min_count` times.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import models, pre_tokenizers, trainers

from echoic.core.config import TextConfig
from echoic.core.registry import register
from echoic.core.types import SPECIALS
from echoic.prepare.tokenizers.base import Said, SubwordTokenizer, room_for_bytes


@register
class Bpe(SubwordTokenizer):
    """Vocabulary of merged byte pairs."""

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Bpe:
        room_for_bytes(config, "bpe")
        trainer = trainers.BpeTrainer(
            vocab_size=config.max_vocab,
            min_frequency=config.min_count,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        fitted = cls(cls.train(models.BPE(), trainer, texts, config))
        said(f"bpe: {len(fitted.vocabulary):,} pieces (text.max_vocab={config.max_vocab})")
        return fitted
