"""Where a translator looks while it writes: its attention over the source, for every token that it wrote.

    found = align(task, network, "ein Mann schläft")
    found.weights[u][s]        # how much of its attention token u of the translation gave to token s of the source

The weights are those of one pass over what was written (`Seq2Seq.decode`), its end included. They say where the
network looked, which is often, and not always, what it translated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from echoic.core.errors import UsageError
from echoic.core.types import EMPTY
from echoic.layers.seq2seq import Seq2Seq
from echoic.tasks.translate import Translate


class Place(BaseModel):
    """A token."""

    text: str = Field(description="as it stands there; empty for `<empty>` and for the end")
    start: int = Field(description="where, in code points")
    end: int


class Wrote(Place):
    """A token of the translation."""

    probability: float = Field(description="that the network gave it, after the tokens before it")


class Alignment(BaseModel):
    """A text, its translation, and the attention between them."""

    text: str
    translation: str
    score: float = Field(description="as `echoic predict` has it")
    source: list[Place]
    target: list[Wrote] = Field(description="the last one is the end")
    weights: list[list[float]] = Field(
        description="a row for each of `target`, a column for each of `source`; rows sum to 1"
    )

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.model_dump()


def align(task: Any, network: Seq2Seq, text: str, **options: Any) -> Alignment:
    """The translation of `text` (options as for `Translate.generate`) and its alignment.

    Raises UsageError for a model that has no attention or is no translator, DataError for a text that is too long."""
    if not isinstance(task, Translate):
        raise UsageError(f"this model does {task.config.task.kind}; only a translator aligns")
    if network.attention is None:
        raise UsageError("this model has no attention to show (task.attention = none)")
    record = task.generate(network, [text], **options)[0]
    read, places = task.text.encode_with_offsets(text)
    said, spans = task.written.encode_with_offsets(record.translation)
    ids = said.tolist() if record.translation else []
    device = network.bias.device
    with torch.inference_mode():
        source = torch.from_numpy(read.astype(np.int64))[None].to(device)
        memory = network.read(source, torch.tensor([len(read)], device=device))
        begun = torch.tensor([[EMPTY, *ids]], device=device)
        states, weights = network.decode(memory, begun, torch.tensor([len(ids) + 1], device=device))
        assert weights is not None
        logits = network.logits(states[0], weights[0], source.expand(len(weights[0]), -1))
        p = logits.float().softmax(1).cpu().numpy()
    ends = [*spans[: len(ids)], (len(record.translation), len(record.translation))]
    return Alignment(
        text=text,
        translation=record.translation,
        score=record.score,
        source=[Place(text=text[a:b], start=a, end=b) for a, b in places],
        target=[
            Wrote(text=record.translation[a:b], start=a, end=b, probability=float(p[u, token]))
            for u, ((a, b), token) in enumerate(zip(ends, [*ids, EMPTY], strict=True))
        ],
        weights=weights[0].float().cpu().numpy().tolist(),
    )
