from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from echoic.core import registry
from echoic.core.errors import ConfigError, UsageError
from echoic.layers.dropout import Noise
from echoic.layers.stack import BatchNorm, Stack, fold_batch_norm

B, T, D, H = 4, 6, 3, 5
LENGTHS = torch.tensor([6, 3, 1, 4])
REAL = (torch.arange(T) < LENGTHS[:, None])[:, :, None]
X = torch.randn((B, T, D), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def stack(seed: int = 1, **settings: Any) -> Stack:
    return Stack(D, H, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), **settings)


RATES = ("dropout", "variational", "candidate", "weight_drop")


@pytest.mark.parametrize("cell", registry.names("cell"))
@pytest.mark.parametrize("rate", RATES)
def test_a_rate_changes_training_and_not_evaluation(cell: str, rate: str) -> None:
    plain, noisy = stack(cell=cell, layers=2), stack(cell=cell, layers=2, **{rate: 0.5})
    assert torch.equal(plain(X, LENGTHS)[0], plain(X, LENGTHS, noise=Noise(0, 0))[0])
    assert torch.allclose(noisy(X, LENGTHS)[0], plain(X, LENGTHS)[0], atol=1e-12)
    trained = noisy(X, LENGTHS, noise=Noise(0, 0))[0]
    assert not torch.allclose(trained, plain(X, LENGTHS)[0], atol=1e-3)
    assert torch.equal(trained, noisy(X, LENGTHS, noise=Noise(0, 0))[0])
    assert not torch.allclose(trained, noisy(X, LENGTHS, noise=Noise(0, 1))[0], atol=1e-3)


def test_dropout_stands_between_layers_alone() -> None:
    single = stack(dropout=0.5)
    assert torch.equal(single(X, LENGTHS, noise=Noise(0, 0))[0], single(X, LENGTHS)[0])


@pytest.mark.parametrize("cell", registry.names("cell"))
def test_zoneout_draws_in_training_and_takes_the_mean_in_evaluation(cell: str) -> None:
    plain, zoned = stack(cell=cell), stack(cell=cell, zoneout=0.4)
    evaluated = zoned(X, LENGTHS)[0]
    assert torch.equal(evaluated, zoned(X, LENGTHS)[0])
    assert not torch.allclose(evaluated, plain(X, LENGTHS)[0], atol=1e-3)
    assert not torch.allclose(evaluated, zoned(X, LENGTHS, noise=Noise(0, 0))[0], atol=1e-3)
    assert torch.allclose(evaluated[:, 0], 0.6 * plain(X, LENGTHS)[0][:, 0])


def test_recurrent_dropout_holds_one_mask_for_all_steps_and_draws_it_for_each_direction() -> None:
    y, _ = stack(cell="rnn", bidirectional=True, candidate=0.5)(X, None, noise=Noise(0, 0))
    dead = y == 0.0
    assert torch.equal(dead, dead[:, :1].expand_as(dead))
    assert dead.any()
    assert not torch.equal(dead[..., :H], dead[..., H:])


def test_weight_drop_reaches_the_weight_and_leaves_it_as_it_is() -> None:
    network = stack(weight_drop=0.5)
    cell = network.cells[0]
    before = cell.weight_hh.detach().clone()
    network(X, LENGTHS, noise=Noise(0, 0))[0].sum().backward()
    assert torch.equal(cell.weight_hh.detach(), before)
    zero = cell.weight_hh.grad == 0.0
    assert 0.3 < zero.double().mean() < 0.7


def test_layer_norm_changes_the_function_alike_in_training_and_evaluation() -> None:
    normed = stack(layer_norm=True)
    assert not torch.allclose(normed(X, LENGTHS)[0], stack()(X, LENGTHS)[0], atol=1e-3)
    assert torch.equal(normed(X, LENGTHS)[0], normed(X, LENGTHS, noise=Noise(0, 0))[0])


def test_no_state_is_faster_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOIC_ISA", "none")
    network = stack(layers=2, bidirectional=True)
    y, states = network(X, LENGTHS)
    y2, none = network(X, LENGTHS, want_state=False)
    assert torch.allclose(y, y2, atol=1e-12)
    assert len(states) == 4
    assert none == []
    assert {line.split(": ")[1] for line in network.kernels()} == {"torch"}
    assert {line.split(": ")[1] for line in network.kernels(want_state=True)} == {"torch-packed"}


