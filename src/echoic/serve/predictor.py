"""The predictor: a classifier's bundle -> answers, where torch need not be installed.

    predictor = open_predictor(path)              manifest and hashes checked, as for echoic.load
    predictor.predict(["a text", ...])            the records of Model.predict, within 1e-5
    predictor.explain("a text", "occlusion")      what each token is worth; "trace": how the belief moves
    stream = predictor.stream()                   a text in pieces (serve/stream.py)

The recurrence runs through the kernels' NumPy door. A model that it cannot run is refused with NeedsTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from echoic.core.bundle import Bundle
from echoic.core.config import Config
from echoic.core.errors import UsageError, nearest, show
from echoic.core.types import EMPTY, UNKNOWN
from echoic.decode.answers import Prediction, probabilities, read_thresholds, records
from echoic.explain.record import Explanation, Token, labels_that_led, shared, turns, unread
from echoic.kernels.door import Products
from echoic.prepare.labels import Labels
from echoic.prepare.text import TextPreparer
from echoic.serve.network import Network
from echoic.serve.opening import WEIGHTS, NeedsTorch, network_of, opened_at

if TYPE_CHECKING:
    from echoic.serve.stream import Stream

METHODS = ("occlusion", "trace")
"""What can be explained with forward passes alone."""
MOST = 1024
"""Of a text with more tokens than this, neighbours are hidden, and prefixes read, together."""
SLICE = 1 << 18
"""Tokens of a text's variants that are in memory together; changes no answer."""


