"""Fits the n-gram path: a convex problem, so by L-BFGS over all the rows instead of by steps over batches.

    minimise  sum_i l(y_i, b + X_i (R * V)) + lambda/2 |V|^2          W = R * V

X is n-gram presence, R scales each n-gram for each class, and l is the cross entropy (a softmax for
one label, a sigmoid a class for several). R is the naive Bayes log ratio of Wang and Manning
(2012), "Baselines and Bigrams", eq. 1, one class against the rest:

    r_c = log( (p_c / |p_c|) / (q_c / |q_c|) ),   p_c = 1 + n-gram counts in class c,  q_c = in the others

so an n-gram that tells the classes apart is nearly free to use and one that does not is held at
nought. lambda and the longest n-gram are chosen on the validation part: short texts want bigrams, long ones
trigrams. L-BFGS takes at most STEPS steps for a lambda: near the minimum, and on large data short of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import minimize

from echoic.layers.ngrams import NgramPath, hashes

PENALTIES = (16.0, 4.0, 1.0)
"""lambda tried; each starts where the one before ended."""

STEPS = 60
"""Of L-BFGS, for each lambda."""

MIN_TEXTS = 2
"""An n-gram found in fewer training texts is left out."""


@dataclass(frozen=True)
class NgramFit:
    path: NgramPath
    features: int
    penalty: float
    loss: float
    """Mean loss on the validation part."""


def fit_ngrams(
    rows: Sequence[np.ndarray],
    targets: np.ndarray,
    valid_rows: Sequence[np.ndarray],
    valid_targets: np.ndarray,
    *,
    order: int,
    size_bits: int,
    several: bool,
    weights: np.ndarray | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> NgramFit:
    """The path whose validation loss is least, of those of n-grams up to 2, 3, ... `order` tokens.

    `rows`: ragged token ids; `targets`: (N, C) probabilities, or noughts and ones for several
    labels; `weights`: (N,) what each training row counts for.
    """
    counts = np.ones(len(targets), np.float32) if weights is None else weights.astype(np.float32)
    best: NgramFit | None = None
    for longest in range(min(2, order), order + 1):
        grams = [_distinct(row, longest) for row in rows]
        frequent, least = _frequent(grams)
        owner = _table(frequent, (1 << size_bits) // targets.shape[1])
        kept = int((owner >= 0).sum())
        said(
            f"n-gram path: up to {longest} tokens, in {least} texts or more: {kept:,} of {len(frequent):,} n-grams kept (model.ngram_size)"
        )
        train = _presence(grams, owner)
        valid = _presence([_distinct(row, longest) for row in valid_rows], owner)
        ratio = _ratio(train, targets)
        start = None
        for penalty in PENALTIES:
            start = weight, bias = _solve(train, targets, ratio, penalty, several, counts, start)
            loss = float(_loss(valid @ (ratio * weight) + bias, valid_targets, several).mean())
            said(f"n-gram path: up to {longest} tokens, penalty {penalty:g}: validation loss {loss:.4f}")
            if best is None or loss < best.loss:
                best = NgramFit(_path(owner, ratio * weight, bias, longest), kept, penalty, loss)
    assert best is not None
    return best


def _path(owner: np.ndarray, weight: np.ndarray, bias: np.ndarray, order: int) -> NgramPath:
    path = NgramPath(len(owner), len(bias), order)
    path.check.copy_(torch.from_numpy(owner))
    path.weight.copy_(torch.from_numpy(weight))
    path.bias.copy_(torch.from_numpy(bias))
    return path


def _distinct(row: np.ndarray, order: int) -> np.ndarray:
    """(T,) ids -> the sorted distinct hashes of its n-grams."""
    ids = torch.from_numpy(row.astype(np.int64))[None]
    found = np.unique(hashes(ids, torch.tensor([len(row)]), order).numpy())
    return found[found >= 0]


def _frequent(hashed: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """(F,) the n-grams that stand in `least` texts or more, the rarest first, and `least`: MIN_TEXTS, or
    1 where every n-gram stands in one text."""
    grams, texts = np.unique(np.concatenate([*hashed, np.empty(0, np.int64)]), return_counts=True)
    least = min(MIN_TEXTS, int(texts.max(initial=1)))
    grams, texts = grams[texts >= least], texts[texts >= least]
    return grams[np.lexsort((grams, texts))], least


def _table(rarest_first: np.ndarray, most: int) -> np.ndarray:
    """Which n-gram owns which slot: `check` (S,) int32, S at least twice the n-grams unless that
    is above `most`. Of n-grams that meet in a slot, the more frequent one has it."""
    size = 1 << int(np.log2(max(min(4 * len(rarest_first), most), 16)))
    owner = np.full(size, -1, np.int32)
    owner[rarest_first % size] = rarest_first // size
    return owner


def _presence(texts: Sequence[np.ndarray], owner: np.ndarray) -> sparse.csr_matrix:
    """(N, S) noughts and ones: which slots' n-grams occur in which text."""
    columns, ends = [], [0]
    for grams in texts:
        slots = grams % len(owner)
        slots = slots[owner[slots] == grams // len(owner)]
        columns.append(slots.astype(np.int32))
        ends.append(ends[-1] + len(slots))
    indices = np.concatenate([*columns, np.empty(0, np.int32)])
    return sparse.csr_matrix((np.ones(len(indices), np.float32), indices, ends), shape=(len(texts), len(owner)))


def _ratio(x: sparse.csr_matrix, targets: np.ndarray) -> np.ndarray:
    """(S, C) naive Bayes log ratios of each class against the rest; 0 for a slot without an owner."""
    inside = np.asarray(x.T @ targets.astype(np.float32), np.float64)
    total = np.asarray(x.sum(0), np.float64).T
    found = total > 0
    p, q = inside + 1, total - inside + 1
    ratio = np.log(p / p.sum(0, where=found)) - np.log(q / q.sum(0, where=found))
    return np.where(found, ratio, 0).astype(np.float32)


def _loss(logits: np.ndarray, targets: np.ndarray, several: bool) -> np.ndarray:
    """(N, C) logits and targets -> (N,) cross entropies."""
    if several:
        return np.asarray((np.logaddexp(0, logits) - targets * logits).sum(1))
    top = logits.max(1, keepdims=True)
    return np.asarray(np.log(np.exp(logits - top).sum(1)) + top[:, 0] - (targets * logits).sum(1))


def _probabilities(logits: np.ndarray, several: bool) -> np.ndarray:
    if several:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))))
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exp / exp.sum(1, keepdims=True))


