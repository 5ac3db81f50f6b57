"""What the loop promises: it learns, it keeps the best, it stops when told, and it says what went wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from train_toy import EVERY_STEP, Job, bits

from echoic.core.config import TrainConfig
from echoic.core.errors import CannotCreate, CheckFailed, DataError, Locked, OutOfMemory
from echoic.train import checkpoint, lock, loop
from echoic.train.average import Average
from echoic.train.loop import Interrupted

pytestmark = pytest.mark.usefixtures("unsynced")

SHORT = TrainConfig(epochs=3, lr=0.05, patience=0)


def test_the_loss_falls() -> None:
    job = Job()
    job.labels = np.array([row[-1] % 2 for row in job.rows])
    fitted = job.fit(TrainConfig(epochs=25, lr=0.05))
    curve = [entry["train_loss"] for entry in fitted.history]
    assert curve[-1] < 0.6 * curve[0]


def test_a_run_is_a_function_of_its_arguments() -> None:
    one, other, another_seed = Job(), Job(), Job()
    assert one.fit(SHORT).history == other.fit(SHORT).history
    assert bits(one.network) == bits(other.network)
    another_seed.fit(SHORT, seed=1)
    assert bits(one.network) != bits(another_seed.network), "the seed draws the noise"


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"optimizer": "adam"},
        {"optimizer": "sgd"},
        {"optimizer": "rmsprop"},
        {"lr": 0.04},
        {"momentum": 0.5},
        {"weight_decay": 0.5},
        {"clip": 0.05},
        {"schedule": "constant"},
        {"schedule": "plateau"},
        {"warmup": 0.0},
        {"average": 0.5},
        {"average": 0.0},
    ],
    ids=str,
)
def test_each_option_changes_something(change: dict[str, Any]) -> None:
    """On the same toy for the same steps: the last live or averaged weights, whichever are kept."""
    base = TrainConfig(epochs=3, lr=0.05)
    assert _last(base) != _last(base.model_copy(update=change))


@pytest.mark.parametrize("change", [{"plateau_patience": 0}, {"patience": 1}], ids=str)
def test_each_option_of_waiting_changes_something(change: dict[str, Any]) -> None:
    base = TrainConfig(epochs=5, lr=0.05, schedule="plateau", plateau_patience=2, warmup=0.0, patience=0)
    assert _last(base, flat=True) != _last(base.model_copy(update=change), flat=True)


def _last(config: TrainConfig, flat: bool = False) -> list[dict[str, float]]:
    """The history, whose scores depend on every weight. `flat`: a score that never gets better."""
    job = Job()
    job.score = _scores(job, [0.5] * 9) if flat else job.score  # type: ignore[method-assign]
    return job.fit(config).history


def test_updates_stand_in_for_epochs() -> None:
    fitted = Job().fit(TrainConfig(epochs=0, updates=13, lr=0.05))
    assert fitted.steps == 18, "6 batches an epoch, rounded up to whole epochs"
    assert len(fitted.history) == 3


@pytest.mark.parametrize(("tokens", "passes"), [(loop.TOKENS // 6, 6), (loop.TOKENS // 4, 4), (loop.TOKENS + 1, 3)])
def test_short_texts_are_read_six_times_where_that_is_cheap(tokens: int, passes: int) -> None:
    fitted = Job().fit(TrainConfig(epochs=0, updates=13, lr=0.05), tokens=tokens)
    assert len(fitted.history) == passes


def _scores(
    job: Job, values: list[float], seen: list[dict[str, bytes]] | None = None
) -> Callable[[nn.Module], dict[str, float]]:
    """A score that says `values` one after another, and shows the weights it was given."""
    told = iter(values)

    def score(network: nn.Module) -> dict[str, float]:
        if seen is not None:
            seen.append(bits(network))
        return {**Job.score(job, network), "accuracy": next(told)}

    return score


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_network_ends_with_the_best_validated_weights(average: float) -> None:
    job, seen = Job(), []
    job.score = _scores(job, [0.5, 0.9, 0.8, 0.9], seen)  # type: ignore[method-assign]
    fitted = job.fit(TrainConfig(epochs=4, lr=0.05, average=average))
    assert (fitted.best_epoch, fitted.best_score) == (2, 0.9), "an equal score later is not better"
    assert bits(job.network) == seen[1]
    assert not job.network.training


def test_early_stopping_waits_for_patience_epochs() -> None:
    job = Job()
    job.score = _scores(job, [0.5, 0.6, 0.6, 0.7, 0.1, 0.2, 0.3])  # type: ignore[method-assign]
    fitted = job.fit(TrainConfig(epochs=7, lr=0.05, patience=2))
    assert (len(fitted.history), fitted.best_epoch, fitted.stopped_by) == (6, 4, "patience")


def test_plateau_halves_after_more_than_its_patience(tmp_path: Path) -> None:
    job = Job()
    job.score = _scores(job, [0.5, 0.4, 0.4, 0.4, 0.4, 0.6])  # type: ignore[method-assign]
    job.fit(TrainConfig(epochs=6, lr=0.08, schedule="plateau", plateau_patience=1, warmup=0.0), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines if line["kind"] == "step"][::6] == [0.08, 0.08, 0.08, 0.04, 0.04, 0.02]


def test_the_average_is_worn_while_validating_and_taken_off_after() -> None:
    network = nn.Linear(2, 1)
    average = Average(network, 0.5)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    average.update(1000)
    moved = bits(network)
    with average.worn():
        torch.testing.assert_close(network.weight.detach(), start + 0.5)
    assert bits(network) == moved
    torch.testing.assert_close(average.tensors["weight"], start + 0.5)


def test_the_average_forgets_its_start_quickly() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = Average(network, 0.999)
    nn.init.ones_(network.weight)
    for step in range(20):
        average.update(step)
    assert average.tensors["weight"].item() > 0.99, "a plain average of decay 0.999 would stand at 0.02"


# Bad days


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, where: str) -> None:
    job, steps = Job(), iter(range(100))

    def loss(network: nn.Module, batch: Any, noise: Any) -> tuple[Tensor, int]:
        total, count = Job.loss(job, network, batch, noise)
        if next(steps) == 3:
            total = total * float("nan") if where == "loss" else total + _steep(network)
        return total, count

    job.loss = loss  # type: ignore[method-assign]
    with pytest.raises(
        CheckFailed,
        match=rf"the {where} is not finite at step 4 \(epoch 1\).*checkpoint is 00000003.*train.lr.*train.clip",
    ) as caught:
        job.fit(EVERY_STEP, tmp_path / "run")
    assert caught.value.exit_code == 1
    held = json.loads((tmp_path / "run/nan_batch.json").read_text())
    assert held["rows"] == job.plan(0)[3].tolist()


def _steep(network: nn.Module) -> Tensor:
    """0, with an infinite gradient: the square root at 0."""
    return (next(network.parameters()) * 0.0).sum().sqrt()


def test_a_score_that_is_no_number_stops_the_run() -> None:
    job = Job()
    job.score = _scores(job, [0.5, float("nan")])  # type: ignore[method-assign]
    with pytest.raises(CheckFailed, match="accuracy of the validation part is not a number after epoch 2"):
        job.fit(SHORT)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
@pytest.mark.parametrize("where", ["loss", "score"])
def test_out_of_memory_says_what_to_make_smaller(error: Exception, where: str) -> None:
    job = Job()

    def fails(*_: Any) -> Any:
        raise error

    setattr(job, where, fails)
    with pytest.raises(OutOfMemory, match=r"train.batch_size \(now 64\).*train.batch_tokens.*model.hidden") as caught:
        job.fit(SHORT)
    assert caught.value.exit_code == 71


def test_another_error_of_torch_is_not_called_out_of_memory() -> None:
    job = Job()

    def fails(*_: Any) -> Any:
        raise RuntimeError("expected a contiguous memory format")

    job.loss = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="contiguous"):
        job.fit(SHORT)


def test_no_rows_are_bad_data() -> None:
    job = Job()
    job.plan = lambda epoch: []  # type: ignore[method-assign]
    with pytest.raises(DataError, match="0 rows"):
        job.fit(SHORT)


def test_a_device_is_taken_by_name_or_as_it_is() -> None:
    one, other = Job(), Job()
    assert one.fit(SHORT, device="cpu").history == other.fit(SHORT, device=torch.device("cpu")).history


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    Job().fit(SHORT, tmp_path / "run")
    with pytest.raises(CannotCreate, match="--resume"):
        Job().fit(SHORT, tmp_path / "run")


def test_a_run_folder_without_a_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="No such file"):
        Job().fit(SHORT, tmp_path / "no" / "run")


# Signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["step", "score"])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, signum: int, code: int, moment: str) -> None:
    alone, stopped, resumed = Job(), Job(), Job()
    config = TrainConfig(epochs=3, lr=0.05, checkpoint_seconds=1e6)
    alone.fit(config, tmp_path / "alone")
    _at(stopped, moment, 2, lambda: os.kill(os.getpid(), signum))
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=r"and saved; the same command with --resume goes on$") as caught:
        stopped.fit(config, tmp_path / "run")
    assert caught.value.exit_code == code
    assert signal.getsignal(signum) == before
    assert checkpoint.names(tmp_path / "run")[-1] == {"step": "00000002", "score": "00000012"}[moment]
    resumed.fit(config, tmp_path / "run", resume=True)
    assert bits(resumed.network) == bits(alone.network)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    job = Job()

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    _at(job, "step", 2, twice)
    with pytest.raises(Interrupted, match="at once"):
        job.fit(TrainConfig(epochs=3, checkpoint_seconds=1e6), tmp_path / "run")
    assert checkpoint.names(tmp_path / "run") == []


def test_a_signal_without_a_run_folder_says_that_nothing_is_saved() -> None:
    job = Job()
    _at(job, "step", 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="nothing is saved"):
        job.fit(SHORT)


def _at(job: Job, moment: str, call: int, action: Callable[[], None]) -> None:
    """Does `action` within the `call`-th step or validation."""
    name = {"step": "collate", "score": "score"}[moment]
    inner, calls = getattr(job, name), iter(range(1, 100))

    def acting(*arguments: Any) -> Any:
        if next(calls) == call:
            action()
        return inner(*arguments)

    setattr(job, name, acting)


# The lock


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    run, (reading, writing) = tmp_path / "run", os.pipe()
    pid = os.fork()
    if pid == 0:
        with lock.hold(run):
            os.write(writing, b"held")
            signal.pause()
    assert os.read(reading, 4) == b"held"
    try:
        with pytest.raises(Locked, match=f"process {pid} on .* since 20"), lock.hold(run):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
    with lock.hold(run), lock.hold(run):
        holder = json.loads((run / lock.NAME).read_text())
    assert holder["pid"] == os.getpid(), "the lock of a killed process is no lock"


def test_the_plan_of_an_epoch_is_asked_for_with_its_number() -> None:
    job, asked = Job(), []
    plan = job.plan

    def noted(epoch: int) -> list[np.ndarray]:
        asked.append(epoch)
        return plan(epoch)

    job.plan = noted  # type: ignore[method-assign]
    job.fit(SHORT)
    assert sorted(set(asked)) == [0, 1, 2]
