"""The search: deterministic, killed and gone on with to the same end, scored on one validation part."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from echoic import pipeline, tuning
from echoic.core.config import Config, describe
from echoic.core.errors import CannotCreate, CheckFailed, ConfigError, DataError, Locked, OutOfMemory, Unavailable
from echoic.train.signals import Interrupted
from echoic.tuning import SPACE, Range, propose, tune, usual

SMALL = {"model.hidden": (2, 4), "train.lr": Range(1e-3, 3e-2, log=True)}


def config(**changed: Any) -> Config:
    values = {
        "model": {"embedding": 4, "hidden": 3},
        "text": {"min_count": 1, "tokenizer": "words"},
        "train": {"batch_size": 16, "epochs": 7},
        "data": {"valid_fraction": 0.25},
    }
    return Config.parse(values | changed)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    rows = [f"{'good' if i % 2 else 'bad'} word{i % 7} thing{i},{'yes' if i % 2 else 'no'}" for i in range(40)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def search(data: Path, out: Path, **changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"config": config(), "trials": 3, "updates": 4, "space": SMALL} | changed
    return tune(data, out, **given)


def without_time(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in found["trials"]]


# What is proposed


def test_the_space_is_part_of_the_configuration() -> None:
    """Every key is a setting and every end of its range is accepted."""
    assert SPACE.keys() <= describe().keys()
    for key, choice in SPACE.items():
        for value in (choice.low, choice.high) if isinstance(choice, Range) else choice:
            assert Config().override([f"{key}={json.dumps(value)}"]) is not None
    assert {"model.pool"} <= usual("classify").keys()
    assert not {"model.pool"} & usual("translate").keys()
    assert {"model.hidden", "model.cell.kind", "model.pool", "train.lr"} <= SPACE.keys()


def test_a_proposal_is_a_function_of_seed_and_trials() -> None:
    trials: list[dict[str, Any]] = []
    for number in range(14):
        settings = propose(SPACE, 5, trials)
        assert settings == propose(SPACE, 5, trials)
        assert settings.keys() == SPACE.keys()
        trials.append({"settings": settings, "score": None if number == 3 else settings["train.lr"]})
    assert propose(SPACE, 6, []) != trials[0]["settings"]
    assert len({json.dumps(trial["settings"]) for trial in trials}) == 14


def test_it_learns_from_the_scores() -> None:
    """After ten random trials the proposals stand nearer to the best rate than chance would put them."""
    trials: list[dict[str, Any]] = []
    space = {"train.lr": Range(0.0, 1.0)}
    for _ in range(30):
        settings = propose(space, 0, trials)
        trials.append({"settings": settings, "score": -abs(settings["train.lr"] - 0.8)})
    away = [abs(trial["settings"]["train.lr"] - 0.8) for trial in trials]
    assert sum(away[15:]) / 15 < 0.6 * sum(away[:10]) / 10


# A search from end to end


def test_the_best_trial_is_written_as_a_configuration_that_loads(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = search(data, tmp_path / "out", said=said.append)
    assert found["stopped_by"] == "trials"
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2]
    assert found["best"]["score"] == max(trial["score"] for trial in found["trials"])
    best = Config.load(found["config"])
    assert best == config().override(f"{key}={json.dumps(value)}" for key, value in found["best"]["settings"].items())
    assert best.train.epochs == 7, "the length of a trial is not the length of a training"
    assert best.model.ngrams
    assert sum(line.startswith("trial ") for line in said) == 3
    json.dumps(found)


def test_the_score_is_the_validation_score_of_these_settings(data: Path, tmp_path: Path) -> None:
    found = search(data, tmp_path / "out", trials=1)
    trial = found["trials"][0]
    parts, _ = pipeline.read_parts(data, None, config())
    again = config().override(
        [
            *(f"{k}={json.dumps(v)}" for k, v in trial["settings"].items()),
            "train.updates=4",
            "train.epochs=0",
            "model.ngrams=false",
        ]
    )
    journey = pipeline.fit(parts["train"], parts["valid"], again)
    assert trial["score"] == journey.fitted.best_score
    assert found["monitor"] == "accuracy"


def test_a_trial_has_its_own_length_and_trains_the_network_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, seen = pipeline.fit, []
    monkeypatch.setattr(pipeline, "fit", lambda a, b, config: seen.append(config) or right(a, b, config))
    search(data, tmp_path / "out", trials=1)
    assert (seen[0].train.updates, seen[0].train.epochs, seen[0].model.ngrams) == (4, 0, False)


def test_a_search_gone_on_with_ends_as_one_left_alone(data: Path, tmp_path: Path) -> None:
    alone = search(data, tmp_path / "alone", trials=4)
    search(data, tmp_path / "twice", trials=1)
    said: list[str] = []
    twice = search(data, tmp_path / "twice", trials=4, said=said.append)
    assert any("going on after 1 finished" in line for line in said)
    assert without_time(twice) == without_time(alone)
    assert (tmp_path / "twice" / "best.toml").read_bytes() == (tmp_path / "alone" / "best.toml").read_bytes()
    assert search(data, tmp_path / "twice", trials=2)["trials"] == twice["trials"], "nothing left to do"


def test_a_search_killed_in_a_trial_loses_that_trial_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = search(data, tmp_path / "alone")
    right, calls = pipeline.fit, []

    def killed(*given: Any, **more: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise Interrupted(2, "stopped by Ctrl-C; nothing is saved, as there is no run folder")
        return right(*given, **more)

    monkeypatch.setattr(pipeline, "fit", killed)
    with pytest.raises(Interrupted, match=r"stopped in trial 1; 1 finished trials are kept") as caught:
        search(data, tmp_path / "out")
    assert caught.value.exit_code == 130
    assert Config.load(tmp_path / "out" / "best.toml")
    assert without_time(search(data, tmp_path / "out")) == without_time(alone)


def test_the_seconds_are_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(tuning.time, "monotonic", lambda: now[0])
    right = tuning._Search.one_more

    def slow(self: Any, *given: Any) -> None:
        right(self, *given)
        now[0] += 10

    monkeypatch.setattr(tuning._Search, "one_more", slow)
    found = search(data, tmp_path / "out", seconds=15, trials=9)
    assert (len(found["trials"]), found["stopped_by"]) == (2, "seconds")


def test_a_trial_that_diverges_is_told_and_the_search_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, calls = pipeline.fit, []

    def diverges(*given: Any, **more: Any) -> Any:
        calls.append(0)
        if len(calls) == 1:
            raise CheckFailed("the loss is not finite at step 3")
        return right(*given, **more)

    monkeypatch.setattr(pipeline, "fit", diverges)
    found = search(data, tmp_path / "out", trials=2)
    assert found["trials"][0]["score"] is None
    assert "not finite" in found["trials"][0]["error"]
    assert found["best"]["number"] == 1
    calls.clear()
    with pytest.raises(CheckFailed, match="no setting was found: the loss is not finite"):
        search(data, tmp_path / "other", trials=1)


@pytest.mark.parametrize(
    "failure",
    [
        DataError("the rows are none"),
        OutOfMemory("out of memory at step 1"),
        ConfigError("layer_norm and batch_norm: choose one"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_one_bad_trial_does_not_end_the_search(
    failure: Exception, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, calls = pipeline.fit, []

    def fails(*given: Any, **more: Any) -> Any:
        calls.append(0)
        if len(calls) == 1:
            raise failure
        return right(*given, **more)

    monkeypatch.setattr(pipeline, "fit", fails)
    found = search(data, tmp_path / "out", trials=2)
    assert [(trial["score"] is None, trial["error"]) for trial in found["trials"]] == [
        (True, str(failure)),
        (False, None),
    ]


def test_each_choice_of_the_shipped_space_trains(data: Path, tmp_path: Path) -> None:
    found = search(data, tmp_path / "out", space=SPACE, trials=2, updates=2)
    assert all(trial["error"] is None for trial in found["trials"])


# Refusals


def test_a_folder_with_something_else_or_another_search_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(CannotCreate, match="something other than a search"):
        search(data, tmp_path / "full")
    with pytest.raises(CannotCreate, match="parent folder"):
        search(data, tmp_path / "no" / "such")
    search(data, tmp_path / "out", trials=1)
    for changed, part in (
        ({"config": config(seed=1)}, "config"),
        ({"updates": 5}, "updates"),
        ({"space": {"model.hidden": (2, 3)}}, "space"),
    ):
        with pytest.raises(ConfigError, match=f"other {part}"):
            search(data, tmp_path / "out", **changed)
    data.write_text(data.read_text() + "another one,yes\n")
    with pytest.raises(ConfigError, match="other data"):
        search(data, tmp_path / "out")


@pytest.mark.parametrize("key", ["model.ngram_order", "train.epochs", "train.updates", "data.valid_fraction", "seed"])
def test_a_setting_that_would_change_nothing_or_the_measure_is_no_part_of_a_space(
    key: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{key}: cannot be searched"):
        search(data, tmp_path / "out", space={key: (1, 2)})


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"model.hidden": (4, 0)}, "model.hidden=0: .*/model/hidden"),
        ({"model.pool": ("max", "sum")}, "model.pool=sum"),
        ({"model.hiden": (4,)}, "did you mean 'hidden'"),
        ({"model.cell.peepholes": (True,)}, "did you mean 'peephole'"),
        ({"model.cell.kind": ("lstm", "gru"), "model.cell.peephole": (True, False)}, "model.cell.kind=gru.*'peephole'"),
        ({"task.severl": (True,)}, "did you mean 'several'"),
        ({"train.lr": Range(-1.0, 0.1)}, "train.lr=-1.0"),
        ({"train.lr": Range(0.1, 0.01)}, "low end"),
        ({"model.dropout_output": Range(0.0, 0.5, log=True)}, "low end"),
        ({"model.hidden": Range(2, 64)}, "list its values"),
        ({"model.hidden": ()}, "nothing to choose from"),
    ],
)
def test_every_choice_is_checked_before_the_first_trial(
    space: dict[str, Any], says: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fit", lambda *_, **__: pytest.fail("a trial was made"))
    with pytest.raises(ConfigError, match=says):
        search(data, tmp_path / "out", space=space)
    assert not (tmp_path / "out").exists()


def test_threads_may_change_and_a_damaged_file_is_named(data: Path, tmp_path: Path) -> None:
    search(data, tmp_path / "out", trials=1)
    search(data, tmp_path / "out", trials=1, config=config(threads=1))
    (tmp_path / "out" / "trials.json").write_text('{"about": {')
    with pytest.raises(ConfigError, match=r"trials\.json: damaged"):
        search(data, tmp_path / "out", trials=1)


def test_two_searches_in_one_folder_are_refused(data: Path, tmp_path: Path) -> None:
    import fcntl
    import os

    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(Locked):
            search(data, tmp_path / "out")
    finally:
        os.close(handle)


def test_without_optuna_the_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = builtins.__import__

    def absent(name: str, *given: Any, **more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return right(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Unavailable, match=r"pip install 'echoic\[tune\]'"):
        search(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
