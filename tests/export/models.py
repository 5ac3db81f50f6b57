"""Untrained models whose every number is drawn, so that a weight in the wrong place shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from echoic.core.config import Config
from echoic.core.types import Example
from echoic.layers.ngrams import NgramPath, hashes
from echoic.model import Model
from echoic.tasks.classify import Classify
from echoic.tasks.generate import Generate
from echoic.tasks.translate import Translate

TEXTS = ["a good film", "a bad film", "good good story of words", "a bad bad plot", "neither , nor ?"]
TINY = ("model.hidden=5", "model.embedding=4", "model.segment=8", "text.min_count=1", "text.tokenizer=words")

CELLS = (
    "kind=rnn",
    "kind=rnn nonlinearity=relu",
    "kind=rnn nonlinearity=sigmoid",
    "kind=lstm",
    "kind=lstm peephole=true",
    "kind=gru",
    "kind=gru reset=before",
)


def cell(said: str) -> tuple[str, ...]:
    return tuple(f"model.cell.{each}" for each in said.split())


def classifier(*settings: str, classes: int = 3, ngrams: int = 0, looked: bool = False) -> Model:
    """ngrams: the longest n-gram, 0 for a model without that path.
    looked: several labels a text that no setting names, found by looking at the targets."""
    config = Config().override((*TINY, *settings))
    several = looked or bool(config.task.options.get("several"))
    names = [f"class {i}" for i in range(classes)]
    examples = [Example(text, (names[i % classes],) if several else names[i % classes]) for i, text in enumerate(TEXTS)]
    task = Classify.fit(examples, config, lambda _: None)
    network = task.network(0).eval()
    path = None if not ngrams else path_of(len(task.text.vocabulary), classes, ngrams)
    network.join(path, np.array([0.75, 0.5])[: 1 + bool(ngrams)])
    if several:
        task.thresholds = np.linspace(0.3, 0.6, classes)
    draw(network)
    return Model(config, task, network, {"seed": 0})


def language(*settings: str, texts: Sequence[str] = TEXTS) -> Model:
    config = Config().override(("task.kind=generate", *TINY[:2], "text.tokenizer=codepoints", *settings))
    task = Generate.fit([Example(text) for text in texts], config, lambda _: None)
    network = task.network(0).eval()
    draw(network)
    return Model(config, task, network, {"seed": 0})


PAIRS = [("a good film", "good , film"), ("bad plot of words", "plot plot"), ("a story ?", "words of a story")]


def translator(*settings: str) -> Model:
    config = Config().override(
        ("task.kind=translate", *TINY[:2], "text.min_count=1", "text.tokenizer=words", *settings)
    )
    task = Translate.fit([Example(*pair) for pair in PAIRS], config, lambda _: None)
    network = task.network(0).eval()
    draw(network, 0.3)  # keys that grow without bound (relu) make a softmax of any rounding
    return Model(config, task, network, {"seed": 0})


def draw(network: torch.nn.Module, spread: float = 0.6) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.startswith(("scales", "ngrams")):
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        else:
            tensor.normal_(0.0, 1.0 if tensor.dim() == 1 or "embed" in name else spread, generator=generator)


def path_of(vocabulary: int, classes: int, order: int, slots: int = 64) -> NgramPath:
    """Half of its slots have owners that texts of this vocabulary hold."""
    generator = torch.Generator().manual_seed(2)
    path = NgramPath(slots, classes, order)
    ids = torch.randint(1, vocabulary, (40, 6), generator=generator)
    found = hashes(ids, torch.full((40,), 6), order).flatten()
    found = found[found >= 0]
    path.check[found % slots] = torch.div(found, slots, rounding_mode="floor").int()
    path.weight.normal_(generator=generator)
    path.bias.normal_(generator=generator)
    return path


def numpy_tensors(model: Model) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in model.network.state_dict().items()}
