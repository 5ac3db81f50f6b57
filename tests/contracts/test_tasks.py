"""check_task: what every task promises, on toys declared here. Registering a task without a toy fails.

A check is a function of a Trained toy and raises AssertionError, so that a broken task can be shown to fail it.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoic import facts, pipeline
from echoic.core import registry
from echoic.core.config import Config
from echoic.core.errors import UsageError
from echoic.core.types import PAD, Example
from echoic.explain.faithful import measure
from echoic.facts import MEASURES, Journey
from echoic.layers.dropout import Noise

SETTINGS = {
    "text": {"min_count": 1},
    "model": {"hidden": 12, "embedding": 12, "dropout_embedding": 0.1, "dropout_output": 0.1, "dropout_words": 0.0},
    "train": {"updates": 80, "batch_size": 32, "lr": 0.02, "average": 0.9, "label_smoothing": 0.0},
    "threads": 1,
}


@dataclass(frozen=True)
class Toy:
    """Examples that a task can learn in a few steps, and what it then owes."""

    task: str
    name: str
    make: Callable[[int, int], list[Example]]
    """(rows, seed) -> examples"""
    perfect: Callable[[Any, np.ndarray], np.ndarray]
    """(task, targets) -> network outputs that answer them without a fault"""
    perfect_scores: dict[str, float]
    dummy: float
    """What a constant answer scores on the task's monitor."""
    reaches: float
    """What the task must score on rows it has not seen."""
    settings: dict[str, Any] = field(default_factory=dict)
    perfect_is_certain: bool = True
    """Whether the loss of a perfect prediction is nought (not where the targets are probabilities)."""
    worse: Callable[[np.ndarray], np.ndarray] = lambda outputs: outputs[::-1].copy()
    """Perfect outputs -> outputs with faults."""
    constant: Callable[[np.ndarray], np.ndarray] = np.zeros_like
    """Perfect outputs -> those of a model that always says the same."""
    counted: Callable[[np.ndarray], int] = len
    """Perfect outputs -> what the sum of their losses is divided by."""

    def __str__(self) -> str:
        return f"{self.task}-{self.name}"


@dataclass(frozen=True)
class Trained:
    toy: Toy
    journey: Journey
    test: list[Example]


# The toys of classify

FILLER = [*"abcdef"]


def _around(draws: np.random.Generator, middle: list[str]) -> str:
    filler = draws.choice(FILLER, 4).tolist()
    place = int(draws.integers(5))
    return " ".join(filler[:place] + middle + filler[place:])


def order_matters(rows: int, seed: int) -> list[Example]:
    """ "good not bad" or "bad not good": the same words, so that a bag of words answers by chance."""
    draws = np.random.default_rng(seed)
    out = []
    for i in range(rows):
        praise = bool(draws.integers(2))
        middle = ["good", "not", "bad"] if praise else ["bad", "not", "good"]
        out.append(Example(_around(draws, middle), "praise" if praise else "blame", None, i + 1))
    return out


def four_classes(rows: int, seed: int) -> list[Example]:
    draws = np.random.default_rng(seed)
    which = draws.integers(0, 4, rows)
    return [Example(_around(draws, [f"word{k}"]), f"class{k}", None, i + 1) for i, k in enumerate(which)]


def several_labels(rows: int, seed: int) -> list[Example]:
    """Each of three words brings its label, so that a text has none to three."""
    draws = np.random.default_rng(seed)
    out = []
    for i in range(rows):
        given = [k for k in range(3) if draws.integers(2)]
        out.append(Example(_around(draws, [f"word{k}" for k in given]), tuple(f"label{k}" for k in given), None, i + 1))
    return out


def soft_labels(rows: int, seed: int) -> list[Example]:
    draws = np.random.default_rng(seed)
    judged = [{"no": 0.8, "maybe": 0.15, "yes": 0.05}, {"no": 0.05, "maybe": 0.15, "yes": 0.8}]
    which = draws.integers(0, 2, rows)
    return [Example(_around(draws, [f"word{k}"]), judged[k], None, i + 1) for i, k in enumerate(which)]


def sure_logits(task: Any, targets: np.ndarray) -> np.ndarray:
    return 60.0 * task.dense(targets) - 30.0


