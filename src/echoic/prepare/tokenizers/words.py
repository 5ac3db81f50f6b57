"""Words as they are written: letters and digits with inner apostrophes, and every other mark by itself.

`It's <b>great</b>!! 😀` -> `it's` `great` `!` `!` `😀`

- A word is a run of letters, digits and their combining marks; an apostrophe (' or ’) between two
  of them stays inside. Any other character that is no white space is a token of its own; an emoji
  is one token with its skin tone, joiners and variation selectors, a flag is one token.
- Chinese characters and Japanese kana are a token each, since no space parts their words.
- HTML tags (`<br />`, `</p>`, `<a href=...>`: the name of an HTML element, then nothing or attributes
  with a `=`) count as white space. Other angle brackets are text: `<3`, `a<b and c>d`, `<unk>`.
- Lower-cased if `text.lowercase`. No Unicode normalisation: composed and decomposed forms differ.

Decoding joins the tokens with spaces. Splitting and looking up happen in the `tokenizers` library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from echoic.core.config import TextConfig
from echoic.core.registry import register
from echoic.core.types import SPECIALS
from echoic.prepare.tokenizers.base import RustTokenizer, Said, capped, joined, surfaces

ELEMENTS = (
    "a|abbr|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|font|h[1-6]|head|hr|html|i|img|ins|"
    "li|link|meta|ol|p|pre|q|s|script|small|span|strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul"
)
TAG = rf"(?i)</?(?:{ELEMENTS})(?:\s*+/?>|\s[^<>=]*+=[^<>]*+>)"
_OPEN = re.compile(rf"(?i)</?(?:{ELEMENTS})\s")
_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}"
FIRST = rf"[\p{{L}}\p{{N}}&&[^{_ALONE}]]"
REST = rf"[\p{{L}}\p{{N}}\p{{M}}\x{{200C}}\x{{200D}}&&[^{_ALONE}]]"
MARK = r"[\p{M}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]"
_FLAG = r"[\x{1F1E6}-\x{1F1FF}]{2}"
_SYMBOL = rf"(?:{_FLAG}|\S){MARK}*+(?:\x{{200D}}\p{{So}}{MARK}*+)*+"
WORD = rf"{FIRST}{REST}*+(?:['’]{FIRST}{REST}*+)*+|{_SYMBOL}"
"""Possessive throughout, so linear in the text. (\\X, the grapheme cluster, is not: it looks back over a
run of regional indicators for each of them.)"""

_EVERYTHING = 1 << 31


@register
class Words(RustTokenizer):
    """Vocabulary of words, counted."""

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Words:
        counting = _rust({}, config.lowercase)
        trainer = trainers.WordLevelTrainer(
            vocab_size=_EVERYTHING, min_frequency=config.min_count, special_tokens=[], show_progress=False
        )
        counting.train_from_iterator(texts, trainer)
        ids = counting.get_vocab()  # the trainer numbers words by falling count, ties by text
        vocabulary = capped(sorted(ids, key=lambda word: ids[word]), config, said)
        return cls(_rust({word: i for i, word in enumerate(vocabulary)}, config.lowercase))

    def settled(self, text: str) -> int:
        """Up to the last white space, unless it may stand in a tag."""
        last = max(text.rfind(space) for space in " \t\n") + 1
        tag = text.rfind("<", 0, last)
        closed = 0 <= text.find(">", max(tag, 0)) < last
        return last if tag < 0 or closed or not _OPEN.match(text, tag) else tag

    def with_tokens(self, texts: Sequence[str], config: TextConfig, said: Said) -> Words:
        vocabulary = joined(self.vocabulary, Words.fit(texts, config, said).vocabulary, config, said)
        return Words(_rust({word: i for i, word in enumerate(vocabulary)}, config.lowercase))

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(surfaces(self.vocabulary, ids))


def _rust(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    rust = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[1]))
    if lowercase:
        rust.normalizer = normalizers.Lowercase()
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(TAG), "removed"), pre_tokenizers.Split(Regex(WORD), "removed", invert=True)]
    )
    return rust
