"""The classifier's network in NumPy and the kernels' NumPy door: token ids -> logits, without torch.

    text -> segments -> embedding -> recurrent layers -> pooling -> linear -> logits_r
         `-> n-grams ----------------------------------------------> logits_n
    logits = s_r logits_r + s_n logits_n

The equations are those of tasks/classify.py, layers/pool.py and layers/ngrams.py, and the tests hold this page to
them. R is the number of segments, F the size of a state; other letters as in core/types.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echoic.batch.buckets import plan
from echoic.core.hashing import MULTIPLIERS, PRIME
from echoic.core.types import pad
from echoic.kernels.door import Layer
from echoic.kernels.plain import Array, State

SEGMENTS, TOKENS = 256, 32_768
"""Segments, and tokens with padding, that are read in one call; changes speed and memory, no answer."""

Kept = dict[str, Array]
"""What pooling needs of each row: `end`, `sum`, `top`, or `energy` and `context`; and their `count` of tokens."""


@dataclass(frozen=True)
class Pool:
    """States of rows -> what is kept of each (`rows`) -> of each text (`merge`) -> one vector (`vector`)."""

    kind: str
    hidden: int
    key: tuple[Array, Array] | None = None
    """Additive attention: W (A, F) and b (A,)."""
    query: Array | None = None
    """(A,) of additive attention, (F,) of the scaled product."""

    def rows(self, states: Array, lengths: Array) -> Kept:
        """States (R, S, F), 0 on padding, which are used up; lengths (R,), each >= 1."""
        kept: Kept = {"count": lengths}
        padding = np.arange(states.shape[1]) >= lengths[:, None]
        if self.query is not None:
            scores = self._scores(states)
            scores[padding] = -np.inf
            top = scores.max(1, keepdims=True)
            weights = np.exp(scores - top)
            total = weights.sum(1, keepdims=True)
            context = (weights[:, None] @ states)[:, 0] / total
            return kept | {"energy": top + np.log(total), "context": context}
        if self.kind in ("last", "concat"):
            last = states[np.arange(len(states)), lengths - 1, : self.hidden]
            kept["end"] = np.concatenate([last, states[:, 0, self.hidden :]], 1)
        if self.kind in ("mean", "concat"):
            kept["sum"] = states.sum(1)
        if self.kind in ("max", "concat"):
            states[padding] = -np.inf
            kept["top"] = states.max(1)
        return kept

    def _scores(self, states: Array) -> Array:
        """(R, S, F) -> (R, S)"""
        if self.key is None:
            return np.asarray(states @ self.query / np.sqrt(np.float32(states.shape[2])))
        weight, bias = self.key
        return np.asarray(np.tanh(states @ weight.T + bias) @ self.query)

    def merge(self, kept: Kept, first: Array) -> Kept:
        """Neighbouring rows made one: `first` (B,) is where each text's rows begin, in document order."""
        if len(first) == len(kept["count"]):
            return kept
        out = {"count": np.add.reduceat(kept["count"], first)}
        if "end" in kept:
            last = np.append(first[1:], len(kept["count"])) - 1
            out["end"] = np.concatenate([kept["end"][last, : self.hidden], kept["end"][first, self.hidden :]], 1)
        if "sum" in kept:
            out["sum"] = np.add.reduceat(kept["sum"], first)
        if "top" in kept:
            out["top"] = np.maximum.reduceat(kept["top"], first)
        if "energy" in kept:
            top = np.maximum.reduceat(kept["energy"], first)
            weights = np.exp(kept["energy"] - np.repeat(top, np.diff(np.append(first, len(kept["energy"]))), 0))
            total = np.add.reduceat(weights, first)
            out["energy"] = top + np.log(total)
            out["context"] = np.add.reduceat(weights * kept["context"], first) / total
        return out

    def vector(self, kept: Kept) -> Array:
        """(B, output size)"""
        parts = [kept[name] for name in ("context", "end") if name in kept]
        if "sum" in kept:
            parts.append(kept["sum"] / kept["count"][:, None].astype(np.float32))
        if "top" in kept:
            parts.append(kept["top"])
        return np.concatenate(parts, 1)


@dataclass(frozen=True)
class Ngrams:
    """The n-gram path, as layers/ngrams.py has it."""

    order: int
    check: Array
    """(S,) int32"""
    weight: Array
    """(S, C) float32"""
    bias: Array
    """(C,) float32"""

    def known(self, rows: Sequence[Array]) -> tuple[Array, Array]:
        """(row, slot) of the distinct known n-grams of each row, int64 each, by row."""
        size, flat = len(self.check), np.concatenate(rows).astype(np.int64)
        lengths = np.array([len(row) for row in rows])
        owner, left = np.repeat(np.arange(len(rows)), lengths), np.repeat(np.cumsum(lengths), lengths)
        left -= np.arange(len(flat))
        found = []
        for n in range(1, self.order + 1):
            start = np.flatnonzero(left >= n)
            hashed = np.zeros(len(start), np.int64)
            for k in range(n):
                hashed = (hashed * MULTIPLIERS[n - 1] + flat[start + k] + 1) % PRIME
            slot = hashed % size
            mine = self.check[slot] == hashed // size
            found.append(owner[start[mine]] * size + slot[mine])
        each = np.sort(np.concatenate(found))
        # as np.unique, which would load numpy.ma for it: a fiftieth of the time in which `echoic predict` answers
        return np.divmod(each[np.flatnonzero(np.diff(each, prepend=-1))], size)

    def logits(self, rows: Sequence[Array]) -> Array:
        """(N, C)"""
        owner, slot = self.known(rows)
        first, past = np.searchsorted(owner, np.arange(len(rows) + 1)), len(owner)
        weights = np.concatenate([self.weight[slot], np.zeros_like(self.weight[:1])])
        summed = np.add.reduceat(weights, np.minimum(first[:-1], past))
        summed[first[:-1] == first[1:]] = 0.0
        return summed + self.bias


