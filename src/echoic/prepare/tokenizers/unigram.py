"""Unigram pieces: from many candidates, keep those that make the training text most likely.

Kudo 2018 ("Subword regularization"), over bytes, so nothing is unknown and decoding gives the text
back (lower-cased if `text.lowercase`). A text is cut into its most likely pieces (Viterbi).
Trained and run by the `tokenizers` library; at most `text.max_vocab` pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import models, pre_tokenizers, trainers

from echoic.core.config import TextConfig
from echoic.core.registry import register
from echoic.core.types import SPECIALS
from echoic.prepare.tokenizers.base import Said, SubwordTokenizer, room_for_bytes


@register
class Unigram(SubwordTokenizer):
    """Vocabulary of likely pieces."""

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Unigram:
        room_for_bytes(config, "unigram")
        trainer = trainers.UnigramTrainer(
            vocab_size=config.max_vocab,
            special_tokens=list(SPECIALS),
            unk_token=SPECIALS[1],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        fitted = cls(cls.train(models.Unigram(), trainer, texts, config))
        said(f"unigram: {len(fitted.vocabulary):,} pieces (text.max_vocab={config.max_vocab})")
        return fitted
