"""The journey: read -> prepare -> train -> evaluate -> bundle, composed once for all the doors.

`train` takes a file and leaves a run folder; `fit` takes examples and gives a model; `evaluate`
scores one on a file. What one room needs from another that lies ahead of it on the path is handed
down from here as a function.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from echoic import facts, transplant
from echoic.batch import buckets
from echoic.core import durable, registry
from echoic.core.config import Config, TrainConfig
from echoic.core.errors import CannotCreate, CheckFailed, DataError, UsageError, show
from echoic.core.types import Batch, Example
from echoic.evaluate.calibration import fit_scales
from echoic.evaluate.metrics import choose_thresholds
from echoic.evaluate.report import write_report
from echoic.facts import Journey
from echoic.model import Model, device_of, fingerprints, load, map_batches
from echoic.prepare.vectors import digest_of
from echoic.read.check import Finding
from echoic.read.streams import new_texts, read_unlabelled
from echoic.read.tables import Table
from echoic.tasks.base import Dataset, Say, Task, WithoutLabels, rounding, rounds
from echoic.train import lock, virtual
from echoic.train.augment import augment
from echoic.train.loop import Carry, Interrupted
from echoic.train.loop import fit as run_loop
from echoic.train.ngrams import fit_ngrams
from echoic.train.progress import Silent, Watcher, watcher

if TYPE_CHECKING:
    from echoic.distilling import Teacher

__all__ = ["Journey", "evaluate", "fit", "load", "train", "watcher"]


Reader = Callable[[str | Path, str | Path | None, Config, Say], tuple[dict[str, list[Example]], dict[str, Table]]]
"""(data, valid, config, said) -> the parts "train" and "valid", and the files they came from."""

LANGUAGE = "language"
"""Within a run folder: the run of the language model that was adapted for it (`finetuning.py`)."""


def silent(_: str) -> None:
    """Hears nothing."""


def fit(
    train: Sequence[Example],
    valid: Sequence[Example],
    config: Config,
    *,
    run: Path | None = None,
    resume: bool = False,
    watch: Watcher | None = None,
    said: Say = silent,
    fingerprint: Mapping[str, Any] | None = None,
    base: Model | None = None,
    unlabelled: Sequence[Example] = (),
) -> Journey:
    """Examples -> a trained model; with a `run` folder, checkpoints and metrics.jsonl go there. With a `base` it
    begins from that model's tokenizer and weights (`transplant.py`), whose structure `config` must have. From
    `unlabelled` texts it learns what train.virtual and train.entropy say."""
    clock = facts.Clock()
    if config.threads:
        torch.set_num_threads(config.threads)
    given = {} if base is None else {"text": transplant.text(base, [e.input for e in train], config, said)}
    task = registry.get("task", config.task.kind).fit(train, config, said, **given)
    train_data, valid_data = task.encode(train), task.encode(valid)
    network = task.network(config.seed).to(device_of(config))
    origin = {} if base is None else transplant.weights(network, base)
    if train_data.cut[0]:
        said(
            f"{train_data.cut[0]:,} training texts were cut to {config.text.max_tokens:,} tokens; {train_data.cut[1]:,} tokens are not read"
        )
    if config.train.bfloat16 and not rounds(config):
        said("no native core here that multiplies bfloat16: training multiplies float32")
    with rounding(config):
        for kernel in dict.fromkeys(line.partition(": ")[2] for line in network.stack.kernels(training=True)):
            said(f"kernel: {kernel}")
    schedule = config.train
    if not schedule.lr:
        schedule = schedule.model_copy(update={"lr": task.rate})
        said(f"learning rate: up to {schedule.lr:.3g} (train.lr sets another)")
    clock.lap("prepare")

    carry: Carry = {}

    def score(network: nn.Module) -> dict[str, float]:
        outputs = map_batches(lambda x, n: [network(x, n)], valid_data, task, config)[0]
        found = task.metrics(outputs, valid_data.targets, facts.MEASURES)
        return {name: float(found[name]) for name in ("loss", task.monitor)}

    fitted = run_loop(
        network,
        lambda network, batch, noise: task.learn(network, batch, noise, carry),
        plan=lambda epoch: task.plan(train_data, epoch),
        collate=lambda index, epoch, step: _collate(task, train_data, index, config.train, config.seed, step),
        score=score,
        config=schedule,
        monitor=task.monitor,
        run=run,
        seed=config.seed,
        resume=resume,
        watch=watch or Silent(),
        fingerprint={**(fingerprint or {}), **origin},
        device=config.device,
        carry=carry,
        tokens=train_data.tokens,
        beside=_beside(task, train_data, unlabelled, config, said) if virtual.wanted(config.train) else None,
    )
    clock.lap("train")
    task.finish(
        network,
        train_data,
        valid_data,
        fit_ngrams=fit_ngrams,
        fit_scales=fit_scales,
        choose_thresholds=choose_thresholds,
        run=lambda function, data: map_batches(function, data, task, config),
        said=said,
    )
    clock.lap("finish")
    seen = np.unique(fingerprints(task.passages([e.input for e in (*train, *valid, *unlabelled)])))
    model = Model(config, task, network, facts.about(config) | origin, seen=seen)
    return Journey(model, fitted, train_data, valid_data, model.outputs_of(valid_data), clock.laps)


def _beside(task: Task, train: Dataset, unlabelled: Sequence[Example], config: Config, said: Say) -> virtual.Beside:
    """Texts without labels and those of the training rows, a batch a step."""
    assert isinstance(task, WithoutLabels), "other tasks refuse train.virtual and train.entropy"
    pool, given = Dataset([*train.rows, *task.encode(unlabelled).rows], None), config.train
    said(f"{len(pool):,} texts are learned from without labels, a batch a step (train.virtual, train.entropy)")

    @cache
    def plan(epoch: int) -> list[np.ndarray]:
        return buckets.plan(pool.lengths, given.batch_size, given.batch_tokens, seed=config.seed, epoch=epoch)

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, len(plan(0)))
        batches = plan(epoch)
        return task.collate(pool, batches[place % len(batches)])  # another epoch may have a batch less

    return virtual.Beside(batch, task.answers, task.cross_entropy)


def _collate(task: Task, data: Dataset, index: np.ndarray, config: TrainConfig, seed: int, step: int) -> Batch:
    """A training batch, its augmentation drawn from (seed, step) alone."""
    draws = np.random.default_rng((seed, step))
    if config.augment != "none":
        rows = [augment(data.rows[i], config.augment, config.augment_rate, draws) for i in index]
        data = Dataset(rows, None if data.targets is None else data.targets[index])
        index = np.arange(len(rows))
    return task.collate(data, index)


def train(
    data: str | Path,
    out: str | Path,
    config: Config | None = None,
    *,
    valid: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    watch: Watcher | None = None,
    said: Say = silent,
    command: str = "",
    base: Model | None = None,
    read: Reader | None = None,
    teacher: Teacher | None = None,
    unlabelled: str | Path | None = None,
    test: str | Path | None = None,
) -> dict[str, Any]:
    """A labelled file -> a run folder `out` with config.toml, metrics.jsonl, checkpoints/, bundle/
    and report.html. Returns the summary, which is also in the bundle's manifest.

    With `resume`, goes on where a stopped run in `out` stood, and ends in the same bits as one left
    alone. `base` is what `fit` begins from, a `teacher` gives the training targets, `read` reads
    the parts in another way than `read_parts`. `unlabelled` is a file of texts that train.virtual and
    train.entropy learn from, but for those of the validation part and of a `test` file, which is not scored.
    Raises DataError for a bad file, UsageError for unlabelled texts that nothing learns from, CannotCreate if `out` holds a run already.
    """
    started, out = time.time(), Path(out)
    if resume and not (out / "config.toml").is_file():
        raise CannotCreate(f"{show(out)}: no run to resume here; leave out --resume to start one")
    with lock.hold(out):
        if not resume:
            refuse_existing(out, force)
        elif config is None:
            config = Config.load(out / "config.toml")
        config = config or Config()
        if unlabelled is not None and not virtual.wanted(config.train):
            raise UsageError(
                "--unlabelled: nothing learns from these texts: name train.virtual or train.entropy, or a --teacher; "
                "`echoic finetune` has a language model read them first"
            )
        notes: list[str] = []

        def hear(note: str) -> None:
            notes.append(note)
            said(note)

        parts, tables = (read or read_parts)(data, valid, config, hear)
        findings = facts.of(config.task.kind).check(parts)
        for finding in findings:
            if finding.level == "error":
                raise DataError(f"{show(data)}: {finding.code}: {finding.message}")
            said(f"{finding.code}: {finding.message}")
        if not resume:
            _begin(out, config)
        sources = {"train": data, "valid": valid}
        origin = {} if teacher is None else teacher.origin()
        more: list[Example] = []
        if unlabelled is not None:
            held = [] if test is None else read_unlabelled(test, config.data).examples
            given = read_unlabelled(unlabelled, config.data).examples
            more = new_texts(given, [*parts["train"], *parts["valid"], *held], hear)
            origin |= {"unlabelled": digest_now(unlabelled)}
        try:
            journey = fit(
                parts["train"] if teacher is None else teacher.teach(parts, config, hear),
                parts["valid"],
                config,
                run=out,
                resume=resume,
                watch=watch,
                said=hear,
                fingerprint={**_fingerprint(config, tables), **origin},
                base=base,
                unlabelled=more,
            )
            journey.model.about |= origin
            return _finish(journey, parts, tables, findings, notes, out, started, command, sources)
        except KeyboardInterrupt:
            how = "stopped; the steps that were made are saved, and the same command with --resume goes on"
            raise Interrupted(signal.SIGINT, how) from None


def _finish(
    journey: Journey,
    parts: dict[str, list[Example]],
    tables: Mapping[str, Table],
    findings: Sequence[Finding],
    notes: list[str],
    out: Path,
    started: float,
    command: str,
    sources: Mapping[str, str | Path | None],
) -> dict[str, Any]:
    """The baseline beside the model, the bundle, the report, and the summary of it all."""
    for name, source in sources.items():
        if source is not None and Path(source).is_file() and digest_now(source) != tables[name].digest:
            raise CheckFailed(
                f"{show(source)}: changed while it was trained on; the model in {show(out)} is of the rows as they were, train again"
            )
    model, account = journey.model, facts.of(journey.model.config.task.kind)
    model.baseline = account.fit_baseline(journey, parts, notes.append)
    scores = account.score(journey, parts)
    summary = account.summary(journey, scores, findings) | {
        "data": {
            "path": show(sources["train"], 4096),
            "sha256": {name: table.digest for name, table in tables.items()},
            "rows": {name: len(part) for name, part in parts.items()},
        },
        "command": command or show(" ".join(sys.argv), 4096),
    }
    summary["seconds"]["all"] = round(time.time() - started, 1)
    if not model.task.streams:
        columns = {"text": tables["train"].text, "label": tables["train"].label}
        model.config = model.config.model_copy(update={"data": model.config.data.model_copy(update=columns)})
    model.about |= summary
    model.save(out / "bundle")
    page = account.report(journey, scores, parts, findings, notes, summary, out)
    write_report(out / "report.html", page)
    return {
        "task": model.config.task.kind,
        **summary,
        "run": show(out, 4096),
        "report": show(out / "report.html", 4096),
        "facts": page,
    }


def read_parts(
    data: str | Path, valid: str | Path | None, config: Config, said: Say = silent
) -> tuple[dict[str, list[Example]], dict[str, Table]]:
    """The training and the validation part, from two files or split from one, and the files they came from."""
    return facts.of(config.task.kind).read_parts(data, valid, config, said)


def refuse_existing(out: Path, force: bool) -> None:
    """Only a run is ever started over: --force replaces nothing that echoic did not write."""
    others = [path for path in out.iterdir() if path.name not in (lock.NAME, LANGUAGE)]
    if others and not force:
        raise CannotCreate(f"{show(out)}: exists already; --resume goes on with it, --force starts over")
    if others and not (out / "config.toml").is_file():
        raise CannotCreate(
            f"{show(out)}: holds other things than a run, which --force does not replace; choose another place"
        )


def _begin(out: Path, config: Config) -> None:
    """A run folder with nothing of an earlier run in it."""
    try:
        for old in ("metrics.jsonl", "report.html"):
            (out / old).unlink(missing_ok=True)
        durable.remove(out / "checkpoints")
        durable.remove(out / "bundle")
    except OSError as error:
        raise durable.translate(error, out) from error
    durable.write_file(out / "config.toml", config.to_toml().encode())


def _fingerprint(config: Config, tables: Mapping[str, Table]) -> dict[str, Any]:
    """What a resumed run must share with the one it goes on with; the loop adds the seed and `train`."""
    shared = config.model_dump(mode="json", exclude={"threads", "device", "train", "seed"})
    digests = {name: table.digest for name, table in tables.items()}
    if config.text.vectors is not None:
        digests["vectors"] = digest_of(config.text.vectors)
    return {"config": shared, "data": digests}


def digest_now(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def evaluate(model: Model, examples: Sequence[Example]) -> dict[str, Any]:
    """Scores on these examples, with the baselines beside them and an interval on the difference; rows that were
    trained on are counted."""
    return facts.of(model.config.task.kind).evaluate(model, examples)
