"""The training loop: batches in, the best validated weights out, and a run that can be killed at any instant.

It knows no task. It is handed what differs: the loss, the batches, the score. What it adds is the
order of things: step, count, save; after an epoch validate, keep the best, decide whether to go on.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from echoic.core import bundle, durable
from echoic.core.config import TrainConfig
from echoic.core.errors import CannotCreate, CheckFailed, ConfigError, DataError, show
from echoic.core.types import Batch
from echoic.layers.dropout import Noise
from echoic.train import adversarial, checkpoint, lazy_adam, lock, memory, optim, virtual
from echoic.train.average import Average
from echoic.train.checkpoint import Checkpoint, State
from echoic.train.progress import Metrics, Watcher
from echoic.train.signals import NAMES, Ears, Interrupted, listening

__all__ = ["Carry", "Fitted", "Interrupted", "Loss", "Score", "fit"]

NAN_BATCH = "nan_batch.json"
BESIDE = 1 << 31
"""Added to the seed, which is below it, for the noise of texts without labels."""

PASSES, TOKENS = 6, 25_000_000
"""Where `updates` are done sooner, as many passes over the training rows are planned all the same, if they
read no more than so many tokens: short texts are cheap, and many of them want to be seen more than once."""

Loss = Callable[[nn.Module, Batch, Noise], tuple[Tensor, int]]
"""(network, batch, noise) -> the sum of the losses as a scalar tensor, and what to divide it by."""

Carry = dict[str, Tensor]
"""What a batch leaves for the next one of its epoch, by name, without gradients. The loss reads it and
replaces what is in it; the loop empties it where an epoch begins, and saves it with every checkpoint."""

Score = Callable[[nn.Module], Mapping[str, float]]
"""The network, in eval mode and without gradients, measured on the validation part; higher is better for the monitored number."""


@dataclass(frozen=True)
class Fitted:
    """How a run went. The network that was handed to `fit` holds the weights of `best_epoch`."""

    history: list[dict[str, float]]
    """One entry an epoch: epoch (from 1), step, train_loss, and what validation scored."""
    best_epoch: int
    best_score: float
    steps: int
    tokens: int
    seconds: float
    stopped_by: str
    """"epochs" or "patience"."""


def fit(
    network: nn.Module,
    loss: Loss,
    plan: Callable[[int], Sequence[np.ndarray]],
    collate: Callable[[np.ndarray, int, int], Batch],
    score: Score,
    config: TrainConfig,
    *,
    monitor: str,
    seed: int,
    run: Path | None,
    watch: Watcher,
    fingerprint: Mapping[str, Any],
    resume: bool = False,
    device: torch.device | str = "cpu",
    carry: Carry | None = None,
    tokens: int = TOKENS,
    beside: virtual.Beside | None = None,
) -> Fitted:
    """Trains `network` in place; at the end it holds the best validated weights (averages, if `config.average`).

    `plan(epoch)`, epoch from 0, lists each batch's rows; `collate(rows, epoch, step)` makes the batch.
    Both must be pure functions of their arguments (and of a seed): that is what a resumed run relies
    on, together with `Noise(seed, step)`. `score` must give `monitor`, higher is better. `fingerprint`
    (anything JSON can hold: settings, digests) is what a resumed run must have in common with the one
    it goes on with, besides `seed` and `config`, which are added here. `run` is the run folder, made if absent; with None nothing is saved.
    `carry` is what the loss holds from batch to batch, where it does (`Carry`). `tokens` are read in an epoch.
    `beside` are texts that are learned from without their labels, where `config` wants it (train/virtual.py).

    Raises Interrupted (130, 143), CheckFailed (a loss or gradient that is not finite), OutOfMemory,
    Locked, ConfigError (another run's checkpoint), CannotCreate (a run is there already), StorageError.
    """
    with ExitStack() as stack:
        if run is not None:
            stack.enter_context(lock.hold(run))
        stack.callback(watch.end)
        place = torch.device(device)
        training = _Training(
            network.to(place), loss, plan, collate, score, config, monitor, seed, run, watch, fingerprint, place,
            {} if carry is None else carry, tokens, beside,
        )  # fmt: skip
        stack.callback(training.close)
        training.start(resume)
        with listening() as ears:
            training.go(ears)
        return training.finish()


@dataclass
class _Training:
    """One run's parts, and what may happen to them: start, step, validate, save, finish."""

    network: nn.Module
    loss: Loss
    plan: Callable[[int], Sequence[np.ndarray]]
    collate: Callable[[np.ndarray, int, int], Batch]
    score: Score
    config: TrainConfig
    monitor: str
    seed: int
    run: Path | None
    watch: Watcher
    fingerprint: Mapping[str, Any]
    device: torch.device
    carry: Carry
    tokens: int
    beside: virtual.Beside | None

    def __post_init__(self) -> None:
        self.fingerprint = {
            "seed": self.seed,
            "train": self.config.model_dump(mode="json", exclude={"checkpoints", "checkpoint_seconds"}),
            **self.fingerprint,
        }
        self.average = Average(self.network, self.config.average) if self.config.average > 0.0 else None
        self.tables = lazy_adam.tables(self.network, self.config, self.average)
        self.by_rows = {table.name for table in self.tables}
        self.optimizer = optim.optimiser(self.network, self.config, self.by_rows)
        self.state = State()
        self.best: dict[str, Tensor] = {}
        self.metrics: Metrics | None = None
        self.seconds_before = 0.0
        self.began = self.saved = time.monotonic()
        self.saved_as = ""

    # Beginning and end

    def start(self, resume: bool) -> None:
        if self.run is not None:
            self._open(self.run, resume)
        batches = len(self.plan(0))
        if batches == 0:
            raise DataError("there is nothing to train on: the training part has 0 rows")
        usual = max(math.ceil(self.config.updates / batches), min(PASSES, TOKENS // max(1, self.tokens)))
        self.epochs = self.config.epochs or usual
        self.total = batches * self.epochs
        self.watch.begin(self.total, self.epochs, self.state.step)

    def _open(self, run: Path, resume: bool) -> None:
        if not resume and (there := checkpoint.names(run)):
            raise CannotCreate(
                f"{show(run, 200)}: holds a run already, at checkpoint {there[-1]}; go on with --resume, or choose another folder"
            )
        durable.sweep(run / checkpoint.FOLDER)
        if resume:
            found = checkpoint.latest(run, self.watch.note)
            if found is not None:
                self._restore(found)
            self.watch.note(
                f"resumed after step {self.state.step:,}" if found else "no checkpoint yet: training from the beginning"
            )
        self.metrics = Metrics(run, self.state.step, self.state.epoch)

    def _restore(self, found: Checkpoint) -> None:
        checkpoint.same(found.fingerprint, self.fingerprint)
        for name, value in checkpoint.machine(self.device).items():
            if (was := found.made_by.get(name)) != value:
                self.watch.note(
                    f"{name} is {value}, was {show(was)}: the result may differ in its last digits from a run left alone"
                )
        try:
            self.network.load_state_dict(found.model)
        except RuntimeError as error:
            raise ConfigError(f"cannot resume: the checkpoint holds another network: {show(error, 200)}") from None
        if self.average is not None:
            self.average.restore(found.average)
        own = {key: tensor for key, tensor in found.optimizer.items() if key.rpartition("/")[0] not in self.by_rows}
        optim.remember(self.optimizer, self.network, own)
        for table in self.tables:
            table.remember(found.optimizer)
        self.state, self.best, self.seconds_before = found.state, found.best, found.seconds
        self.carry.clear()
        self.carry.update({name: tensor.to(self.device) for name, tensor in found.carry.items()})
        self.saved_as = checkpoint.name(self.state)

    def finish(self) -> Fitted:
        for table in self.tables:
            table.leave()
        self.network.load_state_dict(self.best)
        self.network.eval()
        state = self.state
        return Fitted(
            state.history, state.best_epoch, state.best_score, state.step, state.tokens, self.seconds, state.stopped_by
        )

    def close(self) -> None:
        if self.metrics is not None:
            self.metrics.close()

    @property
    def seconds(self) -> float:
        """Of the whole run, the processes before this one included."""
        return self.seconds_before + time.monotonic() - self.began

    # The journey

    def go(self, ears: Ears) -> None:
        while not self.state.stopped_by:
            batches = self.plan(self.state.epoch)
            while self.state.position < len(batches):
                self._step(batches[self.state.position])
                if ears.heard is not None:
                    raise self._interrupted(ears.heard)
                if time.monotonic() - self.saved >= self.config.checkpoint_seconds:
                    self._save()
            try:
                scores = self._validate(ears)
            except Interrupted as interrupted:
                if ears.heard is None or ears.often > 1:
                    raise
                raise self._interrupted(ears.heard) from interrupted
            self._end_epoch(scores)
            self._save()
        if ears.heard is not None:
            raise self._interrupted(ears.heard)

    def _step(self, rows: np.ndarray) -> None:
        state, began = self.state, time.monotonic()
        lr = optim.rate(state.step, self.total, self.config, state.halvings)
        groups = [*self.optimizer.param_groups, *(table.group for table in self.tables)]
        optim.set_rates(groups, lr, state.step, self.total, self.config)
        value, count, tokens, norm = self._gradient(rows)
        self.optimizer.step()
        for table in self.tables:
            table.step(table.group["lr"], 0.0 if self.average is None else self.average.decay_at(state.step))
        if self.average is not None:
            self.average.update(state.step, but=self.by_rows)
        state.step, state.position = state.step + 1, state.position + 1
        state.loss, state.count, state.tokens = state.loss + value, state.count + count, state.tokens + tokens
        self._tell(
            {
                "kind": "step",
                "step": state.step,
                "epoch": state.epoch + 1,
                "loss": value / count,
                "lr": lr,
                "grad_norm": norm,
                "tokens": tokens,
                "tokens_per_second": tokens / max(time.monotonic() - began, 1e-9),
                "seconds": self.seconds,
            }
        )

    def _noise(self, stream: int = 0) -> Noise:
        """Of this step; each stream draws by itself."""
        step = self.state.step
        return Noise(self.seed + stream, step, self.device, step / self.total)

    def _gradient(self, rows: np.ndarray) -> tuple[float, int, int, float]:
        """Leaves the clipped gradient of sum / count in the parameters. -> (sum, count, tokens, norm before clipping)"""
        self.network.train()
        self.network.zero_grad()
        with self._room(f"a batch of {len(rows):,} rows"):
            batch = self.collate(rows, self.state.epoch, self.state.step)
            noise = self._noise()
            total, count = self.loss(self.network, batch, noise)
            count = max(count, 1)
            (total / count).backward()  # type: ignore[no-untyped-call]
            if self.config.adversarial and (words := self._words()):
                noise.rewind()
                with adversarial.moved(words, self.config.adversarial):
                    again, _ = self.loss(self.network, batch, noise)
                    (again / count).backward()  # type: ignore[no-untyped-call]
        tokens = int(batch.lengths.sum())
        if self.beside is not None and virtual.wanted(self.config):
            with self._room("a batch of texts without labels"):
                batch = self.beside.batch(self.state.step)
                virtual.learn(self.network, self.beside, batch, self._noise(BESIDE), self._words, self.config)
            tokens += int(batch.lengths.sum())
        read = [numbers for table in self.tables for _, numbers in table.read]
        value, norm = float(total.detach()), optim.clip([*self.network.parameters(), *read], self.config.clip)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise self._not_finite("gradient" if math.isfinite(value) else "loss", rows)
        return value, count, tokens, norm

    def _room(self, what: str) -> AbstractContextManager[None]:
        return memory.room(f"step {self.state.step + 1:,}, in {what}", self.config)

    def _words(self) -> list[adversarial.Words]:
        return [*adversarial.tables(self.network), *(each for table in self.tables for each in table.words)]

    def _validate(self, ears: Ears) -> dict[str, float]:
        """What validation scores; the weights it saw are kept if they are the best so far."""
        for table in self.tables:
            table.all_catch_up()
        self.network.eval()
        with self.average.worn() if self.average is not None else nullcontext():
            with ears.at_once(), torch.no_grad(), self._room("a batch of the validation part"):
                scores = {name: float(value) for name, value in self.score(self.network).items()}
            found = scores[self.monitor]
            if math.isnan(found):
                raise CheckFailed(
                    f"{self.monitor} of the validation part is not a number after epoch {self.state.epoch + 1}; try a lower train.lr"
                )
            best = self.state.best_epoch
            if best == 0 or self._rank(scores) > self._rank(self.state.history[best - 1]):
                self.state.best_epoch, self.state.best_score = self.state.epoch + 1, found
                self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        return scores

    def _rank(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """The monitored score; among equals, as small validation parts give, the lower loss."""
        return scores[self.monitor], -scores.get("loss", 0.0)

    def _end_epoch(self, scores: dict[str, float]) -> None:
        state, config = self.state, self.config
        state.epoch, state.position = state.epoch + 1, 0
        self.carry.clear()
        better = state.best_epoch == state.epoch
        state.waited, state.stalled = (0, 0) if better else (state.waited + 1, state.stalled + 1)
        if config.schedule == "plateau" and state.stalled > config.plateau_patience:
            state.halvings, state.stalled = state.halvings + 1, 0
        if config.patience and state.waited >= config.patience:
            state.stopped_by = "patience"
        elif state.epoch >= self.epochs:
            state.stopped_by = "epochs"
        entry = {"epoch": state.epoch, "step": state.step, "train_loss": state.loss / state.count, **scores}
        state.history.append(entry)
        state.loss, state.count = 0.0, 0
        self._tell({"kind": "epoch", **entry, "best": better, "seconds": self.seconds})

    def _tell(self, line: dict[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(line)
        (self.watch.step if line["kind"] == "step" else self.watch.epoch)(line)

    def _save(self) -> None:
        """A checkpoint of this very moment, unless there is one."""
        name = checkpoint.name(self.state)
        if self.run is None or self.metrics is None or name == self.saved_as:
            return
        self.metrics.sync()
        average = self.average.tensors if self.average is not None else {}
        optimizer = optim.memory(self.optimizer, self.network)
        for table in self.tables:
            optimizer |= table.memory()
        now = Checkpoint(
            self.state,
            self.network.state_dict(),
            optimizer,
            average,
            self.best,
            self.fingerprint,
            self.seconds,
            checkpoint.machine(self.device),
            self.carry,
        )
        checkpoint.save(self.run, now, self.config.checkpoints)
        self.saved, self.saved_as = time.monotonic(), name

    # What can go wrong

    def _interrupted(self, signum: int) -> Interrupted:
        where = f"stopped by {NAMES[signal.Signals(signum)]} after step {self.state.step:,} of {self.total:,}"
        if self.run is None:
            return Interrupted(signum, f"{where}; nothing is saved, as there is no run folder")
        self._save()
        return Interrupted(signum, f"{where}, and saved; the same command with --resume goes on")

    def _not_finite(self, what: str, rows: np.ndarray) -> CheckFailed:
        step, epoch = self.state.step + 1, self.state.epoch + 1
        message = f"the {what} is not finite at step {step:,} (epoch {epoch})"
        if self.run is not None:
            batch = {"step": step, "epoch": epoch, "what": what, "rows": rows.tolist()}
            durable.write_file(self.run / NAN_BATCH, bundle.canonical(batch))
            last = checkpoint.names(self.run)
            message += (
                f"; the batch's rows are in {NAN_BATCH}, the last good checkpoint is {last[-1] if last else 'none'}"
            )
        return CheckFailed(
            f"{message}; try a lower train.lr (now {self.config.lr:g}) or a train.clip of 1 (now {self.config.clip:g})"
        )
