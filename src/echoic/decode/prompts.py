"""A prompt and how it goes on: what may be asked and what is answered, the same from torch and without it.

writer(step, text, ends, "Once upon", temperature=0.8).write(100)
answer(make, "Once upon", length=100, options)            make: prompt, **options -> Writer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from echoic.core.bundle import canonical
from echoic.core.errors import BundleError, UsageError, show
from echoic.core.types import EMPTY, PAD, UNKNOWN
from echoic.decode.sampling import How, Step
from echoic.decode.writer import Writer
from echoic.prepare.text import TextPreparer

FILE = "generate.json"


class Generated(BaseModel):
    """One answer: a prompt and how it goes on."""

    text: str = Field(description="the prompt")
    continuation: str
    continuations: list[str] | None = Field(None, description="with several samples: all of them, the first included")


def writer(
    step: Step,
    text: TextPreparer,
    ends: bool,
    prompt: str,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | np.random.Generator = 0,
    samples: int = 1,
    stop: Sequence[str] = (),
) -> Writer:
    """A writer that has read the whole prompt. ends: whether a text may end, as training held several.
    Raises UsageError for a number that makes no sense."""
    never = (PAD, UNKNOWN) if ends else (PAD, UNKNOWN, EMPTY)
    how = How(temperature, top_k, top_p, min_p, repetition_penalty, never)
    ids = from_the_beginning(text.encode([prompt])[0])
    stop = (stop,) if isinstance(stop, str) else stop
    return Writer(step, text.decode, ids, how, seed=seed, samples=samples, stop=stop)


def answer(make: Callable[..., Writer], prompt: str, length: int, options: Mapping[str, Any]) -> Generated:
    """`length` more tokens, fewer where a text ends; options are `writer`'s, or `beam`: hypotheses of a search for the
    likeliest text, 0 for none."""
    if length < 0:
        raise UsageError(f"length {length}: wants 0 or more tokens")
    usual = dict(writer.__kwdefaults__ or ())
    if wrong := next((name for name in options if name not in (*usual, "beam")), None):
        raise UsageError(f"generating knows no option {show(wrong)!r} (known: length, beam, {', '.join(usual)})")
    drawn = {name: value for name, value in options.items() if name != "beam"}
    if not (width := options.get("beam", 0)):
        made = make(prompt, **drawn)
        made.write(length)
        return record(prompt, made)
    if other := next((name for name, value in drawn.items() if value != usual[name] and name != "stop"), None):
        raise UsageError(
            f"beam: it looks for the likeliest text and draws nothing; leave out {other.replace('_', '-')}"
        )
    made = make(prompt, **drawn)
    made.search(length, width)
    return record(prompt, made)


def record(prompt: str, written: Writer) -> Generated:
    several = written.texts if len(written.texts) > 1 else None
    return Generated(text=prompt, continuation=written.texts[0], continuations=several)


def unseen(text: TextPreparer, prompt: str) -> list[str]:
    """The parts of a prompt that training did not hold, each once; the network reads <unk> there."""
    ids, spans = text.encode_with_offsets(prompt)
    places = [span for token, span in zip(ids.tolist(), spans, strict=True) if token == UNKNOWN]
    return list(dict.fromkeys(prompt[start:end] for start, end in places))


def from_the_beginning(ids: np.ndarray) -> np.ndarray:
    """The ids of a text with the `<empty>` in front that begins every text; an empty text is that alone."""
    return ids if ids[0] == EMPTY else np.concatenate([np.array([EMPTY], np.int32), ids])


def write_ends(ends: bool) -> dict[str, bytes]:
    return {FILE: canonical({"ends": ends})}


def read_ends(files: Mapping[str, bytes]) -> bool:
    """What `write_ends` wrote. Raises BundleError."""
    try:
        return bool(json.loads(files[FILE])["ends"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"{FILE}: missing, or not what echoic wrote (wants ends)") from None
