"""Search against a tiny model whose every sequence can be listed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from echoic.core.errors import DataError, UsageError
from echoic.decode.beam import Found, Search, draw, ranked, search
from echoic.decode.sampling import How, generators

V, END = 5, 2


class Tables:
    """Row r's next token depends on the last two: logits table[r, before, last]. The state is (rows, the token before)."""

    def __init__(self, seed: int = 0, rows: int = 4, end: float = 0.0) -> None:
        draws = np.random.default_rng(seed)
        self.table = draws.normal(0, 1.5, (rows, V, V, V)).astype(np.float32)
        self.table[..., END] += end
        self.sources = draws.random((rows, V, V, 3)).astype(np.float32)
        self.computed: list[int] = []

    def begin(self, rows: list[int]) -> Any:
        return np.array(rows), np.full(len(rows), END)

    def step(self, ids: np.ndarray, state: Any) -> Any:
        row, before = state
        self.computed.append(len(ids))
        attention = self.sources[row, before, ids]
        return self.table[row, before, ids], attention / attention.sum(1, keepdims=True), (row, ids)

    def log_p(self, row: int, ids: tuple[int, ...], ended: bool = True) -> float:
        before, last, total = END, END, 0.0
        for token in (*ids, *([END] if ended else [])):
            logits = self.table[row, before, last].astype(np.float64)
            total += logits[token] - np.log(np.exp(logits).sum())
            before, last = last, token
        return total


def take(state: Any, places: np.ndarray) -> Any:
    return tuple(each[places] for each in state)


def found(model: Tables, rows: list[int], limit: int, how: Search, **more: Any) -> list[list[Found]]:
    return search(model.step, take, model.begin(rows), np.full(len(rows), limit), how, **more)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    model = Tables(seed)
    for row, (one,) in enumerate(found(model, [0, 1, 2, 3], 12, Search(1))):
        ids: list[int] = []
        before, last = END, END
        while len(ids) < 12:
            token = int(model.table[row, before, last].argmax())
            if token == END:
                break
            ids.append(token)
            before, last = last, token
        assert one.ids == tuple(ids)
        assert one.ended == (len(ids) < 12)


@pytest.mark.parametrize("seed", range(5))
def test_the_score_of_a_sequence_is_its_forced_score(seed: int) -> None:
    model = Tables(seed)
    for row, each in enumerate(found(model, [0, 1, 2, 3], 6, Search(4, length_penalty=0.7))):
        assert len(each) == 4
        for one in each:
            assert one.log_p == pytest.approx(model.log_p(row, one.ids), abs=1e-5)
            assert one.score == pytest.approx(one.log_p / ((6 + len(one.ids)) / 6) ** 0.7)
        assert [one.score for one in each] == sorted((one.score for one in each), reverse=True)
        assert len({one.ids for one in each}) == 4


@pytest.mark.parametrize("how", [Search(1), Search(3), Search(4, coverage_penalty=0.4, no_repeat=2)])
def test_a_batch_is_one_by_one(how: Search) -> None:
    model = Tables(3)
    limits = np.array([7, 2, 9, 4])
    together = search(model.step, take, model.begin([0, 1, 2, 3]), limits, how)
    alone = [search(model.step, take, model.begin([r]), limits[r : r + 1], how)[0] for r in range(4)]
    assert together == alone


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_is_an_exhaustive_search(seed: int, alpha: float) -> None:
    model, limit = Tables(seed), 3
    letters = [token for token in range(V) if token != END]
    every = [ids for n in range(limit + 1) for ids in itertools.product(letters, repeat=n)]
    how = Search(len(every), length_penalty=alpha)
    for row, each in enumerate(found(model, [0, 1], limit, how)):
        wanted = sorted(every, key=lambda ids: -ranked(model.log_p(row, ids), len(ids) + 1, None, how))
        assert [one.ids for one in each[:20]] == wanted[:20]
        assert len(each) == len(every)


def test_nothing_finished_is_computed() -> None:
    model = Tables(0, end=9.0)  # every row ends at once
    found(model, [0, 1, 2, 3], 50, Search(1))
    assert model.computed == [4]
    model = Tables(1)
    model.table[0, ..., END] = 30.0
    found(model, [0, 1], 8, Search(1))
    assert model.computed[:2] == [2, 1]


