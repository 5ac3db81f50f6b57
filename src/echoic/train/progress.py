"""What a person sees of a run, and what `metrics.jsonl` keeps of it.

A line is a dict, the same for both:
    {"kind": "step",  "step", "epoch", "loss", "lr", "grad_norm", "tokens", "tokens_per_second", "seconds"}
    {"kind": "epoch", "step", "epoch", "train_loss", <what validation scored>, "best", "seconds"}
`epoch` counts from 1, `step` counts steps done, `seconds` those of the run so far, all its parts together.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from echoic.core import durable

Line = Mapping[str, Any]
METRICS = "metrics.jsonl"


class Watcher(Protocol):
    """Is told of everything that happens in a run, and must not change it."""

    def begin(self, steps: int, epochs: int, step: int) -> None:
        """`steps` in `epochs` at most; `step` of them are done already."""

    def step(self, line: Line) -> None: ...

    def epoch(self, line: Line) -> None: ...

    def note(self, text: str) -> None:
        """Something worth saying once: a resumed run, a damaged checkpoint."""

    def end(self) -> None:
        """Comes once, also after an error."""


def watcher(quiet: bool = False, stream: IO[str] | None = None) -> Watcher:
    """A bar on a terminal, lines elsewhere, nothing if `quiet`. On stderr unless `stream` is given."""
    stream = stream or sys.stderr
    if quiet:
        return Silent()
    return Bar(stream) if stream.isatty() else Lines(stream)


class Silent:
    def begin(self, steps: int, epochs: int, step: int) -> None: ...

    def step(self, line: Line) -> None: ...

    def epoch(self, line: Line) -> None: ...

    def note(self, text: str) -> None: ...

    def end(self) -> None: ...


class Lines:
    """A line an epoch, and one every `every` seconds."""

    def __init__(self, stream: IO[str], every: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._every, self._clock = stream, every, clock

    def begin(self, steps: int, epochs: int, step: int) -> None:
        self._steps, self._epochs, self._first = steps, epochs, step
        self._began = self._said = self._clock()

    def step(self, line: Line) -> None:
        now = self._clock()
        if now - self._said < self._every:
            return
        self._said = now
        left = (now - self._began) / (line["step"] - self._first) * max(0, self._steps - line["step"])
        self.note(f"{self._where(line)}  {_step(line)}  {_duration(left)} left")

    def epoch(self, line: Line) -> None:
        self._said = self._clock()
        self.note(
            f"{self._where(line)}  {_scores(line)}  {_duration(line['seconds'])}{'  best so far' if line['best'] else ''}"
        )

    def _where(self, line: Line) -> str:
        return f"epoch {line['epoch']}/{self._epochs}  step {line['step']:,}/{self._steps:,}"

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def end(self) -> None: ...


class Bar:
    """A bar that moves, with one line an epoch left standing above it."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeRemainingColumn(),
            console=Console(file=stream),
            redirect_stdout=False,  # a verb's --json goes to stdout as it is
            redirect_stderr=False,
            transient=True,
        )

    def begin(self, steps: int, epochs: int, step: int) -> None:
        self._epochs = epochs
        self._task = self._progress.add_task(f"epoch 1/{epochs}", total=steps, completed=step, numbers="")
        self._progress.start()

    def step(self, line: Line) -> None:
        where = f"epoch {line['epoch']}/{self._epochs}"
        self._progress.update(self._task, completed=line["step"], description=where, numbers=_step(line))

    def epoch(self, line: Line) -> None:
        self.note(f"epoch {line['epoch']}/{self._epochs}  {_scores(line)}{'  best so far' if line['best'] else ''}")

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def end(self) -> None:
        self._progress.stop()


def _step(line: Line) -> str:
    return f"loss {line['loss']:.4f}  {line['tokens_per_second']:,.0f} tokens/s"


def _scores(line: Line) -> str:
    shown = {n: v for n, v in line.items() if isinstance(v, float) and n != "seconds"}
    return "  ".join(f"{name} {value:.4f}" for name, value in shown.items())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Metrics:
    """`metrics.jsonl` of a run: a line for every step and epoch, none twice, whatever was killed when."""

    def __init__(self, run: Path, step: int, epochs: int) -> None:
        """Drops what an earlier process wrote past `step` steps and `epochs` validated epochs."""
        self._path = run / METRICS
        try:
            if self._path.exists():
                old = self._path.read_bytes()
                if (kept := _trimmed(old, step, epochs)) != old:
                    durable.write_file(self._path, kept)
            self._file = open(self._path, "ab")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise durable.translate(error, self._path) from error

    def write(self, line: Line) -> None:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._do(lambda: self._file.write((json.dumps(finite, ensure_ascii=False) + "\n").encode()))
        self._do(self._file.flush)

    def sync(self) -> None:
        """On disk when this returns: a checkpoint must not know of steps that this file lost."""
        self._do(lambda: os.fsync(self._file.fileno()))

    def close(self) -> None:
        self._do(self._file.close)

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
            raise durable.translate(error, self._path) from error


def _trimmed(raw: bytes, step: int, epochs: int) -> bytes:
    kept = []
    for line in raw.splitlines(keepends=True):
        try:
            entry = json.loads(line)
            done = entry["epoch"] <= epochs if entry["kind"] == "epoch" else entry["step"] <= step
        except (ValueError, KeyError, TypeError):
            continue  # the end of a file whose writer was killed
        if done and line.endswith(b"\n"):
            kept.append(line)
    return b"".join(kept)