def _objective(
    x: sparse.csr_matrix, targets: np.ndarray, ratio: np.ndarray, penalty: float, several: bool, counts: np.ndarray
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """What is minimised: V (S, C) and b (C,), in one flat vector -> its value and its gradient."""
    back, classes = x.T.tocsr(), targets.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        v, b = flat[:-classes].reshape(-1, classes).astype(x.dtype), flat[-classes:]
        logits = x @ (ratio * v) + b
        loss = float(counts @ _loss(logits, targets, several)) + penalty / 2 * float((v * v).sum())
        slope = ((_probabilities(logits, several) - targets) * counts[:, None]).astype(x.dtype)
        gradient = ratio * (back @ slope) + penalty * v
        return loss, np.concatenate([gradient.ravel(), slope.sum(0)]).astype(np.float64)

    return objective


def _solve(
    x: sparse.csr_matrix,
    targets: np.ndarray,
    ratio: np.ndarray,
    penalty: float,
    several: bool,
    counts: np.ndarray,
    start: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """L-BFGS from `start` -> V (S, C) and b (C,)."""
    used = np.flatnonzero(np.asarray(x.sum(0)).ravel())
    x, ratio, slots, classes = x[:, used], ratio[used], len(ratio), targets.shape[1]
    objective = _objective(x, targets, ratio, penalty, several, counts)
    first = np.zeros(len(used) * classes + classes)
    if start is not None:
        first = np.concatenate([start[0][used].ravel(), start[1]]).astype(np.float64)
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 5}).x
    weight = np.zeros((slots, classes), np.float32)
    weight[used] = found[:-classes].reshape(-1, classes)
    return weight, found[-classes:].astype(np.float32)
