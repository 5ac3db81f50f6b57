"""Scores against their papers' equations; a softmax that never sees padding."""

from __future__ import annotations

import math

import pytest
import torch

from echoic.layers.attention import Additive, Dot, attend, masked_softmax
from echoic.layers.unroll import valid_steps

B, T, K, Q = 3, 5, 4, 6
LENGTHS = torch.tensor([5, 2, 1])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_additive_is_bahdanaus_equation(generator: torch.Generator) -> None:
    score = Additive(K, Q, size=7).double()
    keys = torch.randn(B, T, K, generator=generator, dtype=torch.float64)
    query = torch.randn(B, Q, generator=generator, dtype=torch.float64)
    scores = score(keys, query)
    assert score.query is not None
    for b in range(B):
        for j in range(T):
            inner = score.query.weight @ query[b] + score.key.weight @ keys[b, j] + score.key.bias
            expected = score.energy.weight[0] @ inner.tanh()
            assert torch.allclose(scores[b, j], expected, atol=1e-12)


def test_dot_is_luongs_product_scaled(generator: torch.Generator) -> None:
    keys = torch.randn(B, T, K, generator=generator)
    query = torch.randn(B, K, generator=generator)
    expected = torch.stack([keys[b] @ query[b] for b in range(B)]) / math.sqrt(K)
    assert torch.allclose(Dot(K, K)(keys, query), expected, atol=1e-6)
    general, wide = Dot(K, Q), torch.randn(B, Q, generator=generator)
    expected = torch.stack([keys[b] @ (general.key.weight.T @ wide[b]) for b in range(B)]) / math.sqrt(Q)
    assert torch.allclose(general(keys, wide), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [Additive, Dot])
def test_all_queries_at_once_are_one_by_one(kind: type, generator: torch.Generator) -> None:
    score = kind(K, Q)
    keys, queries = torch.randn(B, T, K, generator=generator), torch.randn(B, 7, Q, generator=generator)
    one_by_one = torch.stack([score(keys, query) for query in queries.unbind(1)], 1)
    assert torch.allclose(score(keys, queries), one_by_one, atol=1e-6)


@pytest.mark.parametrize("kind", [Additive, Dot])
def test_a_learned_query_is_shared_by_the_rows(kind: type, generator: torch.Generator) -> None:
    keys = torch.randn(1, T, K, generator=generator).expand(B, T, K)
    scores = kind(K)(keys)
    torch.testing.assert_close(scores[0], scores[2], atol=1e-6, rtol=0)  # a library may sum one row in another order
    assert scores[0].std() > 0


@pytest.mark.parametrize("kind", [Additive, Dot])
def test_a_query_is_given_or_learned_never_both(kind: type) -> None:
    keys, query = torch.zeros(B, T, K), torch.zeros(B, Q)
    with pytest.raises(ValueError, match=r"query: .* got None"):
        kind(K, Q)(keys)
    with pytest.raises(ValueError, match=r"query: .* got one as well"):
        kind(K)(keys, query)


@pytest.mark.parametrize("garbage", [0.0, 1e30, math.inf, math.nan])
def test_padding_has_weight_zero_and_no_influence(garbage: float, generator: torch.Generator) -> None:
    valid = valid_steps(LENGTHS, T)
    scores = torch.randn(B, T, generator=generator).masked_fill(~valid, garbage).requires_grad_()
    weights = masked_softmax(scores, valid)
    assert (weights[~valid] == 0).all()
    for b, n in enumerate(LENGTHS):
        assert torch.allclose(weights[b, :n], scores[b, :n].softmax(0), atol=1e-6)
    weights.square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_a_row_without_a_valid_step_is_all_zero_and_finite_backward() -> None:
    scores = torch.ones(2, T, requires_grad=True)
    weights = masked_softmax(scores, valid_steps(torch.tensor([0, 3]), T))
    assert weights[0].tolist() == [0.0] * T
    weights.square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_large_scores_do_not_overflow() -> None:
    weights = masked_softmax(torch.tensor([[1e4, 1e4, -1e4]]), torch.ones(1, 3, dtype=torch.bool))
    assert weights.tolist() == [[0.5, 0.5, 0.0]]


def test_rows_of_one_text_share_one_distribution(generator: torch.Generator) -> None:
    scores = torch.randn(3, 4, generator=generator)
    lengths, owner = torch.tensor([4, 2, 3]), torch.tensor([0, 0, 1])
    weights = masked_softmax(scores, valid_steps(lengths, 4), owner, 2)
    whole = torch.cat([scores[0], scores[1, :2]]).softmax(0)
    assert torch.allclose(torch.cat([weights[0], weights[1, :2]]), whole, atol=1e-6)
    assert torch.allclose(weights[2, :3], scores[2, :3].softmax(0), atol=1e-6)


def test_attend_is_the_weighted_sum(generator: torch.Generator) -> None:
    keys, weights = torch.randn(B, T, K, generator=generator), torch.rand(B, T, generator=generator)
    assert torch.allclose(attend(keys, weights), (keys * weights[..., None]).sum(1), atol=1e-6)
