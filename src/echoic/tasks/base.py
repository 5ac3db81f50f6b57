"""What a task is: one file that says what is read, learned, answered and measured.

A task is a class decorated with `@register` in `tasks/<name>.py`. An instance is fitted to the
training part: it holds its preparers and knows their sizes. The training loop, the pipeline, the
command line, the estimators and the server know tasks only through this page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from echoic.batch import buckets
from echoic.core.config import Config, Section
from echoic.core.errors import BundleError, ConfigError, show
from echoic.core.types import Batch, Example, pad
from echoic.kernels import native
from echoic.layers.dropout import Noise
from echoic.prepare.text import TextPreparer

Say = Callable[[str], None]
"""Hears a decision in a sentence, for the log and the report."""


WEIGHTS = "model.safetensors"

Measure = Callable[..., dict[str, Any]]
"""A function of `evaluate.metrics`, handed down by its name."""


@dataclass(frozen=True)
class Dataset:
    """Examples as arrays, ragged: row i is `rows[i]`."""

    rows: list[np.ndarray]
    """Each (T_i,) int32 token ids, or (T_i, D) float32."""
    targets: np.ndarray | None
    cut: tuple[int, int] = (0, 0)
    """How many texts text.max_tokens cut, and how many tokens that left unread."""
    stream: np.ndarray | None = None
    """(N,) int32, all texts one after another, for a task that learns from streams; `rows` are then what is scored."""

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.rows], dtype=np.int64)

    @property
    def tokens(self) -> int:
        """Read in one pass."""
        return int(self.lengths.sum()) if self.stream is None else len(self.stream)

    def __len__(self) -> int:
        return len(self.rows)


class Task(Protocol):
    streams: ClassVar[bool]
    """Whether batches follow one another in a stream of text and hand on their states. Such a task answers
    by `generate(network, inputs, **options)` in the place of `decode`."""
    pairs: ClassVar[bool]
    """Whether an example's target is a text that is written for its input. Such a task answers by `generate` too."""
    no_use: ClassVar[tuple[str, ...]]
    """Settings that say nothing to this task; another value than the default is refused."""
    Options: ClassVar[type[Section]]
    """The task's own settings, `task.<option>`."""
    Record: ClassVar[type[BaseModel]]
    """One answer, as every door prints it."""
    monitor: str
    """The score that picks the epoch; higher is better."""
    rate: float
    """The highest learning rate where train.lr names none."""

    @classmethod
    def fit(cls, examples: Sequence[Example], config: Config, said: Say, text: TextPreparer | None = None) -> Self:
        """Fits the preparers on the training part, and on nothing else; `text` is one that is fitted already."""
        ...

    def encode(self, examples: Sequence[Example]) -> Dataset: ...

    def plan(self, data: Dataset, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch (from 0), each as `collate` takes it: a function of (seed, epoch)."""
        ...

    def collate(self, data: Dataset, index: np.ndarray) -> Batch: ...

    def network(self, seed: int) -> nn.Module:
        """A fresh network; `network(inputs (B, T), lengths (B,), noise=None)` gives its outputs."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The network whose state dict was saved, ready to predict."""
        ...

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """The sum of the losses of a batch, and what to divide it by."""
        ...

    def learn(self, network: nn.Module, batch: Batch, noise: Noise, carry: dict[str, Tensor]) -> tuple[Tensor, int]:
        """The same of a training batch, with noise. `carry` holds what the batch before it left, and takes
        what this one leaves; a task without streams leaves it alone."""
        ...

    def metrics(self, outputs: np.ndarray, targets: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, Any]:
        """Every score of these outputs; the task picks the measure that suits it."""
        ...

    def finish(self, network: nn.Module, train: Dataset, valid: Dataset, **tools: Any) -> None:
        """What is fitted after the gradient steps, with functions handed down by the pipeline."""
        ...

    def decode(self, inputs: Sequence[Any], outputs: np.ndarray) -> list[BaseModel]:
        """Network outputs -> records."""
        ...

    def passages(self, inputs: Sequence[Any]) -> Sequence[str]:
        """The texts by which an evaluation tells what was trained on."""
        ...

    def files(self) -> dict[str, bytes]:
        """Everything fitted, for the bundle."""
        ...

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], config: Config) -> Self: ...


