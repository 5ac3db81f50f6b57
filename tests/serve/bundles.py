"""Bundles of every kind without training: the weights are drawn, so that no path is near nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echoic.core.config import Config
from echoic.core.types import EMPTY, Example
from echoic.layers.ngrams import NgramPath, hashes
from echoic.model import Model
from echoic.tasks.classify import Classify
from echoic.tasks.translate import Translate

SMALL = ("model.hidden=6", "model.embedding=5", "model.segment=16", "text.min_count=1", "text.tokenizer=words")
WORDS = [
    *["the", "a", "film", "was", "is", "very", "quite", "not", "good", "bad", "warm", "dull", "story", "plot"],
    "it's",
    "<b>",
    "&",
    "好",
    "电影",
    *"!?3",
]

GERMAN = {"ein": "a", "Mann": "man", "Hund": "dog", "sieht": "sees", "den": "the", "Ball": "ball", "rot": "red"}


def texts(count: int, seed: int = 0, longest: int = 40) -> list[str]:
    """Of one to `longest` words, some not in the vocabulary; the first few are awkward."""
    draws = np.random.default_rng(seed)
    odd = ["", "   ", "good", "zzz unknown", "\U0001f600 \u0000x", "good " * 64, "<br /> a <b", "good bad good bad"]
    words = [*WORDS, "new1", "new2"]
    return odd + [" ".join(draws.choice(words, int(draws.integers(1, longest + 1)))) for _ in range(count)]


def make(
    *settings: str, labels: Sequence[Any] = ("no", "yes", "maybe"), ngrams: bool = True, seed: int = 0, **task: Any
) -> Model:
    """A model with drawn weights; without `ngrams` it is the recurrent network and a temperature."""
    config = Config().override([*SMALL, *settings, *([] if ngrams else ["model.ngrams=false"])])
    corpus = [" ".join(WORDS), *texts(20, seed=9)[2:]]
    examples = [Example(text, labels[i % len(labels)], None, i + 1) for i, text in enumerate(corpus)]
    fitted = Classify.fit(examples, config)
    network = fitted.network(seed)
    generator = _draw(network, seed)
    path = _path(fitted, corpus, generator) if ngrams else None
    network.join(path, np.array([0.8, 0.3][: 1 + ngrams]))
    if fitted.several:
        fitted.thresholds = np.linspace(0.3, 0.7, len(fitted.names))
    return Model(config, fitted, network.eval(), {"made": "by a test"})


def pairs(rows: int, seed: int) -> list[Example]:
    """The words in reverse order, each translated."""
    draws = np.random.default_rng(seed)
    chosen = [draws.choice(list(GERMAN), int(draws.integers(1, 9))).tolist() for _ in range(rows)]
    return [
        Example(" ".join(words), " ".join(GERMAN[w] for w in reversed(words)), None, i)
        for i, words in enumerate(chosen, 1)
    ]


def translator(*settings: str) -> Model:
    """Of the words in GERMAN; what it says is drawn too, and differs from text to text."""
    small = ("task.kind=translate", "text.tokenizer=words", "text.min_count=1", "model.hidden=7", "model.embedding=6")
    config = Config().override([*small, *settings])
    fitted = Translate.fit(pairs(40, 0), config)
    network = fitted.network(0)
    _draw(network)
    with torch.no_grad():
        network.bias[EMPTY] -= 2.0
    return Model(config, fitted, network.eval(), {"made": "by a test"})


def _draw(network: torch.nn.Module, seed: int = 0) -> torch.Generator:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, each in network.state_dict().items():
            if each.is_floating_point():
                each.normal_(0, 0.6, generator=generator)
                if name.endswith("running_var"):
                    each.abs_().add_(0.2)
        network.embed.weight[0] = 0.0  # type: ignore[union-attr, operator]
    return generator


def _path(task: Classify, corpus: list[str], generator: torch.Generator) -> NgramPath:
    path = NgramPath(4096, len(task.names), 3)
    rows = task.text.encode(corpus)
    for row in rows:
        ids = torch.from_numpy(row.astype(np.int64))[None]
        hashed = hashes(ids, torch.tensor([ids.shape[1]]), 3)
        for each in hashed[hashed >= 0]:
            path.check[each % 4096] = each // 4096
    path.weight.normal_(0, 1, generator=generator)
    path.bias.normal_(0, 1, generator=generator)
    return path


def saved(model: Model, place: Path) -> Path:
    model.save(place)
    return place