@dataclass(frozen=True)
class Predictor:
    """A model ready to answer. Never changes; many threads may ask it at once."""

    config: Config
    text: TextPreparer
    labels: Labels
    thresholds: np.ndarray | None
    network: Network
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.labels.names)

    @property
    def several(self) -> bool:
        return self.labels.kind == "several"

    @property
    def kernel(self) -> tuple[str, str]:
        """(what computes the recurrence, why)"""
        return self.network.layers[0].kernel, self.network.layers[0].why

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C) float32. Raises DataError for what is no text."""
        return self.network.logits(self.text.encode(texts))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(N, C)"""
        return probabilities(logits, self.several)

    def records(self, texts: Sequence[str], logits: np.ndarray, min_confidence: float = 0.0) -> list[Prediction]:
        found = self.probabilities(logits)
        return records(texts, found, self.names, self.several, self.thresholds, min_confidence)

    def predict(self, texts: Sequence[str], min_confidence: float = 0.0) -> list[Prediction]:
        """A record of each text, in their order. Below `min_confidence` the label is None."""
        require_list(texts)
        return self.records(texts, self.logits(texts), min_confidence)

    def predict_stream(
        self, texts: Iterable[str], chunk: int = 1024, min_confidence: float = 0.0
    ) -> Iterator[Prediction]:
        """The same for any number of texts, `chunk` of them in memory at a time."""
        require_list(texts)
        texts = iter(texts)
        while waiting := list(islice(texts, chunk)):
            yield from self.predict(waiting, min_confidence)

    def stream(self) -> Stream:
        """A text that comes in pieces. Raises UsageError for a model that reads both ways."""
        from echoic.serve.stream import Stream

        return Stream(self)

    def explain(self, text: str, method: str = "occlusion", label: str | None = None, most: int = MOST) -> Explanation:
        """Why it answers as it does, by forward passes; the same as `Model.explain`, whose page says what it means.
        Of more than `most` tokens, neighbours are tried together.

        Raises UsageError for another method or a label that the model has not."""
        if method not in METHODS:
            raise UsageError(f"method {show(method)}: without torch there is {' and '.join(METHODS)}")
        if label is not None and label not in self.names:
            raise UsageError(f"label {show(label)}: the model has none of that name{nearest(label, self.names)}")
        ids, spans = self.text.encode_with_offsets(text)
        window = -(-len(ids) // most)
        whole = self.network.logits([ids]).astype(np.float64)
        found = self.probabilities(whole)[0]
        column = int(found.argmax()) if label is None else self.names.index(label)
        scores, more = (self._hidden if method == "occlusion" else self._moved)(ids, whole, column, window)
        tokens = [
            Token(text=text[start:end], start=start, end=end, score=float(score))
            for (start, end), score in zip(spans, scores, strict=True)
        ]
        return Explanation(
            text=text,
            method=method,
            label=self.names[column],
            probability=float(found[column]),
            tokens=tokens,
            window=window,
            notes=shared(window) + unread(self.text.max_tokens, len(ids)),
            **more,
        )

    def _hidden(
        self, ids: np.ndarray, whole: np.ndarray, column: int, window: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Occlusion: (by how much the logit falls when a token is read as <unk> (T,), nothing more)."""
        group, size = _groups(len(ids), window)
        without = self._variants(len(size), len(ids), lambda i: np.where(group == i, UNKNOWN, ids))[:, column]
        return ((whole[0, column] - without) / size)[group], {}

    def _moved(self, ids: np.ndarray, whole: np.ndarray, column: int, window: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Trace: (by how much each token moved the probability (T,), beliefs and turns). The first token moved it
        from the answer to an empty text."""
        group, size = _groups(len(ids), window)
        logits = self._variants(len(size), len(ids), lambda i: ids[: (i + 1) * window])
        after = self.probabilities(logits)
        start = self.probabilities(self.network.logits([np.array([EMPTY])]).astype(np.float64))
        moved = np.diff(after[:, column], prepend=start[:, column]) / size
        beliefs = after[group]
        more = {"beliefs": labels_that_led(beliefs, self.names, column), "turns": turns(beliefs, self.names)}
        return moved[group], more

    def _variants(self, count: int, tokens: int, make: Callable[[int], np.ndarray]) -> np.ndarray:
        """(count, C) float64 logits of `make(0)`, `make(1)`, ..., a slice of them in memory at a time."""
        size = max(1, SLICE // tokens)
        starts = range(0, count, size)
        parts = [self.network.logits([make(i) for i in range(s, min(s + size, count))]) for s in starts]
        return np.concatenate(parts).astype(np.float64)


def _groups(tokens: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """(the group of each token, the size of each group)"""
    group = np.arange(tokens) // window
    return group, np.bincount(group)


def open_predictor(path: str | Path, *, threads: int = 1, products: Products = "") -> Predictor:
    """A run folder or a bundle -> Predictor, with `threads` threads for each call. products (`kernels/door.py`): with
    "int8" the recurrence multiplies eight bits, so one text is answered sooner, with "bfloat16" many are, where the
    processor can; and each a little otherwise: measure how.

    Raises BundleError, naming the file, if a bit is wrong or the files are not of one model; NeedsTorch for a
    model that runs in torch alone; Unavailable for bfloat16 where there is none.
    """
    with opened_at(path) as (opened, config):
        return predictor_of(opened, config, threads=threads, products=products)


def predictor_of(opened: Bundle, config: Config, *, threads: int = 1, products: Products = "") -> Predictor:
    """The same of a bundle that was read."""
    if config.task.kind != "classify":
        raise NeedsTorch(f"predicting by a model that does {config.task.kind}")
    text, labels = TextPreparer.from_files(opened.files), Labels.from_files(opened.files)
    thresholds = read_thresholds(opened.files, len(labels.names))
    sizes = len(text.vocabulary), len(labels.names)
    network = network_of(config, opened.files[WEIGHTS], *sizes, threads=threads, products=products)
    return Predictor(config, text, labels, thresholds, network, opened.about)


def require_list(texts: Any) -> None:
    """A bare text is a sequence too, of its characters, and each would be answered."""
    if isinstance(texts, str | bytes):
        raise UsageError(f"predict wants a list of texts, got one text: put it in a list ({show(texts, 40)!r})")
