"""The n-gram path's shares and prefixes, against the path itself and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from echoic.explain import ngrams
from echoic.layers.ngrams import NgramPath, hashes

TEXT = torch.tensor([5, 6, 5, 6, 7, 5, 5, 9])


@pytest.fixture
def path() -> NgramPath:
    """Knows every n-gram of TEXT up to three tokens but those of token 9, and some others."""
    draws = np.random.default_rng(0)
    made = NgramPath(1 << 14, 3, 3)
    every = torch.cat([hashes(ids[None], torch.tensor([len(ids)]), 3)[0] for ids in (TEXT[:-1], torch.arange(20, 40))])
    every = every[every >= 0].unique()
    made.check[every % (1 << 14)] = (every // (1 << 14)).int()
    made.weight[:] = torch.from_numpy(draws.normal(size=made.weight.shape)).float()
    made.bias[:] = torch.tensor([0.5, -1.0, 2.0])
    return made


def logits(path: NgramPath, ids: Tensor) -> np.ndarray:
    return path(ids[None], torch.tensor([len(ids)]))[0].numpy()


@pytest.mark.parametrize("column", [0, 1, 2])
def test_shares_add_up_to_the_logit_less_its_bias(path: NgramPath, column: int) -> None:
    shares = ngrams.shares(path, TEXT, column)
    assert shares.sum() == pytest.approx(logits(path, TEXT)[column] - float(path.bias[column]), abs=1e-5)
    assert shares[-1] == 0, "no n-gram with token 9 is known"


def test_shares_counted_by_hand(path: NgramPath) -> None:
    wanted = np.zeros(len(TEXT))
    places: dict[tuple[int, ...], list[int]] = {}
    for n in (1, 2, 3):
        for i in range(len(TEXT) - n + 1):
            places.setdefault(tuple(TEXT[i : i + n].tolist()), []).append(i)
    for gram, starts in places.items():
        if 9 in gram:
            continue
        hashed = int(hashes(torch.tensor([gram]), torch.tensor([len(gram)]), 3)[0].view(3, -1)[len(gram) - 1, 0])
        for start in starts:
            weight = float(path.weight[hashed % (1 << 14), 1])
            wanted[start : start + len(gram)] += weight / len(starts) / len(gram)
    np.testing.assert_allclose(ngrams.shares(path, TEXT, 1), wanted, atol=1e-6)


def test_prefixes_are_the_path_on_each_prefix(path: NgramPath) -> None:
    found = ngrams.prefixes(path, TEXT).numpy()
    for end in range(1, len(TEXT) + 1):
        np.testing.assert_allclose(found[end - 1], logits(path, TEXT[:end]), atol=1e-5)


def test_a_text_without_a_known_ngram_has_the_bias_alone(path: NgramPath) -> None:
    ids = torch.tensor([9, 9])
    assert not ngrams.shares(path, ids, 0).any()
    np.testing.assert_allclose(ngrams.prefixes(path, ids).numpy(), np.tile(path.bias.numpy(), (2, 1)))
