"""Scores of a classifier, from its probabilities.

N rows, C classes. Three kinds of target, one word each:

    single    (N,) int64            one class a row; the most probable class is the answer
    several   (N, C) 0 or 1         labels that stand together; a label is given where p >= its threshold
    soft      (N, C) probabilities  judgements to imitate; hard scores are against their argmax

Rates that would divide by zero are 0. A class that stands neither in the targets nor in the answers
of the rows scored is listed with support 0 and left out of the macro average, as in scikit-learn; for
several labels every label counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from echoic.core.errors import DataError

Kind = Literal["single", "several", "soft"]

BINS = 15
FLOOR = 1e-12
"""A probability is read as at least this much in a logarithm, so that a loss stays a number."""


def classification(
    probabilities: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    *,
    kind: Kind = "single",
    thresholds: np.ndarray | None = None,
) -> dict[str, Any]:
    """Every score of the answers, ready for JSON.

    probabilities (N, C); targets as the module says; thresholds (C,), 0.5 each if not given, for
    kind="several" only. Returns

    examples, accuracy (several: all labels of a row right), macro_f1, micro_f1, loss (mean negative
    log likelihood in nats a row; several: the sum over labels; soft: cross entropy), brier (single,
    soft: mean over rows of the sum over classes, 0 to 2, Brier 1950; several: mean over rows and
    labels), ece and bins (see `reliability`), per_class {name: {precision, recall, f1, support}},
    and: single, soft: confusion, rows the targets, columns the answers. several: hamming (share of
    single labels wrong), thresholds {name: t}. soft: divergence (mean Kullback-Leibler from the
    targets, which is the loss less what no model can remove).

    Raises DataError for no rows, or for probabilities that are not finite.
    """
    probabilities = _checked(probabilities, targets, names, kind)
    answers = decide(probabilities, kind=kind, thresholds=thresholds)
    truth = hard(targets, kind)
    hits, given, wanted = _counts(answers, truth, len(names))
    per_class, shown = _per_class(hits, given, wanted), (given + wanted > 0) | (kind == "several")
    confidence, came_true = _events(probabilities, targets, answers, kind)
    bins = reliability(confidence, came_true)
    rows = row_losses(probabilities, targets, kind=kind)
    scores: dict[str, Any] = {
        "examples": len(probabilities),
        "accuracy": float(correct(answers, targets, kind=kind).mean()),
        "macro_f1": float(per_class["f1"][shown].mean()),
        "micro_f1": _share(2 * hits.sum(), (given + wanted).sum()),
        "loss": float(rows.mean()),
        "brier": _brier(probabilities, targets, kind),
        "ece": expected_error(bins),
        "bins": bins,
        "per_class": {
            name: {**{key: float(value[i]) for key, value in per_class.items()}, "support": int(wanted[i])}
            for i, name in enumerate(names)
        },
    }
    if kind == "several":
        cut = np.full(len(names), 0.5) if thresholds is None else thresholds
        scores["hamming"] = float((answers != truth).mean())
        scores["thresholds"] = {name: float(t) for name, t in zip(names, cut, strict=True)}
    else:
        scores["confusion"] = confusion(answers, truth, len(names)).tolist()
    if kind == "soft":
        known = np.where(targets > 0, targets, 1.0)
        scores["divergence"] = float(rows.mean() + (targets * np.log(known)).sum(1).mean())
    return scores


def decide(probabilities: np.ndarray, *, kind: Kind = "single", thresholds: np.ndarray | None = None) -> np.ndarray:
    """The answers: (N,) int64 class numbers (the first of equals), or (N, C) bool for several labels."""
    if kind == "several":
        return np.asarray(probabilities >= (0.5 if thresholds is None else np.asarray(thresholds)))
    return np.asarray(probabilities.argmax(1))


def hard(targets: np.ndarray, kind: Kind) -> np.ndarray:
    """Targets in the shape of `decide`'s answers."""
    if kind == "several":
        return np.asarray(targets) > 0.5
    return np.asarray(targets.argmax(1) if kind == "soft" else targets)


def correct(answers: np.ndarray, targets: np.ndarray, *, kind: Kind = "single") -> np.ndarray:
    """(N,) bool: is the row's answer (all of it, for several labels) right?"""
    same = answers == hard(targets, kind)
    return np.asarray(same.all(1) if kind == "several" else same)


