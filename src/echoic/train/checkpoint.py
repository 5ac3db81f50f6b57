"""Where a run stands, saved so that going on gives the same bits as never having stopped.

    RUN/checkpoints/00000120/           in the middle of an epoch, 120 steps done
    RUN/checkpoints/00000200-epoch2/    after the validation of epoch 2
        model.safetensors  optimizer.safetensors  average.safetensors  best.safetensors  carry.safetensors
        state.json  fingerprint.json

The noise of a step is a function of (seed, step) and the batches of an epoch are a function of (seed,
epoch), so that `State` holds counters instead of random states. Floats are written as hex, exactly.
Times stand in the manifest's `about`: the files themselves are the same bytes in every run.
A checkpoint never replaces another: while one is written, the one before it is still there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from echoic.core import bundle, durable
from echoic.core.errors import BundleError, ConfigError, Newer, show

FOLDER = "checkpoints"
KIND = "checkpoint"
_NAME = re.compile(r"(\d{8,})(?:-epoch(\d+))?")

Tensors = dict[str, Tensor]
TENSORS = ("model", "optimizer", "average", "best", "carry")
"""A file each."""


@dataclasses.dataclass
class State:
    """The counters of a run. Steps, epochs and positions count what is done."""

    step: int = 0
    epoch: int = 0
    """Epochs trained and validated."""
    position: int = 0
    """Batches of the running epoch that are done."""
    loss: float = 0.0
    """Sum of the losses of the running epoch."""
    count: int = 0
    """What `loss` is to be divided by."""
    tokens: int = 0
    """Tokens read since the first step."""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """One entry a validated epoch: epoch, step, train_loss, and what validation scored."""
    best_epoch: int = 0
    best_score: float = -math.inf
    waited: int = 0
    """Epochs since the best one."""
    stalled: int = 0
    """Epochs without gain since the rate was last halved."""
    halvings: int = 0
    stopped_by: str = ""
    """"epochs" or "patience" in a run that has ended."""

    def to_json(self) -> bytes:
        # Canonical JSON sorts its keys, and the order of a history's columns is worth keeping.
        pairs = [[list(pair) for pair in entry.items()] for entry in self.history]
        return bundle.canonical(_hexed({**dataclasses.asdict(self), "history": pairs}))

    @classmethod
    def from_json(cls, data: bytes) -> State:
        fields = json.loads(data)
        fields["history"] = [{name: _unhexed(value) for name, value in pairs} for pairs in fields["history"]]
        return cls(**{**fields, "loss": _unhexed(fields["loss"]), "best_score": _unhexed(fields["best_score"])})


def _hexed(value: Any) -> Any:
    match value:
        case float():
            return value.hex()
        case dict():
            return {key: _hexed(inner) for key, inner in value.items()}
        case list():
            return [_hexed(inner) for inner in value]
        case _:
            return value


def _unhexed(value: Any) -> Any:
    return float.fromhex(value) if isinstance(value, str) else value


@dataclasses.dataclass
class Checkpoint:
    """What is saved of a run; `best` is empty before the first validation, `average` if there is none."""

    state: State
    model: Tensors
    optimizer: Tensors
    average: Tensors
    best: Tensors
    fingerprint: Mapping[str, Any]
    """What must be the same for going on to make sense: settings, data digest."""
    seconds: float = 0.0
    made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """`machine` where it was written."""
    carry: Tensors = dataclasses.field(default_factory=dict)
    """What the last batch left for the next one of its epoch."""


def name(state: State) -> str:
    """The name of the checkpoint of `state`. Two states of one run have two names."""
    validated = state.epoch > 0 and state.position == 0
    return f"{state.step:08d}" + (f"-epoch{state.epoch}" if validated else "")


def machine(device: torch.device) -> dict[str, Any]:
    """What the bits of a run on `device` depend on, besides its fingerprint."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def save(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes the checkpoint under `run` and then removes all but the `keep` newest. Returns its folder."""
    path = run / FOLDER / name(checkpoint.state)
    about = {"seconds": checkpoint.seconds, "made_by": dict(checkpoint.made_by)}
    files = {
        **{f"{part}.safetensors": safetensors.torch.save(_alone(getattr(checkpoint, part))) for part in TENSORS},
        "state.json": checkpoint.state.to_json(),
        "fingerprint.json": bundle.canonical(checkpoint.fingerprint),
    }
    bundle.write(path, KIND, about, files)
    for old in names(run)[:-keep]:
        _remove(run / FOLDER / old)
    return path


def _alone(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies on the CPU: safetensors refuses tensors that share memory, as tied weights do."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _remove(path: Path) -> None:
    """Renamed first, so that a kill in the middle leaves no half a checkpoint under its name."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    try:
        os.rename(path, aside)
    except OSError as error:
        raise durable.translate(error, path) from error
    shutil.rmtree(aside, ignore_errors=True)


def names(run: Path) -> list[str]:
    """The names of the checkpoints of a run, oldest first; nothing is opened."""
    folder = run / FOLDER
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else iter(())
    return [m[0] for m in sorted((m for m in found if m), key=lambda m: (int(m[1]), int(m[2] or 0)))]


def latest(run: Path, said: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None if the run has none at all.

    A damaged one is named to `said`, set aside as `damaged-<name>`, and the one before it is taken.
    Raises BundleError if there are some and all are damaged, now or set aside before, or one of a newer release.
    """
    refused = None
    for newest in reversed(names(run)):
        path = run / FOLDER / newest
        try:
            return read(path)
        except Newer:
            raise
        except BundleError as error:
            refused = refused or error
            aside = _set_aside(path)
            said(f"{error}; set aside as {show(aside.name)}, going back to the checkpoint before it")
    if refused:
        raise BundleError(f"{refused}; no checkpoint of this run can be read: start again in another run folder")
    if set_aside := next((run / FOLDER).glob("damaged-*"), None):
        raise BundleError(
            f"{show(set_aside, 300)}: all checkpoints of this run are damaged; start again in another folder"
        )
    return None


def _set_aside(path: Path) -> Path:
    aside = next(place for place in _places(path.with_name(f"damaged-{path.name}")) if not place.exists())
    try:
        os.rename(path, aside)
    except OSError as error:
        raise durable.translate(error, path) from error
    return aside


def _places(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, 1000):
        yield path.with_name(f"{path.name}.{number}")


def read(path: Path) -> Checkpoint:
    """The checkpoint in folder `path`. Raises BundleError naming the file that is damaged."""
    try:
        held = bundle.read(path, KIND)
    except OSError as error:
        raise durable.translate(error, path) from error
    try:
        return Checkpoint(
            state=State.from_json(held.files["state.json"]),
            **{part: safetensors.torch.load(held.files[f"{part}.safetensors"]) for part in TENSORS},
            fingerprint=held.json("fingerprint.json"),
            seconds=held.about["seconds"],
            made_by=held.about["made_by"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{show(path, 200)}: not a checkpoint of this release: {show(error)}") from None


def same(was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ConfigError naming the first field of the fingerprint that differs, with both values."""
    old, new = _flat(was), _flat(json.loads(bundle.canonical(now)))
    for name in [*new, *(name for name in old if name not in new)]:
        before, after = old.get(name, "absent"), new.get(name, "absent")
        if before != after:
            raise ConfigError(
                f"cannot resume: {show(name)} was {show(before)}, is now {show(after)}; put it back, or train anew in another run folder"
            )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {prefix + key: inner}
    return out
