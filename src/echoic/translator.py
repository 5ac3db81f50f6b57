"""The Python door to translation: `Translator().fit(sources, targets).predict(["a text"])`.

In the manner of scikit-learn: parameters by familiar names, `fit`, `predict`, `score`, `get_params`. What it does
is `pipeline.fit` on a part of the pairs, validated on the rest. `save(dir)` writes the same bundle as
`echoic train --task translate`, which `echoic.load` and `echoic predict` open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from echoic.core.errors import DataError, Unavailable
from echoic.core.types import Example

try:
    from sklearn.utils.validation import check_is_fitted

    from echoic.estimators import Estimator, texts_of
except ImportError as error:
    raise Unavailable(f"Translator needs {error.name}: pip install 'echoic[train]'") from error

KEYS = {
    "cell": ("model.cell.kind",),
    "hidden_size": ("model.hidden",),
    "num_layers": ("model.layers",),
    "embedding_size": ("model.embedding",),
    "attention": ("task.attention",),
    "vocabulary": ("task.vocabulary",),
    "dropout": ("model.dropout_embedding", "model.dropout_layers", "model.dropout_output"),
    "tokenizer": ("text.tokenizer",),
    "updates": ("train.updates",),
    "epochs": ("train.epochs",),
    "batch_size": ("train.batch_size",),
    "lr": ("train.lr",),
    "validation_fraction": ("data.valid_fraction",),
}


class Translator(Estimator):
    """Any text to any text: an encoder, a decoder, and attention between them.

    Every parameter is None unless named: the default of `task.kind = "translate"` (docs/config.md).

    Parameters
    ----------
    cell, hidden_size, num_layers, embedding_size : the recurrent network.
    attention : "dot", "additive" or "none".   vocabulary : "auto", "joint" or "separate".
    dropout : float, on embedded tokens, between layers and on the output.
    tokenizer : "auto" (pieces of words; characters for Chinese), "bpe", "words", "codepoints", ...
    updates, epochs : how long; `epochs` (passes over the pairs) goes before `updates` (steps).
    batch_size, lr, validation_fraction : the rest of the training.
    beam_size, length_penalty : how `predict` searches.
    random_state : int, RandomState or None, which is 0.
    settings : {"section.key": value} for everything else that `echoic train --set` takes.
    verbose : 0 says nothing; 1 shows progress and decisions on stderr.

    Attributes
    ----------
    model_ : echoic.model.Model, which gives whole records.
    history_ : list of dict, one an epoch.   n_iter_ : int, epochs run.
    """

    _kind, _keys = "translate", KEYS

    def __init__(
        self,
        *,
        cell: str | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        embedding_size: int | None = None,
        attention: str | None = None,
        vocabulary: str | None = None,
        dropout: float | None = None,
        tokenizer: str | None = None,
        updates: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        validation_fraction: float | None = None,
        beam_size: int = 5,
        length_penalty: float = 1.0,
        random_state: Any = None,
        settings: Mapping[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding_size = embedding_size
        self.attention = attention
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.tokenizer = tokenizer
        self.updates = updates
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.beam_size = beam_size
        self.length_penalty = length_penalty
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Sequence[str], y: Sequence[str]) -> Self:
        """Trains on sources X and their targets y, one each.

        Raises DataError for an empty side or parts that would be empty, ConfigError for a setting."""
        from echoic.read.pairs import split_pairs

        sources, targets = texts_of(X), texts_of(y)
        if len(sources) != len(targets) or not sources:
            raise DataError(f"X has {len(sources):,} texts and y {len(targets):,}; a pair needs one of each")
        config = self._config()
        pairs = [Example(a, b, None, i) for i, (a, b) in enumerate(zip(sources, targets, strict=True), 1)]
        train, valid = split_pairs(pairs, config.data.valid_fraction, config.seed, self._said())
        self._train(train, valid, config)
        return self

    def predict(self, X: Sequence[str], **options: Any) -> list[str]:
        """The best translation of each text. Options are those of `tasks.translate.Translate.generate`."""
        check_is_fitted(self)
        asked = {"beam_size": self.beam_size, "length_penalty": self.length_penalty, **options}
        return [record.translation for record in self.model_.predict(texts_of(X), **asked)]

    def score(self, X: Sequence[str], y: Sequence[str]) -> float:
        """BLEU, 0 to 100, of what `predict` writes (sacreBLEU; needs the extra `translate`)."""
        from echoic.evaluate.translation import translation

        return float(translation(self.predict(X), texts_of(y))["bleu"])
