"""What is learned from texts without labels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from echoic import pipeline
from echoic.core.config import Config, TrainConfig
from echoic.core.types import Batch, Example
from echoic.layers.dropout import Noise
from echoic.layers.embed import Embed
from echoic.model import fingerprints
from echoic.tasks.base import WithoutLabels
from echoic.train import adversarial, virtual
from echoic.train.loop import Interrupted
from echoic.train.progress import Silent

BATCH = Batch(np.array([[2, 3], [4, 5], [3, 3]]), np.array([2, 2, 2]))


class Network(nn.Module):
    """Two classes, of the mean of a text's words."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = Embed(7, 4, generator=generator)
        self.out = nn.Linear(4, 2)
        with torch.no_grad():
            self.out.weight.normal_(0.0, 3.0, generator=generator)
            self.out.bias.zero_()


def answers(network: nn.Module, batch: Batch, noise: Noise) -> Tensor:
    embedded = network.embed(torch.from_numpy(batch.inputs), noise)  # type: ignore[operator]
    return network.out(embedded.mean(1))  # type: ignore[no-any-return, operator]


def cross_entropy(z: Tensor, w: Tensor) -> Tensor:
    return -(z.softmax(1) * w.log_softmax(1)).sum(1)


def entropy(network: nn.Module) -> float:
    z = answers(network, BATCH, Noise(0, 0)).detach()
    return float(cross_entropy(z, z).mean())


def gradients(network: nn.Module, **settings: float) -> list[Tensor]:
    beside = virtual.Beside(lambda step: BATCH, answers, cross_entropy)
    network.zero_grad()
    words = lambda: adversarial.tables(network)  # noqa: E731
    virtual.learn(network, beside, BATCH, Noise(0, 0), words, TrainConfig(**settings))
    return [each.grad.clone() for each in network.parameters() if each.grad is not None]


def test_the_entropy_of_the_answers_falls() -> None:
    network = Network()
    before = entropy(network)
    found = gradients(network, entropy=1.0)
    with torch.no_grad():
        for each, gradient in zip(network.parameters(), found, strict=True):
            each -= 0.1 * gradient
    assert entropy(network) < before
    for once, twice in zip(found, gradients(Network(), entropy=2.0), strict=True):
        torch.testing.assert_close(2 * once, twice)


def test_words_are_moved_where_the_answers_change_most() -> None:
    """One step of power iteration is not the worst of all moves; of as long ones drawn at random it beats 95 in 100."""
    network, seen = Network(), []

    def heard(network: nn.Module, batch: Batch, noise: Noise) -> Tensor:
        seen.append(network.embed.weight.detach().clone())  # type: ignore[operator, union-attr]
        return answers(network, batch, noise)

    before = network.embed.weight.detach().clone()
    virtual.learn(
        network, virtual.Beside(lambda step: BATCH, heard, cross_entropy), BATCH, Noise(0, 0),
        lambda: adversarial.tables(network), TrainConfig(virtual=0.2),
    )  # fmt: skip
    clean, first, last = seen
    assert torch.equal(clean, before)
    assert torch.equal(network.embed.weight, before), "and they come back"
    length = 0.2 * before.norm(dim=1).mean()
    for moved in (first, last):
        torch.testing.assert_close((moved - before).norm(), length)

    def change(table: Tensor) -> float:
        with torch.no_grad():
            p = answers(network, BATCH, Noise(0, 0))
            network.embed.weight.copy_(table)
            found = cross_entropy(p, answers(network, BATCH, Noise(0, 0))) - cross_entropy(p, p)
            network.embed.weight.copy_(before)
        return float(found.sum())

    draws = torch.randn(100, *before.shape, generator=torch.Generator().manual_seed(1))
    draws[:, [0, 1, 6]] = 0.0  # words that no text has
    others = [change(before + length * way / way.norm()) for way in draws]
    assert change(last) > np.quantile(others, 0.95)
    assert change(last) > 3 * np.mean(others)


