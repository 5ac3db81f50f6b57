"""Checkpoints: exact, whole or absent, rotated, and refused by name when damaged."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toy import EVERY_STEP, Job, bits

from echoic.core import durable
from echoic.core.bundle import canonical
from echoic.core.errors import BundleError, CannotCreate, ConfigError, EchoicError, NotPermitted, StorageError
from echoic.train import checkpoint
from echoic.train.checkpoint import Checkpoint, State

pytestmark = pytest.mark.usefixtures("unsynced")

ONE_EPOCH = EVERY_STEP.model_copy(update={"epochs": 1})


def saved(step: int, **fields: Any) -> Checkpoint:
    weight = {"w": torch.full((3,), float(step))}
    return Checkpoint(State(step=step, position=1, **fields), weight, {}, {}, {}, {"data": "abc"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a short name: a message cuts a long one."""
    monkeypatch.chdir(tmp_path)
    return Path("run")


def folder(run: Path, place: int = -1) -> Path:
    return run / checkpoint.FOLDER / checkpoint.names(run)[place]


def test_the_state_comes_back_exactly() -> None:
    history = [{"epoch": 1, "step": 6, "loss": 0.1 + 0.2, "accuracy": math.inf}]
    state = State(
        step=7, epoch=1, position=1, loss=1 / 3, count=4, history=history, best_score=-math.inf, stopped_by=""
    )
    again = State.from_json(state.to_json())
    assert again == state
    assert again.to_json() == state.to_json()
    assert isinstance(again.history[0]["step"], int)


def test_equal_runs_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        checkpoint.save(tmp_path / name, dataclasses.replace(saved(1), seconds=float(len(name))), 2)
    files = [
        {p.name: p.read_bytes() for p in folder(tmp_path / n).iterdir() if p.name != "manifest.json"}
        for n in ("one", "other")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 7


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    checkpoint.save(tmp_path, Checkpoint(State(step=1), {"a": shared, "b": shared}, {}, {}, {}, {}), 2)
    found = checkpoint.latest(tmp_path, pytest.fail)
    assert found is not None
    assert torch.equal(found.model["a"], found.model["b"])


def test_the_newest_are_kept_in_the_order_of_steps(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):
        checkpoint.save(tmp_path, saved(step), 2)
    assert checkpoint.names(tmp_path) == ["99999999", "100000000"]
    checkpoint.save(tmp_path, Checkpoint(State(step=100_000_000, epoch=2), {}, {}, {}, {}, {}), 2)
    assert checkpoint.names(tmp_path) == ["100000000", "100000000-epoch2"]


def test_the_older_goes_only_after_the_newer_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, saved(1), 2)
    checkpoint.save(tmp_path, saved(2), 2)
    there: list[list[str]] = []
    remove = checkpoint._remove
    monkeypatch.setattr(checkpoint, "_remove", lambda path: (there.append(checkpoint.names(tmp_path)), remove(path)))
    checkpoint.save(tmp_path, saved(3), 2)
    assert there == [["00000001", "00000002", "00000003"]]


@pytest.mark.parametrize(
    "file", ["model", "optimizer", "average", "best", "carry", "state.json", "fingerprint.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(here: Path, file: str, damage: str) -> None:
    for step in (1, 2):
        checkpoint.save(here, saved(step), 2)
    target = next(folder(here).glob(f"{file}*"))
    raw = target.read_bytes()
    match damage:
        case "flipped":
            target.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        case "cut":
            target.write_bytes(raw[:-1])
        case "removed":
            target.unlink()
    notes: list[str] = []
    found = checkpoint.latest(here, notes.append)
    assert found is not None
    assert found.state.step == 1
    assert len(notes) == 1
    assert "00000002" in notes[0]
    assert file in notes[0]
    assert checkpoint.names(here) == ["00000001"]
    assert (here / checkpoint.FOLDER / "damaged-00000002").is_dir()


def test_a_run_whose_newest_is_damaged_ends_in_the_same_bits(tmp_path: Path) -> None:
    alone, stopped, resumed = Job(), Job(), Job()
    alone.fit(EVERY_STEP, tmp_path / "alone")
    collate = stopped.collate
    stopped.collate = lambda *place: pytest.skip() if place[2] == 9 else collate(*place)  # type: ignore[method-assign]
    with pytest.raises(pytest.skip.Exception):
        stopped.fit(EVERY_STEP, tmp_path / "run")
    (folder(tmp_path / "run") / "optimizer.safetensors").write_bytes(b"")
    resumed.fit(EVERY_STEP, tmp_path / "run", resume=True)
    assert bits(resumed.network) == bits(alone.network)


def test_a_run_without_one_whole_checkpoint_is_refused(here: Path) -> None:
    for step in (1, 2):
        checkpoint.save(here, saved(step), 2)
        (folder(here) / "state.json").unlink()
    with pytest.raises(BundleError, match=r"00000002/state.json: missing.*start again in another run folder") as caught:
        checkpoint.latest(here, lambda _: None)
    assert caught.value.exit_code == 65
    with pytest.raises(BundleError, match="all checkpoints of this run are damaged"):  # and never begun anew
        checkpoint.latest(here, lambda _: None)


def test_a_newer_releases_checkpoints_are_left_alone(here: Path) -> None:
    checkpoint.save(here, saved(1), 2)
    manifest = folder(here) / "manifest.json"
    stated = json.loads(manifest.read_bytes()) | {"format": 99}
    del stated["sha256"]
    manifest.write_bytes(canonical(stated | {"sha256": durable.sha256(canonical(stated))}))
    for _ in "ab":
        with pytest.raises(BundleError, match=r"written in format 99.*install a newer echoic"):
            checkpoint.latest(here, lambda _: None)


def test_a_whole_bundle_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    wrong = {"state.json": b'{"step": 1, "wings": 2}'}
    from echoic.core import bundle

    bundle.write(tmp_path / checkpoint.FOLDER / "00000001", checkpoint.KIND, {}, wrong)
    with pytest.raises(BundleError, match="not a checkpoint of this release"):
        checkpoint.latest(tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"data": "b" * 64, "model": {"hidden": 8}}, "data was a{64}, is now b{64}"),
        ({"data": "a" * 64, "model": {"hidden": 9}}, r"model\.hidden was 8, is now 9"),
        ({"data": "a" * 64, "model": {}}, r"model\.hidden was 8, is now absent"),
        ({"data": "a" * 64, "model": {"hidden": 8, "new": (1, 2)}}, r"model\.new was absent, is now \[1, 2\]"),
    ],
)
def test_another_run_is_refused_by_its_first_difference(now: dict[str, Any], message: str) -> None:
    was = {"data": "a" * 64, "model": {"hidden": 8}}
    checkpoint.same(was, dict(was))
    with pytest.raises(ConfigError, match=message) as caught:
        checkpoint.same(was, now)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": EVERY_STEP.model_copy(update={"lr": 0.5})}, r"train\.lr was 0\.05, is now 0\.5"),
        ({"seed": 5}, "seed was 0, is now 5"),
        ({"fingerprint": {"data": "other"}}, "data was toy 0, is now other"),
    ],
    ids=["config", "seed", "data"],
)
def test_resuming_with_something_else_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    Job().fit(ONE_EPOCH.model_copy(update={"epochs": 4}), tmp_path / "run")
    keywords = {"config": EVERY_STEP, "run": tmp_path / "run", "resume": True} | change
    with pytest.raises(ConfigError, match=message):
        Job().fit(**keywords)


