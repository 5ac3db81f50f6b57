"""Which rows travel together: rows of like length, so that little of a batch is padding.

    for index in plan(lengths, 64, 32_768, seed=0, epoch=3): ...

With a seed, lengths are jittered before sorting, so that a row meets other rows each epoch, and the
batches are shuffled: a pure function of (lengths, sizes, seed, epoch), so a resumed run needs no saved
random state. Without one, rows stand by length, ties by place: for evaluation.
"""

from __future__ import annotations

import numpy as np

JITTER = 0.2
"""A row may trade places with rows up to this share longer or shorter."""


def plan(
    lengths: np.ndarray, batch_size: int, batch_tokens: int, *, seed: int | None = None, epoch: int = 0
) -> list[np.ndarray]:
    """Batches of row numbers, int64, each row in exactly one.

    lengths: (N,) tokens of each row. A batch has at most `batch_size` rows, and at most `batch_tokens`
    tokens with its padding (rows times the longest), unless it is a single row longer than that.
    """
    if batch_size < 1 or batch_tokens < 1:
        raise ValueError(f"batch_size and batch_tokens are at least 1, got {batch_size} and {batch_tokens}")
    lengths = np.asarray(lengths, dtype=np.int64)
    if seed is None:
        return _fill(lengths, np.argsort(lengths, kind="stable"), batch_size, batch_tokens)
    generator = np.random.default_rng([seed, epoch])
    jittered = np.log(np.maximum(lengths, 1)) + JITTER * generator.random(len(lengths))
    batches = _fill(lengths, np.argsort(jittered, kind="stable"), batch_size, batch_tokens)
    return [batches[i] for i in generator.permutation(len(batches))]


def _fill(lengths: np.ndarray, order: np.ndarray, batch_size: int, batch_tokens: int) -> list[np.ndarray]:
    """`order` cut where the next row would make the batch too large."""
    cuts, start, longest = [], 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        rows = place - start + 1
        if rows > 1 and (rows > batch_size or rows * longest > batch_tokens):
            cuts.append(place)
            start, longest = place, length
    return np.split(order, cuts) if len(order) else []
