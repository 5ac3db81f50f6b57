"""Writing on, token by token: what a network says of the next token, and which one is taken.

    thread = begin(step, prompt, generators(seed, samples))   the whole prompt is read
    ids, thread = write(step, thread, how)                    one token for each sample
    ids, thread = write(step, thread, how)                    ...

`step` is a pure function of ids and a state, so that torch, ONNX and the native core write the same
text from the same seed. Every sample has a generator of its own, spawned from the seed: what one
writes does not depend on how many there are, nor on where a text was interrupted and gone on with.

    logits -> repetition penalty -> forbidden -> / temperature -> top-k -> top-p -> min-p -> p
    token = the first whose cumulative p exceeds u, u uniform in [0, 1), tokens in the order of their ids
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echoic.core.errors import UsageError, show

State = Any
Step = Callable[[np.ndarray, State], tuple[np.ndarray, State]]
"""(ids (S, T) int64, the state before them; None: the first) -> (logits (S, V) after the last of them, the state)."""


@dataclass(frozen=True)
class How:
    """How a token is chosen. Raises UsageError for a number that makes no sense."""

    temperature: float = 1.0
    """Logits are divided by it: below 1 safer, above 1 wilder; 0 takes the most probable token."""
    top_k: int = 0
    """Only the k most probable tokens, and those that equal the k-th; 0, or more than there are: all."""
    top_p: float = 1.0
    """Only the most probable tokens that together reach this probability (Holtzman et al. 2020)."""
    min_p: float = 0.0
    """Only tokens at least this share as probable as the most probable one (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Tokens that were read or written before: a positive logit is divided by it, a negative one
    multiplied (Keskar et al. 2019, section 4.1)."""
    forbidden: tuple[int, ...] = ()
    """Tokens that are never written."""

    def __post_init__(self) -> None:
        wanted = {
            "temperature": (self.temperature >= 0, "0 (the most probable token) or above"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or above"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1 (all tokens)"),
            "min_p": (0 <= self.min_p <= 1, "from 0 (all tokens) to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < np.inf, "above 0; 1 changes nothing"),
        }
        for name, (right, what) in wanted.items():
            value = getattr(self, name)
            if not right or value == np.inf:
                raise UsageError(f"{name.replace('_', '-')} {show(value)}: wants a number {what}")


@dataclass(frozen=True)
class Thread:
    """Where S samples stand: everything that the next token depends on."""

    logits: np.ndarray
    """(S, V) of the next token."""
    state: State
    seen: np.ndarray
    """(S, V) bool, tokens read or written so far."""
    generators: Sequence[np.random.Generator]


def generators(seed: int | np.random.Generator, samples: int) -> list[np.random.Generator]:
    """A generator for each sample; the k-th is the same whatever their number."""
    if samples < 1:
        raise UsageError(f"samples {samples}: wants at least 1")
    return list(np.random.default_rng(seed).spawn(samples))


def begin(step: Step, prompt: np.ndarray, draws: Sequence[np.random.Generator], state: State = None) -> Thread:
    """Reads the whole prompt (T,), T >= 1, for each of the samples, going on from `state`."""
    ids = np.tile(np.asarray(prompt, np.int64), (len(draws), 1))
    logits, state = step(ids, state)
    seen = np.zeros(logits.shape, bool)
    seen[:, ids[0]] = True
    return Thread(logits, state, seen, draws)


def write(step: Step, thread: Thread, how: How) -> tuple[np.ndarray, Thread]:
    """The next token of each sample (S,), and where they stand after it."""
    ids = choose(thread.logits, thread.seen, how, thread.generators)
    logits, state = step(ids[:, None], thread.state)
    seen = thread.seen.copy()
    seen[np.arange(len(ids)), ids] = True
    return ids, Thread(logits, state, seen, thread.generators)


def choose(logits: np.ndarray, seen: np.ndarray, how: How, draws: Sequence[np.random.Generator]) -> np.ndarray:
    """(S,) int64. Temperature 0 draws nothing; of equal logits it takes the lowest id."""
    scores = penalised(logits, seen, how)
    if how.temperature == 0:
        return np.asarray(scores.argmax(1))
    cumulative = probabilities(scores, how).cumsum(1)
    u = np.array([draw.random() for draw in draws])
    return np.asarray((cumulative <= (u * cumulative[:, -1])[:, None]).sum(1))


def penalised(logits: np.ndarray, seen: np.ndarray, how: How) -> np.ndarray:
    """(S, V) float64: the logits after the penalty, -inf where a token is forbidden."""
    scores = np.array(logits, np.float64)
    if how.repetition_penalty != 1:
        penalty = np.where(scores > 0, 1 / how.repetition_penalty, how.repetition_penalty)
        scores = np.where(seen, scores * penalty, scores)
    for token in how.forbidden:
        scores[:, token] = -np.inf
    return scores


def probabilities(scores: np.ndarray, how: How) -> np.ndarray:
    """Scores (S, V) -> probabilities (S, V) of what temperature, top-k, top-p and min-p leave; T above 0."""
    with np.errstate(over="ignore"):  # a temperature near 0 leaves the largest alone
        p = softmax(scores, how.temperature)
    if how.top_k == 0 and how.top_p == 1 and how.min_p == 0:
        return p
    if 0 < how.top_k < p.shape[1]:
        least = np.partition(p, -how.top_k, axis=1)[:, -how.top_k, None]
        p = np.where(p >= least, p, 0.0)
    if how.top_p < 1:
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, 1)
        before = ranked.cumsum(1) - ranked
        kept = np.where(before < how.top_p * ranked.sum(1, keepdims=True), ranked, 0.0)
        np.put_along_axis(p, order, kept, 1)
    if how.min_p > 0:
        p = np.where(p >= how.min_p * p.max(1, keepdims=True), p, 0.0)
    return np.asarray(p / p.sum(1, keepdims=True))


def softmax(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    p: np.ndarray = scores - np.maximum.reduce(scores, 1, keepdims=True)
    p /= temperature
    np.exp(p, out=p)
    p /= np.add.reduce(p, 1, keepdims=True)
    return p


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """(what stands before the first of the stop strings, whether there was one)."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def settled(text: str, stops: Sequence[str]) -> int:
    """How many characters of `text` can be shown: the end may be the beginning of a stop string."""
    longest = max(map(len, stops), default=0)
    for start in range(max(0, len(text) - longest + 1), len(text)):
        if any(stop.startswith(text[start:]) for stop in stops):
            return start
    return len(text)
