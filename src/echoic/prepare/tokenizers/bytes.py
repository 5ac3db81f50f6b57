"""Bytes: the 256 values of UTF-8. Nothing is unknown, nothing is learned, texts are long.

Id = byte + 3. Lower-cased if `text.lowercase`, otherwise the text as given: decoding gives it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from echoic.core.config import TextConfig
from echoic.core.registry import register
from echoic.core.types import SPECIALS
from echoic.prepare.tokenizers.base import ListedTokenizer, Said, Spans, lower, room_for_bytes

_NAMES = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]


@register
class Bytes(ListedTokenizer):
    """The fixed vocabulary of bytes."""

    @classmethod
    def fit(cls, texts: Sequence[str], config: TextConfig, said: Said) -> Bytes:
        room_for_bytes(config, "bytes")
        return cls(list(_NAMES), config.lowercase)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [
            np.frombuffer(self._normal(text).encode(), dtype=np.uint8).astype(np.int32) + len(SPECIALS)
            for text in texts
        ]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, Spans]:
        spans = [(i, i + 1) for i, char in enumerate(self._normal(text)) for _ in char.encode()]
        return self.encode([text])[0], spans

    def settled(self, text: str) -> int:
        return len(text)

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(int(i) - len(SPECIALS) for i in ids if i >= len(SPECIALS)).decode("utf-8", "replace")

    def _normal(self, text: str) -> str:
        return lower(text) if self.lowercase else text
