"""Language models: what comes next, character by character, by bytes, pieces or words; and writing on.

    <empty> text -> tokens -> embedding -> recurrence -> [linear] -> softmax over the vocabulary

Every text begins with the `<empty>` token, so that its first token is predicted too and an empty prompt
has a beginning; after a text it stands for the end. Training reads all texts as one stream in parallel
lanes, whose states go from batch to batch (truncated backpropagation: Mikolov et al. 2010; Zaremba et
al. 2014). A network's outputs for a text are its nats and how many tokens they are of.

With `model.bidirectional` the same vectors and the same softmax serve a second recurrence, `behind`, that learns
to read from the end of the text to its beginning (Peters et al. 2018). It writes and scores nothing: it is
what a classifier that reads both ways begins from.

The regularisers of Merity et al. 2018 (AWD-LSTM): `model.weight_drop`, locked dropout on embedded
tokens, between layers and on the output, `task.dropout_types`, `task.ar`, `task.tar`, `task.tied` (Press and
Wolf 2017). `task.cutoffs` makes the softmax adaptive (Grave et al. 2017). Recurrent dropout is `model.variational` and `model.candidate`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from echoic.batch import streams
from echoic.core.config import Config, ModelConfig, Rate, Section, check
from echoic.core.errors import ConfigError, show
from echoic.core.registry import register
from echoic.core.types import PAD, UNKNOWN, Batch, Example, pad
from echoic.decode import prompts
from echoic.decode.prompts import Generated
from echoic.decode.sampling import Step
from echoic.decode.writer import Writer
from echoic.layers.cross_entropy import cross_entropy, whole
from echoic.layers.dropout import Noise, dropout
from echoic.layers.embed import Embed, drop_words
from echoic.layers.stack import Stack
from echoic.prepare.text import TextPreparer
from echoic.tasks.base import Dataset, Measure, Say, fill, on_device, refuse_no_use, rounding, sizes, unfit

NO_USE = (
    "text.vectors", "text.vectors_trained", "text.max_tokens", "data.min_class_count", "data.drop_unlabelled",
    "model.pool", "model.attention", "model.segment",
    "model.ngrams", "model.ngram_order", "model.ngram_size",
    "train.label_smoothing", "train.adversarial", "train.virtual", "train.entropy", "train.class_weights",
    "train.augment", "train.augment_rate",
)  # fmt: skip
"""Settings that say nothing to a language model; another value than the default is refused."""

PASSAGE = 24
"""Characters of a line from which on it is no accident that two texts share it."""

LOGITS = 1 << 22
"""Numbers of the first softmax that scoring holds at a time; changes memory, no answer."""


class Options(Section):
    bptt: Annotated[int, Field(ge=1, le=100_000)] = Field(128, description="tokens that a gradient looks back, at most")
    tied: bool = Field(False, description="the output's weights are the embedding's (Press and Wolf 2017)")
    cutoffs: tuple[Annotated[int, Field(ge=4)], ...] = Field(
        (),
        description="adaptive softmax: where a vocabulary by falling frequency is cut; tokens behind the first cut cost only where they come (Grave et al. 2017)",
    )
    dropout_types: Rate = Field(
        0.0, description="embedding dropout: share of the vocabulary whose embeddings are 0 for a whole batch"
    )
    ar: Annotated[float, Field(ge=0.0)] = Field(0.0, description="penalty on the size of the last layer's outputs")
    tar: Annotated[float, Field(ge=0.0)] = Field(0.0, description="penalty on their change from step to step")


class LanguageNetwork(nn.Module):
    """inputs (B, T) int64, lengths (B,) -> (B, 2): nats of the tokens after the first, and their number.
    Of a row that does not begin a text the first `streams.CONTEXT` predictions do not count."""

    def __init__(self, model: ModelConfig, options: Options, vocabulary: int) -> None:
        super().__init__()
        self.model, self.options = model, options
        self.embed = Embed(vocabulary, model.embedding, by_rows=False)
        self.stack = Stack.of(model, model.embedding, bidirectional=False, locked=True)
        self.behind = (
            Stack.of(model, model.embedding, bidirectional=False, locked=True) if model.bidirectional else None
        )
        if options.tied:
            same = model.hidden == model.embedding
            self.project = nn.Identity() if same else nn.Linear(model.hidden, model.embedding, bias=False)
            self.bias = nn.Parameter(torch.zeros(vocabulary))
        else:
            self.out = nn.Linear(model.hidden, vocabulary)
        self.cuts = [cut for cut in options.cutoffs if cut < vocabulary]
        if self.cuts:
            self.clusters = nn.Linear(model.embedding if options.tied else model.hidden, len(self.cuts))

    @property
    def ways(self) -> list[Stack]:
        """The recurrences, each over tokens in its own order: forwards, and from the end."""
        return [self.stack] if self.behind is None else [self.stack, self.behind]

    def read(
        self, inputs: Tensor, lengths: Tensor | None, state: list[Any] | None, noise: Noise | None, way: int = 0
    ) -> tuple[Tensor, list[Any]]:
        """(B, T) ids and the states before them (None: zeros) -> (the last layer's (B, T, H), the states after).
        way 1 reads with `behind`, of ids in its order."""
        table: Tensor = self.embed.weight
        if noise is not None and self.options.dropout_types:
            table = table * noise.mask((len(table), 1), self.options.dropout_types, table.dtype)
        x = F.embedding(drop_words(inputs, self.model.dropout_words, noise), table, PAD)
        x = dropout(x, self.model.dropout_embedding, noise, locked=True)
        return self.ways[way](x, lengths, state, noise)  # type: ignore[no-any-return]

    def _output(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., H) -> what is multiplied (..., K), by the rows of which matrix (V, K), and added (V,)"""
        if self.options.tied:
            return self.project(h), self.embed.weight, self.bias
        return h, self.out.weight, self.out.bias

    def logits(self, h: Tensor) -> Tensor:
        """(..., H) -> (..., V); with cutoffs they are log probabilities."""
        x, weight, bias = self._output(h)
        if not self.cuts:
            return F.linear(x, weight, bias)
        head, *tails = self._softmaxes(weight, bias)
        first = whole(F.linear(x, *head)).log_softmax(-1)
        shown, clusters = first[..., : self.cuts[0]], first[..., self.cuts[0] :]
        rest = [whole(F.linear(x, *tail)).log_softmax(-1) + clusters[..., i, None] for i, tail in enumerate(tails)]
        return torch.cat([shown, *rest], -1)

    def surprise(self, h: Tensor, targets: Tensor) -> Tensor:
        """(N, H), (N,) -> (N,) -log p of each target.

        With cutoffs c_1 < c_2 ... a token w of cluster i (c_i <= w < c_(i+1)) has p(i) p(w | i): the first softmax
        is over the tokens below c_1 and the clusters, a second one is taken for the tokens of a cluster only
        (Grave et al. 2017, section 3, with full width everywhere, so that the weights can be the embedding's).
        """
        if not self.cuts:
            return cross_entropy(self.logits(h), targets)
        x, weight, bias = self._output(h)
        head, *tails = self._softmaxes(weight, bias)
        cluster = torch.bucketize(targets, torch.tensor(self.cuts, device=targets.device), right=True)
        first = torch.where(cluster == 0, targets, self.cuts[0] + cluster - 1)
        nats = cross_entropy(F.linear(x, *head), first)
        for i, tail in enumerate(tails):
            rows = (cluster == i + 1).nonzero()[:, 0]
            inside = F.linear(x[rows], *tail)
            nats = nats.index_add(0, rows, cross_entropy(inside, targets[rows] - self.cuts[i]))
        return nats

    def _softmaxes(self, weight: Tensor, bias: Tensor) -> list[tuple[Tensor, Tensor]]:
        """A matrix (V, K) and a bias (V,), cut where the vocabulary is; the clusters come behind the first tokens."""
        sizes = [b - a for a, b in pairwise([0, *self.cuts, len(bias)])]
        (first, own), *tails = zip(torch.split(weight, sizes), torch.split(bias, sizes), strict=True)
        return [(torch.cat([first, self.clusters.weight]), torch.cat([own, self.clusters.bias])), *tails]

    def forward(self, inputs: Tensor, lengths: Tensor, noise: Noise | None = None) -> Tensor:
        predicted = (lengths - 1).clamp(min=0)
        skip = torch.from_numpy(streams.unscored(inputs.cpu().numpy())).to(inputs.device)
        if inputs.shape[1] < 2 or len(inputs) == 0:
            return self.embed.weight.new_zeros(len(inputs), 2)
        h, _ = self.read(inputs[:, :-1], predicted, None, noise)
        h = dropout(h, self.model.dropout_output, noise, locked=True)
        t = torch.arange(h.shape[1], device=h.device)
        scored = (t < predicted[:, None]) & (t >= skip[:, None])
        nats = self.nats(h[scored], inputs[:, 1:][scored])
        sums = nats.new_zeros(len(inputs), dtype=torch.float64).index_add_(0, scored.nonzero()[:, 0], nats.double())
        return torch.stack([sums, scored.sum(1).double()], 1)

    def nats(self, h: Tensor, targets: Tensor) -> Tensor:
        """(N, H), (N,) -> (N,) -log p of each target, a few of them at a time."""
        size = max(1, LOGITS // (self.cuts or [len(self.embed.weight)])[0])
        parts = zip(torch.split(h, size), torch.split(targets, size), strict=True)
        return torch.cat([self.surprise(a, b) for a, b in parts])


@register
@dataclass
class Generate:
    config: Config
    options: Options
    text: TextPreparer
    ends: bool
    """Whether training held several texts, so that where one ends is known; a model of one text never ends."""

    streams: ClassVar[bool] = True
    pairs: ClassVar[bool] = False
    no_use: ClassVar[tuple[str, ...]] = NO_USE
    Options = Options
    Record = Generated
    monitor = "likelihood"
    """The geometric mean of the probabilities given to what came: 1 / perplexity."""

    @classmethod
    def fit(
        cls,
        examples: Sequence[Example],
        config: Config,
        said: Say = lambda _: None,
        text: TextPreparer | None = None,
    ) -> Self:
        options = check(Options, config.task.options, "/task")
        if list(options.cutoffs) != sorted(set(options.cutoffs)):
            raise ConfigError(f"task.cutoffs = {show(list(options.cutoffs))}: wants rising numbers")
        refuse_no_use(config, NO_USE, "a language model", "reads no context")
        if config.model.bidirectional and config.model.layers > 1:
            raise ConfigError(
                "model.bidirectional: where a second layer reads both ways a language model sees what it is to say; leave model.layers at 1"
            )
        texts = [e.input for e in examples]
        text = text or TextPreparer.fit(texts, config.text, said)
        said(f"{text.kind}: {len(text.vocabulary):,} tokens in the vocabulary")
        return cls(config, options, text, len(texts) > 1)

    def encode(self, examples: Sequence[Example]) -> Dataset:
        """`targets` (P, 2): how many characters of the user's text a scored row stands for, and how many
        tokens in it are unknown."""
        ids = self.text.encode([e.input for e in examples])
        texts = [prompts.from_the_beginning(each) for each in ids]
        rows, targets = [], []
        for example, text in zip(examples, texts, strict=True):
            pieces = streams.scoring_rows(text)
            share = len(example.input) / max(1, len(text) - 1)
            for piece in pieces:
                scored = piece[1 + int(streams.unscored(piece[None])[0]) :]
                rows.append(piece)
                targets.append((share * len(scored), int((scored == UNKNOWN).sum())))
        stream = np.concatenate(texts) if texts else np.empty(0, np.int32)
        return Dataset(rows, np.array(targets, np.float64).reshape(-1, 2), (ids.cut.texts, ids.cut.tokens), stream)

    def plan(self, data: Dataset, epoch: int) -> list[np.ndarray]:
        assert data.stream is not None
        train, steps = self.config.train, self.options.bptt
        lanes = max(1, min(train.batch_size, train.batch_tokens // steps))
        return streams.plan(len(data.stream) - 1, lanes, steps, seed=self.config.seed, epoch=epoch)

    def collate(self, data: Dataset, index: np.ndarray) -> Batch:
        """index (B,): rows to score; (B, 2): windows of the stream to learn from, with their targets, and as many rows
        more of the stream from its end, where that is read too."""
        if index.ndim == 1:
            return Batch(*pad([data.rows[i] for i in index]))
        stream = data.stream
        assert stream is not None
        both = [stream, stream[::-1]][: 1 + self.config.model.bidirectional]
        inputs, lengths = pad([each[start:end] for each in both for start, end in index])
        return Batch(inputs, lengths, pad([each[start + 1 : end + 1] for each in both for start, end in index])[0])

    def network(self, seed: int) -> LanguageNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LanguageNetwork(self.config.model, self.options, len(self.text.vocabulary))

    def restore(self, tensors: Mapping[str, Tensor]) -> LanguageNetwork:
        """The network whose state dict was saved. Raises BundleError naming the tensor that does not fit."""
        vocabulary, _ = sizes(tensors, "embed.weight", torch.float32, 2)
        if vocabulary != len(self.text.vocabulary):
            raise unfit("embed.weight", f"{vocabulary:,} rows, but {len(self.text.vocabulary):,} tokens known")
        with torch.device("meta"):
            network = LanguageNetwork(self.config.model, self.options, vocabulary)
        fill(network, tensors)
        return network.eval()

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """outputs (B, 2) of whole rows -> (nats, tokens)."""
        return outputs[:, 0].sum(), int(outputs[:, 1].sum())

    def learn(
        self, network: LanguageNetwork, batch: Batch, noise: Noise, carry: dict[str, Tensor]
    ) -> tuple[Tensor, int]:
        """The sum of nats of a batch of windows, and of AR and TAR for each of its tokens; their number."""
        assert batch.targets is not None
        inputs, lengths = on_device(batch, network)
        targets = torch.from_numpy(batch.targets).to(inputs.device)
        rows, totals = len(inputs) // len(network.ways), []
        for way in range(len(network.ways)):
            own = slice(way * rows, (way + 1) * rows)
            totals.append(self._learn(network, way, inputs[own], lengths[own], targets[own], noise, carry))
        return torch.stack(totals).sum(), int(lengths.sum())

    def _learn(
        self,
        network: LanguageNetwork,
        way: int,
        inputs: Tensor,
        lengths: Tensor,
        targets: Tensor,
        noise: Noise,
        carry: dict[str, Tensor],
    ) -> Tensor:
        """The sum of one way of reading."""
        prefix = "behind." * way
        before = _states(network.ways[way], carry, len(inputs), prefix)
        with rounding(self.config):
            raw, states = network.read(inputs, lengths, before, noise, way)
        carry.update({f"{prefix}{i}.{k}": t.detach() for i, s in enumerate(states) for k, t in s._asdict().items()})
        h = dropout(raw, network.model.dropout_output, noise, locked=True)
        count, full = int(lengths.sum()), int(lengths.min())
        if full == h.shape[1]:
            kept, wanted = h.flatten(0, 1), targets.flatten()
        else:  # the last windows of an epoch differ by one
            real = torch.arange(h.shape[1], device=h.device) < lengths[:, None]
            kept, wanted = h[real], targets[real]
        with rounding(self.config):
            total = network.surprise(kept, wanted).sum()
        if self.options.ar:
            total = total + count * self.options.ar * h[:, :full].pow(2).mean()
        if self.options.tar and full > 1:
            total = total + count * self.options.tar * raw[:, :full].diff(dim=1).pow(2).mean()
        return total

    def metrics(self, outputs: np.ndarray, targets: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, Any]:
        return measures["language"](outputs[:, 0], outputs[:, 1], targets[:, 0], targets[:, 1])

    def finish(self, network: nn.Module, train: Dataset, valid: Dataset, **tools: Any) -> None:
        """Nothing is fitted after the gradient steps."""

    def passages(self, inputs: Sequence[str]) -> list[str]:
        """The lines that are long enough to be told again."""
        return [line for text in inputs for line in text.splitlines() if len(line.strip()) >= PASSAGE]

    def files(self) -> dict[str, bytes]:
        return {**self.text.files(), **prompts.write_ends(self.ends)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], config: Config) -> Self:
        return cls(
            config,
            check(Options, config.task.options, "/task"),
            TextPreparer.from_files(files),
            prompts.read_ends(files),
        )

    # Writing on

    def step(self, network: LanguageNetwork) -> Step:
        """What `decode` asks of this network: (ids (S, T), state) -> (logits (S, V), state)."""
        device = network.embed.weight.device

        def step(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            with torch.inference_mode():
                h, state = network.read(torch.from_numpy(ids).to(device), None, state, None)
                return network.logits(h[:, -1]).float().cpu().numpy(), state

        return step

    def writer(self, network: LanguageNetwork, prompt: str, **options: Any) -> Writer:
        """A writer that has read the whole prompt; options are those of `decode.prompts.writer`."""
        return prompts.writer(self.step(network), self.text, self.ends, prompt, **options)

    def generate(
        self, network: LanguageNetwork, inputs: Sequence[str], *, length: int = 200, **options: Any
    ) -> list[Generated]:
        """Records, one a prompt: `length` more tokens, fewer where a text ends. Options are `writer`'s."""
        return [prompts.answer(partial(self.writer, network), prompt, length, options) for prompt in inputs]


def _states(stack: Stack, carry: Mapping[str, Tensor], rows: int, prefix: str) -> list[Any] | None:
    """The States in `carry`, of the first `rows` lanes: those that end early are the last."""
    if not any(name.startswith(f"{prefix}0.") for name in carry):
        return None
    kinds: list[Any] = [cell.State for cell in stack.cells]
    return [kind(*(carry[f"{prefix}{i}.{name}"][:rows] for name in kind._fields)) for i, kind in enumerate(kinds)]
