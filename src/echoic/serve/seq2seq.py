"""A translator's network in NumPy and the kernels' NumPy door: sources -> keys, and one step of what is written.

The equations are those of layers/seq2seq.py, whose letters these are, and the tests hold this page to them. A context is a
mean of keys, and what is linear in it a mean of what each key gives:

    W [h; sum_j a_j k_j] = W_h h + sum_j a_j (W_k k_j)

so W_k k_j, for the gates above the attention and for what is told, is worked out once a source, not once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from echoic.core.types import pad
from echoic.decode.beam import Logits
from echoic.kernels.door import Layer
from echoic.kernels.linear import Linear, Pending
from echoic.kernels.plain import Array, State
from echoic.serve.network import run

States = Sequence[list[State]]
"""Of each layer its directions' states."""


@dataclass(frozen=True)
class Attention:
    """Scores of keys, as layers/attention.py has them."""

    key: Linear | None
    """K -> A; None: keys stand for themselves."""
    query: Linear | None = None
    """H -> A, of additive attention"""
    energy: Array | None = None
    """(A,) of additive attention"""

    def project(self, keys: Array) -> Array:
        """(B, S, K) -> (B, S, A)"""
        return keys if self.key is None else self.key(keys)

    def score(self, projected: Array, queries: Array) -> Array:
        """(B, S, A), (B, U, H) -> (B, U, S)"""
        if self.query is None or self.energy is None:
            return np.asarray(queries @ projected.swapaxes(1, 2) / np.sqrt(np.float32(projected.shape[2])))
        inner = projected[:, None] + self.query(queries)[:, :, None]
        return np.asarray(np.tanh(inner, out=inner) @ self.energy)


class Memory(NamedTuple):
    """What B sources left to look at."""

    sources: Array
    """(B, S) ids"""
    keys: Array
    """(B, S, K); without attention (B, 1, K), both directions' last states."""
    gates: Array
    """(B, S, G*H): what each key adds to the gates above."""
    told: Array
    """(B, S, E): and to what is told."""
    projected: Array
    """(B, S, A)"""
    padding: Array
    """(B, S) float32: 0, and -inf where no token is."""


class Written(NamedTuple):
    """Where N hypotheses stand."""

    memory: Memory
    owner: Array
    """(N,) the source of each, rising; every source has one at least."""
    below: States
    above: States
    context: Array
    """(N, K) of the last step."""


