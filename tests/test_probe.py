"""The problems are what they say; a cell learns one; finished outcomes are not made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echoic import probe as probing
from echoic.core.errors import CannotCreate, ConfigError, UsageError
from echoic.ledger import Ledger
from echoic.probe import Asked, Outcome, ask, cell_named, probe, rows
from echoic.problems import PROBLEMS, adding, copy, digits, parity, recall


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", PROBLEMS)
def test_shapes_and_chance(name: str) -> None:
    problem = PROBLEMS[name]
    for make in (problem.train, problem.test):
        found = make(50, draws())
        assert found.x.dtype == np.float32
        assert found.x.shape == (*found.y.shape, problem.features)
        assert found.asked.any(1).all()
    again = problem.test(50, draws())
    assert np.array_equal(again.x, found.x)
    wanted = problem.test(3000, draws(1))
    values = wanted.y[wanted.asked]
    if problem.classes:
        assert np.bincount(values).max() / len(values) == pytest.approx(problem.chance, abs=0.04)
    else:
        assert values.var() == pytest.approx(problem.chance, rel=0.1)


def test_adding_wants_the_sum_of_the_two_marked() -> None:
    found = adding(9)(20, draws())
    value, mark = found.x[..., 0], found.x[..., 1]
    assert (mark.sum(1) == 2).all()
    assert (mark[:, :4].sum(1) == 1).all()
    np.testing.assert_allclose((value * mark).sum(1), found.y[:, -1], rtol=1e-6)
    assert not found.asked[:, :-1].any()


def test_copy_wants_the_first_ten_after_the_silence() -> None:
    found = copy(5)(3, draws())
    ids = found.x.argmax(2)
    assert ids.shape == (3, 25)
    assert np.array_equal(found.y[found.asked].reshape(3, 10), ids[:, :10])
    assert (ids[:, 15] == 9).all()
    assert (ids[:, 16:] == 8).all()


def test_parity_is_asked_at_six_times_the_length() -> None:
    longest = max(PROBLEMS["parity"].train(2, draws(i)).y.shape[1] for i in range(200))
    assert longest == 40
    found = PROBLEMS["parity"].test(4, draws())
    assert found.y.shape[1] == 6 * longest
    assert np.array_equal(found.y[:, -1], found.x.argmax(2).sum(1) % 2)
    assert parity(3, 3, True)(2, draws()).asked.all()


def test_recall_wants_what_stood_beside_the_key() -> None:
    found = recall(5, 3)(40, draws())
    for ids, wanted in zip(found.x.argmax(2), found.y[:, -1], strict=True):
        keys = ids[:-1:2].tolist()
        assert len(set(keys)) == 3
        assert ids[1::2][keys.index(ids[-1])] - 5 == wanted


def test_digits_to_learn_from_are_not_those_asked() -> None:
    asked = {row.tobytes() for row in digits(range(4, 5))(0, draws()).x}
    learned = {row.tobytes() for row in digits(range(3))(4000, draws()).x}
    watched = {row.tobytes() for row in digits(range(3, 4))(0, draws()).x}
    assert (len(asked), len(watched)) == (359, 359)
    assert not asked & learned
    assert not watched & (asked | learned)


def test_a_cell_learns_and_stops_where_it_has_solved_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "EVERY", 25)
    easy = replace(
        PROBLEMS["parity"],
        train=parity(1, 4, True),
        watch=parity(4, 4, False),
        test=parity(4, 4, False),
        updates=600,
        lr=0.02,
    )
    found = ask("parity", easy, "lstm", "lstm", {}, 8, 0)
    assert found.solved
    assert found.score >= 0.99
    assert found.updates < 600
    assert found.known is True
    assert not found.surprise
    assert replace(found, solved=False).surprise


def test_equal_seeds_give_equal_outcomes() -> None:
    easy = replace(
        PROBLEMS["recall"], train=recall(4, 2), watch=recall(4, 2), test=recall(4, 2), features=8, classes=4, updates=5
    )
    first, again = (ask("recall", easy, "gru", "gru", {}, 4, seed) for seed in (1, 1))
    assert replace(first, seconds=0) == replace(again, seconds=0)
    networks = [Asked(easy, "gru", {}, 4, seed).out.weight for seed in (1, 1, 2)]
    assert torch.equal(*networks[:2])
    assert not torch.equal(*networks[1:])


def test_finished_outcomes_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, said = tmp_path / "probe.json", []
    monkeypatch.setattr(probing, "TESTED", 20)
    first = probe(["rnn"], ["recall"], hidden=4, updates=1, out=place)
    more = probe(["rnn", "peephole"], ["recall"], hidden=4, updates=1, out=place, said=said.append)
    assert more[0] == first[0]
    assert [each.cell for each in more] == ["rnn", "peephole"]
    assert said[0].startswith("going on after 1 finished")
    assert len([line for line in said if "recall by" in line]) == 1
    with pytest.raises(ConfigError, match="hidden"):
        probe(["rnn"], ["recall"], hidden=5, updates=1, out=place)
    place.write_text("{}")
    with pytest.raises(ConfigError, match="damaged"):
        probe(["rnn"], ["recall"], hidden=4, updates=1, out=place)
    with pytest.raises(CannotCreate, match="parent"):
        Ledger.open(tmp_path / "none" / "x.json", {}, said.append)


def test_names() -> None:
    assert cell_named("peephole") == ("lstm", {"peephole": True})
    with pytest.raises(UsageError, match="did you mean 'gru'"):
        cell_named("grru")
    with pytest.raises(UsageError, match="did you mean 'adding'"):
        probe(["rnn"], ["addin"])


def test_the_table() -> None:
    one = Outcome("adding", "rnn", 0, "mse", 0.17, 1 / 6, False, False, 9, 9, 1.0, "native")
    heads, body = rows([one, replace(one, cell="gru", score=0.0004, solved=True, known=False)])
    assert heads == ["problem", "measure", "chance", "rnn", "gru"]
    assert body == [["adding", "mse", "0.167", "0.17", "0.0004 + !"]]
