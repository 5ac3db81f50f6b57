"""The convex fit of the n-gram path, against the page's objective written out with sets and dicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad

from echoic.core.types import pad
from echoic.layers.ngrams import hashes
from echoic.train import ngrams
from echoic.train.ngrams import NgramFit, fit_ngrams

Gram = tuple[int, ...]
ORDER = 2


def toy(rows: int, seed: int, classes: int = 2) -> tuple[list[np.ndarray], np.ndarray]:
    """Texts of eight words out of 12; word 3 + c stands once in a text of class c, one in eight is mislabelled."""
    draws = np.random.default_rng(seed)
    ids = draws.integers(3 + classes, 15, (rows, 8)).astype(np.int32)
    label = draws.integers(0, classes, rows)
    ids[np.arange(rows), draws.integers(0, 8, rows)] = 3 + label
    label = np.where(draws.random(rows) < 1 / 8, draws.integers(0, classes, rows), label)
    return list(ids), np.eye(classes, dtype=np.float32)[label]


def fitted(**changed: object) -> NgramFit:
    (rows, targets), (valid, valid_targets) = toy(60, 0), toy(40, 1)
    given: dict[str, object] = {"order": ORDER, "size_bits": 16, "several": False, **changed}
    return fit_ngrams(rows, given.pop("targets", targets), valid, given.pop("valid_targets", valid_targets), **given)  # type: ignore[arg-type]


def logits_of(fit: NgramFit, rows: Sequence[np.ndarray]) -> np.ndarray:
    ids, lengths = pad(rows)
    return fit.path(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy().astype(np.float64)


def cross_entropy(logits: np.ndarray, targets: np.ndarray, several: bool) -> np.ndarray:
    """(N,) from textbook formulas."""
    if several:
        p = 1 / (1 + np.exp(-logits))
        return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -(targets * np.log(p)).sum(1)


# The page's objective, with sets of tuples


def grams(row: np.ndarray) -> set[Gram]:
    ids = row.tolist()
    return {tuple(ids[i : i + n]) for n in range(1, ORDER + 1) for i in range(len(ids) - n + 1)}


def presence(rows: Sequence[np.ndarray], known: Sequence[Gram]) -> np.ndarray:
    """(N, F) dense."""
    return np.array([[float(gram in found) for gram in known] for found in map(grams, rows)])


def known_grams(rows: Sequence[np.ndarray]) -> list[Gram]:
    counts: dict[Gram, int] = {}
    for row in rows:
        for gram in grams(row):
            counts[gram] = counts.get(gram, 0) + 1
    return sorted(gram for gram, count in counts.items() if count >= ngrams.MIN_TEXTS)


def bayes(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(F, C): Wang and Manning's r, one class against the rest, a loop for each number."""
    out = np.zeros((x.shape[1], targets.shape[1]))
    for c in range(targets.shape[1]):
        p = [1 + math.fsum(x[:, f] * targets[:, c]) for f in range(x.shape[1])]
        q = [1 + math.fsum(x[:, f] * (1 - targets[:, c])) for f in range(x.shape[1])]
        out[:, c] = [math.log((p[f] / sum(p)) / (q[f] / sum(q))) for f in range(len(p))]
    return out


def minimum(
    x: np.ndarray, r: np.ndarray, targets: np.ndarray, penalty: float, several: bool, counts: np.ndarray
) -> float:
    """The least value of the objective, by Newton steps (float64, dense) on V and b."""
    features, classes = r.shape
    design = np.concatenate(
        [np.concatenate([x * r[:, c], np.ones((len(x), 1))], 1)[:, None] for c in range(classes)], 1
    )
    ridge = np.tile(np.r_[np.full(features, penalty), 1e-9], (classes, 1))
    theta = np.zeros((classes, features + 1))
    for _ in range(30):
        logits = np.einsum("ncf,cf->nc", design, theta)
        p = 1 / (1 + np.exp(-logits)) if several else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slope = np.einsum("ncf,nc,n->cf", design, p - targets, counts) + ridge * theta
        bend = np.einsum("nc,cd->ncd", p, np.eye(classes)) - np.einsum("nc,nd->ncd", p, p)
        if several:
            bend = np.einsum("nc,cd->ncd", p * (1 - p), np.eye(classes))
        hessian = np.einsum("ncf,ncd,ndg,n->cfdg", design, bend, design, counts, optimize=True).reshape(theta.size, -1)
        hessian[np.diag_indices(theta.size)] += ridge.ravel() + 1e-9
        theta -= np.linalg.solve(hessian, slope.ravel()).reshape(theta.shape)
    assert np.abs(slope).max() < 1e-6
    logits = np.einsum("ncf,cf->nc", design, theta)
    return float(counts @ cross_entropy(logits, targets, several) + (ridge * theta**2).sum() / 2)