@dataclass(frozen=True)
class TranslatorNetwork:
    """From sources to the logits of each next token. Many threads may ask it at once."""

    embedding: Array
    """(V, E) of the source"""
    target: Array
    """(V', E)"""
    encoder: Sequence[Layer]
    below: Sequence[Layer]
    above: Sequence[Layer]
    """Of the first the weights that meet h alone."""
    gates: Linear
    """K -> G*H, the others"""
    attention: Attention | None
    start: Linear
    """K -> the decoder's first state"""
    join: Linear
    """H -> E"""
    told: Linear
    """K -> E"""
    out: Linear
    """E -> V'"""
    copy: Linear | None = None
    """H + K -> 1"""
    input_feeding: bool = False

    @property
    def attends(self) -> bool:
        return self.attention is not None

    def begin(self, sources: Sequence[Array]) -> Written:
        """Ids of B sources (T,), each at least one -> one hypothesis each, before its first token."""
        ids, lengths = pad(sources)
        keys, last = run(self.encoder, self.embedding[ids], lengths, None)
        whole = np.concatenate([state[0] for state in last[-1]], 1)
        if self.attention is None:
            keys, lengths = whole[:, None], np.ones_like(lengths)
        padding = np.where(np.arange(keys.shape[1]) < lengths[:, None], np.float32(0), np.float32(-np.inf))
        projected = keys if self.attention is None else self.attention.project(keys)
        vectors = iter(np.split(np.tanh(self.start(whole)), self._vectors, 1))
        below, above = (
            [[tuple(np.ascontiguousarray(next(vectors)) for _ in range(layer.fields))] for layer in layers]
            for layers in (self.below, self.above)
        )
        memory = Memory(ids, keys, self.gates(keys), self.told(keys), projected, padding)
        return Written(memory, np.arange(len(ids)), below, above, np.zeros_like(whole))

    @property
    def _vectors(self) -> int:
        return sum(layer.fields for layer in (*self.below, *self.above))

    def step(self, ids: Array, state: Written) -> tuple[Logits, Array | None, Written]:
        """(N,) ids -> (logits (N, V') of what comes next, with copying log probabilities; the attention (N, S), if there
        is any; the state after them)."""
        x = self.target[ids]
        if self.input_feeding:
            x = np.concatenate([x, state.context], 1)
        h, below = _steps(self.below, x, state.below)
        weights, mean = self._attend(state, h)
        s, above = _steps(self.above, h, state.above, mean(state.memory.gates))
        logits: Logits = Pending(self.out, np.tanh(self.join(s) + mean(state.memory.told)))
        context = mean(state.memory.keys) if self.input_feeding or self.copy is not None else state.context
        if self.copy is not None and weights is not None:
            told = np.concatenate([s, context], 1)
            logits = self._mixed(np.asarray(logits), told, weights, state.memory.sources[state.owner])
        return logits, weights, state._replace(below=below, above=above, context=context)

    def _attend(self, state: Written, queries: Array) -> tuple[Array | None, Callable[[Array], Array]]:
        """queries (N, H) -> (weights (N, S), what takes their mean of values (B, S, any) to (N, any)): hypotheses of one
        source ask it together, so that no key is copied."""
        memory, owner = state.memory, state.owner
        if self.attention is None:
            return None, lambda values: values[owner, 0]
        counts = np.bincount(owner)
        rank = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
        together = np.zeros((len(counts), counts.max(), queries.shape[1]), queries.dtype)
        together[owner, rank] = queries
        weights = softmax(self.attention.score(memory.projected, together) + memory.padding[:, None])
        return weights[owner, rank], lambda values: (weights @ values)[owner, rank]

    def _mixed(self, logits: Array, told: Array, weights: Array, sources: Array) -> Array:
        """log (g softmax(logits) + (1 - g) what is copied), (N, V')"""
        assert self.copy is not None
        gate = 1 / (1 + np.exp(-self.copy(told)))
        mixed = softmax(logits) * gate
        np.add.at(mixed, (np.arange(len(mixed))[:, None], sources), weights * (1 - gate))
        return np.log(np.maximum(mixed, np.finfo(mixed.dtype).tiny))


def take(state: Written, places: Array) -> Written:
    """Where the hypotheses at `places` stand; sources without one are forgotten."""
    if np.array_equal(places, np.arange(len(state.owner))):
        return state
    below, above = (
        [[tuple(each[places] for each in direction) for direction in layer] for layer in layers]
        for layers in (state.below, state.above)
    )
    owner = state.owner[places]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    memory = state.memory
    if len(first) < len(memory.keys):
        memory = Memory(*(each[owner[first]] for each in memory))
        owner = np.repeat(np.arange(len(first)), np.diff(first, append=len(owner)))
    return Written(memory, owner, below, above, state.context[places])


def _steps(
    layers: Sequence[Layer], x: Array, before: States, more: Array | None = None
) -> tuple[Array, list[list[State]]]:
    """x (N, D), more (N, G*H) for the first layer's gates -> (the last layer's h (N, H), the state of each)."""
    after = []
    for layer, (state,) in zip(layers, before, strict=True):
        x, state = layer.step(x, state, more)
        after.append([state])
        more = None
    return x, after


def softmax(x: Array) -> Array:
    """Over the last dimension, in float32; each row has a number above -inf."""
    out = np.exp(x - x.max(-1, keepdims=True))
    out /= out.sum(-1, keepdims=True)
    return np.asarray(out)