def test_resuming_with_another_network_is_refused(tmp_path: Path) -> None:
    Job().fit(ONE_EPOCH, tmp_path / "run")
    other = Job()
    other.network.out = torch.nn.Linear(8, 3)
    with pytest.raises(ConfigError, match="another network"):
        other.fit(ONE_EPOCH, tmp_path / "run", resume=True)


def test_how_often_to_save_may_change_and_another_machine_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job().fit(ONE_EPOCH, tmp_path / "run")
    here = checkpoint.machine(torch.device("cpu"))
    monkeypatch.setattr(checkpoint, "machine", lambda device: {**here, "threads": 99, "device": f"no {device}"})
    notes: list[str] = []

    class Hears:
        begin = step = epoch = end = staticmethod(lambda *_: None)
        note = staticmethod(notes.append)

    rarely = ONE_EPOCH.model_copy(update={"checkpoint_seconds": 60.0, "checkpoints": 5})
    Job().fit(rarely, tmp_path / "run", resume=True, watch=Hears())
    assert [note for note in notes if note.startswith("threads is 99, was ")]
    assert [note for note in notes if note.startswith("device is no cpu, was cpu: the result may differ")]


# A disk that fails at its N-th call

CALLS = ("_write", "_swap", "_sync_folder")
CODES = {
    errno.ENOSPC: StorageError,
    errno.EDQUOT: StorageError,
    errno.EIO: StorageError,
    errno.EACCES: NotPermitted,
    errno.EROFS: CannotCreate,
}


@pytest.fixture
def fails_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int], list[str]]]:
    """(N, errno): from now on the N-th call that core.durable makes of the disk fails. -> the calls made"""

    def plant(n: int, number: int) -> list[str]:
        made: list[str] = []
        for name in CALLS:
            inner = getattr(durable, name)

            def failing(*arguments: Any, name: str = name, inner: Any = inner) -> Any:
                made.append(name)
                if len(made) == n:
                    raise OSError(number, os.strerror(number))
                return inner(*arguments)

            patched.setattr(durable, name, failing)
        return made

    with monkeypatch.context() as patched:
        yield plant


@pytest.mark.parametrize(
    ("n", "number"), [*((n, errno.ENOSPC) for n in range(12, 23)), *((15, number) for number in CODES)]
)
def test_a_disk_that_fails_leaves_the_checkpoint_before(
    tmp_path: Path, fails_at: Callable[[int, int], list[str]], monkeypatch: pytest.MonkeyPatch, n: int, number: int
) -> None:
    """A save makes 10 calls, so these are those of the second and a little more."""
    alone = Job()
    alone.fit(ONE_EPOCH, tmp_path / "alone")
    run = tmp_path / "run"
    made = fails_at(n, number)
    with pytest.raises(EchoicError) as caught:
        Job().fit(ONE_EPOCH, run)
    assert len(made) >= n
    assert type(caught.value) is CODES[number]
    assert str(run) in str(caught.value)
    assert not list((run / checkpoint.FOLDER).glob(".*.tmp")), "nothing half-written stays"
    found = checkpoint.latest(run, pytest.fail)
    assert found is not None
    made.extend(["the disk is well again"] * 1000)
    resumed = Job()
    resumed.fit(ONE_EPOCH, run, resume=True)
    assert bits(resumed.network) == bits(alone.network)