@dataclass(frozen=True)
class Network:
    """Everything between token ids and logits. Many threads may ask it at once."""

    embedding: Array
    """(V, D) float32"""
    layers: Sequence[Layer]
    pool: Pool
    out: tuple[Array, Array]
    """W (C, P) and b (C,)"""
    scales: Array
    """(1,), or (2,) with n-grams"""
    segment: int
    ngrams: Ngrams | None = None

    def logits(self, rows: Sequence[Array]) -> Array:
        """Ids of each text, (T,) with T >= 1 -> (N, C) float32. A segment that stands in several of them is read
        once, which is what makes the variants of one text cheap."""
        places: dict[bytes, int] = {}
        segments: list[Array] = []
        place: list[int] = []
        first: list[int] = []
        for row in rows:
            first.append(len(place))
            for start in range(0, len(row), self.segment):
                segment = np.ascontiguousarray(row[start : start + self.segment], np.int32)
                key = segment.tobytes()
                if key not in places:
                    places[key] = len(segments)
                    segments.append(segment)
                place.append(places[key])
        if not segments:
            return np.zeros((0, len(self.out[1])), np.float32)
        kept = {name: each[np.array(place)] for name, each in self._read(segments).items()}
        logits = self.head(self.pool.merge(kept, np.array(first)))
        if self.ngrams is None:
            return logits
        for part in plan(np.array([len(row) for row in rows]), len(rows), 1 << 18):
            logits[part] += self.scales[1] * self.ngrams.logits([rows[i] for i in part])
        return logits

    def head(self, kept: Kept) -> Array:
        """What is kept of each text -> s_r logits_r (B, C)."""
        weight, bias = self.out
        return np.asarray(self.scales[0] * (self.pool.vector(kept) @ weight.T + bias))

    def _read(self, segments: Sequence[Array]) -> Kept:
        """What is kept of each segment."""
        out: Kept = {}
        for part in plan(np.array([len(s) for s in segments]), SEGMENTS, TOKENS):
            ids, lengths = pad([segments[i] for i in part])
            kept = self.pool.rows(self.states(ids, lengths)[0], lengths)
            for name, each in kept.items():
                out.setdefault(name, np.empty((len(segments), *each.shape[1:]), each.dtype))[part] = each
        return out

    def states(
        self, ids: Array, lengths: Array | None = None, before: Sequence[list[State]] | None = None
    ) -> tuple[Array, list[list[State]]]:
        """(R, S) ids -> (the last layer's states (R, S, F), 0 on padding; the last state of each layer).
        `before`: the states to start from, as they were returned."""
        return run(self.layers, self.embedding[ids], lengths, before)


@dataclass(frozen=True)
class LanguageNetwork:
    """From ids and states to the logits of the next token (tasks/generate.py). Many threads may ask it at once."""

    embedding: Array
    """(V, D) float32"""
    layers: Sequence[Layer]
    project: Array | None
    """(D, H) where the output's weights are the embedding's and the sizes differ."""
    out: tuple[Array, Array]
    """(V, K) and (V,)"""
    cuts: Sequence[int] = ()
    """Where the adaptive softmax cuts the vocabulary."""
    clusters: tuple[Array, Array] | None = None
    """(len(cuts), K) and (len(cuts),)"""

    def step(self, ids: Array, before: Sequence[list[State]] | None) -> tuple[Array, list[list[State]]]:
        """(S, T) ids and the states before them -> ((S, V) logits after the last of them, the states)."""
        if ids.shape[1] == 1 and before is not None:
            h, after = self._one(ids[:, 0], before)
        else:
            y, after = run(self.layers, self.embedding[ids], None, before)
            h = y[:, -1]
        return self.logits(h if self.project is None else h @ self.project.T), after

    def _one(self, ids: Array, before: Sequence[list[State]]) -> tuple[Array, list[list[State]]]:
        """(S,) ids -> ((S, H), the states): the short way, as it is taken for every token written."""
        x, after = ids if self.layers[0].knows else self.embedding[ids], []
        for layer, (state,) in zip(self.layers, before, strict=True):
            x, state = layer.step(x, state)
            after.append([state])
        return x, after

    def logits(self, h: Array) -> Array:
        """(S, K) -> (S, V); with cuts they are log probabilities."""
        logits = h @ self.out[0].T + self.out[1]
        if self.clusters is None:
            return np.asarray(logits)
        weight, bias = self.clusters
        shown, *tails = np.split(logits, self.cuts, axis=1)
        first = log_softmax(np.concatenate([shown, h @ weight.T + bias], 1))
        rest = [log_softmax(tail) + first[:, [self.cuts[0] + i]] for i, tail in enumerate(tails)]
        return np.concatenate([first[:, : self.cuts[0]], *rest], 1)


def log_softmax(x: Array) -> Array:
    moved = x - x.max(1, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(1, keepdims=True)))


def run(
    layers: Sequence[Layer], x: Array, lengths: Array | None, before: Sequence[list[State]] | None
) -> tuple[Array, list[list[State]]]:
    """x (R, S, D) -> (the last layer's states (R, S, F), the last state of each layer)."""
    after = []
    for place, layer in enumerate(layers):
        x, last = layer.run(x, lengths, None if before is None else before[place])
        after.append(last)
    return x, after
