"""Texts and their translations: what may be asked and what is answered, the same from torch and without it.

    translate(sides, decoder, ["a text"], beam_size=5)         decoder: how a network reads and takes a step

`Sides` are the preparers of source and target, and what training saw of the sources; the bundle keeps them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, Field

from echoic.batch import buckets
from echoic.core import bundle
from echoic.core.errors import BundleError, DataError, UsageError, show
from echoic.core.types import EMPTY, PAD, UNKNOWN
from echoic.decode import beam
from echoic.decode.sampling import How, State, generators
from echoic.prepare.text import TextPreparer

FILE, TARGET = "translate.json", "target."
ALIVE, FEW, SCORED = 320, 40, 1 << 16
"""Hypotheses in a step of the search at most, and as many as are not shared by threads; pairs of one and a source token at
most, of all threads. They change speed and memory, no answer."""


class Translation(BaseModel):
    """One answer."""

    text: str = Field(description="the source")
    translation: str
    score: float = Field(description="log probability over Wu et al.'s length penalty; closer to 0 is surer")
    translations: list[str] | None = Field(None, description="with n_best above 1: the best first")
    scores: list[float] | None = Field(None, description="their scores")
    unseen: str | None = Field(None, description="characters of the source that no training source held")


@dataclass(frozen=True)
class Sides:
    text: TextPreparer
    """Of the source, or of both sides."""
    own: TextPreparer | None
    """Of the target, where it has a vocabulary of its own."""
    alphabet: str
    """Every character of the training sources."""
    ratio: float
    """Tokens that are written at most for each of the source's, and five more."""
    lowercase: bool

    @property
    def written(self) -> TextPreparer:
        """The target's preparer."""
        return self.text if self.own is None else self.own

    def files(self) -> dict[str, bytes]:
        own = {} if self.own is None else {TARGET + name: data for name, data in self.own.files().items()}
        stated = {"alphabet": self.alphabet, "ratio": self.ratio, "joint": self.own is None}
        return {**self.text.files(), **own, FILE: bundle.canonical(stated)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], lowercase: bool) -> Self:
        """Raises BundleError, naming the file."""
        try:
            stated = json.loads(files[FILE])
            alphabet, ratio, joint = str(stated["alphabet"]), float(stated["ratio"]), bool(stated["joint"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BundleError(f"{FILE}: missing, or not what echoic wrote (wants alphabet, ratio, joint)") from None
        if not 0 < ratio < math.inf:
            raise BundleError(f"{FILE}: ratio: wants a number above 0")
        own = {name.removeprefix(TARGET): data for name, data in files.items() if name.startswith(TARGET)}
        text, target = TextPreparer.from_files(files), None if joint else TextPreparer.from_files(own)
        return cls(text, target, alphabet, ratio, lowercase)

    def read(self, inputs: Sequence[str], first: int = 1) -> list[np.ndarray]:
        """Their ids. Raises DataError for a text that is too long, by its number."""
        rows = self.text.encode(inputs)
        if rows.cut.texts:
            whole = TextPreparer(self.text.kind, self.text.tokenizer, 0).encode(inputs)
            i = next(i for i, (a, b) in enumerate(zip(rows, whole, strict=True)) if len(a) < len(b))
            raise DataError(
                f"text {first + i}: {len(whole[i]):,} tokens, and this model reads {self.text.max_tokens:,} (text.max_tokens); "
                f"give it sentence by sentence ({show(inputs[i], 40)!r})"
            )
        return list(rows)

    def record(self, text: str, found: Sequence[beam.Found], n_best: int) -> Translation:
        texts = [self.written.decode(each.ids) for each in found] or [""]
        scores = [each.score for each in found] or [0.0]
        several: dict[str, Any] = {"translations": texts, "scores": scores} if n_best > 1 else {}
        return Translation(
            text=text, translation=texts[0], score=scores[0], unseen=self.unseen(text) or None, **several
        )

    def unseen(self, text: str) -> str:
        """The characters of `text` that no training source held, each once."""
        lowered = self.lowercase
        known = {*self.alphabet, *self.alphabet.lower()} if lowered else {*self.alphabet}
        return "".join(dict.fromkeys(c for c in text if not c.isspace() and (c.lower() if lowered else c) not in known))


class Decoder(NamedTuple):
    """How a network writes."""

    begin: Callable[[Sequence[np.ndarray]], State]
    """Ids of B sources (T,) -> the state of one hypothesis each, before its first token."""
    step: beam.Step
    take: beam.Take
    attends: bool
    threads: int = 1
    """Batches that are searched at once: for a network whose calls take one thread each."""


def translate(
    sides: Sides,
    decoder: Decoder,
    inputs: Sequence[str],
    *,
    beam_size: int = 5,
    n_best: int = 1,
    length_penalty: float = 1.0,
    coverage_penalty: float = 0.0,
    no_repeat: int = 0,
    max_ratio: float | None = None,
    prefix: str = "",
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    cut: bool = False,
    first: int = 1,
) -> list[Translation]:
    """Records, one a text.

    beam_size: hypotheses kept (1: greedy); n_best: how many are given; length_penalty, coverage_penalty: alpha
    and beta of Wu et al. 2016; no_repeat: n-grams of so many tokens stand once; max_ratio: tokens written for
    each one read, at most (None: as training had it, with room); prefix: what every translation begins with.
    temperature above 0 draws one instead of searching (top_k, top_p, seed as for `generate`). cut: of a text of
    more than text.max_tokens the beginning is read, as in training. first: the number of the first text, by which one
    is refused.

    Raises UsageError for a number that makes no sense, DataError for a text that is too long, or where the network's
    answers are no numbers.
    """
    never = (PAD, UNKNOWN)
    if n_best < 1:
        raise UsageError(f"n_best {show(n_best)}: wants a number of at least 1")
    how = beam.Search(
        beam_size if beam_size < 1 else max(beam_size, n_best), length_penalty, coverage_penalty, no_repeat, never
    )
    drawn = How(temperature, top_k, top_p, forbidden=never) if temperature else None
    if max_ratio is not None and not 0 < max_ratio < math.inf:
        raise UsageError(f"max_ratio {show(max_ratio)}: wants a number above 0")
    if coverage_penalty and not decoder.attends:
        raise UsageError("coverage_penalty: this model has no attention (task.attention = none)")
    if temperature and (n_best > 1 or coverage_penalty):
        raise UsageError("n_best, coverage_penalty: of the search; with a temperature one answer is drawn")
    rows = list(sides.text.encode(inputs)) if cut else sides.read(inputs, first)
    start = [token for token in sides.written.encode([prefix])[0].tolist() if token != EMPTY]
    limits = [
        max(math.ceil((max_ratio or sides.ratio) * (len(row) + 5 * (max_ratio is None))), 1 + len(start))
        for row in rows
    ]
    draws = generators(seed, max(1, len(rows)))
    found: list[list[beam.Found]] = [[] for _ in rows]
    asked = [i for i, text in enumerate(inputs) if text.strip()]
    lengths = np.array([len(rows[i]) for i in asked], np.int64)

    def search(index: np.ndarray) -> None:
        chosen = [asked[i] for i in index]
        state, most = decoder.begin([rows[i] for i in chosen]), np.array([limits[i] for i in chosen])
        prefixes = [start] * len(chosen) if start else None
        if drawn is None:
            each = beam.search(decoder.step, decoder.take, state, most, how, prefixes)
        else:
            mine = [draws[i] for i in chosen]
            each = beam.draw(decoder.step, decoder.take, state, most, how, drawn, mine, prefixes)
        for i, sequences in zip(chosen, each, strict=True):
            found[i] = sequences[:n_best]

    share = max(FEW, math.ceil(len(asked) * how.beam / decoder.threads))
    batches = buckets.plan(
        lengths, max(1, min(ALIVE, share) // how.beam), max(1, SCORED // how.beam // decoder.threads)
    )[::-1]  # the longest first, so that no thread begins it last
    with ThreadPoolExecutor(decoder.threads) as threads:
        list((map if decoder.threads == 1 else threads.map)(search, batches))
    return [sides.record(text, sequences, n_best) for text, sequences in zip(inputs, found, strict=True)]
