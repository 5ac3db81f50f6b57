"""Kill it at any instant: the resumed run ends in the same bits as the run left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crash import MUTANTS, outcome
from train_toy import EVERY_STEP, Job

from echoic.core import durable
from echoic.core.config import TrainConfig

pytestmark = pytest.mark.usefixtures("unsynced")

HARNESS = Path(__file__).with_name("crash.py")


class Gone(BaseException):
    """A death that no code here expects."""


def run_out(run: Path, config: TrainConfig, stops: list[int]) -> None:
    """Trains; dies when it is about to take each of the steps `stops`; goes on; at last it ends."""
    for attempt in range(len(stops) + 1):
        job = Job()
        collate, stop = job.collate, stops[attempt] if attempt < len(stops) else None

        def dying(*place: Any, collate: Any = collate, stop: int | None = stop) -> Any:
            if place[2] == stop:
                raise Gone
            return collate(*place)

        job.collate = dying  # type: ignore[method-assign]
        try:
            fitted = job.fit(config, run, resume=attempt > 0)
        except Gone:
            continue
        curve = [[float(value).hex() for value in entry.values()] for entry in fitted.history]
        weights = {name: durable.sha256(tensor.numpy().tobytes()) for name, tensor in job.network.state_dict().items()}
        (run / "result.json").write_text(
            json.dumps([curve, weights, fitted.best_epoch, fitted.stopped_by, fitted.tokens])
        )


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adam"},
        {"optimizer": "sgd", "schedule": "constant"},
        {"optimizer": "rmsprop", "schedule": "plateau", "plateau_patience": 0},
        {"optimizer": "adamw", "average": 0.0, "clip": 0.0},
        {"patience": 1, "epochs": 9},
    ],
    ids=str,
)
def test_a_run_stopped_within_epochs_ends_in_the_same_bits(tmp_path: Path, change: dict[str, Any]) -> None:
    config = EVERY_STEP.model_copy(update=change)
    run_out(tmp_path / "alone", config, [])
    run_out(tmp_path / "stopped", config, [1, 4, 5, 6, 11])
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "alone")


def test_steps_since_the_last_checkpoint_are_taken_again(tmp_path: Path) -> None:
    rarely = EVERY_STEP.model_copy(update={"checkpoint_seconds": 1e6})
    run_out(tmp_path / "alone", rarely, [])
    run_out(tmp_path / "stopped", rarely, [3, 10, 11, 23])
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "alone")


def test_resuming_a_run_that_has_ended_gives_it_back(tmp_path: Path) -> None:
    run_out(tmp_path / "run", EVERY_STEP, [])
    before = outcome(tmp_path / "run")
    job = Job()
    job.collate = lambda *_: pytest.fail("a step was taken")  # type: ignore[method-assign]
    fitted = job.fit(EVERY_STEP, tmp_path / "run", resume=True)
    assert fitted.stopped_by == "epochs"
    assert len(fitted.history) == 4
    assert outcome(tmp_path / "run") == before


def crash(kills: int, *mutants: str) -> list[dict[str, Any]]:
    """The counters of the harness, one for each mutant; it runs alone, as a fork must not inherit threads."""
    command = [
        sys.executable,
        str(HARNESS),
        "--kills",
        str(kills),
        *(part for name in mutants for part in ("--mutant", name)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    print(done.stdout, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_survives(kills: int) -> None:
    (counters,) = crash(kills)
    assert counters["first_fault"] == ""
    assert (counters["mismatches"], counters["torn"], counters["lost"]) == (0, 0, 0)
    assert counters["kills"] >= kills
    assert counters["kills_inside_save"] > 0
    assert counters["resumes_in_mid_epoch"] > 0
    assert counters["completed_comparisons"] > 0


def assert_caught(kills: int, *mutants: str) -> None:
    found = {counters["mutant"]: counters["first_fault"] for counters in crash(kills, *mutants)}
    assert set(found) == set(mutants)
    assert [name for name, fault in found.items() if not fault] == []


def test_a_run_survives_kills() -> None:
    assert_survives(25)


def test_the_harness_catches_mutants() -> None:
    assert_caught(60, "step lost", "no optimiser state", "average lost", "best lost", "written in place")


@pytest.mark.deep
def test_a_run_survives_many_kills() -> None:
    assert_survives(200)


@pytest.mark.deep
def test_the_harness_catches_every_mutant() -> None:
    assert_caught(300, *(name for name in MUTANTS if name != "none"))