def test_the_answers_without_a_move_are_a_constant() -> None:
    """Otherwise the network would learn to answer like its moved self, which is as wrong."""
    network = Network()
    found = gradients(network, virtual=0.5)
    with torch.no_grad():
        p = answers(network, BATCH, Noise(0, 0))
    rows = network.embed.weight
    random = torch.randn(rows.shape, generator=Noise(0, 0).generator)
    with adversarial.shifted([(rows, rows)], [random], 0.5):
        way = torch.autograd.grad(cross_entropy(p, answers(network, BATCH, Noise(0, 0))).sum(), rows)
    network.zero_grad()
    with adversarial.shifted([(rows, rows)], way, 0.5):
        cross_entropy(p, answers(network, BATCH, Noise(0, 0))).mean().backward()  # type: ignore[no-untyped-call]
    for own, parameter in zip(found, network.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(own, parameter.grad)


def test_both_terms_add_up() -> None:
    both = gradients(Network(), virtual=0.5, entropy=0.7)
    alone = gradients(Network(), virtual=0.5), gradients(Network(), entropy=0.7)
    for own, *parts in zip(both, *alone, strict=True):
        torch.testing.assert_close(own, parts[0] + parts[1])


# In the journey

SMALL = [
    "model.hidden=4", "model.embedding=4", "model.ngrams=false", "text.min_count=1", "train.epochs=2", "threads=1",
    "train.batch_size=8", "train.checkpoint_seconds=0", "train.virtual=1.0", "train.entropy=0.5",
]  # fmt: skip
TRAIN = [Example(f"{'good' if i % 2 else 'bad'} {'abcde'[i % 5]}", "yn"[i % 2], None, i) for i in range(24)]
OTHERS = [Example(f"{'good' if i % 3 else 'bad'} {'edcba'[i % 5]} x", row=i) for i in range(40)]


def bits(journey: pipeline.Journey) -> bytes:
    return b"".join(t.numpy().tobytes() for t in journey.model.network.state_dict().values())


def test_texts_without_labels_are_learned_from_and_counted() -> None:
    config, said = Config().override(SMALL), []  # type: ignore[var-annotated]
    alone = pipeline.fit(TRAIN, TRAIN[:6], config, said=said.append)
    beside = pipeline.fit(TRAIN, TRAIN[:6], config, said=said.append, unlabelled=OTHERS)
    assert any(note.startswith("24 texts are learned from without labels") for note in said)
    assert any(note.startswith("64 texts are learned from without labels") for note in said)
    assert bits(alone) != bits(beside)
    assert beside.fitted.tokens > alone.fitted.steps * 16
    assert np.isin(fingerprints([e.input for e in OTHERS]), beside.model.seen).all()


def test_every_text_is_learned_from_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long and short, of the training rows and without labels, once an epoch of theirs."""
    found: list[list[bytes]] = []

    def learn(network: nn.Module, beside: virtual.Beside, batch: Batch, *_: Any) -> None:
        found.append([row[:length].tobytes() for row, length in zip(batch.inputs, batch.lengths, strict=True)])

    monkeypatch.setattr(virtual, "learn", learn)
    long = [Example(f"{e.input} {'y ' * (i % 9)}", row=e.row) for i, e in enumerate(OTHERS)]
    config = Config().override([*SMALL, "train.epochs=8"])
    pipeline.fit(TRAIN, TRAIN[:6], config, unlabelled=long)
    first, second = (Counter(chain.from_iterable(found[start : start + 8])) for start in (0, 8))
    assert first == second
    assert first.total() == len(TRAIN) + len(long)


@pytest.mark.parametrize("setting", ["train.virtual=0", "train.entropy=0"])
def test_each_term_does_something(setting: str) -> None:
    config = Config().override(SMALL)
    assert bits(pipeline.fit(TRAIN, TRAIN[:6], config)) != bits(
        pipeline.fit(TRAIN, TRAIN[:6], config.override([setting]))
    )


def test_several_labels_learn_so_too() -> None:
    several = [dataclasses.replace(e, target=f"{e.target}|m" if i % 3 else e.target) for i, e in enumerate(TRAIN)]
    config = Config().override([*SMALL, "task.several=true"])
    assert np.isfinite(pipeline.fit(several, several[:6], config, unlabelled=OTHERS).fitted.history[-1]["train_loss"])


def test_a_stopped_run_goes_on_with_the_same_texts(tmp_path: Path) -> None:
    config = Config().override(SMALL)
    whole = pipeline.fit(TRAIN, TRAIN[:6], config, unlabelled=OTHERS)

    class Stop(Silent):
        def step(self, line: dict[str, object]) -> None:
            if line["step"] == 4:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        pipeline.fit(TRAIN, TRAIN[:6], config, unlabelled=OTHERS, run=tmp_path / "run", watch=Stop())
    again = pipeline.fit(TRAIN, TRAIN[:6], config, unlabelled=OTHERS, run=tmp_path / "run", resume=True)
    assert bits(again) == bits(whole)


def test_a_task_without_such_answers_has_no_use_for_them() -> None:
    from echoic.tasks.classify import Classify
    from echoic.tasks.generate import Generate

    assert issubclass(Classify, WithoutLabels)
    assert not issubclass(Generate, WithoutLabels)
    assert {"train.virtual", "train.entropy"} <= set(Generate.no_use)
