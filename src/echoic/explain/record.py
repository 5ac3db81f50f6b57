"""What an explanation says, as every door prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

METHODS = ("integrated-gradients", "gradient-x-input", "occlusion", "attention", "trace")

MOST_LABELS = 8
"""Labels whose curves are kept."""


class Token(BaseModel):
    text: str = Field(description="as it stands in the text; empty for `<empty>`")
    start: int = Field(description="its place in the text as it was given, in code points")
    end: int
    score: float


class Turn(BaseModel):
    """The most probable label was another one after this token than before it."""

    token: int = Field(description="index into `tokens`")
    before: str
    after: str


class Explanation(BaseModel):
    text: str
    method: str
    label: str = Field(description="the label that is explained: the most probable one, unless another was asked for")
    probability: float
    tokens: list[Token]
    completeness: float | None = Field(
        None, description="|sum of scores - d| / max(|d|, 0.05); none for a method that promises no sum"
    )
    difference: float | None = Field(
        None, description="d: the label's logit less that of the zero embedding, which has no n-grams"
    )
    points: int | None = Field(None, description="points of the path of integrated gradients")
    window: int = Field(1, description="so many neighbouring tokens were tried together, as the text is long")
    beliefs: dict[str, list[float]] | None = Field(
        None, description="of trace: the probability of a label after each token; labels that led somewhere"
    )
    turns: list[Turn] | None = Field(None, description="of trace: where the model changed its mind")
    notes: list[str] = []

    def document(self) -> dict[str, Any]:
        """As JSON has it: without what the method does not use, but for `completeness`, which is then null."""
        return self.model_dump(exclude_defaults=True) | {"completeness": self.completeness}


def shared(window: int) -> list[str]:
    """That neighbours share what was found; or nothing."""
    what = f"a long text: {window} neighbouring tokens were tried together and share what was found"
    return [what] if window > 1 else []


def unread(most: int, tokens: int) -> list[str]:
    """That a model that reads `most` tokens (0: all) stops before the text does, of which it read so many; or nothing."""
    return [f"the model reads the first {most:,} tokens (text.max_tokens)"] if most and tokens == most else []


def turns(beliefs: np.ndarray, names: Sequence[str]) -> list[Turn]:
    """(T, C) probabilities after each token -> the tokens at which another label began to lead."""
    lead = beliefs.argmax(1)
    return [
        Turn(token=int(t), before=names[lead[t - 1]], after=names[lead[t]]) for t in np.flatnonzero(np.diff(lead)) + 1
    ]


def labels_that_led(beliefs: np.ndarray, names: Sequence[str], explained: int) -> dict[str, list[float]]:
    """{label: its probability after each token}: the explained one, then those that led, the longest first."""
    times = np.bincount(beliefs.argmax(1), minlength=len(names))
    led = [int(i) for i in np.argsort(-times, kind="stable") if times[i] and i != explained]
    if not led and len(names) == 2:
        led = [1 - explained]
    return {names[i]: [round(float(p), 6) for p in beliefs[:, i]] for i in [explained, *led][:MOST_LABELS]}