def log_probabilities(task: Any, targets: np.ndarray) -> np.ndarray:
    return np.log(targets)


# The toy of generate


def echoes(rows: int, seed: int) -> list[Example]:
    """ "x---X.": the last letter is the first one's, after dashes of any number, so that only who carries
    the first letter along gets it right."""
    draws = np.random.default_rng(seed)
    texts = [(draws.choice([*"abcd"]), int(draws.integers(2, 5))) for _ in range(rows)]
    return [Example(f"{key}{'-' * n}{key.upper()}.", row=i) for i, (key, n) in enumerate(texts, 1)]


def no_nats(task: Any, targets: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(targets)), targets[:, 0]], 1)


LANGUAGE: dict[str, Any] = {
    "worse": lambda outputs: outputs + np.array([1.0, 0.0]),
    "constant": lambda outputs: np.stack([outputs[:, 1] * np.log(13), outputs[:, 1]], 1),
    "counted": lambda outputs: int(outputs[:, 1].sum()),
}

# The toy of translate

GERMAN = {"ein": "a", "hund": "dog", "mann": "man", "sieht": "sees", "ball": "ball", "rot": "red"}


def backwards(rows: int, seed: int) -> list[Example]:
    """Each word translated, in reverse order, so that only who looks at the source's end can begin."""
    draws = np.random.default_rng(seed)
    chosen = [draws.choice(list(GERMAN), int(draws.integers(1, 5))).tolist() for _ in range(rows)]
    return [
        Example(" ".join(words), " ".join(GERMAN[w] for w in reversed(words)), None, i)
        for i, words in enumerate(chosen, 1)
    ]


def all_right(task: Any, targets: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(targets)), targets, targets], 1)


PAIRS: dict[str, Any] = {
    "worse": lambda outputs: outputs + np.array([1.0, 0.0, -1.0]),
    "constant": lambda outputs: np.stack([outputs[:, 1] * np.log(7), outputs[:, 1], np.ones(len(outputs))], 1),
    "counted": lambda outputs: int(outputs[:, 1].sum()),
}

HARD = {"accuracy": 1.0, "macro_f1": 1.0, "micro_f1": 1.0, "ece": 0.0, "brier": 0.0}

TOYS = [
    Toy("classify", "order", order_matters, sure_logits, HARD, 0.5, 0.95, {"model.ngrams": False}),
    Toy("classify", "order_and_ngrams", order_matters, sure_logits, HARD, 0.5, 0.95),
    Toy("classify", "many", four_classes, sure_logits, HARD, 0.25, 0.95),
    Toy("classify", "several", several_labels, sure_logits, HARD, 0.67, 0.9, {"task.several": True}),
    Toy(
        "generate",
        "echoes",
        echoes,
        no_nats,
        {"loss": 0.0, "perplexity": 1.0, "bits_per_character": 0.0},
        1 / 13,
        0.5,
        {"model.hidden": 32, "task.bptt": 48, "train.updates": 400, "train.batch_size": 8},
        **LANGUAGE,
    ),
    Toy(
        "translate",
        "backwards",
        backwards,
        all_right,
        {"loss": 0.0, "perplexity": 1.0, "token_accuracy": 1.0},
        0.35,
        0.85,
        {
            "text.tokenizer": "words",
            "model.hidden": 24,
            "model.variational": 0.0,
            "model.dropout_layers": 0.1,
            "train.updates": 250,
        },
        **PAIRS,
    ),
    Toy("classify", "soft", soft_labels, log_probabilities, {"accuracy": 1.0, "divergence": 0.0}, 0.5, 0.95, {}, False),
]


def config_of(toy: Toy) -> Config:
    settings = {"task.kind": toy.task, **toy.settings}
    return Config.parse(SETTINGS).override(f"{key}={json.dumps(value)}" for key, value in settings.items())


@cache
def trained(toy_name: str) -> Trained:
    toy = next(toy for toy in TOYS if str(toy) == toy_name)
    before = torch.get_num_threads()
    journey = pipeline.fit(toy.make(160, 0), toy.make(60, 1), config_of(toy))
    torch.set_num_threads(before)
    return Trained(toy, journey, toy.make(60, 2))


