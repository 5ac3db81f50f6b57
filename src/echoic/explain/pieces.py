"""What is drawn: the text as it was given, cut into pieces that can be coloured.

Tokens may share a character (bytes of one, or of an emoji) or split what is drawn as one (a letter and its accent).
Such tokens are one piece, whose score is their sum. Text between pieces belongs to no token.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from echoic.explain.record import Explanation

LEVELS = (1 / 8, 1 / 3, 2 / 3)
"""Of the largest size: from here a piece has one, two or three marks."""
JOINER = "\u200d"


class Piece(NamedTuple):
    start: int
    end: int
    score: float
    strength: float
    """|score| as a share of the largest"""
    first: int
    """index of its first token"""
    last: int

    @property
    def level(self) -> int:
        """0 to 3: how many marks it has."""
        return sum(self.strength >= least for least in LEVELS)


def pieces(found: Explanation) -> list[Piece]:
    """The pieces that have a token, in their order."""
    spans: list[tuple[int, int, float, int, int]] = []
    for i, token in enumerate(found.tokens):
        if spans and (token.start < spans[-1][1] or _continues(found.text, token.start)):
            start, end, score, first, _ = spans[-1]
            spans[-1] = (start, max(end, token.end), score + token.score, first, i)
        else:
            spans.append((token.start, token.end, token.score, i, i))
    largest = max((abs(span[2]) for span in spans), default=0.0) or 1.0
    return [Piece(start, end, score, abs(score) / largest, a, b) for start, end, score, a, b in spans]


def _continues(text: str, place: int) -> bool:
    """Whether the character there is drawn as one with the character before it."""
    if place == 0 or place >= len(text):
        return False
    here = text[place]
    joined = here == JOINER or unicodedata.category(here) in ("Mn", "Mc", "Me") or "\U0001f3fb" <= here <= "\U0001f3ff"
    return joined or "\U000e0020" <= here <= "\U000e007f" or text[place - 1] == JOINER


def strongest(found: Explanation, most: int) -> list[Piece]:
    """The pieces of largest size that are anything, the largest first."""
    ranked = sorted(pieces(found), key=lambda piece: -piece.strength)
    return [piece for piece in ranked[:most] if piece.strength > 0]


def named(found: Explanation, piece: Piece) -> str:
    """The piece in a list of pieces."""
    words = found.text[piece.start : piece.end]
    return words.strip() or ("(space)" if words else "(no words)")


def visible(text: str) -> str:
    """Any text made safe to draw: what cannot be seen is spelled out, but for white space and what joins emoji."""
    return "".join(c if _seen(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _seen(char: str) -> bool:
    return char.isprintable() or char in "\n\t\u200c\u200d\u3000\xa0" or "\U000e0020" <= char <= "\U000e007f"


def headline(found: Explanation) -> str:
    return f"{visible(found.label)}: {found.probability:.1%}"


def legend(found: Explanation) -> str:
    label = visible(found.label)
    if found.method == "attention":
        return "marks: how much of the attention a token has"
    if found.method == "trace":
        return f"marks: tokens that moved the probability of {label} up (⁺) or down (⁻)"
    return f"marks: tokens that speak for {label} (⁺) or against it (⁻)"


def sums(found: Explanation) -> str:
    """What the scores add up to, or why they need not."""
    if found.completeness is not None and found.difference is not None:
        return (
            f"The scores add up to {found.difference:+.3f}, the logit of {visible(found.label)} less that of no words, "
            f"but for {found.completeness:.2%} ({found.points} path points)."
        )
    return {
        "attention": "Attention weights add up to 1; they say where the model looked, not which way a token spoke.",
        "trace": "Each token has the change of probability that it made when it was read; later tokens may take it back.",
        "occlusion": "Each token has the fall of the logit when it is read as unknown; these need not add up to anything.",
    }.get(found.method, "Gradient times input is a first guess at each token's part, and need not add up to anything.")
