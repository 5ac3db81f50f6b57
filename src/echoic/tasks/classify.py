"""Text classification: two classes, many, several labels at once, or soft labels.

    text -> tokens -> embedding -> recurrence -> pool -> linear -> logits_r
                  `-> n-grams ------------------------------------> logits_n
    logits = s_r logits_r + s_n logits_n

The recurrent path is trained by gradient steps, the n-gram path by convex optimisation; then the
two scales, and with several labels their thresholds, are fitted on the validation part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from echoic.core.config import Config, ModelConfig, check
from echoic.core.registry import register
from echoic.core.types import Batch, Example
from echoic.decode import answers
from echoic.decode.answers import Prediction
from echoic.layers.dropout import Noise, dropout
from echoic.layers.embed import Embed
from echoic.layers.ngrams import NgramPath
from echoic.layers.pool import Pool
from echoic.layers.segments import split
from echoic.layers.stack import Stack
from echoic.prepare.labels import Kind, Labels
from echoic.prepare.text import TextPreparer
from echoic.prepare.vectors import Vectors, load_vectors
from echoic.read.labels import Options
from echoic.tasks.base import RATE, Dataset, Measure, Rows, Say, fill, sizes, unfit

SLICE_TOKENS = 65_536
"""Tokens with padding that the recurrence reads in one call where nothing is dropped out, so that memory
does not grow with a text; changes speed and memory, no answer."""


class ClassifierNetwork(nn.Module):
    """inputs (B, T) int64, lengths (B,) -> logits (B, C)."""

    def __init__(self, model: ModelConfig, embed: Embed, classes: int) -> None:
        super().__init__()
        self.embed = embed
        self.stack = Stack.of(model, embed.weight.shape[1], bidirectional=model.bidirectional)
        both = self.stack.directions == 2
        width = self.stack.output_size // self.stack.directions
        self.pool = Pool(model.pool, width, bidirectional=both, attention=model.attention)
        self.out = nn.Linear(self.pool.output_size, classes)
        self.ngrams: NgramPath | None = None
        self.scales: Tensor
        self.register_buffer("scales", torch.ones(1))
        self.model = model

    def recurrent(self, inputs: Tensor, lengths: Tensor, noise: Noise | None = None) -> Tensor:
        """logits_r (B, C) of ids (B, T), or of tokens that are embedded already (B, T, D).

        A text longer than `segment` is read in segments and pooled over them all.
        """
        rows, row_lengths, owner = split(inputs, lengths, self.model.segment)
        pooled = self.pool.join(self.rows(rows, row_lengths, noise), row_lengths, owner, len(inputs))
        return self.out(dropout(pooled, self.model.dropout_output, noise))  # type: ignore[no-any-return]

    def rows(self, rows: Tensor, lengths: Tensor, noise: Noise | None = None) -> dict[str, Tensor]:
        """What pooling needs of each segment: rows (R, S) or (R, S, D), (R,) -> R rows each.

        Without noise they run in slices of SLICE_TOKENS, of whose states nothing else is kept. With noise they
        run as one, since a mask drawn for a batch does not part into slices.
        """
        size = max(1, SLICE_TOKENS // max(1, rows.shape[1])) if noise is None else max(1, len(rows))
        parts = []
        for part, part_lengths in zip(torch.split(rows, size), torch.split(lengths, size), strict=True):
            parts.append(self.pool.rows(self.states(part, part_lengths, noise), part_lengths))
        return {name: torch.cat([each[name] for each in parts]) for name in parts[0]}

    def states(self, rows: Tensor, lengths: Tensor, noise: Noise | None = None) -> Tensor:
        """The states of each segment: rows (R, S) or (R, S, D), (R,) -> (R, S, F)."""
        embedded = self.embed(rows, noise) if rows.dim() == 2 else rows
        return self.stack(embedded, lengths, noise=noise, want_state=False)[0]  # type: ignore[no-any-return]

    def paths(self, inputs: Tensor, lengths: Tensor, noise: Noise | None = None) -> list[Tensor]:
        recurrent = self.recurrent(inputs, lengths, noise)
        return [recurrent] if self.ngrams is None else [recurrent, self.ngrams(inputs, lengths)]

    def forward(self, inputs: Tensor, lengths: Tensor, noise: Noise | None = None) -> Tensor:
        return torch.stack(
            [s * path for s, path in zip(self.scales, self.paths(inputs, lengths, noise), strict=True)]
        ).sum(0)

    def join(self, ngrams: NgramPath | None, scales: np.ndarray) -> None:
        """Adds the n-gram path (or none) on this network's device, and sets the scale of each path."""
        like = self.out.weight
        self.ngrams = None if ngrams is None else ngrams.to(like.device)
        self.scales = torch.as_tensor(scales, dtype=like.dtype, device=like.device)


