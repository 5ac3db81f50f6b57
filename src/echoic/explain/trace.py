"""How the belief moves: the probabilities after every token, and the tokens at which the model changed its mind.

Read in one direction, a text's states are the states of all its prefixes, so that one pass gives every answer
on the way, exactly. A backward direction has no such states: there each prefix is read for itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from echoic.core.types import EMPTY
from echoic.explain import ngrams
from echoic.explain.reading import Reading
from echoic.layers.unroll import valid_steps

MOST_PREFIXES = 1024
"""Of a longer text that is read both ways, the belief is asked every few tokens."""

Probabilities = Callable[[np.ndarray], np.ndarray]
"""Logits (N, C) -> probabilities (N, C): the task's own."""


@torch.inference_mode()
def beliefs(reading: Reading) -> tuple[Tensor, int]:
    """(logits (T, C) after each token, window): neighbours of one window have those of the last of them."""
    network, steps = reading.network, len(reading.ids)
    if network.stack.directions == 1:
        logits, window = _in_one_pass(reading), 1
    else:
        window = -(-steps // MOST_PREFIXES)
        logits = _prefix_by_prefix(reading, window).repeat_interleave(window, 0)[:steps]
    logits = network.scales[0] * logits
    if network.ngrams is not None:
        last = (torch.arange(steps) // window * window + window - 1).clamp(max=steps - 1)
        logits = logits + network.scales[1] * ngrams.prefixes(network.ngrams, reading.ids)[last.to(logits.device)]
    return logits, window


def _in_one_pass(reading: Reading) -> Tensor:
    """logits_r (T, C)"""
    states = reading.states[valid_steps(reading.lengths, reading.states.shape[1])]
    return reading.network.out(reading.network.pool.prefixes(states))  # type: ignore[no-any-return]


def _prefix_by_prefix(reading: Reading, window: int) -> Tensor:
    """logits_r of the prefixes that end after `window`, 2 `window`, ... tokens, and of the whole text."""
    steps = len(reading.ids)
    ends = torch.arange(window, steps + window, window, device=reading.ids.device).clamp(max=steps)
    return torch.cat([reading.recurrent(reading.ids.expand(len(n), -1), n) for n in torch.split(ends, reading.batch)])


def moves(reading: Reading, probabilities: Probabilities, column: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(by how much each token moved the probability of `column` (T,), the probabilities after each (T, C), window).

    The first token moved it from the answer to an empty text."""
    logits, window = beliefs(reading)
    after = probabilities(logits.double().cpu().numpy())
    empty = Reading(reading.network, np.array([EMPTY])).logits
    start = probabilities(empty[None].double().cpu().numpy())[:, column]
    before = np.concatenate([np.repeat(start, window), after[:, column]])[: len(after)]
    group = np.arange(len(after)) // window
    return (after[:, column] - before) / np.bincount(group)[group], after, window
