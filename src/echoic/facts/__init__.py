"""What a run says of itself: the summary (JSON, kept in the bundle) and the facts of its report.

For each kind of task a page of its name, an `Account`: how its files are read and cut, what stands beside the
score, what a run says in its report. `pipeline.py` and `echoic evaluate` ask `of(kind)`. What they share is here.
"""

from __future__ import annotations

import importlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

import echoic
from echoic.core.config import Config, DataConfig
from echoic.core.types import Example
from echoic.evaluate.language import language
from echoic.evaluate.metrics import classification
from echoic.evaluate.report import Facts
from echoic.evaluate.translation import forced
from echoic.model import Model
from echoic.read.check import Finding
from echoic.read.tables import Table
from echoic.tasks.base import Dataset, Say
from echoic.train.loop import Fitted

MEASURES = {"classification": classification, "language": language, "forced": forced}
"""What a task's `metrics` picks from."""

Parts = Mapping[str, Sequence[Example]]
"""The rows of "train" and "valid"."""


@dataclass
class Journey:
    """What a training leaves in memory: the model, and what was seen on the way."""

    model: Model
    fitted: Fitted
    train: Dataset
    valid: Dataset
    valid_outputs: np.ndarray
    seconds: dict[str, float]


class Clock:
    """Seconds of each part of a journey."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self.last, 3)
        self.last = now


class Account(Protocol):
    """What each of the pages gives."""

    def read_parts(
        self, data: str | Path, valid: str | Path | None, config: Config, said: Say
    ) -> tuple[dict[str, list[Example]], dict[str, Table]]:
        """The training and the validation part, from two files or split from one, and the files they came from."""
        ...

    def read_rows(
        self, data: str | Path, model: Model, over: Callable[[DataConfig], DataConfig], said: Say
    ) -> Sequence[Example]:
        """Rows to score `model` on, read as its own were, but for what `over` changes."""
        ...

    def check(self, parts: Parts) -> list[Finding]:
        """What is wrong with the parts, errors first."""
        ...

    def fit_baseline(self, journey: Journey, parts: Parts, said: Say) -> Any:
        """The simple model beside it, frozen."""
        ...

    def score(self, journey: Journey, parts: Parts) -> dict[str, Any]:
        """Scores on the validation part, with the baseline's."""
        ...

    def evaluate(self, model: Model, examples: Sequence[Example]) -> dict[str, Any]:
        """Scores on these rows, with the baseline's, an interval on the difference, and how many were trained on."""
        ...

    def remarks(self, scores: Mapping[str, Any]) -> list[str]:
        """What is said below the table of those scores."""
        ...

    def summary(self, journey: Journey, scores: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
        """The run in numbers; `scores` are those of the validation part."""
        ...

    def report(
        self,
        journey: Journey,
        scores: Mapping[str, Any],
        parts: Parts,
        findings: Sequence[Finding],
        notes: Sequence[str],
        summary: Mapping[str, Any],
        out: Path,
    ) -> Facts:
        """The facts of `report.html`."""
        ...

    def score_facts(self, model: Model, scores: Mapping[str, Any], title: str, part: str) -> Facts:
        """What was scored on the rows called `part`, in the form that the report's table is drawn from."""
        ...


def of(kind: str) -> Account:
    """The page of a kind of task."""
    return cast(Account, importlib.import_module(f"echoic.facts.{kind}"))


def about(config: Config) -> dict[str, Any]:
    """What a model was made with."""
    return {
        "task": config.task.kind,
        "seed": config.seed,
        "threads": torch.get_num_threads(),
        "echoic": echoic.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }


def course(journey: Journey, findings: Sequence[Finding]) -> dict[str, Any]:
    """What any task's run says of itself."""
    fitted = journey.fitted
    network: Any = journey.model.network
    return {
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "stopped_by": fitted.stopped_by,
        "parameters": sum(p.numel() for p in network.parameters()),
        "kernels": network.stack.kernels(training=True),
        "findings": [{"code": f.code, "level": f.level, "message": f.message, "count": f.count} for f in findings],
        "tokens_per_second": round(fitted.tokens / max(fitted.seconds, 1e-9)),
        "peak_memory_mib": _peak_memory(),
        "seconds": dict(journey.seconds),
    }


def told(
    journey: Journey, findings: Sequence[Finding], notes: Sequence[str], summary: Mapping[str, Any], more: str = ""
) -> dict[str, Any]:
    """What any task's report shows of its run; `more` is said of its parameters."""
    seconds = summary["seconds"]
    about = {n: str(v) for n, v in journey.model.about.items() if isinstance(v, str | int) and n != "prompt"}
    files = {f"{name} file SHA-256": digest for name, digest in summary["data"]["sha256"].items()}
    return {
        "history": journey.fitted.history,
        "best_epoch": journey.fitted.best_epoch,
        "findings": [(f.level, f"{f.code}: {f.message}") for f in findings] + [("note", note) for note in notes],
        "cost": {
            "parameters": f"{summary['parameters']:,}{more}",
            "time": f"{seconds['all']:.0f} s (network {seconds['train']:.0f} s)",
            "speed": f"{summary['tokens_per_second']:,} tokens a second",
            "peak memory": f"{summary['peak_memory_mib']:,} MiB",
            "kernels": "; ".join(summary["kernels"]),
        },
        "origin": about | files | {"python executable": Path(sys.executable).name},
    }


def _peak_memory() -> int:
    """MiB; the operating system counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
