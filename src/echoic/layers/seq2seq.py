"""An encoder, a decoder and attention between them: sequences to sequences.

    keys     k_1 ... k_S   the encoder's states over the source
    below    h_t           a recurrence over the target so far, begins as tanh(V last key)
    context  c_t           sum_j a_tj k_j, a_t the attention of h_t over the keys; without attention the last key
    above    s_t           a recurrence over [h_t; c_t], begins as `below` does
    told     tanh(W [s_t; c_t]) -> logits of what comes next
    copied   p(w) = g softmax(logits)_w + (1 - g) sum_{j: x_j = w} a_tj, g = sigmoid(v . [s_t; c_t] + b): with `copying`
             a token of the source may be written as it stands (See et al. 2017, eq. 8 and 9; their g reads the
             decoder's input as well)

The arrangement is that of Wu et al. 2016 (GNMT, section 3) without the feedback of the context into the
bottom layer: what the layer below reads is known before anything is computed, so it runs as one call
over all steps, its outputs query the attention all at once, and the layer above is one call again.
So the recurrences stay whole and the kernels run them. With `input_feeding` (Luong et al. 2015, section
3.3) the layer below reads the context of the step before too; then every step waits for the last one,
and training goes step by step through `advance`, as writing does.

A row is a pair: the source's ids, `<empty>`, the target's ids, `<empty>`. The first `<empty>` begins the
target, the second is its end.

B sources    N hypotheses    S, U steps of source and target    K a key's size    E an embedding's
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from echoic.core.config import ModelConfig
from echoic.core.types import EMPTY, PAD
from echoic.layers.attention import SCORES
from echoic.layers.cross_entropy import cross_entropy
from echoic.layers.dropout import Noise, dropout
from echoic.layers.embed import Embed
from echoic.layers.stack import Stack
from echoic.layers.unroll import valid_steps

LOGITS, ENERGIES = 1 << 22, 1 << 26
"""Numbers of logits, and of additive attention's inner layer, that are held at a time; changes memory, no answer."""


class Memory(NamedTuple):
    """What the decoder may look at."""

    sources: Tensor
    """(B, S) ids"""
    keys: Tensor
    """(B, S, K)"""
    projected: Tensor
    """(B, S, A), the attention's own form of the keys."""
    valid: Tensor
    """(B, S)"""
    last: Tensor
    """(B, K) both directions' last states."""


class Written(NamedTuple):
    """Where N hypotheses stand, of B sources."""

    memory: Memory
    owner: Tensor
    """(N,) the source of each, rising; every source has one at least."""
    below: list[Any]
    above: list[Any]
    context: Tensor
    """(N, K) of the last step."""


class Stacks(nn.Module):
    """The recurrences: of the source, and of the target below and above the attention."""

    def __init__(self, model: ModelConfig, input_feeding: bool) -> None:
        super().__init__()
        self.encoder = Stack.of(model, model.embedding, bidirectional=model.bidirectional, locked=True)
        keys = self.encoder.output_size
        fed = keys if input_feeding else 0
        one = model.model_copy(update={"layers": 1})
        self.below = Stack.of(one, model.embedding + fed, bidirectional=False, locked=True)
        self.above = Stack.of(model, model.hidden + keys, bidirectional=False, locked=True)

    def kernels(self, **asked: Any) -> list[str]:
        """As `Stack.kernels`."""
        parts: dict[str, Any] = dict(self.named_children())
        return [f"{name}, {line}" for name, stack in parts.items() for line in stack.kernels(**asked)]