def macro_f1(answers: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """The mean F1 of the classes, for answers and truth as `decide` and `hard` give them."""
    hits, given, wanted = _counts(answers, truth, classes)
    shown = (given + wanted > 0) | (answers.ndim == 2)
    return float(_per_class(hits, given, wanted)["f1"][shown].mean())


def confusion(answers: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) int64: row = target, column = answer."""
    return np.bincount(truth * classes + answers, minlength=classes * classes).reshape(classes, classes)


def row_losses(probabilities: np.ndarray, targets: np.ndarray, *, kind: Kind = "single") -> np.ndarray:
    """(N,) negative log likelihood of each row, in nats."""
    logs = np.log(np.maximum(probabilities, FLOOR))
    if kind == "single":
        return np.asarray(-logs[np.arange(len(targets)), targets])
    if kind == "soft":
        return np.asarray(-(targets * logs).sum(1))
    absent = np.log(np.maximum(1.0 - probabilities, FLOOR))
    return np.asarray(-(targets * logs + (1 - targets) * absent).sum(1))


def hardest(
    probabilities: np.ndarray,
    targets: np.ndarray,
    count: int,
    *,
    kind: Kind = "single",
    thresholds: np.ndarray | None = None,
) -> np.ndarray:
    """The places of the `count` wrong rows with the greatest loss, worst first."""
    answers = decide(probabilities, kind=kind, thresholds=thresholds)
    wrong = np.flatnonzero(~correct(answers, targets, kind=kind))
    return wrong[np.argsort(-row_losses(probabilities, targets, kind=kind)[wrong], kind="stable")[:count]]


def reliability(confidence: np.ndarray, came_true: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """The reliability diagram: {count, confidence, accuracy, low, high} of up to `bins` bins of equal
    mass (Nguyen and O'Connor 2015). Equal confidences share a bin, so that the order
    of rows changes nothing and there may be fewer bins."""
    order = np.argsort(confidence, kind="stable")
    sure, true = confidence[order], came_true[order].astype(np.float64)
    edges = (np.arange(1, bins) * len(sure)) // bins
    cuts = np.unique(np.searchsorted(sure, sure[edges], side="left"))
    parts = np.split(np.arange(len(sure)), cuts)
    return [
        {
            "count": len(part),
            "confidence": float(sure[part].mean()),
            "accuracy": float(true[part].mean()),
            "low": float(sure[part[0]]),
            "high": float(sure[part[-1]]),
        }
        for part in parts
        if len(part)
    ]


def expected_error(bins: Sequence[dict[str, float]]) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy, weighted by rows
    (Naeini et al. 2015; Guo et al. 2017, equation 3)."""
    total = sum(b["count"] for b in bins)
    return sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / total


def choose_thresholds(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(C,) float64: for each label the threshold with the best F1 on these (validation) rows.

    A threshold lies midway between two neighbouring probabilities; of equally good ones the nearest
    to 0.5 is taken. A label without a positive row keeps 0.5, as its F1 would be best at "never" for
    want of evidence (Lipton, Elkan and Naryanaswamy 2014)."""
    return np.array(
        [_threshold(p, t > 0.5) for p, t in zip(np.asarray(probabilities, np.float64).T, targets.T, strict=True)]
    )


def _threshold(probabilities: np.ndarray, positive: np.ndarray) -> float:
    if not positive.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    below = np.append(falling[1:], 0.0)
    middle = (falling + below) / 2
    middle = np.where(middle > below, middle, falling)
    f1 = 2 * np.cumsum(positive[order]) / (np.arange(1, len(falling) + 1) + positive.sum())
    f1[:-1][falling[:-1] == falling[1:]] = -1.0
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(middle[best[np.argmin(np.abs(middle[best] - 0.5))]])


def _checked(probabilities: np.ndarray, targets: np.ndarray, names: Sequence[str], kind: Kind) -> np.ndarray:
    if len(probabilities) == 0:
        raise DataError("there are 0 rows to score; give a file with labelled rows")
    shape = (len(probabilities),) if kind == "single" else (len(probabilities), len(names))
    if probabilities.shape != (len(probabilities), len(names)) or targets.shape != shape:
        raise ValueError(
            f"probabilities {probabilities.shape}, targets {targets.shape}, {len(names)} names: kind={kind!r} wants {shape} targets"
        )
    if not np.isfinite(probabilities).all():
        raise DataError(
            "the model's probabilities are not all finite, so there is nothing to score; its training diverged: lower train.lr"
        )
    return probabilities.astype(np.float64)


def _counts(answers: np.ndarray, truth: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C,) each: rows right, rows given the class, rows that have it."""
    if answers.ndim == 2:
        return (answers & truth).sum(0), answers.sum(0), truth.sum(0)
    matrix = confusion(answers, truth, classes)
    return matrix.diagonal(), matrix.sum(0), matrix.sum(1)


def _per_class(hits: np.ndarray, given: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "precision": hits / np.maximum(given, 1),
        "recall": hits / np.maximum(wanted, 1),
        "f1": 2 * hits / np.maximum(given + wanted, 1),
    }


def _events(
    probabilities: np.ndarray, targets: np.ndarray, answers: np.ndarray, kind: Kind
) -> tuple[np.ndarray, np.ndarray]:
    """What was said with which confidence, and whether it came true: a row's answer, or for several
    labels each label of each row."""
    if kind == "several":
        return probabilities.ravel(), np.asarray(targets > 0.5).ravel()
    return probabilities.max(1), correct(answers, targets, kind=kind)


def _brier(probabilities: np.ndarray, targets: np.ndarray, kind: Kind) -> float:
    wanted = np.eye(probabilities.shape[1])[targets] if kind == "single" else targets
    squares = (probabilities - wanted) ** 2
    return float(squares.mean() if kind == "several" else squares.sum(1).mean())


def _share(part: int | np.integer[Any], whole: int | np.integer[Any]) -> float:
    return float(part / whole) if whole else 0.0
