"""Text as one long stream, cut for truncated backpropagation: which windows are learned from together.

    stream   s_0 s_1 s_2 ...            place p is a prediction: s_(p+1) from s_p and what came before
    lanes    B runs of places, side by side, of one length or one less
    windows  batch k holds the k-th window of each lane, [start, end) in places

A row of batch k goes on where the same row of batch k - 1 ended, so its state is carried over. The
first windows of an epoch are shorter by a draw from (seed, epoch), so that the cuts, behind which no
gradient looks, fall elsewhere each time. Every place stands in just one window.

To score a text it is cut into rows that overlap: a row that does not begin a text has CONTEXT tokens
in front that are read and not scored.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from echoic.core.types import EMPTY

SCORED, CONTEXT = 1024, 256
"""Tokens that a row of a long text is scored on, and how many it reads before them."""


def plan(places: int, lanes: int, steps: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches of windows, each (B, 2) int64 [start, end): a function of its arguments alone.

    At most `lanes` rows, fewer where there are fewer places, and at most `steps` places a window. Only
    in the last batch do windows differ in length, by one; a lane that has ended is left out of it.
    """
    if lanes < 1 or steps < 1:
        raise ValueError(f"lanes and steps are at least 1, got {lanes} and {steps}")
    lanes = min(lanes, places)
    if lanes == 0:
        return []
    ends = np.arange(1, lanes + 1) * places // lanes
    starts = np.concatenate([[0], ends[:-1]])
    order = np.argsort(starts - ends, kind="stable")  # longer lanes first: those that end early are the last rows
    starts, ends = starts[order], ends[order]
    longest = int(ends[0] - starts[0])
    first = _first_cut(longest, steps, np.random.default_rng([seed, epoch]))
    cuts = [0, *range(min(first, longest), longest, steps), longest]
    windows = [np.stack([starts + a, np.minimum(starts + b, ends)], axis=1) for a, b in pairwise(cuts)]
    return [window[window[:, 1] > window[:, 0]] for window in windows]


def _first_cut(longest: int, steps: int, draws: np.random.Generator) -> int:
    """Where the first window ends: drawn from at least half of 1..steps, all of which give as many windows,
    so that every epoch has the same number of batches."""
    rest = longest % steps
    low, high = (1, rest - 1) if 2 * rest > steps else (max(1, rest), steps if rest else steps - 1)
    return int(draws.integers(low, max(low, high) + 1))


def scoring_rows(text: np.ndarray) -> list[np.ndarray]:
    """One text's ids (1 + T,), EMPTY first, as rows that together score each of the T once."""
    cuts = range(0, max(1, len(text) - 1), SCORED)
    return [text[max(0, start - CONTEXT) : start + SCORED + 1] for start in cuts]


def unscored(inputs: np.ndarray) -> np.ndarray:
    """(B, T) rows -> (B,) how many of their predictions are context: none where a text begins."""
    return np.where(inputs[:, 0] == EMPTY, 0, CONTEXT)
