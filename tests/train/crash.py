"""Kills a training run at random instants until it has ended, and compares it with one left alone.

    python tests/train/crash.py --kills 200 [--seed 0] [--mutant NAME]

A fork server: this process has imported torch and computes nothing itself; each child is a fork that
trains, saving after every step, and dies of SIGKILL at an instant drawn from the seed. After each kill
the newest checkpoint must be whole and no older than the one before. When the run has ended, every byte
of its last checkpoint, its weights, and its metrics (times aside) must equal those of the run left alone.

A mutant breaks one thing in the children, and the harness must notice: exit code 1 means that it did.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch's optimisers import it at their first step, which takes a child's whole life
from train_toy import Job

from echoic.core import bundle, durable
from echoic.core.config import TrainConfig
from echoic.core.errors import EchoicError
from echoic.train import checkpoint, optim, progress
from echoic.train.average import Average

DEADLINE = 60.0
MEMORY = Path("/dev/shm")
"""What SIGKILL leaves behind does not depend on the disk, and syncing one takes most of the time."""
inside = mmap.mmap(-1, 1)
"""Shared with the child: 1 while it is in `checkpoint.save`."""


@dataclasses.dataclass
class Counters:
    kills: int = 0
    kills_inside_save: int = 0
    resumes_in_mid_epoch: int = 0
    completed_comparisons: int = 0
    mismatches: int = 0
    torn: int = 0
    """Kills after which the newest checkpoint was damaged."""
    lost: int = 0
    """Kills after which a run stood further back than after the kill before."""
    first_fault: str = ""

    @property
    def faults(self) -> int:
        return self.mismatches + self.torn + self.lost

    def fault(self, what: str) -> None:
        self.first_fault = self.first_fault or what


def draw_config(draw: random.Random) -> TrainConfig:
    return TrainConfig(
        epochs=4,
        lr=0.05,
        checkpoint_seconds=0.0,
        optimizer=draw.choice(["adam", "adamw", "sgd", "rmsprop"]),
        schedule=draw.choice(["constant", "onecycle", "plateau"]),
        plateau_patience=0,
        patience=draw.choice([0, 2]),
        average=draw.choice([0.0, 0.9]),
        clip=draw.choice([0.0, 1.0]),
    )


# The child


def train(run: Path, seed: int, config: TrainConfig, mutant: str) -> None:
    MUTANTS[mutant]()
    save = checkpoint.save

    def marked(*arguments: Any) -> Path:
        inside[0] = 1
        path = save(*arguments)
        inside[0] = 0
        return path

    checkpoint.save = marked
    job = Job(seed)
    fitted = job.fit(config, run, resume=True)
    weights = {name: hashlib.sha256(t.numpy().tobytes()).hexdigest() for name, t in job.network.state_dict().items()}
    curve = [{name: float(value).hex() for name, value in entry.items()} for entry in fitted.history]
    durable.write_file(
        run / "result.json", bundle.canonical({"weights": weights, "curve": curve, "best": fitted.best_epoch})
    )


def fork(run: Path, *arguments: Any) -> int:
    inside[0] = 0
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        train(run, *arguments)
        code = 0
    except BaseException:
        (run.parent / f"{run.name}.trace").write_text(traceback.format_exc())
    finally:
        os._exit(code)


# The parent


def ended(pid: int, after: float) -> int | None:
    """Waits `after` seconds for the child. Its exit status, or None if it was still at work and was killed."""
    until = time.monotonic() + after
    while (left := until - time.monotonic()) > 0:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(min(left, 0.001))
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return None if os.WIFSIGNALED(status) else status


def outcome(run: Path) -> dict[str, str]:
    """Digests of everything that must come out equal."""
    last = bundle.read(run / checkpoint.FOLDER / checkpoint.names(run)[-1], checkpoint.KIND)
    timed = ("seconds", "tokens_per_second")
    lines = [json.loads(line) for line in (run / progress.METRICS).read_text().splitlines()]
    metrics = [{k: v for k, v in line.items() if k not in timed} for line in lines]
    parts = {**last.files, "metrics": bundle.canonical(metrics), "result": (run / "result.json").read_bytes()}
    return {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}


def stands(run: Path, before: tuple[int, int, int], counters: Counters) -> tuple[int, int, int]:
    """Looks at a run that was just killed: how far its newest checkpoint is."""
    names = checkpoint.names(run)
    if any(run.glob(f"{checkpoint.FOLDER}/damaged-*")):
        counters.torn += 1
        counters.fault(f"{run.name}: a checkpoint was set aside as damaged")
    try:
        state = checkpoint.read(run / checkpoint.FOLDER / names[-1]).state if names else checkpoint.State()
    except EchoicError as error:
        counters.torn += 1
        counters.fault(f"{run.name}: {error}")
        return before
    now = (state.epoch, state.position, state.step)
    counters.resumes_in_mid_epoch += state.position > 0
    if now < before:
        counters.lost += 1
        counters.fault(f"{run.name}: stood at {before}, after the next kill at {now}")
    return now


def killed_until_done(
    run: Path, draw: random.Random, length: float, arguments: tuple[Any, ...], counters: Counters
) -> int:
    place, patience = (0, 0, 0), 0.5
    while True:
        status = ended(fork(run, *arguments), draw.uniform(0.0, patience) * length)
        if status is not None:
            return status
        counters.kills += 1
        counters.kills_inside_save += inside[0]
        now = stands(run, place, counters)
        if counters.faults:
            return 1
        patience = 0.5 if now > place else patience * 1.5  # a busy machine must not keep a run from its first step
        place = now


def harness(folder: Path, kills: int, seed: int, mutant: str = "none", said: Callable[[str], None] = print) -> Counters:
    """Runs jobs until `kills` children have been killed, or at the first fault."""
    counters, trial = Counters(), 0
    while counters.kills < kills and not counters.faults:
        draw = random.Random(f"{seed} {trial}")
        config, job_seed = draw_config(draw), draw.randrange(1000)
        alone, killed = folder / f"{trial}-alone", folder / f"{trial}-killed"
        began = time.monotonic()
        if (status := ended(fork(alone, job_seed, config, "none"), DEADLINE)) != 0:
            raise RuntimeError(
                f"the run left alone ended with {status}: {(folder / f'{alone.name}.trace').read_text()}"
            )
        arguments = (job_seed, config, mutant)
        status = killed_until_done(killed, draw, time.monotonic() - began, arguments, counters)
        if counters.faults:
            break
        compare(alone, killed, status, config, counters)
        trial += 1
    said(json.dumps({"seed": seed, "mutant": mutant, **dataclasses.asdict(counters)}))
    return counters


def compare(alone: Path, killed: Path, status: int, config: TrainConfig, counters: Counters) -> None:
    if status != 0:
        counters.mismatches += 1
        trace = killed.parent / f"{killed.name}.trace"
        counters.fault(
            f"{killed.name}: a resumed run ended with {status}: {trace.read_text() if trace.exists() else ''}"
        )
        return
    counters.completed_comparisons += 1
    one, other = outcome(alone), outcome(killed)
    if one != other:
        counters.mismatches += 1
        wrong = [name for name in one if one[name] != other[name]]
        counters.fault(f"{killed.name}: differs in {', '.join(wrong)} with {config.model_dump_json()}")


# The mutants


def _restored(change: Callable[[checkpoint.Checkpoint], None]) -> Callable[[], None]:
    """A mutant that spoils what a resumed run is given back."""

    def plant() -> None:
        latest = checkpoint.latest

        def spoiled(*arguments: Any) -> checkpoint.Checkpoint | None:
            found = latest(*arguments)
            if found is not None:
                change(found)
            return found

        checkpoint.latest = spoiled

    return plant


def _forgets(**fields: Any) -> Callable[[], None]:
    return _restored(lambda found: [setattr(found.state, name, value) for name, value in fields.items()] and None)


def _new_epoch(found: checkpoint.Checkpoint) -> None:
    if found.state.position:
        found.state.epoch, found.state.position = found.state.epoch + 1, 0


def _in_place() -> None:
    def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (path / name).write_bytes(data)
            os.sync()

    durable.write_folder = write_folder


def _delete_then_write() -> None:
    save = checkpoint.save

    def deleting(run: Path, *arguments: Any) -> Path:
        for name in checkpoint.names(run):
            checkpoint._remove(run / checkpoint.FOLDER / name)
        return save(run, *arguments)

    checkpoint.save = deleting


MUTANTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "step lost": _forgets(step=0),
    "no optimiser state": lambda: setattr(optim, "remember", lambda *_: None),
    "average lost": lambda: setattr(Average, "restore", lambda *_: None),
    "place in the epoch lost": _forgets(position=0),
    "resumed at a new epoch": _restored(_new_epoch),
    "best lost": _forgets(best_score=float("-inf"), best_epoch=0),
    "curve lost": _forgets(history=[]),
    "patience lost": _forgets(waited=0),
    "plateau lost": _forgets(halvings=0, stalled=0),
    "running sums lost": _forgets(loss=0.0, count=0),
    "metrics not trimmed": lambda: setattr(progress, "_trimmed", lambda raw, *_: raw),
    "written in place": _in_place,
    "deleted, then written": _delete_then_write,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutant", action="append", choices=list(MUTANTS), help="may be given several times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faults = []
    for mutant in options.mutant or ["none"]:
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            faults.append(harness(Path(folder), options.kills, options.seed, mutant).faults)
    return int(all(faults))


if __name__ == "__main__":
    sys.exit(main())