@pytest.mark.parametrize("cell", registry.names("cell"))
def test_state_carries_through_a_stack(cell: str) -> None:
    network = stack(cell=cell, layers=2)
    whole, last = network(X, LENGTHS)
    one, state = network(X[:, :2], LENGTHS.clamp(max=2))
    two, state = network(X[:, 2:], (LENGTHS - 2).clamp(min=0), state)
    assert torch.allclose(torch.cat([one, two], 1), whole, atol=1e-12)
    for ours, wanted in zip(state, last, strict=True):
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, wanted, strict=True))


# Batch norm


def test_batch_norm_counts_the_valid_steps_alone() -> None:
    norm = BatchNorm(D, dtype=torch.float64)
    y = norm(X, LENGTHS, Noise(0, 0))
    valid = X[REAL[:, :, 0]]
    assert torch.allclose(norm.running_mean, 0.1 * valid.mean(0))
    assert torch.allclose(norm.running_var, 0.9 + 0.1 * valid.var(0))
    normed = y[REAL[:, :, 0]]
    assert torch.allclose(normed.mean(0), torch.zeros(D, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(normed.var(0, unbiased=False), torch.ones(D, dtype=torch.float64), atol=1e-4)
    assert not y.masked_fill(REAL, 0.0).any()


def test_batch_norm_learns_with_noise_alone_and_never_from_padding() -> None:
    network = stack(layers=2, batch_norm=True)
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    evaluated = network(X, LENGTHS)[0]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    trained = network(X.masked_fill(~REAL, float("nan")), LENGTHS, noise=Noise(0, 0))[0]
    assert not torch.allclose(trained, evaluated, atol=1e-3)
    assert any(not torch.equal(v, before[k]) for k, v in network.state_dict().items())
    wide = stack(layers=2, batch_norm=True)
    longer = torch.cat([X, torch.full((B, 3, D), 99.0, dtype=X.dtype)], 1)
    assert torch.allclose(wide(longer, LENGTHS, noise=Noise(0, 0))[0][:, :T], trained, atol=1e-12)


@pytest.mark.parametrize("lengths", [[0, 0, 0, 0], [1, 0, 0, 0]])
def test_batch_norm_of_fewer_than_two_steps_uses_the_running_statistics(lengths: list[int]) -> None:
    norm = BatchNorm(D, dtype=torch.float64)
    given = torch.tensor(lengths)
    assert torch.equal(norm(X, given, Noise(0, 0)), norm(X, given, None))
    assert not norm.running_mean.any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", registry.names("cell"))
def test_batch_norm_folds_into_the_weights(cell: str, bias: bool) -> None:
    network = stack(cell=cell, layers=2, bidirectional=True, batch_norm=True, bias=bias)
    with torch.no_grad():
        for norm in network.norms:
            norm.weight.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(5))
            norm.bias.uniform_(-1.0, 1.0, generator=torch.Generator().manual_seed(6))
    for step in range(5):
        network(3.0 * X + 1.0, LENGTHS, noise=Noise(0, step))
    folded = fold_batch_norm(network)
    assert not [name for name in folded.state_dict() if "norm" in name]
    wanted, states = network(X, LENGTHS)
    got, states2 = folded(X, LENGTHS)
    assert torch.allclose(got, wanted, rtol=1e-10, atol=1e-10)
    assert all(
        torch.allclose(a, b, atol=1e-10)
        for s, s2 in zip(states, states2, strict=True)
        for a, b in zip(s, s2, strict=True)
    )
    assert len(network.norms) == 2, "the stack itself is left as it is"


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "lstn"}, "did you mean 'lstm'"),
        ({"options": {"peepole": True}}, r"model\.cell: /peepole: unknown key 'peepole' \(did you mean 'peephole'\?\)"),
        ({"cell": "gru", "options": {"reset": "during"}}, r"model\.cell: /reset"),
        ({"cell": "rnn", "options": {"peephole": True}}, "unknown key 'peephole'"),
        ({"layer_norm": True, "batch_norm": True}, "choose one"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stack(**settings)


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (X, torch.tensor([7, 1, 1, 1]), "from 1 to 7, but the input has 6 steps"),
        (X, torch.tensor([6, -1, 1, 1]), "from -1 to 6"),
        (X, torch.tensor([6, 1]), r"lengths of shape \(2,\), wanted \(4,\)"),
        (X, LENGTHS.double(), "whole numbers"),
        (X[..., :2], LENGTHS, r"wanted \(batch, steps, 3\)"),
        (X[0], LENGTHS, r"wanted \(batch, steps, 3\)"),
    ],
)
def test_wrong_input_is_refused_by_shape(x: Tensor, lengths: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stack()(x, lengths)
