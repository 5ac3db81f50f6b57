"""What a language model makes of a text that it learns from or remembers: by hand, and never by looking ahead."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from echoic.core.errors import UsageError
from echoic.core.types import Example
from echoic.decode.prompts import from_the_beginning
from echoic.model import Model
from echoic.pipeline import evaluate
from echoic.remembering import Remembering, _Reader, score
from export.models import language
from serve.bundles import make

pytestmark = pytest.mark.usefixtures("unsynced")
TEXT = "a cat and a mat and a cat and a mat and a cat"


@pytest.fixture(scope="module")
def model() -> Model:
    return language(texts=[TEXT, "mat cat and"])


def ids_of(model: Model, text: str = TEXT) -> torch.Tensor:
    return torch.from_numpy(from_the_beginning(model.task.text.encode([text])[0]).astype(np.int64))


def loss(model: Model, text: str = TEXT, **how: Any) -> float:
    return float(score(model, [Example(text)], Remembering(**how))["loss"])


@pytest.mark.parametrize("settings", [(), ("task.tied=true", "task.cutoffs=[8]"), ("model.cell.kind=gru",)])
def test_almost_nothing_learned_is_the_static_score(settings: tuple[str, ...]) -> None:
    model = language(*settings, texts=[TEXT, "mat cat and"])
    static = evaluate(model, [Example(TEXT), Example("a mat")])
    found = score(model, [Example(TEXT), Example("a mat")], Remembering(rate=1e-12, segment=7))
    for name in ("loss", "perplexity", "bits_per_character", "tokens"):
        assert found[name] == pytest.approx(static[name], rel=1e-5), name


def test_each_segment_is_scored_and_then_learned_from(model: Model) -> None:
    """By hand: two segments, the second by the weights after one step on the first."""
    ids, rate, decay = ids_of(model), 0.3, 0.1
    network = copy.deepcopy(model.network)
    h, state = network.read(ids[None, :5], None, None, None)
    nats = network.nats(h[0], ids[1:6])
    nats.mean().backward()
    before = [p.detach().clone() for p in model.network.parameters()]
    with torch.no_grad():
        for p, first in zip(network.parameters(), before, strict=True):
            p.copy_(p - rate * (p.grad if p.grad is not None else 0.0) + decay * (first - p))
        h, _ = network.read(ids[None, 5:10], None, [type(s)(*(f.detach() for f in s)) for s in state], None)
        wanted = (float(nats.sum()) + float(network.nats(h[0], ids[6:11]).sum())) / 10
    text = model.task.text.decode(ids[1:11].tolist())
    assert loss(model, text, rate=rate, decay=decay, segment=5) == pytest.approx(wanted, rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True))


def test_the_cache_is_grave_et_als(model: Model) -> None:
    """By hand, token by token, over the last 6 places; segments change nothing."""
    ids, share, sharpness, held = ids_of(model), 0.2, 0.7, 6
    with torch.inference_mode():
        h = model.network.read(ids[None, :-1], None, None, None)[0][0]
        p = model.network.logits(h).double().softmax(1)
    total = 0.0
    for t in range(len(ids) - 1):
        places = range(max(0, t - held), t)
        weights = [math.exp(sharpness * float(h[t] @ h[i])) for i in places]
        said = sum(w for w, i in zip(weights, places, strict=True) if ids[i + 1] == ids[t + 1]) / max(
            sum(weights), 1e-300
        )
        own = float(p[t, ids[t + 1]])
        total -= math.log((1 - share) * own + share * said if t else own)
    how = {"cache": held, "share": share, "sharpness": sharpness}
    for segment in (1, 5, 100):
        assert loss(model, segment=segment, **how) == pytest.approx(total / (len(ids) - 1), rel=1e-5)


def test_what_repeats_is_learned_and_remembered(model: Model) -> None:
    long = " ".join([TEXT] * 20)
    static = float(evaluate(model, [Example(long)])["loss"])
    assert loss(model, long, rate=0.5, segment=16) < 0.8 * static
    assert loss(model, long, cache=100, share=0.5, sharpness=1.0) < static


@pytest.mark.parametrize("how", [{"rate": 0.5, "segment": 4}, {"cache": 9, "share": 0.4}, {"rate": 0.2, "cache": 5}])
def test_what_may_come_next_is_a_distribution(model: Model, how: dict[str, Any]) -> None:
    """So what came next was not looked at: the chances of all tokens, each tried as the last one, sum to 1."""
    ids = ids_of(model).numpy()

    def nats(text: np.ndarray) -> float:
        return _Reader(model, Remembering(**how)).read(text)

    for length in (9, 10, 11, 12):
        begun = ids[:length]
        chances = [
            math.exp(nats(begun) - nats(np.append(begun, token))) for token in range(len(model.task.text.vocabulary))
        ]
        assert sum(chances) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "neither a rate"),
        ({"rate": -1.0}, "rate -1"),
        ({"rate": 0.1, "decay": 2.0}, "decay 2"),
        ({"cache": -1}, "cache -1"),
        ({"cache": 5, "share": 1.0}, "share 1"),
        ({"rate": math.nan}, "rate nan"),
    ],
)
def test_numbers_without_sense_are_refused(how: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Remembering(**how)


def test_a_classifier_remembers_nothing() -> None:
    with pytest.raises(UsageError, match="only a language model"):
        score(make(), [Example("a")], Remembering(rate=0.1))
