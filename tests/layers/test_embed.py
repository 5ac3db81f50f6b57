"""Embedding: a padding row that stays zero, vectors that start or stay, noise only when handed in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from echoic.core.types import PAD, UNKNOWN
from echoic.layers.dropout import Noise
from echoic.layers.embed import Embed, drop_words

IDS = torch.tensor([[3, 4, 5, PAD], [6, PAD, PAD, PAD]])


def test_padding_is_zero_and_gets_no_gradient() -> None:
    embed = Embed(9, 4)
    assert (embed(IDS)[IDS == PAD] == 0).all()
    embed(IDS).sum().backward()
    assert embed.weight.grad is not None
    assert (embed.weight.grad[PAD] == 0).all()
    assert (embed.weight.grad[3] == 1).all()


def test_vectors_start_the_table_and_may_be_kept() -> None:
    vectors = np.arange(36, dtype=np.float32).reshape(9, 4)
    embed = Embed(9, 4, vectors=vectors, trained=False)
    assert torch.equal(embed(IDS)[0, 0], torch.from_numpy(vectors[3]))
    assert not embed.weight.requires_grad
    assert (embed.weight[PAD] == 0).all()
    vectors[3] = 0
    assert embed.weight[3].sum() > 0, "the table is a copy"
    with pytest.raises(ValueError, match=r"vectors: expected shape \(9, 5\), got \(9, 4\)"):
        Embed(9, 5, vectors=vectors)


def test_noise_acts_only_when_handed_in() -> None:
    embed = Embed(9, 64, dropout=0.5, word_dropout=0.5).train()
    assert torch.equal(embed(IDS), embed(IDS))
    noisy = embed(IDS, Noise(0, 1))
    assert torch.equal(noisy, embed(IDS, Noise(0, 1)))
    assert not torch.equal(noisy, embed(IDS, Noise(0, 2)))
    assert 0.2 < (noisy[0, 0] == 0).float().mean() < 0.8


def test_word_dropout_spares_padding_and_keeps_its_rate() -> None:
    ids = torch.full((50, 200), 7)
    ids[:, 100:] = PAD
    dropped = drop_words(ids, 0.3, Noise(0, 1))
    assert (dropped[:, 100:] == PAD).all()
    assert abs((dropped[:, :100] == UNKNOWN).float().mean() - 0.3) < 0.03
    assert drop_words(ids, 0.3, None) is ids
