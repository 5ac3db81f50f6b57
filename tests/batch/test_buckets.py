from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echoic.batch.buckets import plan


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 300), max_size=120),
    batch_size=st.integers(1, 20),
    batch_tokens=st.integers(1, 2000),
    seed=st.none() | st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_every_row_once_and_no_batch_too_large(lengths, batch_size, batch_tokens, seed, epoch):
    lengths = np.array(lengths, dtype=np.int64)
    batches = plan(lengths, batch_size, batch_tokens, seed=seed, epoch=epoch)
    rows = np.concatenate(batches) if batches else np.array([], dtype=np.int64)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert batch.dtype == np.int64
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_tokens


LENGTHS = np.random.default_rng(0).integers(1, 500, 2000)


def flat(**named) -> list[list[int]]:
    return [batch.tolist() for batch in plan(LENGTHS, 32, 8000, **named)]


def test_without_a_seed_by_length_ties_by_place():
    order = [row for batch in flat() for row in batch]
    assert order == sorted(range(len(LENGTHS)), key=lambda row: (LENGTHS[row], row))


def test_a_function_of_seed_and_epoch():
    assert flat(seed=1, epoch=2) == flat(seed=1, epoch=2)
    assert flat(seed=1, epoch=2) != flat(seed=1, epoch=3)
    assert flat(seed=1, epoch=2) != flat(seed=2, epoch=2)


def test_company_changes_and_order_is_shuffled():
    one, two = ({frozenset(batch) for batch in flat(seed=1, epoch=epoch)} for epoch in (0, 1))
    assert len(one & two) < len(one) / 20
    means = [LENGTHS[batch].mean() for batch in plan(LENGTHS, 32, 8000, seed=1)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


@pytest.mark.parametrize(("seed", "most"), [(None, 0.03), (0, 0.15)])
def test_little_is_padding(seed, most):
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in plan(LENGTHS, 32, 8000, seed=seed))
    assert 1 - LENGTHS.sum() / padded < most


def test_no_rows_and_bad_sizes():
    assert plan(np.array([], dtype=np.int64), 4, 10, seed=0) == []
    with pytest.raises(ValueError, match="at least 1"):
        plan(LENGTHS, 0, 10)
