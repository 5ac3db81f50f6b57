"""What a run says of itself: the summary (JSON, kept in the bundle) and the facts of its report."""

from __future__ import annotations

import resource
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import echoic
from echoic.core.config import Config
from echoic.core.errors import show
from echoic.core.types import SPECIALS, Example
from echoic.evaluate.intervals import Paired
from echoic.evaluate.metrics import hardest
from echoic.evaluate.report import HardError, Part, ReportFacts
from echoic.explain.pieces import strongest
from echoic.explain.words import Near, Table
from echoic.model import Model
from echoic.read.check import Finding
from echoic.tasks.base import Dataset
from echoic.train.loop import Fitted


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


HARDEST = 20
MISLED = 4
"""Words marked of each."""
TELLING, TELLING_ROWS, TELLING_TEXTS = 8, 5000, 5
"""Words whose neighbours are shown, the rows looked at for them, from all over the file, and in how many texts a word must be."""
SHOWN = ("examples", "accuracy", "macro_f1", "micro_f1", "loss", "ece", "accuracy_interval", "difference")


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


def summary(journey: Journey, scores: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """The run in numbers; `scores` are those of the validation part."""
    network: Any = journey.model.network
    baselines = {name: {k: each[k] for k in SHOWN if k in each} for name, each in scores["baselines"].items()}
    return {
        "validation": {k: scores[k] for k in SHOWN if k in scores} | {"baselines": baselines},
        "ngram_weights": 0 if network.ngrams is None else network.ngrams.weight.numel(),
        **course(journey, findings),
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


def report(
    journey: Journey,
    scores: Mapping[str, Any],
    parts: Mapping[str, Sequence[Example]],
    findings: Sequence[Finding],
    notes: Sequence[str],
    summary: Mapping[str, Any],
    out: Path,
) -> ReportFacts:
    """The facts of `report.html`."""
    model, task = journey.model, journey.model.task
    network: Any = model.network
    run = shlex.quote(show(out, 4096))
    return ReportFacts(
        title=f"{Path(summary['data']['path']).name}: {len(task.names)} labels",
        names=task.names,
        kind=task.kind,
        part="validation",
        scores={"model": scores, **{k: scores["baselines"][k] for k in ("tfidf_lr", "majority")}},
        difference=Paired(**scores["difference"]),
        history=journey.fitted.history,
        best_epoch=journey.fitted.best_epoch,
        calibration={
            f"scale of the {path} path": f"{scale:.3f}"
            for path, scale in zip(("recurrent", "n-gram"), network.scales.tolist(), strict=False)
        },
        errors=_errors(journey, parts["valid"]),
        neighbours=_neighbours(journey),
        data=[
            _part("training", journey.train),
            _part("validation", journey.valid),
        ],
        findings=[(f.level, f"{f.code}: {f.message}") for f in findings] + [("note", note) for note in notes],
        cost=cost(summary, parameters=f"{summary['parameters']:,}, and {summary['ngram_weights']:,} n-gram weights"),
        commands=[
            ("score it on a test file", f"echoic evaluate {run} test.csv"),
            ("ask it", f'echoic predict {run} "a text"'),
            ("a whole file", f"echoic predict {run} --input texts.csv --output answers.csv"),
            ("from Python", f'echoic.load("{show(out, 4096)}").predict(["a text"])'),
        ],
        origin=origin(model, summary),
    )


def cost(summary: Mapping[str, Any], **more: str) -> dict[str, str]:
    """What any task's run cost, for its report; `more` goes before."""
    seconds = summary["seconds"]
    return {
        **more,
        "time": f"{seconds['all']:.0f} s (network {seconds['train']:.0f} s)",
        "speed": f"{summary['tokens_per_second']:,} tokens a second",
        "peak memory": f"{summary['peak_memory_mib']:,} MiB",
        "kernels": "; ".join(summary["kernels"]),
    }


def origin(model: Model, summary: Mapping[str, Any]) -> dict[str, str]:
    """Where a run came from: seed, versions, the digests of its files."""
    about = {name: str(value) for name, value in model.about.items() if isinstance(value, str | int)}
    files = {f"{name} file SHA-256": digest for name, digest in summary["data"]["sha256"].items()}
    return about | files | {"python executable": Path(sys.executable).name}


def _errors(journey: Journey, valid: Sequence[Example]) -> list[HardError]:
    task = journey.model.task
    p = task.probabilities(journey.valid_outputs)
    assert journey.valid.targets is not None
    worst = hardest(p, journey.valid.targets, HARDEST, kind=task.kind, thresholds=task.thresholds)
    errors = []
    for i, record in zip(
        worst, task.decode([valid[i].input for i in worst], journey.valid_outputs[worst]), strict=True
    ):
        said = ", ".join(record.labels) if record.labels is not None else str(record.label)
        misled = _misled(journey.model, valid[i].input, record.label)
        errors.append(
            HardError(valid[i].row, valid[i].input, _wanted(valid[i].target), said, record.confidence, misled)
        )
    return errors


def _misled(model: Model, text: str, said: str | None) -> list[tuple[int, int]]:
    """Where the words stand that spoke loudest for what was said."""
    if said is None:
        return []
    found = model.explain([text], "gradient-x-input", label=said)[0]
    loud = [piece for piece in strongest(found, 2 * MISLED) if piece.score > 0 and piece.level > 1]
    return [(piece.start, piece.end) for piece in loud[:MISLED] if text[piece.start : piece.end].strip()]


def _neighbours(journey: Journey) -> dict[str, dict[str, list[Near]]]:
    """Of the words that tell the classes apart best, the nearest; before the training too, if it began with vectors."""
    task = journey.model.task
    network: Any = journey.model.network
    vocabulary = task.text.vocabulary
    tables = {"after training": Table(vocabulary, network.embed.weight.detach().float().cpu().numpy())}
    if task.vectors is not None:
        tables = {"before training": Table(vocabulary, task.vectors.matrix, task.vectors.found), **tables}
    words = [vocabulary[i] for i in telling(journey.train, task.dense(journey.train.targets), len(vocabulary))]
    return {word: {when: each.neighbours(word, 6) for when, each in tables.items()} for word in words}


def telling(data: Dataset, targets: np.ndarray, vocabulary: int) -> list[int]:
    """The tokens whose texts differ most from the others in their classes, by chi squared, first that with most."""
    seen = np.zeros((vocabulary, targets.shape[1]))
    looked_at = np.unique(np.linspace(0, len(data) - 1, TELLING_ROWS).astype(np.int64))  # a file may be sorted by label
    for i in looked_at:
        seen[np.unique(data.rows[i])] += targets[i]
    texts = seen.sum(1, keepdims=True)
    expected = texts * targets[looked_at].mean(0)
    far = ((seen - expected) ** 2 / np.maximum(expected, 1e-9)).sum(1)
    far[(texts[:, 0] < TELLING_TEXTS) | (np.arange(vocabulary) < len(SPECIALS))] = 0
    return [int(i) for i in np.argsort(-far, kind="stable")[:TELLING] if far[i] > 0]


def _wanted(target: Any) -> str:
    if isinstance(target, Mapping):
        return str(max(target, key=lambda name: target[name]))
    return ", ".join(target) if isinstance(target, tuple) else str(target)


def _part(name: str, data: Dataset) -> Part:
    middle, high = np.percentile(data.lengths, [50, 95])
    return Part(name, len(data), int(middle), int(high), int(data.lengths.max()), *data.cut)


def _peak_memory() -> int:
    """MiB; the operating system counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
