"""The validation part: per class, no group and no text on both sides, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echoic.core.errors import DataError
from echoic.core.types import Example
from echoic.read.keys import text_key
from echoic.read.split import split


def make(*targets: object, group: str | None = None) -> list[Example]:
    return [Example(f"text {i}", target, group, i) for i, target in enumerate(targets)]


def test_each_class_gives_its_share() -> None:
    examples = make(*("a" * 700 + "b" * 250 + "c" * 47 + "d" * 3))
    train, valid = split(examples, 0.1, 0)
    assert Counter(examples[i].target for i in valid) == {"a": 70, "b": 25, "c": 5, "d": 1}
    assert sorted([*train, *valid]) == list(range(1000))
    assert train.dtype == valid.dtype == np.int64
    assert (np.diff(valid) > 0).all()


def test_seeds() -> None:
    examples = make(*("ab" * 100))
    assert (split(examples, 0.2, 1)[1] == split(examples, 0.2, 1)[1]).all()
    assert (split(examples, 0.2, 1)[1] != split(examples, 0.2, 2)[1]).any()


def test_every_row_can_be_drawn() -> None:
    examples = make(*("ab" * 10))
    drawn = {i for seed in range(60) for i in split(examples, 0.2, seed)[1].tolist()}
    assert drawn == set(range(20))


def test_a_class_with_one_row_is_trained_on_and_said() -> None:
    said: list[str] = []
    examples = make(*("a" * 10 + "b" * 10 + "z"))
    train, _ = split(examples, 0.1, 0, said.append)
    assert 20 in train
    assert any("'z'" in sentence and "one row" in sentence for sentence in said)


def test_groups_stay_together_and_shares_are_kept() -> None:
    examples = [Example(f"t{i}", "ab"[i % 2], f"g{i // 5}", i) for i in range(1000)]
    said: list[str] = []
    train, valid = split(examples, 0.2, 3, said.append)
    assert not {examples[i].group for i in train} & {examples[i].group for i in valid}
    assert 180 <= len(valid) <= 200
    assert any("1,000 rows share a group" in sentence for sentence in said)


def test_repeated_texts_stay_together_even_with_other_labels() -> None:
    examples = [
        Example(["Same Text", "same  text", "ＳＡＭＥtext"][i % 3] if i % 4 == 0 else f"t{i}", "ab"[i % 2], None, i)
        for i in range(400)
    ]
    for seed in range(5):
        train, valid = split(examples, 0.3, seed)
        assert not {text_key(examples[i].input) for i in train} & {text_key(examples[i].input) for i in valid}


def test_a_text_that_is_there_many_times_does_not_speak_for_its_class() -> None:
    examples = [*make(*("a" * 940)), *(Example("the same", "a", None, 0) for _ in range(60))]
    for seed in range(20):
        _, valid = split(examples, 0.1, seed)
        assert len(valid) == 100
        assert max(valid) < 940


def test_large_groups_are_drawn_where_there_are_no_others() -> None:
    examples = [Example(f"text {i}", "ab"[i % 2], f"group {i // 20}", i) for i in range(200)]
    _, valid = split(examples, 0.1, 0)
    assert len({i // 20 for i in valid.tolist()}) == 1
    assert len(valid) == 20


def test_groups_joined_by_texts_are_one_block() -> None:
    pairs = [("a", "g1"), ("b", "g1"), ("b", "g2"), ("c", "g2"), ("d", "g3"), ("e", "g3"), ("f", "g4"), ("g", "g4")]
    examples = [Example(text, "xy"[i % 2], group, i) for i, (text, group) in enumerate(pairs)]
    for seed in range(20):
        _, valid = split(examples, 0.25, seed)
        assert len({0, 1, 2, 3} & set(valid.tolist())) in (0, 4)


def test_empty_texts_are_not_one_block() -> None:
    examples = [Example("", "ab"[i % 2], None, i) for i in range(40)]
    assert len(split(examples, 0.2, 0)[1]) == 8


def test_soft_and_several_labels() -> None:
    soft = [Example(f"t{i}", {"a": 0.6, "b": 0.4} if i % 4 else {"a": 0.1, "b": 0.9}, None, i) for i in range(400)]
    _, valid = split(soft, 0.1, 0)
    assert Counter(int(i) % 4 == 0 for i in valid) == {True: 10, False: 30}
    several = [Example(f"t{i}", ("often", "rare") if i % 20 == 0 else ("often",), None, i) for i in range(400)]
    _, valid = split(several, 0.1, 0)
    assert sum(int(i) % 20 == 0 for i in valid) == 2


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ([], "0 rows"),
        (make("a"), "1 rows"),
        (make("a", "b", "c"), "3 rows"),
        (make("a", "b", "a", "b", group="g"), "all 4 rows share one group"),
        ([Example("same", "ab"[i % 2], None, i) for i in range(9)], "share one group or text"),
    ],
)
def test_a_part_that_would_be_empty_is_refused(examples: list[Example], says: str) -> None:
    with pytest.raises(DataError, match=says):
        split(examples, 0.1, 0)


def test_unlabelled_rows_split_too() -> None:
    train, valid = split(make(*[None] * 50), 0.1, 0)
    assert (len(train), len(valid)) == (45, 5)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.one_of(st.none(), st.integers(0, 9))),
        min_size=4,
        max_size=60,
    ),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 99),
)
def test_any_split_is_a_partition_without_leaks(
    rows: list[tuple[str, int, int | None]], fraction: float, seed: int
) -> None:
    examples = [
        Example(f"t{text}", label, None if group is None else str(group), i)
        for i, (label, text, group) in enumerate(rows)
    ]
    try:
        train, valid = split(examples, fraction, seed)
    except DataError:
        return
    assert sorted([*train, *valid]) == list(range(len(rows)))
    for key in (lambda e: e.input, lambda e: e.group):
        assert not {key(examples[i]) for i in train} & {key(examples[i]) for i in valid} - {None}
    classes = Counter(e.target for e in examples)
    assert {examples[i].target for i in train} == set(classes)
