"""The Python door to text: `LanguageModel().fit(text).generate("a prompt")`.

In the manner of scikit-learn: parameters by familiar names, `fit`, `score`, `get_params`. What it does is
`pipeline.fit` on the beginning of the text, validated on its end. `save(dir)` writes the same bundle as
`echoic train --task generate`, which `echoic.load` and `echoic generate` open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from echoic.core.errors import DataError, Unavailable, UsageError
from echoic.core.types import Example

try:
    from sklearn.utils.validation import check_is_fitted

    from echoic.estimators import Estimator, texts_of
except ImportError as error:
    raise Unavailable(f"LanguageModel needs {error.name}: pip install 'echoic[train]'") from error

KEYS = {
    "cell": ("model.cell.kind",),
    "hidden_size": ("model.hidden",),
    "num_layers": ("model.layers",),
    "embedding_size": ("model.embedding",),
    "dropout": ("model.dropout_layers", "model.dropout_output"),
    "weight_drop": ("model.weight_drop",),
    "tied": ("task.tied",),
    "bptt": ("task.bptt",),
    "tokenizer": ("text.tokenizer",),
    "updates": ("train.updates",),
    "epochs": ("train.epochs",),
    "batch_size": ("train.batch_size",),
    "lr": ("train.lr",),
    "validation_fraction": ("data.valid_fraction",),
}


class LanguageModel(Estimator):
    """A recurrent language model: characters, bytes, pieces of words, or words.

    Every parameter is None unless named: the default of `task.kind = "generate"` (docs/config.md).

    Parameters
    ----------
    cell, hidden_size, num_layers, embedding_size : the recurrent network.
    dropout : float, between layers and on the output; `weight_drop`: on the recurrent weights.
    tied : bool, whether the output's weights are the embedding's.
    bptt : tokens that a gradient looks back.
    tokenizer : "codepoints" (characters as they stand), "bytes", "bpe", "unigram", "words", "spaced", ...
    updates, epochs : how long; `epochs` (passes over the text) goes before `updates` (steps).
    batch_size : lanes that are read side by side.   lr : the highest learning rate.
    validation_fraction : share of the text, from its end, that picks the epoch.
    random_state : int, RandomState or None, which is 0.
    settings : {"section.key": value} for everything else that `echoic train --set` takes.
    verbose : 0 says nothing; 1 shows progress and decisions on stderr.

    Attributes
    ----------
    model_ : echoic.model.Model.   history_ : list of dict, one an epoch.   n_iter_ : int, epochs run.
    """

    _kind, _keys = "generate", KEYS

    def __init__(
        self,
        *,
        cell: str | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        embedding_size: int | None = None,
        dropout: float | None = None,
        weight_drop: float | None = None,
        tied: bool | None = None,
        bptt: int | None = None,
        tokenizer: str | None = None,
        updates: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        validation_fraction: float | None = None,
        random_state: Any = None,
        settings: Mapping[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding_size = embedding_size
        self.dropout = dropout
        self.weight_drop = weight_drop
        self.tied = tied
        self.bptt = bptt
        self.tokenizer = tokenizer
        self.updates = updates
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: str | Sequence[str], y: Any = None) -> Self:
        """Trains on one running text, or on several texts, each of which begins anew. y is not used.

        Raises DataError for what is no text or too short, ConfigError for a setting."""
        from echoic.read.streams import cut

        texts = _one_or_more(X)
        if not texts:
            raise DataError("X has 0 texts; pass a text, or a list of them")
        config = self._config()
        train, valid = cut([Example(text, row=i) for i, text in enumerate(texts, 1)], config.data.valid_fraction)
        self._train(train, valid, config)
        return self

    def score(self, X: str | Sequence[str], y: Any = None) -> float:
        """The mean log probability of a token in nats, 0 at best. Every text is read from its beginning."""
        return -float(self._scores(X)["loss"])

    def perplexity(self, X: str | Sequence[str]) -> float:
        """e to the mean -log p of a token; `bits_per_character` is by the characters of X."""
        return float(self._scores(X)["perplexity"])

    def bits_per_character(self, X: str | Sequence[str]) -> float:
        return float(self._scores(X)["bits_per_character"])

    def generate(
        self, prompt: str = "", *, length: int = 200, samples: int | None = None, **options: Any
    ) -> str | list[str]:
        """The continuation of `prompt`, without it; with `samples` a list of them.

        length: tokens, fewer where a text ends. Options: temperature (1.0; 0 takes the likeliest token),
        top_k, top_p, min_p, repetition_penalty, seed (0), stop (strings to end before)."""
        check_is_fitted(self)
        if not isinstance(prompt, str):
            raise UsageError(f"the prompt is a {type(prompt).__name__}, not a text")
        record = self.model_.generate(prompt, length=length, samples=samples or 1, **options)
        if samples is None:
            return str(record.continuation)
        return list(record.continuations or [record.continuation])

    def stream(self, prompt: str = "", *, length: int = 200, **options: Any) -> Iterator[str]:
        """The same continuation, piece by piece as it is written."""
        check_is_fitted(self)
        yield from self.model_.task.writer(self.model_.network, prompt, **options).stream(length)

    def _scores(self, X: str | Sequence[str]) -> dict[str, Any]:
        from echoic.evaluate.language import language

        check_is_fitted(self)
        model = self.model_
        data = model.task.encode([Example(text) for text in _one_or_more(X)])
        outputs = model.outputs_of(data)
        characters, unknown = np.asarray(data.targets).T
        return language(outputs[:, 0], outputs[:, 1], characters, unknown)


def _one_or_more(X: str | Sequence[str]) -> list[str]:
    return [X] if isinstance(X, str) else texts_of(X)
