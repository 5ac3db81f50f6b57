"""When two texts count as the same, and which classes a target names: shared by the checks and the split."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import Any

FOLDED = 4096


def text_key(text: str) -> bytes:
    """16 bytes, equal for texts that differ only in width, case or white space (NFKC, casefold).

    Only the first FOLDED characters are normalised: NFKC takes quadratic time on runs of combining
    marks (CPython gh-149079). The rest is compared without case and white space. b"" for no text.
    """
    head, rest = text[:FOLDED], text[FOLDED:]
    if not head.isascii():
        head = unicodedata.normalize("NFKC", head)
    folded = "".join((head + rest).casefold().split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest() if folded else b""


def classes_of(target: Any) -> tuple[str, ...]:
    """The classes a target names: itself, each of several, or the most probable of a soft label."""
    if target is None:
        return ()
    if isinstance(target, Mapping):
        return (max(target, key=lambda name: target[name]),) if target else ()
    return tuple(target) if isinstance(target, tuple) else (str(target),)
