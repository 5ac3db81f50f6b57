"""Language models: what each setting does, what has no use, what a damaged bundle says, and that a killed run
goes on in the same bits."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoic import pipeline
from echoic.core import registry
from echoic.core.config import Config, describe
from echoic.core.errors import BundleError, ConfigError, DataError, UsageError
from echoic.core.types import EMPTY, PAD, UNKNOWN, Example
from echoic.decode.prompts import unseen
from echoic.layers.dropout import Noise, dropout
from echoic.model import load
from echoic.tasks.generate import NO_USE, Generate
from echoic.train import checkpoint

pytestmark = pytest.mark.usefixtures("unsynced")

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "the",
    "dog",
    "ran",
    "to",
    "it",
    ".",
    "then",
    "all",
    "was",
    "still\n",
]
BASE = (
    "task.kind=generate",
    "task.bptt=10",
    "model.hidden=6",
    "model.embedding=5",
    "train.epochs=2",
    "train.batch_size=4",
    "train.average=0.5",
    "train.lr=0.02",
    "threads=1",
)


def text(words: int, seed: int = 0) -> str:
    """Running text with a capital now and then, and characters that stand there once."""
    draws = np.random.default_rng(seed)
    told = " ".join(draws.choice([*WORDS, "Rome"], words))
    return f"{told[: len(told) // 2]}\u00e9{seed}{told[len(told) // 2 :]}"


TRAIN, VALID = [Example(text(160))], [Example(text(40, 1))]


def config(*settings: str) -> Config:
    return Config().override([*BASE, *settings])


def fit(*settings: str, **how: Any) -> pipeline.Journey:
    return pipeline.fit(TRAIN, VALID, config(*settings), **how)


def bits(network: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


# Every setting changes something, or is refused

CHANGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "task.bptt": ("7", ()),
    "task.tied": ("true", ()),
    "task.cutoffs": ("[6,10]", ()),
    "task.dropout_types": ("0.3", ()),
    "task.ar": ("2.0", ()),
    "task.tar": ("9.0", ()),
    "text.tokenizer": ("words", ()),
    "text.lowercase": ("true", ()),
    "text.max_vocab": ("8", ()),
    "text.min_count": ("1", ()),
    "model.cell.kind": ("gru", ()),
    "model.hidden": ("5", ()),
    "model.layers": ("2", ()),
    "model.embedding": ("6", ()),
    "model.bidirectional": ("true", ()),
    "model.dropout_words": ("0.4", ()),
    "model.dropout_embedding": ("0.4", ()),
    "model.dropout_layers": ("0.6", ("model.layers=2",)),
    "model.dropout_output": ("0.1", ()),
    "model.variational": ("0.3", ()),
    "model.candidate": ("0.3", ()),
    "model.zoneout": ("0.3", ()),
    "model.weight_drop": ("0.3", ()),
    "model.layer_norm": ("true", ()),
    "model.batch_norm": ("true", ()),
    "train.updates": ("110", ("train.epochs=0", "train.updates=4")),
    "train.epochs": ("3", ()),
    "train.batch_size": ("5", ()),
    "train.batch_tokens": ("20", ()),
    "train.optimizer": ("sgd", ()),
    "train.lr": ("0.01", ()),
    "train.momentum": ("0.5", ()),
    "train.weight_decay": ("0.9", ()),
    "train.clip": ("0.001", ("train.optimizer=sgd",)),
    "train.schedule": ("constant", ()),
    "train.warmup": ("0.5", ()),
    "train.layer_rate": ("2.0", ()),
    "train.unfreeze": ("0.4", ()),
    "train.average": ("0.0", ()),
    "seed": ("1", ()),
}
ELSEWHERE = {"task.kind", "device", "threads", "train.checkpoint_seconds", "train.checkpoints", "train.patience"}
ELSEWHERE |= {"train.plateau_patience", "train.bfloat16"}
"""Of the machine and the loop, tested with the classifier."""
OTHER = {"text.vectors": '"v.txt"', "model.pool": '"mean"', "model.attention": '"dot"'}
OTHER |= {"train.class_weights": '"balanced"', "train.augment": '"swap"'}


@cache
def left(settings: tuple[str, ...]) -> Any:
    journey = fit(*settings)
    return len(journey.model.task.text.vocabulary), json.dumps(journey.fitted.history), bits(journey.model.network)


def test_every_setting_is_accounted_for() -> None:
    read = {key for key in describe() if key.startswith("data.")}
    own = set(describe(Generate.Options, "task."))
    assert CHANGES.keys() | ELSEWHERE | set(NO_USE) | read == describe().keys() | own
    assert not CHANGES.keys() & set(NO_USE)


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_setting_changes_something(key: str) -> None:
    value, beside = CHANGES[key]
    assert left(beside) != left((*beside, f"{key}={value}"))


def test_the_same_settings_change_nothing() -> None:
    assert left(()) == left.__wrapped__(())


@pytest.mark.parametrize("key", NO_USE)
def test_a_setting_of_no_use_is_refused(key: str) -> None:
    section, name = key.split(".")
    default = getattr(getattr(config(), section), name)
    other = OTHER.get(key) or json.dumps(
        not default
        if isinstance(default, bool)
        else type(default)(default + 1) / (2 if isinstance(default, float) else 1)
    )
    with pytest.raises(ConfigError, match=f"{key} = .* says nothing to a language model"):
        fit(f"{key}={other}")


def test_the_tasks_defaults_hold_until_somebody_names_a_setting() -> None:
    usual = Config.parse({"task": {"kind": "generate"}})
    assert (usual.model.hidden, usual.model.bidirectional, usual.text.lowercase) == (512, False, False)
    assert Config().override(["model.hidden=7", "task.kind=generate"]).model.hidden == 7
    assert Config().override(["task.kind=generate", "model.layers=2"]).model.hidden == 512
    assert usual.override(["task.kind=classify"]) == Config(), "a default of one task is none of another"
    assert Config.parse(usual.model_dump(mode="json", exclude_none=True)) == usual
    assert set(registry.defaults("task", "classify")) == set()


def test_unknown_options_of_the_task_are_named() -> None:
    with pytest.raises(ConfigError, match="bptt"):
        fit("task.btt=3")


# Learning


def test_carried_states_let_no_gradient_through() -> None:
    task = Generate.fit(TRAIN, config())
    network, data, carry = task.network(0), task.encode(TRAIN), {}
    first, second = task.plan(data, 0)[1:3]
    task.learn(network, task.collate(data, first), Noise(0, 0), carry)
    assert not any(tensor.requires_grad for tensor in carry.values())
    before = {name: tensor.clone() for name, tensor in carry.items()}
    total, _ = task.learn(network, task.collate(data, second), Noise(0, 1), carry)
    total.backward()
    assert before.keys() == carry.keys()
    assert all(not torch.equal(before[name], carry[name]) for name in carry)


def test_a_stack_of_layers_carries_every_state() -> None:
    task = Generate.fit(TRAIN, config("model.layers=2"))
    carry: dict[str, torch.Tensor] = {}
    data = task.encode(TRAIN)
    task.learn(task.network(0), task.collate(data, task.plan(data, 0)[0]), Noise(0, 0), carry)
    assert {name: tuple(tensor.shape) for name, tensor in carry.items()} == {
        f"{i}.{k}": (4, 6) for i in (0, 1) for k in "hc"
    }


def test_two_ways_of_reading_are_learned_apart() -> None:
    """What the way back learns from is what a model that only reads forwards learns of the reversed stream."""
    noiseless = [f"model.dropout_{where}=0" for where in ("words", "embedding", "layers", "output")]
    both = Generate.fit(TRAIN, config("model.bidirectional=true", *noiseless))
    one = Generate.fit(TRAIN, config(*noiseless))
    data = both.encode(TRAIN)
    reversed_data = dataclasses.replace(data, stream=data.stream[::-1])  # type: ignore[index]
    network, forwards, backwards = both.network(0), one.network(0), one.network(1)
    forwards.load_state_dict({k: t for k, t in network.state_dict().items() if not k.startswith("behind.")})
    renamed = {k.replace("behind.", "stack."): t for k, t in network.state_dict().items() if not k.startswith("stack.")}
    backwards.load_state_dict(renamed)
    assert network.behind is not None
    carry: dict[str, torch.Tensor] = {}
    alone: tuple[dict[str, torch.Tensor], ...] = ({}, {})
    for index in both.plan(data, 0)[:3]:
        total, count = both.learn(network, both.collate(data, index), Noise(0, 0), carry)
        parts = [
            one.learn(each, one.collate(part, index), Noise(0, 0), own)
            for each, part, own in zip((forwards, backwards), (data, reversed_data), alone, strict=True)
        ]
        torch.testing.assert_close(total, parts[0][0] + parts[1][0])
        assert count == parts[0][1] + parts[1][1]
    torch.testing.assert_close(carry, alone[0] | {f"behind.{name}": each for name, each in alone[1].items()})


def test_what_is_written_and_scored_is_read_forwards() -> None:
    journey = fit("model.bidirectional=true")
    network, ids = journey.model.network, torch.tensor([[EMPTY, 4, 5, 6, 7, 8]])
    before = network(ids, torch.tensor([6]))
    with torch.no_grad():
        for each in network.behind.parameters():  # type: ignore[union-attr, operator]
            each.add_(1.0)
    assert torch.equal(network(ids, torch.tensor([6])), before)


def test_a_second_layer_that_reads_both_ways_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.bidirectional: .* leave model.layers at 1"):
        fit("model.bidirectional=true", "model.layers=2")


def test_locked_dropout_is_one_mask_for_all_steps() -> None:
    x = torch.ones(3, 5, 40)
    y = dropout(x, 0.5, Noise(0, 0), locked=True)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert not torch.equal(y[0], y[1])
    assert y.mean() == pytest.approx(1.0, abs=0.3)


def test_dropped_types_are_dropped_everywhere() -> None:
    task = Generate.fit(TRAIN, config("task.dropout_types=0.5", "model.dropout_embedding=0"))
    network = task.network(0)
    seen: list[torch.Tensor] = []
    network.stack.forward = lambda x, *_: (seen.append(x), (x, []))[1]  # type: ignore[method-assign]
    ids = torch.tensor([[5, 6, 5, 7, 6, 5, 8, 9, 10, 11]])
    network.read(ids, None, None, Noise(1, 0))
    dropped = (seen[0][0] == 0).all(-1)
    assert 0 < dropped.sum() < 10
    assert dropped[0] == dropped[2] == dropped[5]
    assert dropped[1] == dropped[4]


def test_tied_weights_are_one() -> None:
    for embedding in (5, 6):
        network = Generate.fit(TRAIN, config("task.tied=true", f"model.embedding={embedding}")).network(0)
        assert not any("out" in name for name in network.state_dict())
        assert ("project.weight" in network.state_dict()) == (embedding != 6)
        before = network.logits(torch.ones(1, 6))
        with torch.no_grad():
            network.embed.weight.add_(1.0)
        assert not torch.equal(before, network.logits(torch.ones(1, 6)))


@pytest.mark.parametrize("settings", [(), ("task.tied=true",), ("task.tied=true", "model.embedding=5")])
def test_an_adaptive_softmax_is_a_distribution(settings: tuple[str, ...]) -> None:
    network = Generate.fit(TRAIN, config("task.cutoffs=[5,9,1000]", *settings)).network(0).double()
    size = len(network.embed.weight)
    assert network.cuts == [5, 9]
    h = torch.randn(3 * size, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    told, targets = network.logits(h), torch.arange(3 * size) % size
    torch.testing.assert_close(told.exp().sum(1), torch.ones(3 * size).double(), atol=1e-5, rtol=0)
    nats = network.surprise(h, targets)
    torch.testing.assert_close(nats, -told[torch.arange(3 * size), targets], atol=1e-5, rtol=0)
    given = torch.autograd.grad(nats.sum(), list(network.parameters()), allow_unused=True)
    wanted = torch.autograd.grad(
        -told[torch.arange(3 * size), targets].sum(), list(network.parameters()), allow_unused=True
    )
    for one, other in zip(given, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    few = torch.tensor([1, 2])
    torch.testing.assert_close(network.surprise(h[:2], few), -network.logits(h[:2])[[0, 1], few], atol=1e-5, rtol=0)


def test_cutoffs_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ConfigError, match="wants rising numbers"):
        Generate.fit(TRAIN, config("task.cutoffs=[9,5]"))


def test_regularisers_leave_padding_alone() -> None:
    """The last windows of an epoch differ by one: what stands behind the shorter ones counts for nothing."""
    task = Generate.fit(TRAIN, config("task.ar=1.0", "task.tar=1.0"))
    network, data = task.network(0), task.encode(TRAIN)
    ragged = task.collate(data, np.array([[0, 6], [10, 15]]))
    one, _ = task.learn(network, ragged, None, {})
    ragged.inputs[1, 5] = 9
    other, _ = task.learn(network, ragged, None, {})
    assert float(one.detach()) == pytest.approx(float(other.detach()), rel=1e-6)


def test_texts_begin_with_the_empty_token_and_every_character_is_scored() -> None:
    task = Generate.fit(TRAIN, config("text.min_count=1"))
    data = task.encode([Example("the cat"), Example(""), Example("a\u4e2d")])
    assert data.stream is not None
    assert data.stream[[0, 8, 9]].tolist() == [EMPTY] * 3
    assert data.targets is not None
    assert data.targets.tolist() == [[7.0, 0.0], [0.0, 0.0], [2.0, 1.0]]
    outputs = task.network(0)(*(torch.from_numpy(each) for each in _batch(task, data)))
    assert outputs[:, 1].tolist() == [7.0, 0.0, 2.0]
    assert outputs[1, 0] == 0


def _batch(task: Generate, data: Any) -> tuple[np.ndarray, np.ndarray]:
    batch = task.collate(data, np.arange(len(data)))
    return batch.inputs, batch.lengths


def test_a_long_text_is_scored_in_rows_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a context as long as all that came before, rows cost what the text costs."""
    from echoic.batch import streams

    task = Generate.fit(TRAIN, config())
    network = task.network(0)
    whole = network(*(torch.from_numpy(each) for each in _batch(task, task.encode(VALID)))).detach()
    monkeypatch.setattr(streams, "SCORED", 40)
    monkeypatch.setattr(streams, "CONTEXT", 39)
    rows = network(*(torch.from_numpy(each) for each in _batch(task, task.encode(VALID)))).detach()
    assert len(rows) > 3
    assert float(rows[:, 1].sum()) == float(whole[:, 1].sum())
    assert float(rows[:, 0].sum()) == pytest.approx(float(whole[:, 0].sum()), rel=1e-4)


