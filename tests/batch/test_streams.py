"""Streams: every place is learned from once, each row goes on where it ended, every token is scored once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echoic.batch.streams import CONTEXT, SCORED, plan, scoring_rows, unscored
from echoic.core.types import EMPTY


@settings(max_examples=200, deadline=None, derandomize=True)
@given(places=st.integers(1, 900), lanes=st.integers(1, 40), steps=st.integers(1, 60), epoch=st.integers(0, 5))
def test_every_place_stands_in_one_window_and_rows_go_on(places: int, lanes: int, steps: int, epoch: int) -> None:
    batches = plan(places, lanes, steps, seed=3, epoch=epoch)
    seen = np.zeros(places, int)
    ends = batches[0][:, 0]
    for windows in batches:
        sizes = windows[:, 1] - windows[:, 0]
        assert 1 <= len(windows) <= lanes
        assert (sizes >= 1).all()
        assert (sizes <= steps).all()
        assert (windows[:, 0] == ends[: len(windows)]).all(), "a row begins where it ended"
        assert sizes.max() - sizes.min() <= (windows is batches[-1]), "only the last windows differ"
        ends = windows[:, 1]
        for start, end in windows:
            seen[start:end] += 1
    assert (seen == 1).all()
    assert len(batches) == len(plan(places, lanes, steps, seed=3, epoch=epoch + 1)), "as many each epoch"


def test_the_plan_is_a_function_of_seed_and_epoch() -> None:
    def cuts(**changes: int) -> list[list[list[int]]]:
        return [batch.tolist() for batch in plan(5000, 4, 64, **{"seed": 0, "epoch": 0, **changes})]

    assert cuts() == cuts()
    assert len({str(cuts(epoch=e)) for e in range(20)}) > 10
    assert len({str(cuts(seed=s)) for s in range(20)}) > 10


def test_no_places_and_bad_sizes() -> None:
    assert plan(0, 4, 8, seed=0, epoch=0) == []
    assert [batch.tolist() for batch in plan(2, 9, 8, seed=0, epoch=0)] == [[[0, 1], [1, 2]]]
    for lanes, steps in ((0, 8), (4, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            plan(10, lanes, steps, seed=0, epoch=0)


@pytest.mark.parametrize("tokens", [0, 1, SCORED - 1, SCORED, SCORED + 1, 3 * SCORED, 3 * SCORED + 77])
def test_every_token_of_a_text_is_scored_once_with_its_context(tokens: int) -> None:
    text = np.arange(tokens + 1)
    text[0] = EMPTY
    text[1:] += 10
    rows = scoring_rows(text)
    scored = [row[1 + int(unscored(row[None])[0]) :] for row in rows]
    np.testing.assert_array_equal(np.concatenate(scored), text[1:])
    assert all(row[0] == EMPTY or len(row) - len(each) == CONTEXT + 1 for row, each in zip(rows, scored, strict=True))