@register
@dataclass
class Classify(Rows):
    config: Config
    options: Options
    text: TextPreparer
    labels: Labels
    weights: np.ndarray
    """(C,) what a row of each class counts for."""
    vectors: Vectors | None = None
    thresholds: np.ndarray | None = None
    """(C,) with several labels: the probability from which each is given."""

    Options = Options
    Record = Prediction

    @classmethod
    def fit(
        cls,
        examples: Sequence[Example],
        config: Config,
        said: Say = lambda _: None,
        text: TextPreparer | None = None,
    ) -> Self:
        options = check(Options, config.task.options, "/task")
        labels = Labels.fit([e.target for e in examples], options.several or None, [e.row for e in examples])
        text = text or TextPreparer.fit([e.input for e in examples], config.text, said)
        vectors = None
        if config.text.vectors:
            vectors = load_vectors(config.text.vectors, text.vocabulary)
            for note in vectors.notes:
                said(note)
        weights = np.ones(len(labels.names), np.float32)
        if config.train.class_weights == "balanced":
            weights = labels.balanced_weights(labels.encode([e.target for e in examples])).astype(np.float32)
        return cls(config, options, text, labels, weights, vectors)

    @property
    def names(self) -> list[str]:
        return list(self.labels.names)

    @property
    def kind(self) -> Kind:
        return self.labels.kind

    @property
    def several(self) -> bool:
        return self.labels.kind == "several"

    @property
    def monitor(self) -> Literal["accuracy", "micro_f1"]:
        return "micro_f1" if self.several else "accuracy"

    @property
    def rate(self) -> float:  # type: ignore[override]
        """Many classes want a higher rate than two (ARCHITECTURE.md has the figures)."""
        return RATE if self.several else RATE * math.sqrt(max(2, len(self.names)) / 2)

    def encode(self, examples: Sequence[Example]) -> Dataset:
        targets = None
        if all(e.target is not None for e in examples):
            targets = self.labels.encode([e.target for e in examples], [e.row for e in examples])
        rows = self.text.encode([e.input for e in examples])
        return Dataset(rows, targets, (rows.cut.texts, rows.cut.tokens))

    def network(self, seed: int) -> ClassifierNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.vectors is None:
                return self._network(len(self.text.vocabulary), self.config.model.embedding)
            matrix = self.vectors.matrix
            return self._network(*matrix.shape, vectors=matrix, trained=self.config.text.vectors_trained)

    def _network(self, vocabulary: int, size: int, **start: Any) -> ClassifierNetwork:
        model = self.config.model
        embed = Embed(vocabulary, size, dropout=model.dropout_embedding, word_dropout=model.dropout_words, **start)
        return ClassifierNetwork(model, embed, len(self.names))

    def restore(self, tensors: Mapping[str, Tensor]) -> ClassifierNetwork:
        """The network whose state dict was saved, on the CPU. Raises BundleError naming the tensor that does not fit.

        The network is built on torch's "meta" device, where nothing is allocated or drawn, so that sizes
        are compared before they cost anything.
        """
        vocabulary, size = sizes(tensors, "embed.weight", torch.float32, 2)
        if vocabulary != len(self.text.vocabulary):
            raise unfit(
                "embed.weight", f"{vocabulary:,} rows, but {len(self.text.vocabulary):,} tokens in tokenizer.json"
            )
        with torch.device("meta"):
            network = self._network(vocabulary, size)
            network.ngrams = _ngrams_like(tensors, len(self.names))
            network.scales = torch.ones(1 if network.ngrams is None else 2)
        fill(network, tensors)
        return network.eval()

    def dense(self, targets: np.ndarray) -> np.ndarray:
        """Targets of any kind -> (N, C) float32 probabilities, or noughts and ones for several labels."""
        return np.eye(len(self.names), dtype=np.float32)[targets] if targets.ndim == 1 else targets.astype(np.float32)

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Cross entropy, label smoothed (soft labels are as smooth as they come), each row weighted by
        its class. outputs: logits (B, C)."""
        assert batch.targets is not None
        targets = torch.from_numpy(self.dense(batch.targets)).to(outputs)
        weights = torch.from_numpy(self.weights).to(outputs)
        smoothing = 0.0 if self.kind == "soft" else self.config.train.label_smoothing
        if self.several:
            smooth = targets * (1 - smoothing) + smoothing / 2
            each = nn.functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none")
            total = (each * (1 + (weights - 1) * targets)).sum()
        else:
            smooth = targets * (1 - smoothing) + smoothing / targets.shape[1]
            total = -((smooth * outputs.log_softmax(1)).sum(1) * (targets @ weights)).sum()
        return total, len(outputs)

    def cross_entropy(self, z: Tensor, w: Tensor) -> Tensor:
        """Of the distributions over the classes, or summed over the labels where there may be several."""
        if self.several:
            return nn.functional.binary_cross_entropy_with_logits(w, z.sigmoid(), reduction="none").sum(1)
        return -(z.softmax(1) * w.log_softmax(1)).sum(1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Logits (N, C) -> probabilities (N, C); rows sum to one unless several labels are possible."""
        return answers.probabilities(outputs, self.several)

    def decode(self, inputs: Sequence[str], outputs: np.ndarray, min_confidence: float = 0.0) -> list[Prediction]:
        """Logits (N, C) -> records. Below `min_confidence` the model abstains: label None."""
        found = self.probabilities(outputs)
        return answers.records(inputs, found, self.names, self.several, self.thresholds, min_confidence)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, Any]:
        given = self.thresholds if self.several else None
        return measures["classification"](
            self.probabilities(outputs), targets, self.names, kind=self.kind, thresholds=given
        )

    def files(self) -> dict[str, bytes]:
        return {**self.text.files(), **self.labels.files(), **answers.write_thresholds(self.thresholds)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], config: Config) -> Self:
        options = check(Options, config.task.options, "/task")
        text, labels = TextPreparer.from_files(files), Labels.from_files(files)
        thresholds = answers.read_thresholds(files, len(labels.names))
        return cls(config, options, text, labels, np.ones(len(labels.names), np.float32), None, thresholds)

    def finish(
        self,
        network: ClassifierNetwork,
        train: Dataset,
        valid: Dataset,
        *,
        fit_ngrams: Callable[..., Any],
        fit_scales: Callable[..., np.ndarray],
        choose_thresholds: Callable[..., np.ndarray],
        run: Callable[[Callable[[Tensor, Tensor], Any], Dataset], list[np.ndarray]],
        said: Say,
    ) -> None:
        """What is fitted after the gradient steps: the n-gram path, the scales, the thresholds.

        The functions are handed down by the pipeline, as their rooms lie ahead of this one; `run`
        maps a function of (inputs, lengths) over a data set and returns its outputs in order.
        """
        assert train.targets is not None
        assert valid.targets is not None
        path = None
        if self.config.model.ngrams:
            dense = self.dense(train.targets)
            row_weights = None if self.several else dense @ self.weights
            path = fit_ngrams(
                train.rows,
                dense,
                valid.rows,
                self.dense(valid.targets),
                order=self.config.model.ngram_order,
                size_bits=self.config.model.ngram_size,
                several=self.several,
                weights=row_weights,
                said=said,
            ).path
        network.join(path, np.ones(1 if path is None else 2))
        network.eval()
        logits = run(network.paths, valid)
        scales = fit_scales(logits, valid.targets, kind=self.labels.kind)
        network.join(path, scales)
        said(
            f"scales of the paths: {', '.join(f'{s:.3f}' for s in scales)} (recurrent, n-grams)"
            if path is not None
            else f"scale of the logits: {scales[0]:.3f}"
        )
        if self.several:
            joined = sum(s * each for s, each in zip(scales, logits, strict=True))
            self.thresholds = choose_thresholds(self.probabilities(np.asarray(joined)), valid.targets)


def _ngrams_like(tensors: Mapping[str, Tensor], classes: int) -> NgramPath | None:
    """An n-gram path of the sizes of the saved one, or None if none was saved."""
    if not any(name.startswith("ngrams.") for name in tensors):
        return None
    sizes(tensors, "ngrams.order", torch.int64, 0)
    (slots,) = sizes(tensors, "ngrams.check", torch.int32, 1)
    try:
        return NgramPath(slots, classes, int(tensors["ngrams.order"]))
    except ValueError as error:
        raise unfit("ngrams", str(error)) from None
