"""The scikit-learn door: `SequenceClassifier().fit(texts, labels).predict(texts)`.

An estimator holds settings by familiar names; everything it does is `pipeline.fit` on a part of the
rows, validated on the rest. `save(dir)` writes the same bundle as the command line, which `echoic.load`
and `echoic predict` open: a verified folder, never a pickle. The estimator object itself may be pickled
(joblib, grid search in several processes), as between processes that trust each other. `Estimator` is what
this one shares with `Translator` and `LanguageModel`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from echoic.core.config import Config
from echoic.core.errors import ConfigError, DataError, Unavailable, UsageError, show
from echoic.core.types import Example

try:
    import torch
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted

    from echoic.targets import is_nothing, read_targets
except ImportError as error:
    raise Unavailable(f"SequenceClassifier needs {error.name}: pip install 'echoic[train]'") from error

KEYS = {
    "cell": ("model.cell.kind",),
    "hidden_size": ("model.hidden",),
    "num_layers": ("model.layers",),
    "bidirectional": ("model.bidirectional",),
    "embedding_size": ("model.embedding",),
    "pool": ("model.pool",),
    "dropout": ("model.dropout_embedding", "model.dropout_output"),
    "word_dropout": ("model.dropout_words",),
    "ngrams": ("model.ngrams",),
    "tokenizer": ("text.tokenizer",),
    "vectors": ("text.vectors",),
    "epochs": ("train.epochs",),
    "batch_size": ("train.batch_size",),
    "lr": ("train.lr",),
    "validation_fraction": ("data.valid_fraction",),
    "class_weight": ("train.class_weights",),
    "multilabel": ("task.several",),
}

NO_FILE = ("data.", "task.kind", "seed")
"""Settings that say how a file is read, or that have a parameter, and so are none of `settings`."""


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Settings by familiar names, training, saving and opening; a parameter that is None takes its default."""

    _kind: ClassVar[str]
    """The task, as `task.kind`."""
    _keys: ClassVar[Mapping[str, tuple[str, ...]]]
    """Each parameter's places in the configuration; `random_state` is `seed`."""

    def save(self, path: str | Path) -> None:
        """Writes the bundle, which `load`, `echoic.load` and the command line open."""
        check_is_fitted(self)
        self.model_.save(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A saved model, ready to use; the parameters it was trained by are in its `config`, not restored here."""
        from echoic.model import load

        model = load(path)
        if model.config.task.kind != cls._kind:
            raise UsageError(f"{path}: holds a model for {model.config.task.kind}; {cls.__name__} opens {cls._kind}")
        made = cls()
        made.model_ = model
        return made

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _config(self) -> Config:
        given = {name: getattr(self, name) for name in self._keys if getattr(self, name) is not None}
        return configuration(given, self._keys, self.settings, self.random_state, type(self).__name__, self._kind)

    def _said(self) -> Callable[[str], None]:
        from echoic import pipeline

        return _to_stderr if self.verbose else pipeline.silent

    def _train(self, train: Sequence[Example], valid: Sequence[Example], config: Config) -> None:
        """Sets `model_`, `history_` and `n_iter_`."""
        from echoic import pipeline
        from echoic.train.progress import watcher

        with _threads_kept(), _interrupting():
            journey = pipeline.fit(train, valid, config, watch=watcher(quiet=not self.verbose), said=self._said())
        self.model_, self.history_ = journey.model, journey.fitted.history
        self.n_iter_ = len(self.history_)


class SequenceClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A recurrent text classifier with an n-gram path beside it.

    X is a sequence of str. y holds one label a text, of any type that sorts; with `multilabel=True` a
    collection of labels a text or an (N, C) array of 0 and 1; or, for soft labels, (N, C) probabilities
    of which each row sums to 1. A share `validation_fraction` of the rows picks the epoch and calibrates.

    Parameters
    ----------
    cell, hidden_size, num_layers, bidirectional, embedding_size, pool : the recurrent network.
    dropout : float, on embedded tokens and on the pooled vector; `word_dropout`: tokens read as unknown.
    ngrams : bool, whether the n-gram path stands beside the network.
    tokenizer : "auto" looks at the text; `vectors`: a file of word vectors.
    epochs : passes over the training rows; 0 takes as many as `train.updates` says.
    batch_size, lr, validation_fraction : the rest of the training; lr 0 is chosen by the number of classes.
    class_weight : None or "balanced".
    multilabel : bool, whether a text may have several labels, or none.
    random_state : int, RandomState or None, which is 0. Equal seeds and settings give equal bits; the
        global generators of numpy and torch are neither read nor moved.
    settings : {"section.key": value} for everything else that `echoic train --set` takes.
    verbose : 0 says nothing; 1 shows progress and decisions on stderr.

    Attributes
    ----------
    classes_ : (C,) the labels, sorted, in the type they came in.
    model_ : echoic.model.Model, which gives whole records.
    history_ : list of dict, one an epoch.   n_iter_ : int, epochs run.
    """

    _kind, _keys = "classify", KEYS

    def __init__(
        self,
        *,
        cell: str = "lstm",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding_size: int = 128,
        pool: str = "max",
        dropout: float = 0.5,
        word_dropout: float = 0.1,
        ngrams: bool = True,
        tokenizer: str = "auto",
        vectors: str | None = None,
        epochs: int = 0,
        batch_size: int = 64,
        lr: float = 0.0,
        validation_fraction: float = 0.1,
        class_weight: str | None = None,
        multilabel: bool = False,
        random_state: Any = None,
        settings: Mapping[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.embedding_size = embedding_size
        self.pool = pool
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.ngrams = ngrams
        self.tokenizer = tokenizer
        self.vectors = vectors
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.multilabel = multilabel
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Sequence[str], y: Any, groups: Sequence[Any] | None = None) -> Self:
        """Trains. Rows of equal `groups` never stand on both sides of the validation split; a group that is
        None or NaN is none. With multilabel=True a label that no training row has is never answered.

        Raises DataError (a ValueError) for texts or labels that are none, ConfigError for a setting,
        KeyboardInterrupt at Ctrl-C and SystemExit(143) at SIGTERM, which no search over estimators takes for a failed fit."""
        from echoic.read.split import split, within

        texts, targets = texts_of(X), read_targets(y, self.multilabel)
        _same_length(texts, targets.labels, "y")
        if len(texts) < 2:
            raise DataError(f"X has {len(texts)} texts (n_samples={len(texts)}); needs at least 2, one to validate on")
        if groups is not None:
            _same_length(texts, groups, "groups")
        groups = [None] * len(texts) if groups is None else groups
        keys = [None if is_nothing(group) else str(group) for group in groups]
        rows = zip(texts, targets.labels, keys, strict=True)
        examples = [Example(text, label, key, i) for i, (text, label, key) in enumerate(rows, 1)]
        config, said = self._config(), self._said()
        first, second = split(examples, config.data.valid_fraction, config.seed, said)
        train, valid = [examples[i] for i in first], [examples[i] for i in second]
        self._train(train, within(train, valid, said) if self.multilabel else valid, config)
        self._name(targets.classes, targets.names, targets.form)
        return self

    def _name(self, classes: np.ndarray, names: Sequence[str], form: str) -> None:
        """`classes_`, in the type they came in, and the network's output for each, -1 for none."""
        self.classes_, self._form = classes, form
        place = {name: i for i, name in enumerate(self.model_.task.names)}
        self._columns = np.array([place.get(name, -1) for name in names], np.int64)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A saved classifier, ready to answer: `classes_` are its labels as texts, with several labels `multilabel`
        is set. The other parameters it was trained by are in its `config`, not restored here."""
        made = super().load(path)
        task = made.model_.task
        made.multilabel = task.several
        made._name(np.asarray(task.names), task.names, "lists" if task.several else "single")
        return made

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """(N, C) float64, columns as in `classes_`. Rows sum to 1, unless multilabel, where each number
        is the probability of one label, 0 for one that no training row had."""
        check_is_fitted(self)
        texts = texts_of(X)
        if not texts:
            return np.empty((0, len(self.classes_)))
        outputs = self.model_.outputs(texts).astype(np.float64)
        return np.where(self._columns >= 0, self.model_.task.probabilities(outputs)[:, self._columns], 0.0)

    def predict(self, X: Sequence[str]) -> Any:
        """(N,) the most probable labels. Multilabel: in the form that `fit` was given, a list of tuples of
        labels or an (N, C) array of 0 and 1, by the thresholds chosen on the validation part."""
        probabilities = self.predict_proba(X)
        if not self.multilabel:
            return self.classes_[probabilities.argmax(1)]
        given = (probabilities >= self.model_.task.thresholds[self._columns]) & (self._columns >= 0)
        if self._form == "indicator":
            return given.astype(np.int64)
        return [tuple(self.classes_[row].tolist()) for row in given]

    def explain(self, X: Sequence[str], method: str = "integrated-gradients", label: Any = None) -> list[Any]:
        """Why each text is answered as it is: one `echoic.explain.record.Explanation` a text, of the label answered
        or of `label`, with a score for every token and its place in the text."""
        check_is_fitted(self)
        return self.model_.explain(texts_of(X), method, None if label is None else str(label))

    def score(self, X: Sequence[str], y: Any, sample_weight: Any = None) -> float:
        """The share of texts answered right: multilabel, with all their labels; soft, with the most probable one."""
        targets = read_targets(y, self.multilabel)
        _same_length(X, targets.labels, "y")
        if targets.form == "soft":
            right = self.predict(X) == self.classes_[np.asarray(y, np.float64).argmax(1)]
        elif targets.form == "indicator":
            right = (self.predict(X) == np.asarray(y)).all(1)
        elif targets.form == "lists":
            right = np.array([set(a) == set(b) for a, b in zip(self.predict(X), y, strict=True)])
        else:
            right = self.predict(X) == np.asarray(y)
        return float(np.average(right, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.classifier_tags.multi_label = bool(self.multilabel)
        return tags


def configuration(
    given: Mapping[str, Any],
    keys: Mapping[str, tuple[str, ...]],
    settings: Mapping[str, Any] | None,
    random_state: Any,
    source: str,
    kind: str,
) -> Config:
    """An estimator's parameters, each at the places that `keys` names, and its other `settings`, as a Config."""
    values: dict[str, Any] = {}
    seed = 0 if random_state is None else random_state
    if not isinstance(seed, (int, np.integer)):
        seed = check_random_state(seed).randint(2**31 - 1)
    owner = {key: name for name, places in keys.items() for key in places}
    flat = {key: given[name] for key, name in owner.items() if name in given} | {"task.kind": kind, "seed": int(seed)}
    for key, value in (settings or {}).items():
        if key in owner:
            raise ConfigError(f"settings: {key!r} has a parameter of its own: {owner[key]}={value!r}")
        if key.startswith(NO_FILE):
            raise ConfigError(
                f"settings: {show(key)!r} says nothing here; data come as X and y, the seed as random_state"
            )
        if isinstance(value, Mapping) or any(key.startswith(f"{other}.") for other in flat):
            raise ConfigError(f"settings: {show(key)!r}: wants a whole name and its value, as 'train.clip': 1.0")
        flat[key] = value
    for key, value in flat.items():
        *path, last = key.split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value.item() if isinstance(value, np.generic) else value
    return Config.parse(values, source)


def texts_of(X: Any) -> list[str]:
    """X as a list of str. A table, a single text or anything that is no text is refused."""
    if isinstance(X, (str, bytes)):
        raise DataError("X is one text; pass a list of texts")
    if getattr(X, "ndim", 1) != 1:
        raise DataError(f"X has shape {tuple(X.shape)}; pass a sequence of texts: one column, as in frame['text']")
    texts = list(X)
    for i, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(f"X: text {i} is a {type(text).__name__}, not a text ({show(text)})")
    return [str(text) for text in texts]


def _same_length(texts: Sequence[str], other: Sequence[Any], name: str) -> None:
    if len(texts) != len(other):
        raise DataError(f"X has {len(texts):,} texts and {name} {len(other):,}: inconsistent numbers of samples")


@contextmanager
def _threads_kept() -> Iterator[None]:
    """`threads` in the settings holds while fitting; the caller's number is put back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def _interrupting() -> Iterator[None]:
    """Ctrl-C and SIGTERM as Python's own: GridSearchCV would count Interrupted, an Exception, as a failed fold."""
    from echoic.train.signals import Interrupted

    try:
        yield
    except Interrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) if stopped.exit_code == 130 else SystemExit(stopped.exit_code) from None


def _to_stderr(note: str) -> None:
    print(note, file=sys.stderr)
