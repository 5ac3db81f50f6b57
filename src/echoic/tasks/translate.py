"""Translation, or any text to any text: a sequence read, another written, attention between them.

    source -> tokens -> encoder -> keys
    target -> tokens -> decoder, attending to the keys -> softmax over the target's vocabulary

With `sampled` the decoder learns from its own mistakes: some of the tokens it reads are its own guesses (Bengio et
al. 2015), made by a first pass over the whole target (Mihaylova and Martins 2019). With `coverage` it pays for
looking at a source token again: sum_j min(a_tj, sum of a_ij over i < t) a token (See et al. 2017, eq. 12, without
their feeding of the sum to the attention).

`layers/seq2seq.py` is the network. A row is a pair: the source's ids, `<empty>`, the target's ids,
`<empty>`: the first begins the target, the second is its end. A network's outputs for a row are its nats,
the tokens they are of, and how many of these were the likeliest. Answers are searched by `decode/beam.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from echoic.core.config import Config, Section, TextConfig, check
from echoic.core.errors import ConfigError, DataError, show
from echoic.core.registry import register
from echoic.core.types import EMPTY, Batch, Example, pad
from echoic.decode import beam
from echoic.decode.translations import Decoder, Sides, Translation, translate
from echoic.layers.cross_entropy import cross_entropy
from echoic.layers.dropout import Noise
from echoic.layers.seq2seq import Seq2Seq, Written, parted, take
from echoic.layers.unroll import valid_steps
from echoic.prepare.text import TextPreparer, choose
from echoic.tasks.base import (
    Dataset,
    Measure,
    Rows,
    Say,
    fill,
    on_device,
    refuse_no_use,
    rounding,
    setting,
    sizes,
    unfit,
)  # fmt: skip

NO_USE = (
    "text.vectors", "text.vectors_trained", "data.min_class_count", "data.soft_labels",
    "model.pool", "model.attention", "model.segment", "model.ngrams", "model.ngram_order", "model.ngram_size",
    "train.adversarial", "train.virtual", "train.entropy", "train.class_weights", "train.augment", "train.augment_rate",
)  # fmt: skip
"""Settings that say nothing to a translator; another value than the default is refused."""

STEP_BY_STEP = ("model.variational", "model.candidate", "model.zoneout", "model.weight_drop", "model.batch_norm")
"""Noise that holds for all steps, or needs all of them: not with task.input_feeding."""


class Options(Section):
    attention: Literal["additive", "dot", "none"] = Field(
        "dot", description="how a decoder's state scores a source token (none: the encoder's last state alone)"
    )
    vocabulary: Literal["auto", "joint", "separate"] = Field(
        "auto", description="one vocabulary and embedding for both sides, or two; auto: two where one side is Chinese"
    )
    tied: bool = Field(True, description="the output's weights are the target's embedding (Press and Wolf 2017)")
    input_feeding: bool = Field(
        False,
        description="the bottom layer reads the last context too (Luong et al. 2015); slow, step by step; wants model.variational = 0",
    )
    copying: bool = Field(
        False, description="a source token may be written as it stands (See et al. 2017); wants attention, joint"
    )
    coverage: float = Field(
        0.0, ge=0, le=100, description="what attending again to a source token costs (See et al. 2017); 0: nothing"
    )
    sampled: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the tokens read in training that are its own guesses (Bengio et al. 2015), reached little by little",
    )


@register
@dataclass
class Translate(Rows):
    config: Config
    options: Options
    text: TextPreparer
    """Of the source, or of both sides."""
    own: TextPreparer | None
    """Of the target, where it has a vocabulary of its own."""
    alphabet: str
    """Every character of the training sources."""
    ratio: float
    """Tokens that are written at most for each of the source's, and five more."""

    pairs: ClassVar[bool] = True
    no_use: ClassVar[tuple[str, ...]] = NO_USE
    Options = Options
    Record = Translation
    monitor = "token_accuracy"
    """The share of target tokens that are the likeliest, given the right ones before them."""

    @classmethod
    def fit(cls, examples: Sequence[Example], config: Config, said: Say = lambda _: None) -> Self:
        options = check(Options, config.task.options, "/task")
        refuse_no_use(config, NO_USE, "a translator", "has no order of words")
        if options.input_feeding:
            _refuse_noise(config)
        for name in ("copying", "coverage"):
            if getattr(options, name) and options.attention == "none":
                raise ConfigError(f"task.{name}: there is no attention (task.attention = none)")
        if options.input_feeding:
            said(
                "task.input_feeding: the decoder is trained step by step, on the reference path; expect several times the time"
            )
        _refuse_empty(examples)
        sides = [e.input for e in examples], [str(e.target) for e in examples]
        kinds = [_tokenizer(side, config.text) for side in sides]
        joint = kinds[0] == kinds[1] if options.vocabulary == "auto" else options.vocabulary == "joint"
        if options.vocabulary == "joint" and kinds[0] != kinds[1]:
            kinds = ["bpe", "bpe"]
        if options.copying and not joint:
            raise ConfigError("task.copying: the sides have a vocabulary each; task.vocabulary = joint gives them one")
        said(
            f"vocabulary: {'one for both sides, ' + kinds[0] if joint else ' and '.join(kinds) + ', one for each side'}"
        )
        parts = [[*sides[0], *sides[1]]] if joint else sides
        fitted = [
            TextPreparer.fit(part, config.text.model_copy(update={"tokenizer": kind}), said)
            for part, kind in zip(parts, kinds, strict=False)
        ]
        lengths = [
            np.array([len(row) for row in p.encode(side)])
            for p, side in zip((fitted[0], fitted[-1]), sides, strict=True)
        ]
        ratio = 1.5 * float(np.quantile((lengths[1] + 5) / (lengths[0] + 5), 0.999))
        alphabet = "".join(sorted({c for text in sides[0] for c in text}))
        return cls(config, options, fitted[0], None if joint else fitted[1], alphabet, round(ratio, 4))

    @property
    def written(self) -> TextPreparer:
        """The target's preparer."""
        return self.text if self.own is None else self.own

    def encode(self, examples: Sequence[Example]) -> Dataset:
        """`targets` (N,): how many tokens each row's target has, its end counted. Without targets rows hold the source."""
        sources = self.text.encode([e.input for e in examples])
        if any(e.target is None for e in examples) or not examples:
            return Dataset(list(sources), None, (sources.cut.texts, sources.cut.tokens))
        _refuse_empty(examples)
        targets = self.written.encode([e.target for e in examples])
        between, most = np.array([EMPTY], np.int32), self.written.max_tokens or math.inf
        ends = [between[: len(t) < most] for t in targets]  # where a target was cut is not where it ends
        rows = [np.concatenate([s, between, t, end]) for s, t, end in zip(sources, targets, ends, strict=True)]
        cut = (sources.cut.texts + targets.cut.texts, sources.cut.tokens + targets.cut.tokens)
        return Dataset(rows, np.array([len(t) + len(end) for t, end in zip(targets, ends, strict=True)]), cut)

    def network(self, seed: int) -> Seq2Seq:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._network()

    def _network(self) -> Seq2Seq:
        targets = None if self.own is None else len(self.own.vocabulary)
        o = self.options
        return Seq2Seq(
            self.config.model,
            len(self.text.vocabulary),
            targets,
            attention=o.attention,
            tied=o.tied,
            input_feeding=o.input_feeding,
            copying=o.copying,
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> Seq2Seq:
        """The network whose state dict was saved. Raises BundleError naming the tensor that does not fit."""
        for name, side in {"embed.weight": self.text, "written.weight": self.own}.items():
            if side is not None:
                vocabulary, _ = sizes(tensors, name, torch.float32, 2)
                if vocabulary != len(side.vocabulary):
                    raise unfit(name, f"{vocabulary:,} rows, but {len(side.vocabulary):,} tokens known")
        with torch.device("meta"):
            network = self._network()
        fill(network, tensors)
        return network.eval()

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """outputs (B, 3) -> (nats, tokens)."""
        return outputs[:, 0].sum(), int(outputs[:, 1].sum())

    def learn(  # type: ignore[override]
        self, network: Seq2Seq, batch: Batch, noise: Noise, carry: dict[str, Tensor]
    ) -> tuple[Tensor, int]:
        """Cross entropy of every target token and end, label smoothed, and what coverage costs."""
        sources, lengths, targets, wanted, predicted = parted(*on_device(batch, network))
        real = valid_steps(predicted, targets.shape[1])
        row = real.nonzero()[:, 0]
        with rounding(self.config):
            memory = network.read(sources, lengths, noise)
            if noise is not None and self.options.sampled:
                with rounding(self.config, keep=False):  # a cast that was made without a gradient has none later
                    share = self.options.sampled * noise.progress
                    targets = network.guessed(memory, targets, predicted, noise, share)
            states, weights = network.decode(memory, targets, predicted, noise)
            logits = network.logits(states[real], None if weights is None else weights[real], sources[row])
        total = cross_entropy(logits, wanted[real], self.config.train.label_smoothing).sum()
        if weights is not None and self.options.coverage:
            before = weights.cumsum(1) - weights
            total = total + self.options.coverage * torch.minimum(weights, before)[real].sum()
        return total, len(logits)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, Any]:
        return measures["forced"](outputs)

    def files(self) -> dict[str, bytes]:
        return self.sides.files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], config: Config) -> Self:
        sides, options = Sides.from_files(files, config.text.lowercase), check(Options, config.task.options, "/task")
        return cls(config, options, sides.text, sides.own, sides.alphabet, sides.ratio)

    # Writing

    def step(self, network: Seq2Seq) -> beam.Step:
        """One step, for search and sampling alike: ids (N,) and where N hypotheses stand -> what comes next."""
        device = network.bias.device

        def step(ids: np.ndarray, state: Written) -> tuple[np.ndarray, np.ndarray | None, Written]:
            with torch.inference_mode():
                x = network.target(torch.from_numpy(ids).to(device)[:, None])
                told, weights, state = network.advance(x, state)
                now = None if weights is None else weights[:, 0]
                logits = network.logits(told[:, 0], now, state.memory.sources[state.owner]).float().cpu().numpy()
                return logits, None if now is None else now.float().cpu().numpy(), state

        return step

    def begin(self, network: Seq2Seq, sources: Sequence[np.ndarray]) -> Written:
        """One hypothesis for each of the sources (T,), all of them read."""
        inputs, lengths = pad(sources)
        device = network.bias.device
        with torch.inference_mode():
            return network.begin(
                network.read(torch.from_numpy(inputs).to(device), torch.from_numpy(lengths).to(device))
            )

    def generate(self, network: Seq2Seq, inputs: Sequence[str], **options: Any) -> list[Translation]:
        """Records, one a text; options are those of `decode.translations.translate`, which says what it raises."""
        decoder = Decoder(partial(self.begin, network), self.step(network), take, network.attention is not None)
        return translate(self.sides, decoder, inputs, **options)

    @property
    def sides(self) -> Sides:
        return Sides(self.text, self.own, self.alphabet, self.ratio, self.config.text.lowercase)


def _tokenizer(texts: Sequence[str], config: TextConfig) -> str:
    """Of one side: pieces of words; characters where no space parts the words."""
    if config.tokenizer != "auto":
        return config.tokenizer
    return "codepoints" if choose(texts) == "chars" else "bpe"


def _refuse_empty(examples: Sequence[Example]) -> None:
    for e in examples:
        for side, text in (("source", e.input), ("target", e.target)):
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f"row {e.row}: the {side} is empty; a pair needs both sides: fill it in, or drop the row"
                )


def _refuse_noise(config: Config) -> None:
    """What cannot be held over all steps where they are made one by one."""
    drawn_anew = ("model.dropout_layers",) if config.model.layers > 1 else ()  # between the layers above
    for key in (*STEP_BY_STEP, *drawn_anew):
        if value := setting(config, key):
            raise ConfigError(
                f"{key} = {show(value)}: not with task.input_feeding, which runs step by step; set it to 0"
            )