def test_a_limit_cuts_and_says_so() -> None:
    model = Tables(2, end=-9.0)
    (one,) = found(model, [0], 5, Search(1))[0]
    assert len(one.ids) == 5
    assert not one.ended
    assert one.log_p == pytest.approx(model.log_p(0, one.ids), abs=1e-4)
    assert found(model, [0], 0, Search(3))[0][0].ids == ()


def test_no_ngram_stands_twice() -> None:
    model = Tables(4, end=-6.0)
    plain = found(model, [0, 1, 2, 3], 14, Search(3))
    for n in (1, 2, 3):
        for each in found(model, [0, 1, 2, 3], 14, Search(3, no_repeat=n)):
            for one in each:
                grams = [one.ids[i : i + n] for i in range(len(one.ids) - n + 1)]
                assert len(set(grams)) == len(grams)
    assert any(len(set(one.ids)) < len(one.ids) for each in plain for one in each)


def test_a_prefix_is_forced_and_scored_as_the_network_says() -> None:
    model = Tables(1)
    prefixes = [(4, 3, 4), (), (0,), (1, 1)]
    for row, each in enumerate(found(model, [0, 1, 2, 3], 8, Search(3), prefixes=prefixes)):
        for one in each:
            assert one.ids[: len(prefixes[row])] == prefixes[row]
            assert one.log_p == pytest.approx(model.log_p(row, one.ids), abs=1e-5)


def test_forbidden_tokens_are_never_written() -> None:
    model = Tables(0, end=-3.0)
    assert any(3 in one.ids for each in found(model, [0, 1, 2, 3], 9, Search(2)) for one in each)
    for each in found(model, [0, 1, 2, 3], 9, Search(2, forbidden=(3, 0))):
        for one in each:
            assert not {0, 3} & set(one.ids)
            assert one.log_p > -200


def test_coverage_is_wu_et_al_s() -> None:
    attended = np.array([0.4, 1.7, 0.9, 0.0], np.float32)  # the last is padding
    how = Search(2, length_penalty=0.0, coverage_penalty=0.5)
    assert ranked(-3.0, 4, attended, how) == pytest.approx(-3 + 0.5 * (np.log(0.4) + np.log(0.9)))
    model = Tables(0)
    wide = Search(85, length_penalty=0.0)
    covered = Search(85, length_penalty=0.0, coverage_penalty=3.0)
    plain, other = found(model, [0], 3, wide)[0], found(model, [0], 3, covered)[0]
    assert {one.ids for one in plain} == {one.ids for one in other}
    assert [one.ids for one in plain] != [one.ids for one in other]


def test_drawing_follows_the_probabilities_and_each_row_its_own_generator() -> None:
    model, rows = Tables(1, end=1.0), [0] * 400
    how, chance = Search(1), How(1.0)
    each = draw(model.step, take, model.begin(rows), np.full(400, 3), how, chance, generators(0, 400))
    empty = sum(one.ids == () for (one,) in each) / 400
    assert empty == pytest.approx(np.exp(model.log_p(0, ())), abs=0.07)
    for (one,) in each[:20]:
        assert one.log_p == pytest.approx(model.log_p(0, one.ids), abs=1e-5)
    fewer = draw(model.step, take, model.begin(rows[:7]), np.full(7, 3), how, chance, generators(0, 7))
    assert fewer == each[:7]


@pytest.mark.parametrize("spoiler", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused(spoiler: float) -> None:
    def step(ids: np.ndarray, state: None) -> tuple[np.ndarray, None, None]:
        return np.where(np.arange(9) == 4, spoiler, np.zeros((len(ids), 9), np.float32)).astype(np.float32), None, None

    with pytest.raises(DataError, match="no numbers"):
        search(step, lambda state, _: state, None, np.array([3]), Search(beam=2))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"beam": 0}, "beam 0"), ({"length_penalty": -1.0}, "length-penalty -1"), ({"no_repeat": -2}, "no-repeat -2")],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Search(**wrong)