@runtime_checkable
class WithoutLabels(Protocol):
    """What a task says too whose networks may learn from inputs alone (train/virtual.py)."""

    def answers(self, network: nn.Module, batch: Batch, noise: Noise) -> Tensor:
        """Outputs (B, C) of a training batch, whatever its targets."""
        ...

    def cross_entropy(self, z: Tensor, w: Tensor) -> Tensor:
        """Outputs (B, C) twice -> (B,) the cross entropy of the answers of `w` under those of `z`."""
        ...


RATE = 0.002
"""A learning rate for AdamW over the networks of these tasks."""


class Rows:
    """What the tasks share that learn from one example at a time, in any order."""

    streams: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    no_use: ClassVar[tuple[str, ...]] = ()
    rate: float = RATE
    config: Config
    loss: Callable[[Tensor, Batch], tuple[Tensor, int]]

    def plan(self, data: Dataset, epoch: int) -> list[np.ndarray]:
        train = self.config.train
        return buckets.plan(data.lengths, train.batch_size, train.batch_tokens, seed=self.config.seed, epoch=epoch)

    def collate(self, data: Dataset, index: np.ndarray) -> Batch:
        inputs, lengths = pad([data.rows[i] for i in index])
        return Batch(inputs, lengths, None if data.targets is None else data.targets[index])

    def learn(self, network: nn.Module, batch: Batch, noise: Noise, carry: dict[str, Tensor]) -> tuple[Tensor, int]:
        return self.loss(self.answers(network, batch, noise), batch)

    def answers(self, network: nn.Module, batch: Batch, noise: Noise) -> Tensor:
        inputs, lengths = on_device(batch, network)
        with rounding(self.config):
            outputs: Tensor = network(inputs, lengths, noise)
        return outputs.float()

    def finish(self, *parts: Any, **tools: Any) -> None:
        """Nothing is fitted after the gradient steps."""

    def passages(self, inputs: Sequence[Any]) -> Sequence[str]:
        return inputs


def refuse_no_use(config: Config, no_use: Sequence[str], who: str, layers: str) -> None:
    """Raises ConfigError for one of these settings that is not what it is by default, and for no recurrence at all.
    who: whom they say nothing to; layers: why it wants a recurrence."""
    usual = Config.parse({"task": {"kind": config.task.kind}})
    for key in no_use:
        value, default = setting(config, key), setting(usual, key)
        if value != default:
            raise ConfigError(f"{key} = {show(value)}: says nothing to {who}; leave it at {default}")
    if config.model.layers == 0:
        raise ConfigError(f"model.layers = 0: {who} without a recurrence {layers}; at least 1")


def setting(config: Config, key: str) -> Any:
    """ "model.hidden" of `config`."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def rounds(config: Config) -> bool:
    """Whether training multiplies bfloat16: where train.bfloat16 asks for it and the processor can."""
    return config.train.bfloat16 and (torch.device(config.device).type != "cpu" or native.has_bfloat16())


def rounding(config: Config, *, keep: bool = True) -> torch.autocast:
    """The context in which a network is called while it learns. keep: weights that were rounded once are not rounded
    again until it is left."""
    return torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=rounds(config), cache_enabled=keep)


def on_device(batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor]:
    """(inputs, lengths) where the network is."""
    device = next(network.parameters()).device
    return torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.lengths).to(device)


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives `network`, built on torch's "meta" device, the saved tensors. Raises BundleError naming the one that
    does not fit."""
    wanted = network.float().state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        _require_fit(name, tensors.get(name), wanted.get(name))
    # cloned, as torch aligns its own memory and the bits of a product may depend on that
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)


def sizes(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, dimensions: int) -> torch.Size:
    """The shape of a saved tensor. Raises BundleError unless it is there and of this kind."""
    tensor = tensors.get(name)
    if tensor is None:
        raise unfit(name, "missing")
    if tensor.dtype != dtype or tensor.dim() != dimensions:
        raise unfit(name, f"wants {dimensions} dimensions of {dtype}, has {_form(tensor)}")
    return tensor.shape


def _require_fit(name: str, tensor: Tensor | None, wanted: Tensor | None) -> None:
    """Raises BundleError unless `tensor` has the shape and type of `wanted` and is finite."""
    if wanted is None:
        raise unfit(name, "the network that config.json describes has no such tensor")
    if tensor is None:
        raise unfit(name, "missing")
    if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
        raise unfit(name, f"has {_form(tensor)}, the network that config.json describes {_form(wanted)}")
    if not tensor.isfinite().all():
        raise unfit(name, "holds a number that is not finite")


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def unfit(name: str, what: str) -> BundleError:
    return BundleError(f"{WEIGHTS}: {show(name)}: {what}")
