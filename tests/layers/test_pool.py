"""Pooling never sees padding, and over segments it is what the uncut text would give."""

from __future__ import annotations

import math

import pytest
import torch

from echoic.core.config import WIDTH
from echoic.layers import segments
from echoic.layers.attention import masked_softmax
from echoic.layers.pool import Pool

H, T = 3, 7
LENGTHS = torch.tensor([7, 4, 1])
WHOLE = torch.arange(3)


def states(bidirectional: bool = False, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, T, H * (2 if bidirectional else 1), generator=generator, dtype=torch.float64)


def pool(kind: str, bidirectional: bool = False, attention: str = "additive") -> Pool:
    return Pool(kind, H, bidirectional, attention).double()


def cut(y: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same states as rows of segments."""
    places = torch.arange(1, 1 + y.shape[0] * T).view(-1, T)
    rows, lengths, owner = segments.split(places, LENGTHS, size)
    return y.reshape(-1, y.shape[2])[(rows - 1).clamp_min(0)], lengths, owner


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", WIDTH)
@pytest.mark.parametrize("garbage", [0.0, 1e9, math.nan])
def test_padding_is_irrelevant_forward_and_backward(kind: str, bidirectional: bool, garbage: float) -> None:
    layer, y = pool(kind, bidirectional), states(bidirectional)
    padding = torch.arange(T) >= LENGTHS[:, None]
    expected = torch.cat([layer(y[b : b + 1, :n], LENGTHS[b : b + 1], WHOLE[:1], 1) for b, n in enumerate(LENGTHS)])
    dirty = y.masked_fill(padding[..., None], garbage).requires_grad_()
    out = layer(dirty, LENGTHS, WHOLE, 3)
    assert out.shape == (3, layer.output_size)
    assert torch.allclose(out, expected, atol=1e-12)
    out.square().sum().backward()
    assert dirty.grad is not None
    assert (dirty.grad[padding] == 0).all()
    assert dirty.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_last_reads_the_last_valid_step_and_the_backward_first() -> None:
    y = states(bidirectional=True)
    out = pool("last", bidirectional=True)(y, LENGTHS, WHOLE, 3)
    for b, n in enumerate(LENGTHS):
        assert torch.equal(out[b], torch.cat([y[b, n - 1, :H], y[b, 0, H:]]))


def test_concat_is_last_mean_max() -> None:
    y = states(bidirectional=True)
    parts = [pool(kind, bidirectional=True)(y, LENGTHS, WHOLE, 3) for kind in ("last", "mean", "max")]
    assert torch.equal(pool("concat", bidirectional=True)(y, LENGTHS, WHOLE, 3), torch.cat(parts, 1))


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize("kind", WIDTH)
def test_prefixes_are_what_each_prefix_gives(kind: str, attention: str) -> None:
    layer, y = pool(kind, attention=attention), states()[:1]
    wanted = [layer(y[:, :n], torch.tensor([n]), WHOLE[:1], 1)[0] for n in range(1, T + 1)]
    assert torch.allclose(layer.prefixes(y[0]), torch.stack(wanted), atol=1e-12)


def test_a_backward_state_has_no_prefixes() -> None:
    with pytest.raises(ValueError, match="comes after the prefix"):
        pool("max", bidirectional=True).prefixes(states(bidirectional=True)[0])


def test_the_scores_that_attention_keeps_are_those_of_its_weights() -> None:
    layer, y = pool("attention"), states()
    rows, lengths, owner = cut(y, 3)
    kept = layer.rows(rows, lengths)
    weights = masked_softmax(kept["scores"], torch.arange(3) < lengths[:, None], owner, 3)
    assert torch.equal(weights, layer.weights(rows, lengths, owner, 3))


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize("kind", WIDTH)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_segments_pool_to_what_the_whole_text_gives(kind: str, attention: str, size: int) -> None:
    layer, y = pool(kind, attention=attention), states()
    rows, lengths, owner = cut(y, size)
    assert len(rows) > 3
    assert torch.allclose(layer(rows, lengths, owner, 3), layer(y, LENGTHS, WHOLE, 3), atol=1e-12)


def test_gradients_through_segments_equal_those_of_the_whole_text() -> None:
    for kind in WIDTH:
        layer, y = pool(kind), states().requires_grad_()
        whole = torch.autograd.grad(layer(y, LENGTHS, WHOLE, 3).square().sum(), y)[0]
        rows, lengths, owner = cut(y, 3)
        pieces = torch.autograd.grad(layer(rows, lengths, owner, 3).square().sum(), y)[0]
        assert torch.allclose(whole, pieces, atol=1e-12), kind


def test_bidirectional_last_over_segments() -> None:
    y = states(bidirectional=True)
    rows, lengths, owner = cut(y, 3)
    out = pool("last", bidirectional=True)(rows, lengths, owner, 3)
    assert torch.equal(out[0], torch.cat([y[0, 6, :H], y[0, 0, H:]]))


@pytest.mark.parametrize("size", [2, 7])
def test_attention_weights_of_a_text_sum_to_one_and_explain_the_output(size: int) -> None:
    layer, y = pool("attention"), states()
    rows, lengths, owner = cut(y, size)
    weights = layer.weights(rows, lengths, owner, 3)
    assert torch.allclose(segments.total(weights.sum(1), owner, 3), torch.ones(3, dtype=torch.float64), atol=1e-12)
    assert (weights[torch.arange(rows.shape[1]) >= lengths[:, None]] == 0).all()
    by_hand = segments.total((weights[..., None] * rows).sum(1), owner, 3)
    assert torch.allclose(by_hand, layer(rows, lengths, owner, 3), atol=1e-12)


def test_a_text_without_a_valid_step_is_finite() -> None:
    for kind in WIDTH:
        out = pool(kind)(states(), torch.tensor([7, 0, 1]), WHOLE, 3)
        assert out.isfinite().all(), kind
        if kind in ("mean", "max", "attention"):
            assert (out[1] == 0).all(), kind


def test_wrong_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'maks'.*did you mean 'max'"):
        Pool("maks", H)
    with pytest.raises(ValueError, match=r"'dots'.*did you mean 'dot'"):
        Pool("attention", H, attention="dots")
    with pytest.raises(ValueError, match="pool=mean has none"):
        pool("mean").weights(states(), LENGTHS, WHOLE, 3)
