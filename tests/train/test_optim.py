"""The optimisers, the rate, the clipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from echoic.core.config import TrainConfig
from echoic.core.errors import ConfigError
from echoic.layers.embed import Embed
from echoic.layers.stack import Stack
from echoic.train import optim

OPTIMISERS = ["adam", "adamw", "sgd", "rmsprop"]


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.norm = nn.LayerNorm(3)
        self.out = nn.Linear(3, 2)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 1.0)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_weight_decay_touches_matrices_only(name: str) -> None:
    network = Parts()
    optimizer = optim.optimiser(network, TrainConfig(optimizer=name, lr=0.1, weight_decay=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, torch.ones_like(p))}
    assert moved == {"out.weight"}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_that_remembers_goes_on_as_the_one_it_was(name: str) -> None:
    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            for number, parameter in enumerate(network.parameters()):
                parameter.grad = torch.full_like(parameter, math.sin(step + number))
            optimizer.step()

    config = TrainConfig(optimizer=name, lr=0.1)
    whole, halved, resumed = Parts(), Parts(), Parts()
    steps(whole, optim.optimiser(whole, config), 0, 6)
    first = optim.optimiser(halved, config)
    steps(halved, first, 0, 3)
    resumed.load_state_dict(halved.state_dict())
    second = optim.optimiser(resumed, config)
    optim.remember(second, resumed, optim.memory(first, halved))
    steps(resumed, second, 3, 6)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


class Tall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = Embed(9, 3)
        self.stack = Stack(3, 4, layers=2, bidirectional=True, batch_norm=True)
        self.out = nn.Linear(8, 2)


def test_depths_count_down_from_the_output() -> None:
    found = optim.depths(Tall())
    assert {name for name, depth in found.items() if depth == 0} == {"out.weight", "out.bias"}
    assert {name.split(".")[2] for name, depth in found.items() if depth == 1 and "cells" in name} == {"2", "3"}
    assert {name.split(".")[2] for name, depth in found.items() if depth == 2 and "cells" in name} == {"0", "1"}
    assert (found["stack.norms.1.weight"], found["stack.norms.0.bias"], found["embed.weight"]) == (1, 2, 3)


def test_each_layer_learns_at_its_rate_and_from_its_time() -> None:
    network, config = Tall(), TrainConfig(layer_rate=2.0, unfreeze=0.2)
    optimizer = optim.optimiser(network, config)
    for step, free in ((0, 0), (19, 0), (20, 1), (40, 2), (59, 2), (60, 3)):
        optim.set_rates(optimizer.param_groups, 1.0, step, 100, config)
        rates = {group["depth"]: group["lr"] for group in optimizer.param_groups}
        assert rates == {depth: 0.5**depth if depth <= free else 0.0 for depth in range(4)}
        learned = {depth for name, depth in optim.depths(network).items() if network.get_parameter(name).requires_grad}
        assert learned == set(range(free + 1))


def test_a_memory_of_another_network_is_refused() -> None:
    network = Parts()
    optimizer = optim.optimiser(network, TrainConfig())
    with pytest.raises(ConfigError, match=r"gone\.weight"):
        optim.remember(optimizer, network, {"gone.weight/exp_avg": torch.zeros(1)})


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(ConfigError, match="no parameter to train"):
        optim.optimiser(Parts().requires_grad_(False), TrainConfig())


def test_frozen_parameters_are_left_out() -> None:
    network = Parts()
    network.embed.requires_grad_(False)
    held = [p for group in optim.optimiser(network, TrainConfig()).param_groups for p in group["params"]]
    assert all(p is not network.embed.weight for p in held)
    assert len(held) == 4


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "plateau"])
def test_the_rate_rises_in_a_line_to_its_highest(schedule: str) -> None:
    config = TrainConfig(lr=0.8, warmup=0.25, schedule=schedule)
    rates = [optim.rate(step, 16, config) for step in range(16)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert max(rates) == pytest.approx(0.8)


def test_onecycle_falls_to_almost_nothing_and_never_rises_again() -> None:
    config = TrainConfig(lr=1.0, warmup=0.25, schedule="onecycle")
    rates = [optim.rate(step, 100, config) for step in range(25, 100)]
    assert rates == sorted(rates, reverse=True)
    assert 0.0 < rates[-1] < 0.001
    assert optim.rate(25 + 37, 100, config) == pytest.approx(0.5, abs=0.02)
    assert optim.rate(130, 100, config) == pytest.approx(0.0, abs=1e-12), (
        "an epoch may have more batches than the first had"
    )


def test_constant_stays_and_plateau_halves() -> None:
    constant = TrainConfig(lr=1.0, warmup=0.0, schedule="constant")
    assert {optim.rate(step, 50, constant, halvings=2) for step in range(50)} == {1.0}
    plateau = TrainConfig(lr=1.0, warmup=0.0, schedule="plateau")
    assert [optim.rate(9, 50, plateau, halvings=n) for n in range(3)] == [1.0, 0.5, 0.25]


def test_clipping_scales_all_gradients_by_one_number() -> None:
    one, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    one.grad, other.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert optim.clip([one, other], 0.0) == pytest.approx(5.0)
    assert one.grad.tolist() == [3.0, 0.0], "0 does not clip"
    assert optim.clip([one, other], 1.0) == pytest.approx(5.0)
    assert [*one.grad.tolist(), *other.grad.tolist()] == pytest.approx([0.6, 0.0, 0.8], abs=1e-5)


def test_clipping_reports_what_is_not_finite() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, math.nan])
    assert math.isnan(optim.clip([parameter], 1.0))
