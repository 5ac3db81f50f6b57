"""Cutting long texts loses nothing, and brings every row back to its text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echoic.layers import segments


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token a number of its own; padding 0."""
    x = torch.arange(1, 1 + len(lengths) * max(lengths)).view(len(lengths), max(lengths))
    n = torch.tensor(lengths)
    return x * (torch.arange(max(lengths)) < n[:, None]), n


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 23), min_size=1, max_size=6), st.integers(1, 25))
def test_every_token_is_kept_once_and_in_order(lengths: list[int], size: int) -> None:
    x, n = batch(lengths)
    rows, row_lengths, owner = segments.split(x, n, size)
    assert rows.shape[1] == min(x.shape[1], size)
    assert (row_lengths >= 1).all()
    for text in range(len(lengths)):
        pieces = [row[:k] for row, k, o in zip(rows, row_lengths, owner, strict=True) if o == text]
        assert torch.equal(torch.cat(pieces), x[text, : lengths[text]])
        assert all(len(piece) == rows.shape[1] for piece in pieces[:-1])
    assert torch.equal(owner, owner.sort().values)
    padding = torch.arange(rows.shape[1]) >= row_lengths[:, None]
    assert (rows[padding] == 0).all()


def test_short_texts_are_handed_back_untouched() -> None:
    x, n = batch([3, 5])
    rows, row_lengths, owner = segments.split(x, n, 5)
    assert rows is x
    assert row_lengths is n
    assert owner.tolist() == [0, 1]


@pytest.mark.parametrize("size", [2, 3, 9])
def test_embedded_tokens_are_cut_where_their_ids_are(size: int) -> None:
    x, n = batch([7, 2, 5])
    table = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    table[0] = 0.0
    rows, *rest = segments.split(x, n, size)
    embedded, *others = segments.split(table[x], n, size)
    assert torch.equal(embedded, table[rows])
    assert all(torch.equal(a, b) for a, b in zip(rest, others, strict=True))


def test_an_empty_row_among_long_texts_keeps_its_place() -> None:
    x, _ = batch([5, 1])
    _, row_lengths, owner = segments.split(x, torch.tensor([5, 0]), 2)
    assert row_lengths.tolist() == [2, 2, 1, 0]
    assert owner.tolist() == [0, 0, 0, 1]


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        segments.split(*batch([3]), 0)


def test_rows_come_back_to_their_texts() -> None:
    owner = torch.tensor([0, 0, 1, 2, 2, 2])
    x = torch.tensor([[1.0, -1], [2, -2], [-3, 3], [4, 0], [5, 9], [6, 1]])
    assert segments.total(x, owner, 3).tolist() == [[3, -3], [-3, 3], [15, 10]]
    assert segments.largest(x, owner, 3).tolist() == [[2, -1], [-3, 3], [6, 9]]
    first, last = segments.ends(owner, 3)
    assert (first.tolist(), last.tolist()) == ([0, 2, 3], [1, 2, 5])
