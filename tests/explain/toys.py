"""What the tests of explain share: tiny classifiers, made once a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from echoic import pipeline
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.model import Model
from echoic.tasks.classify import Classify

TINY = (
    "model.hidden=6",
    "model.embedding=6",
    "text.min_count=1",
    "text.tokenizer=words",
    "train.updates=20",
    "train.batch_size=16",
    "train.lr=0.03",
    "train.average=0",
    "train.adversarial=0",
    "threads=1",
)
NASTY = (
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 cafe\u0301 \U0001f44d\U0001f3fd <b>bold</b> <script>alert(1)</script> a &amp; "
    "b \u8fd9\u90e8\u7535\u5f71 \u0130I\u03a3 \u202eabc\u0000x"
)


def toy(rows: int, seed: int, labels: Any = ("no", "yes")) -> list[Example]:
    """Six words of six, and one that tells the class."""
    draws = np.random.default_rng(seed)
    out = []
    for i in range(rows):
        words, which = draws.choice([*"abcdef"], 6).tolist(), int(draws.integers(len(labels)))
        words.insert(int(draws.integers(7)), f"tell{which}")
        out.append(Example(" ".join(words), labels[which], None, i + 1))
    return out


@cache
def trained(*settings: str, labels: Any = ("no", "yes")) -> Model:
    config = Config().override((*TINY, *settings))
    return pipeline.fit(toy(80, 0, labels), toy(30, 1, labels), config).model


@cache
def untrained(*settings: str) -> Model:
    """A network as it is drawn, with words of some size, and no n-gram path: for what holds for any weights."""
    config = Config().override((*TINY, *settings))
    texts = [NASTY, "the film was good", "the plot is bad", "这部电影很好看"]
    task = Classify.fit([Example(text, str(i % 2), None, i) for i, text in enumerate(texts)], config)
    network = task.network(0).eval()
    network.embed.weight.data *= 10
    return Model(config, task, network)
