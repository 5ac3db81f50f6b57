"""Noise on the words of a training text: small changes that leave its label what it was.

Neighbours swapped or words deleted at random (Wei and Zou 2019, "EDA"). NumPy only; every draw comes from
the generator handed in. (Word dropout is the embedding's: `layers/embed.py`.)
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Augmentation = Literal["none", "swap", "delete"]


def augment(ids: np.ndarray, kind: Augmentation, rate: float, generator: np.random.Generator) -> np.ndarray:
    """A changed copy of one text's ids (T,): about `rate` of its tokens are touched.

    swap: tokens change places with a neighbour, each at most once; the length stays.
    delete: tokens fall away; at least one stays. A text of one token is never changed.
    """
    if kind == "swap":
        return _swap(ids, rate, generator)
    if kind == "delete":
        return _delete(ids, rate, generator)
    if kind == "none":
        return ids.copy()
    raise ValueError(f"augmentation is none, swap or delete, not {kind!r}")


def _swap(ids: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Pairs (i, i+1) are drawn with probability rate / 2, since one touches two tokens; of a run of
    overlapping pairs every second one is taken."""
    out = ids.copy()
    drawn = np.flatnonzero(generator.random(max(len(ids) - 1, 0)) < rate / 2)
    run_starts = np.diff(drawn, prepend=-2) > 1
    place_in_run = np.arange(len(drawn)) - np.maximum.accumulate(np.where(run_starts, np.arange(len(drawn)), 0))
    left = drawn[place_in_run % 2 == 0]
    out[left], out[left + 1] = ids[left + 1], ids[left]
    return out


def _delete(ids: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    stays = generator.random(len(ids)) >= rate
    if len(ids) and not stays.any():
        stays[generator.integers(len(ids))] = True
    return ids[stays]
