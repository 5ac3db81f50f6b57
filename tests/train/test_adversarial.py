"""Adversarial training on words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from echoic.core.config import TrainConfig
from echoic.core.types import Batch
from echoic.layers.dropout import Noise
from echoic.layers.embed import Embed
from echoic.train.adversarial import moved, tables
from echoic.train.loop import fit
from echoic.train.progress import Silent


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = Embed(7, 4, generator=generator)
        self.out = nn.Linear(4, 1)

    def loss(self, noise: Noise | None = None) -> torch.Tensor:
        return self.out(self.embed(torch.tensor([[2, 3, 3]]), noise)).square().sum()  # type: ignore[no-any-return]


def test_words_move_up_the_loss_by_the_length_asked_for_and_come_back() -> None:
    network = Network()
    before = network.embed.weight.detach().clone()
    loss = network.loss()
    loss.backward()  # type: ignore[no-untyped-call]
    with moved(tables(network), 0.5):
        step = network.embed.weight.detach() - before
        assert network.loss() > loss
    assert torch.isclose(step.norm(), 0.5 * before.norm(dim=1).mean())
    assert not step[[0, 1, 4, 5, 6]].any(), "words that are not in the batch stay"
    assert torch.equal(network.embed.weight, before)


def test_words_come_back_after_an_error() -> None:
    network = Network()
    before = network.embed.weight.detach().clone()
    network.loss().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(KeyError), moved(tables(network), 0.5):
        raise KeyError
    assert torch.equal(network.embed.weight, before)


def test_a_frozen_table_is_none_to_move() -> None:
    network = Network()
    network.embed.weight.requires_grad_(False)
    network.loss().backward()  # type: ignore[no-untyped-call]
    assert tables(network) == []


def test_the_second_pass_drops_what_the_first_dropped() -> None:
    """Otherwise the words would be moved against another network than the one that is asked again."""
    drawn: list[torch.Tensor] = []

    def loss(network: nn.Module, batch: Batch, noise: Noise) -> tuple[torch.Tensor, int]:
        drawn.append(noise.keep((64,), 0.5))
        return network.loss(noise), 1  # type: ignore[operator]

    fit(
        Network(),
        loss,
        plan=lambda epoch: [np.array([0]), np.array([0])],
        collate=lambda rows, epoch, step: Batch(np.array([[2, 3, 3]]), np.array([3])),
        score=lambda network: {"accuracy": 0.0},
        config=TrainConfig(epochs=1, adversarial=0.5),
        monitor="accuracy",
        seed=0,
        run=None,
        watch=Silent(),
        fingerprint={},
    )
    assert len(drawn) == 4
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[3])
    assert not torch.equal(drawn[0], drawn[2])
