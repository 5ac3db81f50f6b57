from __future__ import annotations

import numpy as np
import pytest

from echoic.core.types import EMPTY
from echoic.train.augment import augment

IDS = np.arange(3, 2003, dtype=np.int32)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_swap_keeps_the_tokens_and_moves_the_share_asked_for():
    out = augment(IDS, "swap", 0.1, generator())
    moved = np.flatnonzero(out != IDS)
    assert sorted(out) == sorted(IDS)
    assert len(moved) / len(IDS) == pytest.approx(0.1, abs=0.025)
    assert np.abs(out.astype(int) - IDS).max() == 1


def test_swap_at_a_high_rate_moves_no_token_twice():
    out = augment(IDS, "swap", 0.999, generator())
    assert sorted(out) == sorted(IDS)
    assert np.abs(out.astype(int) - IDS).max() == 1
    assert (out != IDS).mean() > 0.5


def test_delete_takes_the_share_asked_for_and_keeps_the_order():
    out = augment(IDS, "delete", 0.3, generator())
    assert len(out) / len(IDS) == pytest.approx(0.7, abs=0.03)
    assert (np.diff(out) > 0).all()


def test_something_always_stays():
    for seed in range(50):
        assert len(augment(np.array([5, 6], dtype=np.int32), "delete", 0.99, generator(seed))) >= 1
        assert augment(np.array([EMPTY], dtype=np.int32), "delete", 0.99, generator(seed)).tolist() == [EMPTY]
        assert augment(np.array([7]), "swap", 0.99, generator(seed)).tolist() == [7]


@pytest.mark.parametrize("kind", ["none", "swap", "delete"])
def test_rate_0_and_none_change_nothing_and_the_input_is_left_alone(kind):
    before = IDS.copy()
    np.testing.assert_array_equal(augment(IDS, kind, 0.0, generator()), before)
    out = augment(IDS, kind, 0.5, generator())
    np.testing.assert_array_equal(IDS, before)
    assert out.dtype == IDS.dtype
    assert (kind == "none") == np.array_equal(out, before)


@pytest.mark.parametrize("kind", ["swap", "delete"])
def test_a_function_of_the_generator(kind):
    np.testing.assert_array_equal(augment(IDS, kind, 0.2, generator(1)), augment(IDS, kind, 0.2, generator(1)))
    assert not np.array_equal(augment(IDS, kind, 0.2, generator(1)), augment(IDS, kind, 0.2, generator(2)))


def test_unknown_kind():
    with pytest.raises(ValueError, match="none, swap or delete"):
        augment(IDS, "shuffle", 0.1, generator())
