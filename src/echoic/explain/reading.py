"""One text in front of the classifier, read once, and what can then be asked of it.

    logits = s_r logits_r(x) + s_n (b + sum of W over the n-grams of the text)

x stands for the embedded tokens. What is asked again and again, of a text with one token hidden or its end cut
off, is read anew only in the segments that differ.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echoic.core.errors import UsageError
from echoic.core.types import PAD, UNKNOWN
from echoic.explain import ngrams
from echoic.explain.attribute import Score
from echoic.layers.attention import masked_softmax
from echoic.layers.segments import split
from echoic.layers.unroll import valid_steps
from echoic.tasks.classify import ClassifierNetwork, Classify

BATCH_TOKENS = 1 << 18
"""Tokens of the variants of a text that are in memory together; changes no answer."""


def require_classifier(task: Any) -> None:
    """Raises UsageError for any other task."""
    if not isinstance(task, Classify):
        raise UsageError(f"this model does {task.config.task.kind}; only a classifier is explained")


def full(inputs: Tensor) -> Tensor:
    """(B, T, ...) -> (B,): every row T long."""
    return torch.full((len(inputs),), inputs.shape[1], device=inputs.device)


class Reading:
    """A text that a classifier has read once, with every state kept: (T, F), some 20 MB for 20,000 tokens."""

    def __init__(self, network: ClassifierNetwork, ids: np.ndarray) -> None:
        self.network = network
        self.ids = torch.as_tensor(ids.astype(np.int64), device=network.out.weight.device)
        with torch.inference_mode():
            self.rows, self.lengths, self.owner = self._split(self.ids[None])
            self.states = network.states(self.rows, self.lengths)
            self.kept = network.pool.rows(self.states, self.lengths)
            logits = network.out(network.pool.join(self.kept, self.lengths, self.owner, 1))[0]
            self.logits: Tensor = network.scales[0] * logits
            if network.ngrams is not None:
                ngram = network.ngrams(self.ids[None], full(self.ids[None]))[0]
                self.logits = self.logits + network.scales[1] * ngram

    def _split(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return split(inputs, full(inputs) if lengths is None else lengths, self.network.model.segment)

    @cached_property
    def embedded(self) -> Tensor:
        """(T, D)"""
        with torch.no_grad():
            return self.network.embed(self.ids[None])[0]  # type: ignore[no-any-return]

    @cached_property
    def wide(self) -> ClassifierNetwork:
        """The network whose recurrent path is in float64; the tables of words and n-grams are the same."""
        shared = {id(each): each for each in (self.network.embed, self.network.ngrams)}
        network = copy.deepcopy(self.network, shared)
        for part in (network.stack, network.pool, network.out):
            part.double()
        return network

    def score(self, column: int) -> Score:
        """Embedded tokens, of float64 as well -> the recurrent path's part of logit `column`, as exact as they are."""

        def of(embedded: Tensor) -> Tensor:
            network = self.network if embedded.dtype == self.embedded.dtype else self.wide
            return self.network.scales[0] * network.recurrent(embedded, full(embedded))[:, column]

        return of

    def linear(self, column: int) -> np.ndarray:
        """(T,): what the n-gram path gives each token, exactly."""
        if self.network.ngrams is None:
            return np.zeros(len(self.ids))
        return float(self.network.scales[1]) * ngrams.shares(self.network.ngrams, self.ids, column)

    def attention(self) -> np.ndarray:
        """(T,) weights, which sum to one."""
        scores = self.kept["scores"]
        valid = valid_steps(self.lengths, scores.shape[1])
        return np.asarray(masked_softmax(scores, valid, self.owner, 1)[valid].double().cpu())

    def recurrent(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """logits_r (V, C) of variants (V, T) of this text: tokens changed, or the end cut off by `lengths`.
        A segment that stands in the text as well is not read again."""
        if lengths is not None:
            inputs = inputs.masked_fill(~valid_steps(lengths, inputs.shape[1]), PAD)
        rows, row_lengths, owner = self._split(inputs, lengths)
        place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(owner, owner)
        new = (rows != self.rows[place]).any(1)
        fresh = self.network.rows(rows[new], row_lengths[new])
        kept = {name: known[place].index_put((new,), fresh[name]) for name, known in self.kept.items()}
        return self.network.out(self.network.pool.join(kept, row_lengths, owner, len(inputs)))  # type: ignore[no-any-return]

    def hiding(self, column: int) -> Score:
        """(V, T) booleans, True where a token is read as <unk> -> logit `column` of both paths, (V,)."""
        network = self.network

        def of(hidden: Tensor) -> Tensor:
            inputs = torch.where(hidden.to(self.ids.device), UNKNOWN, self.ids)
            logits = network.scales[0] * self.recurrent(inputs)
            if network.ngrams is not None:
                logits = logits + network.scales[1] * network.ngrams(inputs, full(inputs))
            return logits[:, column]

        def in_batches(hidden: Tensor) -> Tensor:
            with torch.inference_mode():
                return torch.cat([of(part) for part in torch.split(hidden, self.batch)])

        return in_batches

    @property
    def batch(self) -> int:
        """Variants of this text in one batch."""
        return max(1, BATCH_TOKENS // len(self.ids))