class Seq2Seq(nn.Module):
    """inputs (B, T) pairs, lengths (B,) -> (B, 3): nats of the target's tokens and its end, their number, and how
    many of them were the likeliest. A row without a target has none."""

    def __init__(
        self,
        model: ModelConfig,
        sources: int,
        targets: int | None = None,
        *,
        attention: str = "dot",
        tied: bool = True,
        input_feeding: bool = False,
        copying: bool = False,
    ) -> None:
        """sources, targets: sizes of the vocabularies; None: both sides share one. attention: additive, dot or none.
        tied: the output's weights are the target's embedding (Press and Wolf 2017). copying wants attention and
        one vocabulary."""
        super().__init__()
        self.model, self.kind, self.input_feeding = model, attention, input_feeding
        size, words, joint = model.embedding, model.dropout_words, targets is None
        self.embed = Embed(sources, size, word_dropout=words, by_rows=not (joint and tied))
        self.written = None if joint else Embed(targets or 0, size, word_dropout=words, by_rows=not tied)
        self.stack = Stacks(model, input_feeding)
        keys, hidden = self.stack.encoder.output_size, model.hidden
        self.attention = None if attention == "none" else SCORES[attention](keys, hidden)
        self.start = nn.Linear(keys, hidden * sum(len(_vectors(c)) for s in self._decoder for c in s.cells))
        self.join = nn.Linear(hidden + keys, size)
        self.out = nn.Linear(size, len(self.target.weight), bias=False) if not tied else None
        self.bias = nn.Parameter(torch.zeros(len(self.target.weight)))
        self.copy = nn.Linear(hidden + keys, 1) if copying else None

    @property
    def target(self) -> Embed:
        return self.embed if self.written is None else self.written

    @property
    def _decoder(self) -> tuple[Stack, Stack]:
        return self.stack.below, self.stack.above

    # The source

    def read(self, sources: Tensor, lengths: Tensor, noise: Noise | None = None) -> Memory:
        """(B, S) ids, (B,) each at least 1."""
        x = dropout(self.embed(sources, noise), self.model.dropout_embedding, noise, locked=True)
        keys, _ = self.stack.encoder(x, lengths, None, noise, want_state=False)
        half = self.model.hidden
        last = keys[torch.arange(len(keys), device=keys.device), lengths - 1, :half]
        if self.stack.encoder.directions == 2:
            last = torch.cat([last, keys[:, 0, half:]], 1)
        projected = keys if self.attention is None else self.attention.project(keys)
        return Memory(sources, keys, projected, valid_steps(lengths, keys.shape[1]), last)

    def begin(self, memory: Memory) -> Written:
        """One hypothesis a source, before its first token."""
        start = torch.tanh(self.start(memory.last)).to(memory.last.dtype)  # autocast has bfloat16, states are not
        vectors = iter(torch.split(start, self.model.hidden, 1))
        below, above = ([_first(cell, len(memory.last), vectors) for cell in s.cells] for s in self._decoder)
        owner = torch.arange(len(memory.last), device=memory.last.device)
        return Written(memory, owner, below, above, torch.zeros_like(memory.last))

    def attend(self, memory: Memory, queries: Tensor) -> tuple[Tensor, Tensor | None]:
        """queries (B, U, H) -> contexts (B, U, K), weights (B, U, S): 0 on padding, rows sum to 1."""
        if self.attention is None:
            return memory.last[:, None].expand(-1, queries.shape[1], -1), None
        scores = torch.cat([self.attention.score(*part) for part in self._slices(memory.projected, queries)])
        weights = scores.masked_fill(~memory.valid[:, None], -math.inf).softmax(2)
        return torch.bmm(weights, memory.keys), weights

    def _attend_each(self, state: Written, queries: Tensor) -> tuple[Tensor, Tensor | None]:
        """queries (N, 1, H) of N hypotheses: those of one source ask it together, so that no key is copied."""
        counts = torch.bincount(state.owner)
        rank = torch.arange(len(state.owner), device=counts.device) - (counts.cumsum(0) - counts)[state.owner]
        together = queries.new_zeros(len(counts), int(counts.max()), queries.shape[2])
        contexts, weights = self.attend(state.memory, together.index_put((state.owner, rank), queries[:, 0]))
        at = state.owner, rank
        return contexts[at][:, None], None if weights is None else weights[at][:, None]

    def _slices(self, projected: Tensor, queries: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows that additive attention scores together, as its inner layer is (B, U, S, A)."""
        each = queries.shape[1] * projected.shape[1] * projected.shape[2]
        size = len(queries) if self.kind == "dot" else max(1, ENERGIES // max(1, each))
        return zip(torch.split(projected, max(1, size)), torch.split(queries, max(1, size)), strict=True)

    # The target

    def decode(
        self, memory: Memory, inputs: Tensor, lengths: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """inputs (B, U) the target's ids, `<empty>` first -> what each next token is told by (B, U, H + K), and the
        attention (B, U, S), if there is any."""
        x = dropout(self.target(inputs, noise), self.model.dropout_embedding, noise, locked=True)
        start = self.begin(memory)
        if self.input_feeding:
            states, weights = self._step_by_step(x, start, noise)
        else:
            below, _ = self.stack.below(x, lengths, start.below, noise, want_state=False)
            contexts, weights = self.attend(memory, below)
            joined = dropout(torch.cat([below, contexts], 2), self.model.dropout_layers, noise, locked=True)
            above, _ = self.stack.above(joined, lengths, start.above, noise, want_state=False)
            states = torch.cat([above, contexts], 2)
        return dropout(states, self.model.dropout_output, noise, locked=True), weights

    def _step_by_step(self, x: Tensor, state: Written, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        shape, rate = (len(x), 1, self.stack.above.input_size), self.model.dropout_layers
        mask = noise.mask(shape, rate, x.dtype) if noise is not None and rate else None
        states, weights = [], []
        for each in torch.split(x, 1, 1):
            out, attention, state = self.advance(each, state, noise, mask)
            states.append(out)
            weights.append(attention)
        return torch.cat(states, 1), None if self.attention is None else torch.cat(
            [w for w in weights if w is not None], 1
        )

    def advance(
        self, x: Tensor, state: Written, noise: Noise | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Written]:
        """One step of N hypotheses: x (N, 1, E) -> what the next token is told by (N, 1, H + K), the attention
        (N, 1, S), the state after it. mask: dropout on what the layer above reads."""
        if self.input_feeding:
            x = torch.cat([x, state.context[:, None]], 2)
        h, below = self.stack.below(x, None, state.below, noise)
        contexts, weights = self._attend_each(state, h)
        joined = torch.cat([h, contexts], 2)
        s, above = self.stack.above(joined if mask is None else joined * mask, None, state.above, noise)
        return torch.cat([s, contexts], 2), weights, state._replace(below=below, above=above, context=contexts[:, 0])

    def logits(self, states: Tensor, weights: Tensor | None, sources: Tensor) -> Tensor:
        """What is told (..., H + K), the attention (..., S) over these source ids (..., S) -> (..., V); with copying they
        are log probabilities."""
        joined = torch.tanh(self.join(states))
        logits = F.linear(joined, self.target.weight if self.out is None else self.out.weight, self.bias)
        if self.copy is None or weights is None:
            return logits
        p = logits.float().softmax(-1)
        copied = torch.zeros_like(p).scatter_add(-1, sources, weights.float())
        mixed = torch.lerp(copied, p, self.copy(states).float().sigmoid())
        return mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()

    # The pair

    @torch.no_grad()
    def guessed(self, memory: Memory, targets: Tensor, predicted: Tensor, noise: Noise, share: float) -> Tensor:
        """What the decoder reads (B, U), a share of it its own guesses; never of its beginning, nor an end or an unknown."""
        real = valid_steps(predicted, targets.shape[1])
        states, weights = self.decode(memory, targets, predicted)
        attention = None if weights is None else weights[real]
        guesses = torch.zeros_like(targets)
        guesses[real] = self.logits(states[real], attention, memory.sources[real.nonzero()[:, 0]]).argmax(1)
        guesses, after = guesses[:, :-1], targets[:, 1:]
        read = real[:, 1:] & (guesses > EMPTY) & ~noise.keep(after.shape, share)
        return torch.cat([targets[:, :1], torch.where(read, guesses, after)], 1)

    def forward(self, inputs: Tensor, lengths: Tensor, noise: Noise | None = None) -> Tensor:
        sources, source_lengths, targets, wanted, predicted = parted(inputs, lengths)
        if targets.shape[1] == 0 or len(inputs) == 0:
            return self.bias.new_zeros(len(inputs), 3, dtype=torch.float64)
        states, weights = self.decode(self.read(sources, source_lengths, noise), targets, predicted, noise)
        real = valid_steps(predicted, targets.shape[1])
        row = real.nonzero()[:, 0]
        found = self.told(states[real], None if weights is None else weights[real], sources[row], wanted[real])
        return found.new_zeros(len(inputs), 3).index_add_(0, row, found)

    def told(self, states: Tensor, weights: Tensor | None, sources: Tensor, wanted: Tensor) -> Tensor:
        """As `logits` of N tokens, and the right ones (N,) -> (N, 3) float64: -log p of each, 1, whether it was the
        likeliest."""
        out = []
        for part in torch.split(torch.arange(len(states), device=states.device), max(1, LOGITS // len(self.bias))):
            logits = self.logits(states[part], None if weights is None else weights[part], sources[part]).float()
            nats = cross_entropy(logits, wanted[part])
            right = logits.argmax(1) == wanted[part]
            out.append(torch.stack([nats, torch.ones_like(nats), right.float()], 1).double())
        return torch.cat(out)


def parted(inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of pairs (B, T) -> (sources (B, S), their lengths, what the decoder reads (B, U), what it is to say (B, U),
    their lengths); both sides padded by themselves."""
    place = torch.arange(inputs.shape[1], device=inputs.device)
    begins = (inputs == EMPTY) & (place > 0) & (place < lengths[:, None])
    size = torch.where(begins.any(1), begins.int().argmax(1), lengths) if inputs.shape[1] else lengths
    longest = int(size.max()) if len(size) else 0
    sources = inputs[:, :longest].masked_fill(place[:longest] >= size[:, None], PAD)
    predicted = (lengths - size - 1).clamp(min=0)
    step = torch.arange(int(predicted.max()) if len(size) else 0, device=inputs.device)
    real = step < predicted[:, None]
    at = (size[:, None] + step).clamp(max=max(0, inputs.shape[1] - 2))
    said, wanted = (inputs.gather(1, at + shift).masked_fill(~real, PAD) for shift in (0, 1))
    return sources, size, said, wanted, predicted


def _vectors(cell: Any) -> list[str]:
    """The fields of a cell's State that are vectors of its units; the others begin at 0."""
    return [name for name, shape in cell.state_shapes.items() if tuple(shape) == (cell.hidden_size,)]


def _first(cell: Any, rows: int, vectors: Iterator[Tensor]) -> Any:
    state = cell.initial(rows)
    return state._replace(**{name: next(vectors) for name in _vectors(cell)})


def take(state: Written, places: np.ndarray) -> Written:
    """Where the hypotheses at `places` stand; sources without one are forgotten."""
    if len(places) == len(state.owner) and bool((places == np.arange(len(places))).all()):
        return state
    at = torch.from_numpy(places).to(state.owner.device)
    below, above = (
        [type(s)(*(t.index_select(0, at) for t in s)) for s in states] for states in (state.below, state.above)
    )
    sources, owner = torch.unique_consecutive(state.owner[at], return_inverse=True)
    memory = state.memory
    if len(sources) < len(memory.keys):
        memory = Memory(*(each.index_select(0, sources) for each in memory))
    return Written(memory, owner, below, above, state.context.index_select(0, at))
