"""Choosing a token: each option against a plain account of it, and what makes no sense is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from echoic.core.errors import UsageError
from echoic.decode.sampling import (
    How,
    before_stop,
    begin,
    choose,
    generators,
    penalised,
    probabilities,
    settled,
    softmax,
    write,
)

LOGITS = np.log(np.array([[0.4, 0.3, 0.2, 0.06, 0.04]]))


def left(**how: Any) -> list[float]:
    return probabilities(LOGITS, How(**how))[0].round(6).tolist()


def share(*kept: float) -> list[float]:
    whole = sum(kept)
    return [round(each / whole, 6) for each in kept] + [0.0] * (5 - len(kept))


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, share(0.4, 0.3, 0.2, 0.06, 0.04)),
        ({"temperature": 0.5}, share(0.16, 0.09, 0.04, 0.0036, 0.0016)),
        ({"top_k": 2}, share(0.4, 0.3)),
        ({"top_k": 99}, share(0.4, 0.3, 0.2, 0.06, 0.04)),
        ({"top_p": 0.7}, share(0.4, 0.3)),
        ({"top_p": 0.71}, share(0.4, 0.3, 0.2)),
        ({"top_p": 1e-9}, share(0.4)),
        ({"min_p": 0.5}, share(0.4, 0.3, 0.2)),
        ({"min_p": 0.76}, share(0.4)),
        ({"top_k": 3, "top_p": 0.5, "min_p": 0.1}, share(0.4, 0.3)),
    ],
    ids=str,
)
def test_what_is_left(how: dict[str, Any], wanted: list[float]) -> None:
    assert left(**how) == pytest.approx(wanted, abs=2e-6)


def test_top_k_keeps_what_equals_the_kth() -> None:
    p = probabilities(np.zeros((1, 4)), How(top_k=2))
    assert p.tolist() == [[0.25] * 4]


def test_the_repetition_penalty_lowers_what_was_there_whatever_its_sign() -> None:
    scores = penalised(
        np.array([[2.0, -2.0, 2.0, -2.0]]), np.array([[True, True, False, False]]), How(repetition_penalty=2.0)
    )
    assert scores.tolist() == [[1.0, -4.0, 2.0, -2.0]]


def test_the_forbidden_is_never_taken() -> None:
    seen = np.zeros((1, 5), bool)
    how = How(forbidden=(0, 1))
    taken = {int(choose(LOGITS, seen, how, generators(seed, 1))[0]) for seed in range(200)}
    assert taken == {2, 3, 4}
    assert choose(LOGITS, seen, How(temperature=0, forbidden=(0,)), generators(0, 1))[0] == 1


def test_tokens_come_as_often_as_they_are_probable() -> None:
    draws = generators(0, 1)
    seen = np.zeros((1, 5), bool)
    taken = np.bincount([int(choose(LOGITS, seen, How(), draws)[0]) for _ in range(20_000)], minlength=5) / 20_000
    np.testing.assert_allclose(taken, softmax(LOGITS)[0], atol=0.012)


def test_temperature_0_takes_the_likeliest_and_of_equals_the_first() -> None:
    seen = np.zeros((2, 3), bool)
    logits = np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
    assert choose(logits, seen, How(temperature=0), generators(0, 2)).tolist() == [1, 0]


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": -0.5}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_k": -1},
        {"top_p": 0.0}, {"top_p": 1.01}, {"min_p": -0.1}, {"min_p": 1.1}, {"repetition_penalty": 0.0},
        {"repetition_penalty": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_a_number_without_sense_is_named(how: dict[str, Any]) -> None:
    (name,) = how
    with pytest.raises(UsageError, match=f"{name.replace('_', '-')} .*wants a number"):
        How(**how)


def test_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        generators(0, 0)


# A step that can be followed by hand: the state is all that was read, the next token depends on its sum


def counting(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    read = ids if state is None else np.concatenate([state, ids], 1)
    logits = np.sin(np.arange(7)[None] * (1.0 + read.sum(1, keepdims=True)))
    return logits, read


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    def written(samples: int) -> list[list[int]]:
        thread = begin(counting, np.array([1, 2]), generators(5, samples))
        out = []
        for _ in range(9):
            ids, thread = write(counting, thread, How())
            out.append(ids)
        return np.stack(out, 1).tolist()

    assert written(4)[:2] == written(2)
    assert len({str(each) for each in written(4)}) == 4


def test_the_whole_prompt_and_what_was_written_count_as_seen() -> None:
    thread = begin(counting, np.array([1, 2]), generators(0, 1))
    assert np.flatnonzero(thread.seen[0]).tolist() == [1, 2]
    ids, after = write(counting, thread, How())
    assert set(np.flatnonzero(after.seen[0])) == {1, 2, int(ids[0])}
    assert np.flatnonzero(thread.seen[0]).tolist() == [1, 2], "a step changes nothing behind it"


# Stop strings


@pytest.mark.parametrize(
    ("text", "stops", "wanted"),
    [
        ("abcdef", ["cd"], ("ab", True)),
        ("abcdef", ["ef", "cd"], ("ab", True)),
        ("abcdef", ["x"], ("abcdef", False)),
        ("abcdef", [], ("abcdef", False)),
    ],
)
def test_a_text_ends_before_the_first_stop(text: str, stops: list[str], wanted: tuple[str, bool]) -> None:
    assert before_stop(text, stops) == wanted


def test_the_beginning_of_a_stop_is_held_back() -> None:
    assert settled("abc", ["cd"]) == 2
    assert settled("abc", ["de"]) == 3
    assert settled("abEN", ["END", "x"]) == 2
    assert settled("abEx", ["END"]) == 4
    assert settled("", ["END"]) == 0
