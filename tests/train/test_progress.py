"""What a person sees, and what metrics.jsonl keeps."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from train_toy import EVERY_STEP, Job

from echoic.core.errors import StorageError
from echoic.train import progress
from echoic.train.progress import Bar, Lines, Metrics, Silent, watcher

pytestmark = pytest.mark.usefixtures("unsynced")

EPOCH = {
    "kind": "epoch",
    "step": 6,
    "epoch": 1,
    "train_loss": 0.5,
    "loss": 0.25,
    "accuracy": 0.75,
    "best": True,
    "seconds": 65.0,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, **change: Any) -> dict[str, Any]:
    line = {
        "kind": "step",
        "step": number,
        "epoch": 1,
        "loss": 0.5,
        "lr": 0.1,
        "grad_norm": 1.0,
        "tokens": 10,
        "tokens_per_second": 1234.5,
        "seconds": 1.0,
    }
    return line | change


def test_the_watcher_fits_where_it_speaks() -> None:
    assert isinstance(watcher(quiet=True), Silent)
    assert isinstance(watcher(stream=Terminal()), Bar)
    assert isinstance(watcher(stream=io.StringIO()), Lines)


def test_lines_come_every_so_often_and_at_each_epoch() -> None:
    out, now = io.StringIO(), iter([0.0, 10.0, 30.0, 40.0, 41.0, 45.0])
    lines = Lines(out, every=30.0, clock=lambda: next(now))
    lines.begin(12, 2, 2)
    for number in (3, 4, 5):
        lines.step(step(number))
    lines.epoch(EPOCH)
    lines.step(step(7))
    assert out.getvalue().splitlines() == [
        "epoch 1/2  step 4/12  loss 0.5000  1,234 tokens/s  2 min 00 s left",
        "epoch 1/2  step 6/12  train_loss 0.5000  loss 0.2500  accuracy 0.7500  1 min 05 s  best so far",
    ]


def test_the_bar_shows_loss_speed_and_score_and_takes_text_as_it_is() -> None:
    out = Terminal()
    bar = Bar(out)
    bar.begin(12, 2, 0)
    bar.step(step(1))
    bar._progress.refresh()
    bar.epoch(EPOCH)
    bar.note("[red]not markup")
    bar.end()
    shown = out.getvalue()
    for part in ("1/12", "loss 0.5000", "1,234 tokens/s", "accuracy 0.7500", "best so far", "[red]not markup"):
        assert part in shown


def test_the_bar_may_end_before_it_began() -> None:
    Bar(Terminal()).end()


def test_every_watcher_sees_a_whole_run_through_and_changes_nothing() -> None:
    outs = []
    for watch in (Silent(), Lines(io.StringIO(), every=0.0), Bar(Terminal())):
        job = Job()
        job.fit(EVERY_STEP, watch=watch)
        outs.append(job.scored)
    assert outs[0] == outs[1] == outs[2]


def test_metrics_hold_a_line_a_step_and_a_line_an_epoch(tmp_path: Path) -> None:
    job = Job()
    fitted = job.fit(EVERY_STEP, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / progress.METRICS).read_text().splitlines()]
    steps, epochs = ([line for line in lines if line["kind"] == kind] for kind in ("step", "epoch"))
    assert [line["step"] for line in steps] == list(range(1, 25))
    assert set(steps[0]) == set(step(1))
    assert sum(line["tokens"] for line in steps) == fitted.tokens
    assert [line["accuracy"] for line in epochs] == [entry["accuracy"] for entry in fitted.history]
    assert [line["epoch"] for line in epochs if line["best"]][-1] == fitted.best_epoch


def test_lines_past_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / progress.METRICS
    lines = [json.dumps(line) for line in (step(5), step(6), EPOCH, step(7), step(8))]
    file.write_text("\n".join(lines) + '\n{"kind": "st')
    for steps, epochs, kept in ((7, 1, lines[:4]), (6, 1, lines[:3]), (6, 0, lines[:2]), (0, 0, [])):
        Metrics(tmp_path, steps, epochs).close()
        assert file.read_text().splitlines() == kept


def test_a_number_that_is_none_becomes_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, 0)
    metrics.write(step(1, loss=float("inf")))
    metrics.close()
    assert json.loads((tmp_path / progress.METRICS).read_text())["loss"] is None


def test_a_full_disk_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / progress.METRICS).symlink_to("/dev/full")
    metrics = object.__new__(Metrics)
    metrics._path = tmp_path / progress.METRICS
    with (
        open("/dev/full", "wb", buffering=0) as metrics._file,
        pytest.raises(StorageError, match=r"metrics\.jsonl.*No space left"),
    ):
        metrics.write(step(1))
