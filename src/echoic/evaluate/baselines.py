"""What every model must beat: the majority class, and TF-IDF with logistic regression. Frozen.

    tf-idf      words (1,2), or characters (1,3) for Chinese; lower case; (1 + ln tf) (1 + ln((1 + N) / (1 + df)));
                rows of length 1; a term must stand in 2 rows of the training part
    regression  L2, C from {1, 3, 10, 30}: the one with the best validation score (accuracy; macro F1 at
                chosen thresholds for several labels), the smallest of equals

Fitted on the training part only, C chosen on the network's validation part. scikit-learn fits the
regression; nothing but NumPy is needed to predict, from a list of terms and three arrays.

Several labels: one regression a label. Soft labels: a row counts once for each of its classes, weighted
by the class's probability, which is exactly the cross entropy with soft targets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from echoic.core.bundle import canonical
from echoic.core.errors import BundleError, Unavailable
from echoic.evaluate import metrics
from echoic.evaluate.calibration import probabilities as squash
from echoic.evaluate.metrics import Kind

STRENGTHS = (1.0, 3.0, 10.0, 30.0)
MIN_DF = 2
ARRAYS, TERMS = "baseline.safetensors", "baseline.json"

_WORD = re.compile(r"\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")

Row = tuple[np.ndarray, np.ndarray]
"""One text: the places of its terms (ascending, int32) and their values (float32)."""


class Regression(NamedTuple):
    """Logits (N, K) = x (N, V) @ weights (V, K) + bias (K,), both float32. Column k is class seen[k]; two
    classes have one column, the second's logit. A class that training did not hold has none."""

    weights: np.ndarray
    bias: np.ndarray
    seen: list[int]


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline. V terms, C classes."""

    names: list[str]
    kind: Kind
    chinese: bool
    terms: dict[str, int]
    idf: np.ndarray
    """(V,) float32."""
    regression: Regression
    c: float
    """The regression's C."""
    shares: np.ndarray
    """(C,) float64, `class_shares` of the training part."""
    thresholds: np.ndarray | None
    """(C,) float64 for several labels, chosen on validation."""
    note: str
    """What was out of the ordinary; empty if nothing was."""

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        targets: np.ndarray,
        valid_texts: Sequence[str],
        valid_targets: np.ndarray,
        *,
        chinese: bool,
        kind: Kind,
        names: Sequence[str],
    ) -> Baseline:
        """targets (N,) int64, or (N, C) for several and soft labels. The answer depends on no seed.
        Raises Unavailable without scikit-learn."""
        terms, idf, rows, note = _vocabulary(texts, chinese)
        valid = [_row(text, chinese, terms, idf) for text in valid_texts]
        best, tried = -1.0, None
        for c, regression in _regressions(_sparse(rows, len(terms)), targets, kind):
            score, cut = _validated(regression, valid, valid_targets, kind, len(names))
            if score > best:
                best, tried = score, (c, regression, cut)
        assert tried is not None
        shares = class_shares(targets, len(names), kind)
        return cls(list(names), kind, chinese, terms, idf, tried[1], tried[0], shares, tried[2], note)

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C) float64. A class that training did not hold gets 0."""
        rows = (_row(text, self.chinese, self.terms, self.idf) for text in texts)
        return _probabilities(self.regression, rows, self.kind, len(self.names))

    def majority_proba(self, rows: int) -> np.ndarray:
        """(N, C): the training part's class shares for each of `rows` rows; their argmax is the majority class."""
        return np.tile(self.shares, (rows, 1))

    def files(self) -> dict[str, bytes]:
        """For the bundle: the arrays as safetensors, the rest as JSON."""
        from safetensors.numpy import save

        about = {
            "names": self.names,
            "kind": self.kind,
            "chinese": self.chinese,
            "c": self.c,
            "seen": self.regression.seen,
            "shares": self.shares.tolist(),
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
            "note": self.note,
            "terms": list(self.terms),
        }
        arrays = {"idf": self.idf, "weights": self.regression.weights, "bias": self.regression.bias}
        return {ARRAYS: save({k: np.ascontiguousarray(v) for k, v in arrays.items()}), TERMS: canonical(about)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Baseline:
        """From the bytes that `files` gave, which the bundle has verified. Raises BundleError."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays, about = load(files[ARRAYS]), json.loads(files[TERMS])
            made = cls(
                names=about["names"],
                kind=about["kind"],
                chinese=about["chinese"],
                terms={term: i for i, term in enumerate(about["terms"])},
                idf=arrays["idf"],
                regression=Regression(arrays["weights"], arrays["bias"], about["seen"]),
                c=about["c"],
                shares=np.array(about["shares"]),
                thresholds=None if about["thresholds"] is None else np.array(about["thresholds"]),
                note=about["note"],
            )
        except (KeyError, ValueError, TypeError, SafetensorError) as error:
            raise BundleError(f"{ARRAYS}, {TERMS}: not a baseline that echoic wrote ({type(error).__name__})") from None
        if not len(made.terms) == len(made.idf) == len(made.regression.weights):
            raise BundleError(
                f"{TERMS} lists {len(made.terms):,} terms and {ARRAYS} holds {len(made.idf):,}: not of one baseline"
            )
        return made


def class_shares(targets: np.ndarray, classes: int, kind: Kind) -> np.ndarray:
    """(C,) float64: the share of each class (label) among training rows. Said of every row, it is the
    majority baseline."""
    if kind == "single":
        return np.asarray(np.bincount(targets, minlength=classes) / max(len(targets), 1))
    return np.asarray(np.asarray(targets, np.float64).mean(0))


def grams(text: str, chinese: bool) -> Iterator[str]:
    """The terms of a text, as scikit-learn's TfidfVectorizer makes them: words of two or more characters,
    alone and in pairs; for Chinese one to three characters, a run of spaces counting as one."""
    text = text.lower()
    if chinese:
        text = _SPACES.sub(" ", text)
        for n in (1, 2, 3):
            yield from (text[i : i + n] for i in range(len(text) - n + 1))
        return
    words = _WORD.findall(text)
    yield from words
    yield from (f"{a} {b}" for a, b in pairwise(words))


def _vocabulary(texts: Sequence[str], chinese: bool) -> tuple[dict[str, int], np.ndarray, list[Row], str]:
    """(terms in alphabetical order, idf (V,), the texts' rows, note). Where no term stands in MIN_DF
    texts every term is taken; where there is none at all V is 0."""
    found: dict[str, int] = {}
    counted = [
        np.unique([found.setdefault(gram, len(found)) for gram in grams(text, chinese)], return_counts=True)
        for text in texts
    ]
    df = np.bincount(np.concatenate([places for places, _ in counted]).astype(np.int64), minlength=len(found))
    words, note = np.array(list(found), dtype=object), ""
    kept = np.flatnonzero(df >= MIN_DF)
    if not len(kept):
        kept = np.arange(len(found))
        note = (
            "no term stands in two training texts, so terms of a single text count"
            if len(kept)
            else "the training texts hold no term, so it knows the class shares only"
        )
    kept = kept[np.argsort(words[kept], kind="stable")]
    moved = np.full(len(found), -1, np.int64)
    moved[kept] = np.arange(len(kept))
    idf = (1.0 + np.log((1 + len(texts)) / (1 + df[kept]))).astype(np.float32)
    rows = [_weighted(moved[places.astype(np.int64)], counts, idf) for places, counts in counted]
    return {term: i for i, term in enumerate(words[kept])}, idf, rows, note


def _row(text: str, chinese: bool, terms: Mapping[str, int], idf: np.ndarray) -> Row:
    places, counts = np.unique(
        np.array([terms.get(gram, -1) for gram in grams(text, chinese)], np.int64), return_counts=True
    )
    return _weighted(places, counts, idf)


def _weighted(places: np.ndarray, counts: np.ndarray, idf: np.ndarray) -> Row:
    """tf-idf of length 1, of the terms whose place is known (>= 0)."""
    order = np.argsort(places, kind="stable")
    order = order[places[order] >= 0]
    places = places[order]
    values = (1.0 + np.log(counts[order])) * idf[places]
    return places.astype(np.int32), (values / max(float(np.sqrt(values @ values)), 1e-30)).astype(np.float32)


def _sparse(rows: Sequence[Row], terms: int) -> Any:
    """(N, V) scipy CSR, float32."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        raise Unavailable("the TF-IDF baseline needs scipy: pip install 'echoic[train]'") from None
    ends = np.cumsum([0, *(len(places) for places, _ in rows)])
    return csr_matrix(
        (np.concatenate([v for _, v in rows]), np.concatenate([p for p, _ in rows]), ends), shape=(len(rows), terms)
    )


def _probabilities(regression: Regression, rows: Iterator[Row] | Sequence[Row], kind: Kind, classes: int) -> np.ndarray:
    """(N, C) float64."""
    weights, bias, seen = regression
    logits = np.array([values @ weights[places] for places, values in rows], np.float64).reshape(-1, len(bias)) + bias
    if kind == "several":
        return squash(logits, kind)
    if len(seen) == 2:
        logits = np.hstack([np.zeros_like(logits), logits])
    out = np.zeros((len(logits), classes))
    out[:, seen] = squash(logits)
    return out


def _validated(
    regression: Regression, rows: Sequence[Row], targets: np.ndarray, kind: Kind, classes: int
) -> tuple[float, np.ndarray | None]:
    """(score, thresholds for several labels) on the validation rows."""
    if not len(rows):
        return 0.0, None
    p = _probabilities(regression, rows, kind, classes)
    if kind != "several":
        return float(metrics.correct(p.argmax(1), targets, kind=kind).mean()), None
    cut = metrics.choose_thresholds(p, targets)
    return metrics.macro_f1(metrics.decide(p, kind=kind, thresholds=cut), targets > 0.5, classes), cut


def _regressions(x: Any, targets: np.ndarray, kind: Kind) -> Iterator[tuple[float, Regression]]:
    """(C, what it gives) for each C, rising; each starts from the one before."""
    if kind == "several":
        return _one_per_label(x, targets > 0.5)
    if kind == "single":
        return _multinomial(x, targets, np.ones(len(targets)))
    rows, classes = np.nonzero(targets > 0)
    return _multinomial(x[rows], classes, np.asarray(targets, np.float64)[rows, classes])


def _multinomial(x: Any, targets: np.ndarray, weight: np.ndarray) -> Iterator[tuple[float, Regression]]:
    seen = [int(c) for c in np.unique(targets)]
    if len(seen) == 1 or not x.shape[1]:
        columns = 1 if len(seen) <= 2 else len(seen)
        shares = np.log(np.bincount(targets, weight)[seen])
        bias = {1: np.zeros(1), 2: shares[1:] - shares[:1]}.get(len(seen), shares)
        yield STRENGTHS[0], _regression(np.zeros((x.shape[1], columns)), bias, seen)
        return
    model = _logistic(float(weight.sum()))
    for c in STRENGTHS:
        model.set_params(C=c).fit(x, targets, sample_weight=weight)
        yield c, _regression(model.coef_.T, model.intercept_, seen)


def _one_per_label(x: Any, targets: np.ndarray) -> Iterator[tuple[float, Regression]]:
    """A label that all rows or none have is answered by its log odds, half a row added to each side."""
    rows, labels = targets.shape
    counts = targets.sum(0)
    weights, bias = np.zeros((x.shape[1], labels)), np.log((counts + 0.5) / (rows - counts + 0.5))
    models = {i: _logistic(rows) for i in range(labels) if 0 < counts[i] < rows and x.shape[1]}
    for c in STRENGTHS:
        for i, model in models.items():
            model.set_params(C=c).fit(x, targets[:, i])
            weights[:, i], bias[i] = model.coef_[0], model.intercept_[0]
        yield c, _regression(weights, bias, list(range(labels)))


def _logistic(rows: float) -> Any:
    """Newton's method with conjugate gradients, measured about twice as fast as L-BFGS where there are many
    classes. The tolerance, on the mean gradient, falls with the rows: at scikit-learn's fixed 1e-4 a warm
    start from C = 10 counts as solved for C = 30 on 20,000 rows."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise Unavailable("the TF-IDF baseline needs scikit-learn: pip install 'echoic[train]'") from None
    return LogisticRegression(solver="newton-cg", tol=min(1e-5, 0.1 / rows), max_iter=1000, warm_start=True)


def _regression(weights: np.ndarray, bias: np.ndarray, seen: list[int]) -> Regression:
    return Regression(weights.astype(np.float32), bias.astype(np.float32), seen)
