"""Problems that tell recurrences apart: made here, none needs a file. `echoic probe` gives them to cells.

| problem | what is asked | where from |
| --- | --- | --- |
| adding | the sum of the two marked numbers of T | Hochreiter and Schmidhuber 1997, experiment 4; as Le, Jaitly and Hinton 2015 |
| copy | ten symbols, again after a long silence | Hochreiter and Schmidhuber 1997; as Arjovsky, Shah and Bengio 2016 |
| parity | whether the ones so far are odd, after every bit; asked at six times the length trained on | Deletang et al. 2023 |
| recall | the value that stood beside a key | Ba et al. 2016, "Using fast weights", section 4.1 |
| digits | which digit, an 8 x 8 picture read pixel by pixel | scikit-learn's digits, as Le, Jaitly and Hinton 2015 read MNIST |

What is known: at T = 200 LSTM and GRU add where an RNN does not (Le et al. of the LSTM; at T = 600 Bai, Kolter and
Koltun 2018, arXiv:1803.01271, table 1, have LSTM 0.164, GRU 5.3e-5, RNN 0.177); a silence of 200 is too long for RNN and LSTM
(Arjovsky et al., figure 1); RNN and LSTM learn parity of any length (Deletang et al., table 2). Of the rest nothing is
claimed, and it is measured all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

Draws = np.random.Generator
DELAY, SYMBOLS, COPIED = 200, 8, 10
KEYS, PAIRS = 12, 6


@dataclass(frozen=True)
class Samples:
    x: np.ndarray
    """(B, T, D) float32"""
    y: np.ndarray
    """(B, T) class ids, or numbers where there are no classes"""
    asked: np.ndarray
    """(B, T) True where an answer is wanted and scored"""


@dataclass(frozen=True)
class Problem:
    features: int
    classes: int
    """0: a number is wanted, scored by the mean squared error; else ids, scored by accuracy."""
    train: Callable[[int, Draws], Samples]
    """(rows, draws) -> Samples to learn from"""
    watch: Callable[[int, Draws], Samples]
    """Samples by which training may stop."""
    test: Callable[[int, Draws], Samples]
    """Samples that are scored, once."""
    solved: float
    """The score from which (mean squared error: below which) it counts as solved."""
    chance: float
    """What is had without reading."""
    updates: int
    batch: int = 64
    lr: float = 2e-3
    known: Mapping[str, bool] = field(default_factory=dict)
    """{kind of cell: whether it is known to solve it}"""

    @property
    def measure(self) -> str:
        return "accuracy" if self.classes else "mse"

    def solves(self, score: float) -> bool:
        return score >= self.solved if self.classes else score < self.solved


def _one_hot(ids: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(np.eye(size, dtype=np.float32)[ids])


def _last(shape: tuple[int, int]) -> np.ndarray:
    asked = np.zeros(shape, bool)
    asked[:, -1] = True
    return asked


def adding(steps: int) -> Callable[[int, Draws], Samples]:
    """One number of each half is marked."""

    def make(rows: int, draws: Draws) -> Samples:
        values = draws.random((rows, steps), np.float32)
        marks = np.zeros((rows, steps), np.float32)
        half, row = steps // 2, np.arange(rows)
        marks[row, draws.integers(0, half, rows)] = 1
        marks[row, draws.integers(half, steps, rows)] = 1
        total = (values * marks).sum(1, keepdims=True).repeat(steps, 1)
        return Samples(np.stack([values, marks], 2), total, _last((rows, steps)))

    return make


def copy(delay: int) -> Callable[[int, Draws], Samples]:
    """Symbols 0..7, blank 8, go 9: ten symbols, blanks, go, and nine blanks while the symbols are said."""

    def make(rows: int, draws: Draws) -> Samples:
        symbols = draws.integers(0, SYMBOLS, (rows, COPIED))
        steps = 2 * COPIED + delay
        ids = np.full((rows, steps), SYMBOLS)
        ids[:, :COPIED] = symbols
        ids[:, COPIED + delay] = SYMBOLS + 1
        y = np.zeros((rows, steps), np.int64)
        y[:, -COPIED:] = symbols
        asked = np.zeros((rows, steps), bool)
        asked[:, -COPIED:] = True
        return Samples(_one_hot(ids, SYMBOLS + 2), y, asked)

    return make


def parity(shortest: int, longest: int, every: bool) -> Callable[[int, Draws], Samples]:
    """Rows of one length, drawn; `every`: asked after each bit, else after the last alone."""

    def make(rows: int, draws: Draws) -> Samples:
        bits = draws.integers(0, 2, (rows, int(draws.integers(shortest, longest + 1))))
        asked = np.ones(bits.shape, bool) if every else _last(bits.shape)
        return Samples(_one_hot(bits, 2), bits.cumsum(1) % 2, asked)

    return make


def recall(keys: int, pairs: int) -> Callable[[int, Draws], Samples]:
    """key value key value ... key: its value. Keys differ, values need not."""

    def make(rows: int, draws: Draws) -> Samples:
        key = np.argsort(draws.random((rows, keys)), 1)[:, :pairs]
        value = draws.integers(0, keys, (rows, pairs))
        which, row = draws.integers(0, pairs, rows), np.arange(rows)
        ids = np.stack([key, keys + value], 2).reshape(rows, 2 * pairs)
        ids = np.concatenate([ids, key[row, which][:, None]], 1)
        y = value[row, which][:, None].repeat(ids.shape[1], 1)
        return Samples(_one_hot(ids, 2 * keys), y, _last(ids.shape))

    return make


@cache
def _pictures() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int64)


def digits(fifths: range) -> Callable[[int, Draws], Samples]:
    """Some fifths of scikit-learn's 1,797 pictures: a batch is drawn from several, one is taken whole."""

    def make(rows: int, draws: Draws) -> Samples:
        x, y = _pictures()
        parts = np.array_split(np.random.default_rng(0).permutation(len(x)), 5)
        part = np.concatenate([parts[i] for i in fifths])
        chosen = draws.choice(part, rows) if len(fifths) > 1 else part
        steps = x.shape[1]
        return Samples(x[chosen][:, :, None], y[chosen][:, None].repeat(steps, 1), _last((len(chosen), steps)))

    return make


PROBLEMS: Mapping[str, Problem] = {
    "adding": Problem(
        2, 0, adding(200), adding(200), adding(200), 0.01, 1 / 6, 5000, known={"rnn": False, "lstm": True, "gru": True}
    ),
    "copy": Problem(
        SYMBOLS + 2, SYMBOLS, copy(DELAY), copy(DELAY), copy(DELAY), 0.99, 1 / SYMBOLS, 1000,
        known={"rnn": False, "lstm": False},
    ),
    "parity": Problem(
        2, 2, parity(3, 40, True), parity(240, 240, False), parity(240, 240, False), 0.99, 0.5, 8000,
        known={"rnn": True, "lstm": True},
    ),
    "recall": Problem(2 * KEYS, KEYS, recall(KEYS, PAIRS), recall(KEYS, PAIRS), recall(KEYS, PAIRS), 0.99, 1 / KEYS, 6000),
    "digits": Problem(1, 10, digits(range(3)), digits(range(3, 4)), digits(range(4, 5)), 0.9, 0.1, 2000),
}  # fmt: skip
