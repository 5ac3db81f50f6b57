"""What travels through the house, and the letters its shapes are written in.

B  sequences in a batch      T  steps (tokens) of the longest sequence in it
D  features of one step      H  units of a hidden state
G  gates of a cell           L  layers            C  classes            V  vocabulary

Batch-first everywhere: (B, T, D). Lengths are the truth; a mask is called `valid` and True means
real. Padding stands at the end of a row, is never computed on where that can be avoided, and never
changes an answer. Token ids: 0 is padding, 1 unknown, 2 the `<empty>` token of an empty text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PAD, UNKNOWN, EMPTY = 0, 1, 2
SPECIALS = ("<pad>", "<unk>", "<empty>")

Label = str | tuple[str, ...] | Mapping[str, float]
"""One class, several at once, or a probability for each (soft labels)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of somebody's file. What `input` and `target` are is the task's business:
    for `classify` a text and a Label."""

    input: Any
    target: Any = None
    group: str | None = None
    row: int = 0
    """1-based data row in its source (a header does not count), for messages."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples as arrays; NumPy, so that no room but the network's needs torch."""

    inputs: np.ndarray
    """(B, T) int64 token ids, padded with PAD; or (B, T, D) float32."""
    lengths: np.ndarray
    """(B,) int64, each >= 1."""
    targets: np.ndarray | None = None
    """(B,) int64 class ids, (B, C) float32 probabilities or several labels, or the task's own."""


def pad(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ragged int rows -> ((B, T) int64 padded at the end with PAD, (B,) int64 lengths)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    out = np.full((len(rows), int(lengths.max(initial=0))), PAD, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out, lengths
