"""The n-gram path against a reference that knows no hashing: sets of tuples and a dict of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echoic.core.hashing import MULTIPLIERS, PRIME
from echoic.core.types import PAD
from echoic.layers.ngrams import NgramPath, hashes

Gram = tuple[int, ...]
ORDER, CLASSES, SLOTS = 3, 2, 1 << 20

rows_of_ids = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=9), min_size=1, max_size=5)


def grams(row: Sequence[int], order: int) -> set[Gram]:
    return {tuple(row[i : i + n]) for n in range(1, order + 1) for i in range(len(row) - n + 1)}


def hash_of(gram: Gram) -> int:
    """The page's recurrence in Python's unbounded integers."""
    value = 0
    for token in gram:
        value = (value * MULTIPLIERS[len(gram) - 1] + token + 1) % PRIME
    return value


def weights_of(known: set[Gram]) -> dict[Gram, list[float]]:
    generator = torch.Generator().manual_seed(7)
    return {gram: torch.randn(CLASSES, generator=generator).tolist() for gram in sorted(known)}


def path_of(weights: dict[Gram, list[float]], slots: int = SLOTS) -> NgramPath:
    path = NgramPath(slots, CLASSES, ORDER)
    for gram, weight in weights.items():
        slot = hash_of(gram) % slots
        assert path.check[slot] == -1, "the test's n-grams must not meet in a slot"
        path.check[slot] = hash_of(gram) // slots
        path.weight[slot] = torch.tensor(weight)
    path.bias.copy_(torch.tensor([0.25, -1.5]))
    return path


def expected(row: Sequence[int], weights: dict[Gram, list[float]], bias: Sequence[float]) -> list[float]:
    found = grams(row, ORDER) & weights.keys()
    return [b + math.fsum(weights[gram][c] for gram in found) for c, b in enumerate(bias)]


def batch_of(rows: Sequence[Sequence[int]], extra: int = 0, filler: int = PAD) -> tuple[torch.Tensor, torch.Tensor]:
    steps = max(map(len, rows)) + extra
    ids = torch.tensor([list(row) + [filler] * (steps - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


@settings(max_examples=80, deadline=None)
@given(rows_of_ids, rows_of_ids)
def test_logits_are_those_of_sets_of_tuples(seen: list[list[int]], rows: list[list[int]]) -> None:
    """Repeats count once and n-grams that no training text had (those of `rows` alone) count nothing."""
    weights = weights_of(set().union(*(grams(row, ORDER) for row in seen)))
    path = path_of(weights)
    wanted = [expected(row, weights, path.bias.tolist()) for row in rows]
    torch.testing.assert_close(path(*batch_of(rows)), torch.tensor(wanted), atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(rows_of_ids, st.integers(0, 5), st.integers(0, 6), st.randoms(use_true_random=False))
def test_padding_and_the_rest_of_the_batch_are_irrelevant(
    rows: list[list[int]], extra: int, filler: int, draws: object
) -> None:
    path = path_of(weights_of(set().union(*(grams(row, ORDER) for row in rows))))
    together = path(*batch_of(rows))
    torch.testing.assert_close(path(*batch_of(rows, extra, filler)), together, atol=1e-6, rtol=0)
    alone = torch.cat([path(*batch_of([row])) for row in rows])
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)
    order = list(range(len(rows)))
    draws.shuffle(order)  # type: ignore[attr-defined]
    shuffled = path(*batch_of([rows[i] for i in order]))
    torch.testing.assert_close(shuffled, together[order], atol=1e-6, rtol=0)


def test_hashes_are_the_pages_recurrence_and_none_leaves_its_text() -> None:
    """Ids up to the largest vocabulary: no product leaves int64."""
    row = [9_999_999, 0, 50_000, 1, 9_999_999, 2]
    ids, lengths = batch_of([row, row[:2]])
    found = hashes(ids, lengths, 8)
    assert found.shape == (2, 6 * 8)
    for i, length in enumerate(lengths.tolist()):
        wanted = sorted(hash_of(tuple(row[k : k + n])) for n in range(1, 9) for k in range(length - n + 1))
        assert sorted(h for h in found[i].tolist() if h >= 0) == wanted
    assert (found[1] == -1).sum() == 6 * 8 - 3


def test_an_order_longer_than_the_text_adds_nothing() -> None:
    ids, lengths = batch_of([[4]])
    assert [h for h in hashes(ids, lengths, 8)[0].tolist() if h >= 0] == [5]


def test_the_order_of_words_counts() -> None:
    weights = weights_of({(3, 4), (4, 3), (3,), (4,)})
    path = path_of(weights)
    a, b = path(*batch_of([[3, 4], [4, 3]]))
    assert not torch.allclose(a, b)


def test_an_unseen_ngram_borrows_no_weight_from_one_in_its_slot() -> None:
    slots = 16
    seen = (3,)
    stranger = next((t,) for t in range(4, 200) if hash_of((t,)) % slots == hash_of(seen) % slots)
    path = path_of({seen: [1.0, 2.0]}, slots)
    assert torch.equal(path(*batch_of([list(seen)]))[0], path.bias + torch.tensor([1.0, 2.0]))
    assert torch.equal(path(*batch_of([list(stranger)]))[0], path.bias)


def test_a_text_without_a_known_ngram_gets_the_bias() -> None:
    path = path_of(weights_of({(3, 4)}))
    assert torch.equal(path(*batch_of([[5, 6, 5]]))[0], path.bias)


@pytest.mark.parametrize("fault", ["repeats", "check", "length"])
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is worth something: each of three faults moves the logits away from it."""
    weights = weights_of(grams([3, 3, 4], ORDER) | {(4, 3)})
    path = path_of(weights, slots := 256)
    rows = [[3, 3, 4], [3] + [t for t in range(5, 1100) if hash_of((t,)) % slots == hash_of((3,)) % slots]]
    ids, lengths = batch_of(rows, filler=3)
    wanted = torch.tensor([expected(row, weights, path.bias.tolist()) for row in rows])
    torch.testing.assert_close(path(ids, lengths), wanted)
    if fault == "length":
        lengths = torch.full_like(lengths, ids.shape[1])
    else:
        right = NgramPath.slots

        def wrong(self: NgramPath, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            slot, _ = right(self, ids, lengths)
            hashed = hashes(ids, lengths, self.order).sort(1).values
            if fault == "check":
                return slot, (hashed >= 0) & (self.check[slot] >= 0)
            return slot, (hashed >= 0) & (self.check[slot] == hashed // len(self.check))

        monkeypatch.setattr(NgramPath, "slots", wrong)
    assert not torch.allclose(path(ids, lengths), wanted, atol=1e-3)


def test_the_state_dict_carries_the_whole_path() -> None:
    path = path_of(weights_of({(3,), (3, 4)}))
    other = NgramPath(SLOTS, CLASSES, ORDER)
    other.load_state_dict(path.state_dict())
    batch = batch_of([[3, 4, 3], [4]])
    assert torch.equal(other(*batch), path(*batch))
