"""Distilling: a small model learns what a large one answers, on labelled and on unlabelled texts.

    p = softmax(z / temperature)        z: the teacher's logits for a text

The student's training targets are these probabilities, for its own rows and for texts without labels; the
loss is the one of soft labels. Validation keeps the true labels, and so does the baseline. Hinton, Vinyals
and Dean 2015, "Distilling the knowledge in a neural network" (arXiv:1503.02531), section 2; the student is not
divided by the temperature while it learns, as its scale is fitted on the validation part afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from echoic import pipeline, transplant
from echoic.core.config import Config
from echoic.core.errors import ConfigError, DataError, UsageError, show
from echoic.core.types import Example
from echoic.model import Model
from echoic.read.keys import classes_of
from echoic.read.streams import new_texts, read_unlabelled
from echoic.tasks.base import Say


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A classifier whose answers are learned, and on what. Raises UsageError if it is none."""

    model: Model
    unlabelled: str | Path | None = None
    """A file of texts to be learned from besides the training rows."""
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0.0 and np.isfinite(self.temperature)):
            raise UsageError(f"temperature {self.temperature:g}: wants a number above 0")
        kind = self.model.config.task.kind
        if kind != "classify" or self.model.task.several:
            what = "gives several labels a text" if kind == "classify" else f"does {kind}"
            raise UsageError(f"the teacher {what}: wants a classifier with one label a text")

    def origin(self) -> dict[str, str]:
        """What a resumed run must share with the one it goes on with; kept in the bundle too."""
        files = {} if self.unlabelled is None else {"unlabelled": pipeline.digest_now(self.unlabelled)}
        return {"teacher": transplant.digest(self.model), "temperature": f"{self.temperature:g}", **files}

    def teach(self, parts: Mapping[str, Sequence[Example]], config: Config, said: Say) -> list[Example]:
        """The training part and the unlabelled texts that stand in neither part, with the teacher's probabilities.
        Raises DataError for a label that the teacher does not know."""
        if config.task.kind != "classify" or config.task.options.get("several"):
            raise ConfigError("a teacher gives one label a text: leave task.kind and task.several as they are")
        names = self.model.task.names
        unknown = {name for part in parts.values() for e in part for name in classes_of(e.target)} - set(names)
        if unknown:
            listed = ", ".join(show(name, 40) for name in sorted(unknown)[:5])
            raise DataError(f"the teacher knows no label {listed} (known: {show(', '.join(names), 200)})")
        known = [e for part in parts.values() for e in part]
        given = [] if self.unlabelled is None else read_unlabelled(self.unlabelled, config.data).examples
        more = new_texts(given, known, said) if given else []
        rows = [*parts["train"], *more]
        p = _softmax(self.model.outputs([e.input for e in rows]) / self.temperature)
        said(f"the teacher's answers to {len(rows):,} texts are learned, at temperature {self.temperature:g}")
        targets = [dict(zip(names, map(float, row), strict=True)) for row in p]
        return [dataclasses.replace(e, target=target) for e, target in zip(rows, targets, strict=True)]


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))
