"""Logits -> labels: the record of a classifier's answer, the same from torch and without it.

p = probabilities(logits, several)                      (N, C)
found = records(texts, p, names, several, thresholds, min_confidence)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, Field

from echoic.core.bundle import canonical
from echoic.core.errors import BundleError

FILE = "classify.json"


class Prediction(BaseModel):
    """One answer. `label` is None where the model abstains or, with several labels, has none."""

    text: str
    label: str | None
    labels: list[str] | None = Field(None, description="with several labels: all above their thresholds")
    confidence: float = Field(description="the probability of the label (with several: of the most probable)")
    probabilities: dict[str, float]


def probabilities(logits: np.ndarray, several: bool) -> np.ndarray:
    """Logits (N, C) -> probabilities (N, C); rows sum to one unless several labels are possible."""
    if several:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))))
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exp / exp.sum(1, keepdims=True))


def records(
    texts: Sequence[str],
    found: np.ndarray,
    names: Sequence[str],
    several: bool = False,
    thresholds: np.ndarray | None = None,
    min_confidence: float = 0.0,
) -> list[Prediction]:
    """Probabilities (N, C) -> records. Below `min_confidence` the model abstains: label None. With several labels
    each is given from its threshold on; without `thresholds` that is one half."""
    out = []
    for text, row in zip(texts, found, strict=True):
        best = int(row.argmax())
        given: list[str] | None = None
        label: str | None = names[best]
        if several:
            cuts = np.full(len(row), 0.5) if thresholds is None else thresholds
            chosen = np.flatnonzero(row >= np.maximum(cuts, min_confidence)).tolist()
            given = [names[i] for i in chosen]
            label = names[best] if best in chosen else (given[0] if given else None)
        elif row[best] < min_confidence:
            label = None
        each = {name: float(p) for name, p in zip(names, row, strict=True)}
        out.append(Prediction(text=text, label=label, labels=given, confidence=float(row[best]), probabilities=each))
    return out


def write_thresholds(thresholds: np.ndarray | None) -> dict[str, bytes]:
    """Their file in a bundle."""
    return {FILE: canonical({"thresholds": None if thresholds is None else [float(t) for t in thresholds]})}


def read_thresholds(files: Mapping[str, bytes], classes: int) -> np.ndarray | None:
    """(C,) float64 or None, as `write_thresholds` wrote them. Raises BundleError for anything else."""
    try:
        stated = json.loads(files[FILE])["thresholds"]
        thresholds = None if stated is None else np.array(stated, np.float64)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"{FILE}: missing, or not what echoic wrote (wants thresholds)") from None
    if thresholds is not None and (thresholds.shape != (classes,) or not np.isfinite(thresholds).all()):
        raise BundleError(f"{FILE}: thresholds: wants a number for each of {classes:,} labels")
    return thresholds