def test_bits_are_by_the_users_characters_whatever_the_tokens() -> None:
    for kind in ("codepoints", "bytes", "bpe", "words"):
        task = Generate.fit(TRAIN, config(f"text.tokenizer={kind}", "text.max_vocab=300"))
        data = task.encode(VALID)
        assert data.targets is not None
        assert data.targets[:, 0].sum() == pytest.approx(len(VALID[0].input))


# Killed and gone on with


class Gone(BaseException):
    """A death that no code here expects."""


def run_out(run: Path, stops: list[int], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Trains; dies when it is about to take each of the steps `stops`; goes on; what it ends with."""
    learn = Generate.learn
    for attempt in range(len(stops) + 1):
        stop, steps = stops[attempt] if attempt < len(stops) else None, []

        def dying(
            self: Generate, network: Any, batch: Any, noise: Any, carry: Any, stop: Any = stop, steps: list[int] = steps
        ) -> Any:
            steps.append(1)
            if len(steps) == stop:
                raise Gone
            return learn(self, network, batch, noise, carry)

        monkeypatch.setattr(Generate, "learn", dying)
        try:
            journey = fit("train.checkpoint_seconds=0", "train.epochs=3", run=run, resume=attempt > 0)
        except Gone:
            continue
    monkeypatch.setattr(Generate, "learn", learn)
    return bits(journey.model.network) | {"history": json.dumps(journey.fitted.history).encode()}


STOPS = [3, 4, 9, 14]


def test_a_run_stopped_within_a_text_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run_out(tmp_path / "alone", [], monkeypatch)
    assert run_out(tmp_path / "killed", STOPS, monkeypatch) == alone


def test_a_carry_that_is_not_saved_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run_out(tmp_path / "alone", [], monkeypatch)
    latest = checkpoint.latest

    def forgetting(*arguments: Any) -> Any:
        found = latest(*arguments)
        if found is not None:
            found.carry = {}
        return found

    monkeypatch.setattr(checkpoint, "latest", forgetting)
    assert run_out(tmp_path / "killed", STOPS, monkeypatch) != alone


def test_an_epoch_begins_without_a_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    empty: list[bool] = []
    learn = Generate.learn

    def watching(self: Generate, network: Any, batch: Any, noise: Any, carry: Any) -> Any:
        empty.append(not carry)
        return learn(self, network, batch, noise, carry)

    monkeypatch.setattr(Generate, "learn", watching)
    journey = fit("train.epochs=3")
    batches = journey.fitted.steps // 3
    assert [i for i, first in enumerate(empty) if first] == [0, batches, 2 * batches]


# Writing


@cache
def small() -> pipeline.Journey:
    return fit()


def test_what_is_written_is_known_and_of_the_asked_length() -> None:
    model = small().model
    record = model.generate("the c", length=30, seed=1)
    assert len(record.continuation) == 30
    assert record.text == "the c"
    assert record.continuations is None
    ids = model.task.text.encode([record.continuation])[0]
    assert not np.isin(ids, (PAD, UNKNOWN)).any()
    assert model.generate("the c", length=0).continuation == ""
    several = model.generate("the c", length=5, samples=3)
    assert len(several.continuations) == 3
    assert several.continuation == several.continuations[0]
    assert model.predict(["the c", ""], length=4)[1].text == ""


def test_the_seed_writes_the_text() -> None:
    model = small().model
    texts = {seed: model.generate("the", length=20, seed=seed).continuation for seed in range(5)}
    assert texts == {seed: model.generate("the", length=20, seed=seed).continuation for seed in range(5)}
    assert len(set(texts.values())) == 5


def test_unseen_characters_are_told_and_read_as_unknown() -> None:
    task = small().model.task
    assert unseen(task.text, "the 猫 sat 猫!") == ["猫", "!"]
    assert unseen(task.text, "the cat") == unseen(task.text, "") == []
    assert len(small().model.generate("猫猫", length=5).continuation) == 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": -1}, "temperature -1: wants a number 0"),
        ({"top_p": 2}, "top-p 2"),
        ({"length": -1}, "length -1"),
        ({"samples": 0}, "samples 0"),
        ({"temprature": 1}, "no option 'temprature' .*temperature"),
        ({"beam": 2, "temperature": 0.5}, "beam: .* leave out temperature"),
        ({"beam": 2, "samples": 2}, "leave out samples"),
        ({"beam": -1}, "beam -1: wants a number of at least 1"),
    ],
)
def test_options_without_sense_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        small().model.generate("the", **options)


def test_a_classifier_does_not_generate() -> None:
    rows = [Example(f"word{i % 2} thing", "ab"[i % 2], row=i) for i in range(20)]
    model = pipeline.fit(
        rows, rows, Config().override(["model.hidden=4", "train.epochs=1", "model.ngrams=false"])
    ).model
    with pytest.raises(UsageError, match="does classify"):
        model.generate("word1")


# The bundle


def test_the_bundle_writes_the_same(tmp_path: Path) -> None:
    model = small().model
    model.save(tmp_path / "b")
    again = load(tmp_path / "b")
    assert again.generate("the", length=30).continuation == model.generate("the", length=30).continuation
    assert again.config.model.hidden == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("out.weight"), "out.weight.*missing"),
        (lambda t: t.update({"out.weight": torch.zeros(3, 6)}), "out.weight.*has"),
        (lambda t: t["out.bias"].fill_(torch.nan), "not finite"),
        (lambda t: t.update({"embed.weight": torch.zeros(9, 5)}), "embed.weight.*9 rows"),
        (lambda t: t.update({"more": torch.zeros(1)}), "more.*no such tensor"),
    ],
    ids=range(5),
)
def test_tensors_that_do_not_fit_are_named(change: Any, says: str) -> None:
    model = small().model
    tensors = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    change(tensors)
    with pytest.raises(BundleError, match=says):
        model.task.restore(tensors)


def test_nothing_to_learn_from_is_bad_data() -> None:
    with pytest.raises(DataError):
        pipeline.fit([Example("")], VALID, config())