def outputs_of(model: Any, examples: Sequence[Example]) -> np.ndarray:
    """The network's outputs for whole examples: where a target is written, they are of it."""
    outputs: np.ndarray = model.outputs_of(model.task.encode(examples))
    return outputs


@pytest.mark.parametrize("kind", registry.names("task"))
def test_every_task_has_a_page_for_what_its_runs_say(kind: str) -> None:
    account = facts.of(kind)
    for name in (
        "read_parts",
        "read_rows",
        "check",
        "fit_baseline",
        "score",
        "evaluate",
        "remarks",
        "summary",
        "report",
        "score_facts",
    ):
        wanted = [*inspect.signature(getattr(facts.Account, name)).parameters][1:]
        assert [*inspect.signature(getattr(account, name)).parameters][: len(wanted)] == wanted


# The checks


def check_loss_falls(it: Trained) -> None:
    losses = [entry["train_loss"] for entry in it.journey.fitted.history]
    assert losses[-1] < 0.75 * losses[0] or (not it.toy.perfect_is_certain and losses[-1] < losses[0])


def check_a_perfect_prediction_scores_perfectly(it: Trained) -> None:
    task = it.journey.model.task
    data = task.encode(it.test)
    outputs = it.toy.perfect(task, data.targets)
    scores = task.metrics(outputs, data.targets, MEASURES)
    assert {name: scores[name] for name in it.toy.perfect_scores} == pytest.approx(it.toy.perfect_scores, abs=1e-6)
    assert scores[task.monitor] == pytest.approx(1.0)
    batch = task.collate(data, np.arange(len(data)))
    total, count = task.loss(torch.from_numpy(outputs).float(), batch)
    assert count == it.toy.counted(outputs)
    if it.toy.perfect_is_certain:
        assert float(total) / count < 1e-6
    worse, _ = task.loss(torch.from_numpy(it.toy.worse(outputs)).float(), batch)
    assert float(worse) > float(total)


def check_it_beats_the_dummy(it: Trained) -> None:
    model = it.journey.model
    data = model.task.encode(it.test)
    scores = model.task.metrics(outputs_of(model, it.test), data.targets, MEASURES)
    constant = it.toy.constant(it.toy.perfect(model.task, data.targets))
    dummy = model.task.metrics(constant, data.targets, MEASURES)[model.task.monitor]
    assert scores[model.task.monitor] >= it.toy.reaches > max(dummy, it.toy.dummy) + 0.1


def check_the_batch_is_irrelevant(it: Trained) -> None:
    """Alone, together, in another order, behind a long text: the same outputs."""
    model, some = it.journey.model, it.test[:12]
    together = outputs_of(model, some)
    alone = np.concatenate([outputs_of(model, [each]) for each in some])
    np.testing.assert_allclose(alone, together, atol=1e-5, rtol=0)
    long = replace(some[0], input=" ".join(str(e.input) for e in some * 4))
    beside = outputs_of(model, [long, *some[::-1]])[1:][::-1]
    np.testing.assert_allclose(beside, together, atol=1e-5, rtol=0)


def check_padding_is_irrelevant(it: Trained) -> None:
    task, network = it.journey.model.task, it.journey.model.network
    batch = task.collate(task.encode(it.test[:12]), np.arange(12))
    inputs, lengths = torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths)
    with torch.inference_mode():
        wanted = network(inputs, lengths)
        for filler in (PAD, 5):
            more = torch.cat([inputs, inputs.new_full((12, 7, *inputs.shape[2:]), filler)], 1)
            torch.testing.assert_close(network(more, lengths), wanted, atol=1e-5, rtol=0)


def check_noise_acts_only_when_handed_in(it: Trained) -> None:
    task = it.journey.model.task
    network = copy.deepcopy(it.journey.model.network).train()
    batch = task.collate(task.encode(it.test[:12]), np.arange(12))
    inputs, lengths = torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths)
    assert torch.equal(network(inputs, lengths), network.eval()(inputs, lengths))
    assert not torch.equal(network(inputs, lengths, Noise(0, 1)), network(inputs, lengths))


