"""Scores of a language model, from the nats it paid for what came."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from echoic.core.errors import DataError
from echoic.prepare.text import choose


def language(nats: np.ndarray, tokens: np.ndarray, characters: np.ndarray, unknown: np.ndarray) -> dict[str, Any]:
    """P scored pieces of text, (P,) each: the sum of -log p in nats, the tokens they are of, the characters of
    the user's text that those stand for, and how many of the tokens are `<unk>`.

    loss: nats a token; perplexity: e to that; likelihood: its inverse, the geometric mean of p;
    nats_per_character and bits_per_character: by the user's characters, whatever the tokens are. Where
    tokens are unknown, their characters were not predicted, and both flatter.

    Raises DataError where nothing is scored, or nats are not finite.
    """
    total, count, letters = (float(np.asarray(each, np.float64).sum()) for each in (nats, tokens, characters))
    if count == 0 or letters == 0:
        raise DataError("there is no text to score; give one of at least one character")
    if not math.isfinite(total):
        raise DataError("the model's probabilities are not all finite; its training diverged: lower train.lr")
    loss = total / count
    return {
        "tokens": round(count),
        "characters": round(letters),
        "unknown": round(float(np.asarray(unknown).sum())),
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "likelihood": math.exp(-loss),
        "nats_per_character": total / letters,
        "bits_per_character": total / letters / math.log(2),
    }


def distinct(text: str, n: int) -> float:
    """Distinct n-grams as a share of all (Li et al. 2016): of words, or of characters where the text is Chinese
    or Japanese. 1 repeats nothing."""
    units = list(text) if choose([text]) == "chars" else text.split()
    grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
