from __future__ import annotations

import pytest
import torch

from echoic.layers.dropout import Noise, dropout


def test_noise_is_a_function_of_seed_and_step() -> None:
    draws = {(s, k): Noise(s, k).keep((64,), 0.5) for s in range(3) for k in range(3)}
    assert all(torch.equal(Noise(*key).keep((64,), 0.5), draw) for key, draw in draws.items())
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 9


def test_a_second_pass_gets_what_the_first_one_drew() -> None:
    noise = Noise(0, 0)
    drawn = noise.mask((5, 3), 0.4), noise.keep((7,), 0.5)
    noise.rewind()
    again = noise.mask((5, 3), 0.4), noise.keep((7,), 0.5)
    assert all(map(torch.equal, drawn, again))
    assert not torch.equal(noise.keep((7,), 0.5), drawn[1]), "behind them new ones are drawn"


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Noise(0, 0).mask((5, 5), 0.3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_is_zero_or_the_inverse_and_its_mean_is_one(dtype: torch.dtype) -> None:
    mask = Noise(0, 0).mask((400, 400), 0.3, dtype)
    assert mask.dtype == dtype
    assert torch.equal(mask.unique(), torch.tensor([0.0, 1.0 / 0.7], dtype=dtype))
    assert abs(float(mask.mean()) - 1.0) < 0.01
    assert abs(float(Noise(0, 0).keep((400, 400), 0.3).float().mean()) - 0.7) < 0.01


def test_nothing_is_dropped_without_noise_or_rate() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(dropout(x, 0.9, None), x)
    assert torch.equal(dropout(x, 0.0, Noise(0, 0)), x)
    assert not torch.equal(dropout(x, 0.5, Noise(0, 0)), x)


def test_each_number_is_dropped_by_itself() -> None:
    dropped = dropout(torch.ones(50, 7, 4), 0.5, Noise(0, 0))
    assert not torch.equal(dropped, dropped[:, :1].expand_as(dropped))