def check_attributions_sum_to_the_difference(it: Trained) -> None:
    """|sum of scores - d| / max(|d|, 0.05), d being the answer's logit less that of the zero embedding; a translator's
    alignment sums to one."""
    if it.journey.model.config.task.kind != "classify":
        if it.journey.model.task.pairs:
            (found,) = it.journey.model.explain([it.test[0].input])
            np.testing.assert_allclose(np.sum(found.weights, 1), 1.0, atol=1e-5)
        else:
            with pytest.raises(UsageError, match="only a classifier is explained"):
                it.journey.model.explain([it.test[0].input])
        with pytest.raises(UsageError, match="only a classifier is explained"):
            measure(it.journey.model.task, it.journey.model.network, [it.test[0].input])
        return
    for found in it.journey.model.explain([e.input for e in it.test[:5]]):
        total = sum(token.score for token in found.tokens)
        assert abs(total - found.difference) / max(abs(found.difference), 0.05) <= 0.01


def check_records(it: Trained) -> None:
    """Every answer is the task's Record, and JSON brings it back."""
    model = it.journey.model
    for record in model.predict([e.input for e in it.test[:5]]):
        assert type(record) is model.task.Record
        assert type(record).model_validate_json(record.model_dump_json()) == record
    assert model.predict([]) == []


# What a task owes that learns from streams


def check_the_whole_prompt_is_read(it: Trained) -> None:
    if it.toy.name == "echoes":
        for key in "abcd":
            told = it.journey.model.generate(f"{key}---", length=8, temperature=0).continuation
            assert told.lstrip("-") == f"{key.upper()}.", f"{key}: {told}"


def check_going_on_is_one_text(it: Trained) -> None:
    """Written in one call, or in three whose state is carried: the same texts, whatever the seed."""
    model = it.journey.model
    for seed in range(4):
        asked = {"seed": seed, "samples": 3, "temperature": 1.5}
        whole, parts = (model.task.writer(model.network, "a-", **asked) for _ in range(2))
        whole.write(12)
        for tokens in (5, 1, 6):
            parts.write(tokens)
        assert whole.texts == parts.texts
        assert model.generate("a-", length=12, **asked).continuations == whole.texts
        assert model.generate("a-", length=12, **asked | {"samples": 1}).continuation == whole.texts[0]


def check_reading_is_one_text(it: Trained) -> None:
    """A text read whole, or in two parts at any place: the same logits and states."""
    task, network = it.journey.model.task, it.journey.model.network
    step = task.step(network)
    ids = task.encode(it.test[:4]).stream[None].astype(np.int64)
    wanted, states = step(ids, None)
    for place in range(1, ids.shape[1]):
        _, state = step(ids[:, :place], None)
        logits, after = step(ids[:, place:], state)
        np.testing.assert_allclose(logits, wanted, atol=1e-5, rtol=0)
        for one, other in zip(after, states, strict=True):
            torch.testing.assert_close(tuple(one), tuple(other), atol=1e-5, rtol=0)


def check_windows_are_one_text(it: Trained) -> None:
    """The loss of one long window is that of the short ones whose states are carried."""
    task, network = it.journey.model.task, it.journey.model.network
    data = task.encode(it.test)
    places = np.array([0, 7, 20, 33])

    def nats(cuts: np.ndarray) -> float:
        carry: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            batches = [task.collate(data, np.array([[a, b], [a + 40, b + 40]])) for a, b in pairwise(cuts)]
            return sum(float(task.learn(network, batch, None, carry)[0]) for batch in batches)

    assert nats(places) == pytest.approx(nats(places[[0, -1]]), rel=1e-5)


STREAM_CHECKS = [
    check_the_whole_prompt_is_read,
    check_going_on_is_one_text,
    check_reading_is_one_text,
    check_windows_are_one_text,
]

