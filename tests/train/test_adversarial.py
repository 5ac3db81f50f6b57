"""Adversarial training on words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from echoic.layers.embed import Embed
from echoic.train.adversarial import moved, tables


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = Embed(7, 4, generator=generator)
        self.out = nn.Linear(4, 1)

    def loss(self) -> torch.Tensor:
        return self.out(self.embed(torch.tensor([[2, 3, 3]]))).square().sum()  # type: ignore[no-any-return]


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