def owns_its_slot(fit: NgramFit, gram: Gram) -> bool:
    """Whether no more frequent n-gram has the slot of this one."""
    hashed = int(hashes(torch.tensor([gram]), torch.tensor([len(gram)]), len(gram))[0, (len(gram) - 1) * len(gram)])
    return bool(fit.path.check[hashed % len(fit.path.check)] == hashed // len(fit.path.check))


@pytest.mark.parametrize(("classes", "several"), [(2, False), (3, False), (3, True)])
def test_the_fit_reaches_the_minimum_of_the_pages_objective(
    classes: int, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are worth what an independent Newton solution is worth, so none of hash, table, ratio,
    loss and solver is other than the page says."""
    penalty = 1.0
    monkeypatch.setattr(ngrams, "PENALTIES", (penalty,))
    (rows, targets), (valid, valid_targets) = toy(60, 0, classes), toy(20, 1, classes)
    if several:
        targets[:, 2] = np.arange(60) % 3 == 0
    counts = np.random.default_rng(5).uniform(0.5, 2, 60).astype(np.float32)
    fit = fit_ngrams(rows, targets, valid, valid_targets, order=ORDER, size_bits=20, several=several, weights=counts)
    known = [gram for gram in known_grams(rows) if owns_its_slot(fit, gram)]
    assert len(known) > 0.9 * len(known_grams(rows))
    x, r = presence(rows, known), bayes(presence(rows, known), targets)
    assert fit.features == len(known)
    assert fit.penalty == penalty
    weight = weights_by_gram(fit, known)
    v = np.where(r == 0, 0, weight / np.where(r == 0, 1, r))
    logits = x @ weight + fit.path.bias.numpy()
    np.testing.assert_allclose(logits_of(fit, rows), logits, atol=1e-4)
    reached = counts @ cross_entropy(logits, targets, several) + penalty / 2 * (v**2).sum()
    assert reached == pytest.approx(minimum(x, r, targets, penalty, several, counts), rel=2e-4)
    assert fit.loss == pytest.approx(cross_entropy(logits_of(fit, valid), valid_targets, several).mean(), rel=1e-4)


def weights_by_gram(fit: NgramFit, known: Sequence[Gram]) -> np.ndarray:
    """(F, C), asked of the path: a gram's weight is its text's logits less what its parts weigh."""
    bias = fit.path.bias.numpy().astype(np.float64)
    out: dict[Gram, np.ndarray] = {}
    for gram in sorted(known, key=len):
        inside = grams(np.array(gram)) & set(known)
        whole = logits_of(fit, [np.array(gram, np.int32)])[0] - bias
        out[gram] = whole - sum(out[part] for part in inside if part != gram)
    return np.array([out[gram] for gram in known])


@pytest.mark.parametrize("several", [False, True])
def test_the_gradient_is_that_of_the_objective(several: bool) -> None:
    """Finite differences of what is minimised, at a random point, with weighted rows."""
    draws = np.random.default_rng(0)
    rows, targets = toy(30, 0, 3)
    hashed = [ngrams._distinct(row, ORDER) for row in rows]
    x = ngrams._presence(hashed, ngrams._table(ngrams._frequent(hashed)[0], 1 << 10)).astype(np.float64)
    x = x[:, np.flatnonzero(np.asarray(x.sum(0)).ravel())]
    ratio, counts = draws.normal(size=(x.shape[1], 3)), draws.uniform(0.5, 2, 30)
    objective = ngrams._objective(x, targets, ratio, 0.7, several, counts)
    point = draws.normal(0, 0.3, ratio.size + 3)
    off = check_grad(lambda at: objective(at)[0], lambda at: objective(at)[1], point, epsilon=1e-6)
    assert off < 1e-4 * np.linalg.norm(objective(point)[1])


def test_a_planted_fault_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio taken for its negative solves another problem and is seen in the weights of the deciding words."""
    right = fitted()
    assert right.loss < 0.55 < math.log(2)
    monkeypatch.setattr(ngrams, "_ratio", lambda x, targets: np.zeros((x.shape[1], targets.shape[1]), np.float32))
    assert fitted().loss > 0.65


def test_it_learns_and_chooses_by_the_validation_part() -> None:
    lines: list[str] = []
    fit = fitted(said=lines.append)
    valid, targets = toy(200, 2)
    assert (logits_of(fit, valid).argmax(1) == targets.argmax(1)).mean() > 0.85
    losses = [float(line.rpartition(" ")[2]) for line in lines if "loss" in line]
    assert len(losses) == len(ngrams.PENALTIES) == len(lines) - 1
    assert fit.loss == pytest.approx(min(losses), abs=1e-4)
    flipped = fitted(valid_targets=toy(40, 1)[1][:, ::-1])
    assert flipped.penalty != fit.penalty


def test_the_kept_ngrams_are_told_once_for_each_length() -> None:
    lines: list[str] = []
    fitted(order=3, said=lines.append)
    assert [line.partition(",")[0] for line in lines if "n-grams kept" in line] == [
        f"n-gram path: up to {longest} tokens" for longest in (2, 3)
    ]


def test_it_is_deterministic() -> None:
    one, two = fitted().path.state_dict(), fitted().path.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_row_weights_change_the_fit_as_repeated_rows_do() -> None:
    """A row that counts for three is a row that stands three times (with the ratio of the rows as they are)."""
    rows, targets = toy(30, 0)
    hashed = [ngrams._distinct(row, ORDER) for row in rows]
    x = ngrams._presence(hashed, ngrams._table(ngrams._frequent(hashed)[0], 1 << 10))
    ratio, counts = ngrams._ratio(x, targets), np.ones(30, np.float32)
    plain = ngrams._solve(x, targets, ratio, 1.0, False, counts, None)[0]
    counts[:10] = 3
    weighted = ngrams._solve(x, targets, ratio, 1.0, False, counts, None)[0]
    index = np.repeat(np.arange(30), counts.astype(int))
    repeated = ngrams._solve(x[index], targets[index], ratio, 1.0, False, np.ones(len(index), np.float32), None)[0]
    np.testing.assert_allclose(weighted, repeated, atol=2e-3)
    assert np.abs(weighted - plain).max() > 0.02


def test_soft_targets_are_fitted_as_probabilities() -> None:
    """Every text is 0.8 of class 0 and nothing tells texts apart: so says the fit."""
    soft = np.tile(np.float32([0.8, 0.2]), (60, 1))
    fit = fitted(targets=soft, valid_targets=soft[:40])
    logits = logits_of(fit, toy(40, 3)[0])
    p = np.exp(logits[:, 0]) / np.exp(logits).sum(1)
    np.testing.assert_allclose(p, 0.8, atol=0.02)


def test_several_labels_are_each_their_own_question() -> None:
    """Word 3 means label 0 and word 4 means label 1; a text may have both or neither."""
    draws = np.random.default_rng(0)

    def part(rows: int) -> tuple[list[np.ndarray], np.ndarray]:
        ids = draws.integers(5, 15, (rows, 8)).astype(np.int32)
        targets = draws.integers(0, 2, (rows, 2)).astype(np.float32)
        for column in (0, 1):
            ids[targets[:, column] == 1, column] = 3 + column
        return list(ids), targets

    (rows, targets), (valid, valid_targets) = part(120), part(60)
    fit = fit_ngrams(rows, targets, valid, valid_targets, order=1, size_bits=12, several=True)
    assert ((logits_of(fit, valid) > 0) == (valid_targets == 1)).mean() > 0.95
    assert logits_of(fit, [np.int32([3, 4])])[0].min() > 0
    assert logits_of(fit, [np.int32([8, 9])])[0].max() < 0


def test_an_ngram_of_one_text_is_left_out_and_a_stranger_weighs_nothing() -> None:
    rows = [np.int32(row) for row in ([3, 4], [3, 5], [4, 3], [6, 3])]
    targets = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    fit = fit_ngrams(rows, targets, rows, targets, order=2, size_bits=12, several=False)
    assert fit.features == 2, "only 3 and 4 stand in two texts"
    assert np.array_equal(logits_of(fit, [np.int32([5, 6])])[0], fit.path.bias.numpy())


def test_one_text_is_enough_to_fit_and_nothing_known_gives_the_class_shares() -> None:
    """Where no n-gram stands twice all are kept; where no text says anything the bias says it all."""
    rows = [np.int32([i]) for i in range(3, 7)]
    targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    fit = fit_ngrams(rows, targets, rows, targets, order=1, size_bits=12, several=False)
    assert fit.features == 4
    assert logits_of(fit, [np.int32([99])])[0][0] > logits_of(fit, [np.int32([99])])[0][1]


def test_the_table_stays_in_its_size_and_the_frequent_ngram_keeps_its_slot() -> None:
    often, rare = np.int64(5), np.int64(5 + 16)
    frequent, least = ngrams._frequent([np.sort([often, rare])] * 2 + [np.array([often])])
    assert (frequent.tolist(), least) == ([rare, often], 2)
    owner = ngrams._table(frequent, 16)
    assert len(owner) == 16
    assert owner[5] == often // 16
    rows, targets = toy(60, 0)
    said: list[str] = []
    fit = fit_ngrams(rows, targets, rows, targets, order=ORDER, size_bits=7, several=False, said=said.append)
    assert fit.path.weight.numel() <= 2**7
    assert fit.features < len(known_grams(rows))
    crowded = f"up to 2 tokens, in 2 texts or more: {fit.features} of {len(known_grams(rows))} n-grams kept (model.ngram_size)"
    assert [line for line in said if "kept" in line] == [f"n-gram path: {crowded}"]