CHECKS = [
    check_loss_falls,
    check_a_perfect_prediction_scores_perfectly,
    check_it_beats_the_dummy,
    check_the_batch_is_irrelevant,
    check_padding_is_irrelevant,
    check_noise_acts_only_when_handed_in,
    check_attributions_sum_to_the_difference,
    check_records,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_task(toy: Toy, check: Callable[[Trained], None]) -> None:
    check(trained(str(toy)))


@pytest.mark.parametrize("check", STREAM_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("toy", [toy for toy in TOYS if registry.get("task", toy.task).streams], ids=str)
def test_task_of_streams(toy: Toy, check: Callable[[Trained], None]) -> None:
    check(trained(str(toy)))


def test_every_registered_task_has_a_toy() -> None:
    assert {toy.task for toy in TOYS} == set(registry.names("task"))


OTHER_PROCESS = """
import hashlib, json, sys, torch
torch.set_num_threads(1)
import echoic
out = {}
for folder, inputs in json.load(sys.stdin).items():
    model = echoic.load(folder)
    out[folder] = [hashlib.sha256(model.outputs(inputs).tobytes()).hexdigest(), [r.model_dump_json() for r in model.predict(inputs)]]
print(json.dumps(out))
"""


def test_a_fresh_process_opens_the_bundle_and_gives_the_same_bits(tmp_path: Path) -> None:
    """All toys in one process, as starting one costs more than all of them."""
    ask: dict[str, Sequence[Any]] = {}
    wanted = {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for toy in TOYS:
        it = trained(str(toy))
        folder, inputs = str(tmp_path / str(toy)), [e.input for e in it.test]
        it.journey.model.save(folder)
        ask[folder] = inputs
        digest = hashlib.sha256(it.journey.model.outputs(inputs).tobytes()).hexdigest()
        wanted[folder] = [digest, [r.model_dump_json() for r in it.journey.model.predict(inputs)]]
    torch.set_num_threads(before)
    done = subprocess.run([sys.executable, "-c", OTHER_PROCESS], input=json.dumps(ask), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == wanted


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_the_task_is_deterministic(toy: Toy) -> None:
    """Fitted twice on the same rows: the same files and the same first weights."""
    rows, config = toy.make(40, 0), config_of(toy)
    one, two = (registry.get("task", toy.task).fit(rows, config, lambda _: None) for _ in range(2))
    assert one.files() == two.files()
    first, second = one.network(3).state_dict(), two.network(3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = one.network(4).state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


# The checks are worth something: a task broken in one way fails one of them


def _broken(name: str, it: Trained) -> Trained:
    model = copy.deepcopy(it.journey.model)
    if name == "padding is read":
        right = type(model.network).forward
        model.network.forward = lambda x, n, noise=None: right(model.network, x, torch.full_like(n, x.shape[1]), noise)
    if name == "dropout is left on":
        right_forward = type(model.network).forward
        model.network.forward = lambda x, n, noise=None: right_forward(model.network, x, n, noise or Noise(0, len(x)))
    if name == "answers are shuffled":
        right_outputs = model.network.forward
        model.network.forward = lambda x, n, noise=None: right_outputs(x, n, noise).flip(1)
    if name == "only the prompt's end is read":
        step = model.task.step
        model.task.step = lambda network: lambda ids, state: step(network)(ids[:, -1:], state)
    if name == "no state is handed on while writing":
        step = model.task.step
        model.task.step = lambda network: lambda ids, state: step(network)(ids, None)
    if name == "no state is carried while learning":
        learn = model.task.learn
        model.task.learn = lambda network, batch, noise, carry: learn(network, batch, noise, {})
    journey = copy.copy(it.journey)
    journey.model = model
    return Trained(it.toy, journey, it.test)


@pytest.mark.parametrize(
    "fault",
    [
        "padding is read",
        "dropout is left on",
        "answers are shuffled",
        "only the prompt's end is read",
        "no state is handed on while writing",
        "no state is carried while learning",
    ],
)
def test_a_broken_task_fails_a_check(fault: str) -> None:
    of_streams = "prompt" in fault or "state" in fault
    broken, failed = _broken(fault, trained("generate-echoes" if of_streams else "classify-order")), []
    for check in STREAM_CHECKS if of_streams else CHECKS:
        try:
            check(broken)
        except AssertionError:
            failed.append(check.__name__)
    wanted = {
        "padding is read": "check_padding_is_irrelevant",
        "dropout is left on": "check_the_batch_is_irrelevant",
        "answers are shuffled": "check_it_beats_the_dummy",
        "only the prompt's end is read": "check_the_whole_prompt_is_read",
        "no state is handed on while writing": "check_reading_is_one_text",
        "no state is carried while learning": "check_windows_are_one_text",
    }
    assert wanted[fault] in failed
