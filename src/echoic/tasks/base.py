"""What a task is: one file that says what is read, learned, answered and measured.

A task is a class decorated with `@register` in `tasks/<name>.py`. An instance is fitted to the
training part: it holds its preparers and knows their sizes. The training loop, the pipeline, the
command line, the estimators and the server know tasks only through this page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import BaseModel
from torch import Tensor, nn

from echoic.core.config import Config, Section
from echoic.core.types import Batch, Example

Say = Callable[[str], None]
"""Hears a decision in a sentence, for the log and the report."""


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

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.rows], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)


class Task(Protocol):
    Options: ClassVar[type[Section]]
    """The task's own settings, `task.<option>`."""
    Record: ClassVar[type[BaseModel]]
    """One answer, as every door prints it."""
    monitor: str
    """The score that picks the epoch; higher is better."""

    @classmethod
    def fit(cls, examples: Sequence[Example], config: Config, said: Say) -> Self:
        """Fits the preparers on the training part, and on nothing else."""
        ...

    def encode(self, examples: Sequence[Example]) -> Dataset: ...

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

    def metrics(self, outputs: np.ndarray, targets: np.ndarray, measures: Mapping[str, Measure]) -> dict[str, Any]:
        """Every score of these outputs; the task picks the measure that suits it."""
        ...

    def finish(self, network: nn.Module, train: Dataset, valid: Dataset, **tools: Any) -> None:
        """What is fitted after the gradient steps, with functions handed down by the pipeline."""
        ...

    def decode(self, inputs: Sequence[Any], outputs: np.ndarray) -> list[BaseModel]:
        """Network outputs -> records."""
        ...

    def files(self) -> dict[str, bytes]:
        """Everything fitted, for the bundle."""
        ...

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], config: Config) -> Self: ...
