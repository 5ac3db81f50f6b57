"""A text that comes in pieces: fed, asked, fed again, with a state that does not grow with the text.

    stream = predictor.stream()
    stream.feed("a long "); stream.feed("text ...")
    stream.answer()                    what `predict` says of everything fed so far

Kept: the recurrence's state, what pooling needs, the last tokens' n-grams, which known n-grams were seen (at most
the path's table), and the end of the text as far as its tokens may still change (`Tokenizer.settled`).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from echoic.core.errors import UsageError
from echoic.core.types import EMPTY
from echoic.decode.answers import Prediction
from echoic.kernels.plain import State
from echoic.prepare.text import check
from echoic.serve.network import Kept

if TYPE_CHECKING:
    from echoic.serve.predictor import Predictor


class Stream:
    """One text at a time; one caller at a time."""

    def __init__(self, predictor: Predictor) -> None:
        """Raises UsageError for a model that reads both ways: its answer waits for the end of the text."""
        if predictor.config.model.bidirectional:
            raise UsageError("a stream wants a model that reads one way: train with --set model.bidirectional=false")
        self.predictor = predictor
        self.tokens = 0
        """Read so far, without those that may still change."""
        self._rest = ""
        """The unsettled end of the text, behind one settled character (none at the beginning)."""
        self._behind = 0
        self._states: list[list[State]] | None = None
        self._kept: Kept = {}
        self._tail = np.zeros(0, np.int32)
        self._slots: frozenset[int] = frozenset()
        ngrams = predictor.network.ngrams
        self._ngrams = None if ngrams is None else ngrams.bias.astype(np.float64)

    def feed(self, text: str) -> None:
        """Raises DataError for what is no text."""
        check([text])
        rest = self._rest + text
        settled = self.predictor.text.tokenizer.settled(rest)
        if settled > self._behind:
            self._read(self._ids(rest[:settled]))
            rest, self._behind = rest[settled - 1 :], 1
        self._rest = rest

    def answer(self, min_confidence: float = 0.0) -> Prediction:
        """What the whole text so far is answered with; the record's `text` is empty, as nobody has kept it."""
        whole = copy.copy(self)
        whole._read(self._ids(self._rest))
        if not whole.tokens:
            whole._read(np.array([EMPTY], np.int32))
        network = self.predictor.network
        logits = network.head(whole._kept)
        if whole._ngrams is not None:
            logits = logits + network.scales[1] * whole._ngrams.astype(np.float32)
        return self.predictor.records([""], logits, min_confidence)[0]

    def _ids(self, text: str) -> np.ndarray:
        """The tokens of `text` behind its first character, if that was read before."""
        ids, spans = self.predictor.text.tokenizer.encode_with_offsets(text)
        return np.array([i for i, (start, _) in zip(ids, spans, strict=True) if start >= self._behind], np.int32)

    def _read(self, ids: np.ndarray) -> None:
        """Takes in tokens; every array is replaced, never changed, so that a copy of the stream is its own."""
        network, limit = self.predictor.network, self.predictor.text.max_tokens
        ids = ids[: max(0, limit - self.tokens)] if limit else ids
        if len(ids) and self._ngrams is not None:
            self._count(ids)
        while len(ids):
            place = self.tokens % network.segment
            now, ids = np.split(ids, [min(len(ids), network.segment - place)])
            states, self._states = network.states(now[None], before=self._states if place else None)
            kept = network.pool.rows(states, np.array([len(now)]))
            both = {name: np.concatenate([self._kept.get(name, each[:0]), each]) for name, each in kept.items()}
            self._kept = network.pool.merge(both, np.zeros(1, np.int64))
            self.tokens += len(now)

    def _count(self, ids: np.ndarray) -> None:
        """Adds the weights of known n-grams that end in `ids` and were not seen before."""
        ngrams = self.predictor.network.ngrams
        assert ngrams is not None
        whole = np.concatenate([self._tail, ids])
        new = np.array(sorted(set(ngrams.known([whole])[1].tolist()) - self._slots), np.int64)
        self._ngrams = self._ngrams + ngrams.weight[new].sum(0, dtype=np.float64)
        self._slots |= set(new.tolist())
        self._tail = whole[max(0, len(whole) - ngrams.order + 1) :]
