"""Translators: a search that scores what the network says, settings that do something, bad pairs, the same bits."""

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
from echoic.core.config import Config, describe
from echoic.core.errors import BundleError, ConfigError, DataError, UsageError
from echoic.core.types import EMPTY, PAD, UNKNOWN, Example
from echoic.decode import beam
from echoic.facts import translate
from echoic.kernels import native
from echoic.layers.dropout import Noise
from echoic.layers.seq2seq import parted, take
from echoic.model import load
from echoic.tasks.translate import NO_USE, STEP_BY_STEP, Options, Translate

pytestmark = pytest.mark.usefixtures("unsynced")

WORDS = {"ein": "a", "Mann": "man", "Hund": "dog", "sieht": "sees", "den": "the", "Ball": "ball", "rot": "red"}
BASE = (
    "task.kind=translate",
    "text.tokenizer=words",
    "text.min_count=1",
    "model.hidden=7",
    "model.embedding=6",
    "model.dropout_words=0.1",
    "train.epochs=2",
    "train.batch_size=8",
    "train.lr=0.02",
    "threads=1",
)


def pairs(rows: int, seed: int) -> list[Example]:
    """The words in reverse order, each translated."""
    draws = np.random.default_rng(seed)
    chosen = [draws.choice(list(WORDS), int(draws.integers(2, 6))).tolist() for _ in range(rows)]
    return [
        Example(" ".join(words), " ".join(WORDS[w] for w in reversed(words)), None, i)
        for i, words in enumerate(chosen, 1)
    ]


TRAIN, VALID = pairs(40, 0), pairs(12, 1)


def config(*settings: str) -> Config:
    return Config().override([*BASE, *settings])


def fit(*settings: str, **how: Any) -> pipeline.Journey:
    return pipeline.fit(TRAIN, VALID, config(*settings), **how)


@cache
def fitted(*settings: str) -> pipeline.Journey:
    return fit(*settings)


def bits(network: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


KINDS = [
    (),
    ("task.attention=additive", "model.cell.kind=gru"),
    ("task.attention=none", "task.tied=false"),
    ("task.vocabulary=separate", "model.layers=2", "model.bidirectional=false"),
    ("task.input_feeding=true", "model.variational=0"),
    ("task.copying=true", "task.coverage=1", "task.sampled=0.5"),
]


@pytest.mark.parametrize("settings", KINDS, ids=" ".join)
def test_what_is_found_has_the_score_that_the_network_gives_it(settings: tuple[str, ...]) -> None:
    """The steps of the search and the decoder's whole pass are one computation; a batch is one by one."""
    model = fitted(*settings).model
    task: Translate = model.task
    sources = task.text.encode([e.input for e in VALID])
    limits, how = np.full(len(VALID), 9), beam.Search(3, forbidden=(PAD, UNKNOWN))
    found = beam.search(task.step(model.network), take, task.begin(model.network, sources), limits, how)
    between = [EMPTY]
    for source, each in zip(sources, found, strict=True):
        rows = [[*source, *between, *one.ids, *between] for one in each]
        for row, one in zip(rows, each, strict=True):
            with torch.inference_mode():
                nats, tokens, _ = model.network(torch.tensor([row]), torch.tensor([len(row)]))[0].tolist()
            assert tokens == len(one.ids) + 1
            assert one.log_p == pytest.approx(-nats, abs=1e-4)
    (alone,) = beam.search(task.step(model.network), take, task.begin(model.network, sources[3:4]), limits[:1], how)
    assert [one.ids for one in alone] == [one.ids for one in found[3]]


@pytest.mark.parametrize("settings", KINDS[:2], ids=" ".join)
def test_attention_is_a_distribution_over_the_source_alone(settings: tuple[str, ...]) -> None:
    model = fitted(*settings).model
    batch = model.task.collate(model.task.encode(VALID), np.arange(len(VALID)))
    sources, lengths, targets, _, predicted = parted(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))
    with torch.inference_mode():
        _, weights = model.network.decode(model.network.read(sources, lengths), targets, predicted)
    assert weights is not None
    torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[:2]))
    for row, length in zip(weights, lengths.tolist(), strict=True):
        assert (row[:, length:] == 0).all()
        assert (row[:, :length] > 0).all()


def test_pairs_are_parted_where_the_target_begins() -> None:
    rows = torch.tensor([[5, 6, 2, 7, 2], [2, 2, 8, 9, 2], [4, 3, 4, 3, 0]])
    sources, sizes, said, wanted, predicted = parted(rows, torch.tensor([5, 5, 4]))
    assert sizes.tolist() == [2, 1, 4]
    assert sources.tolist() == [[5, 6, 0, 0], [2, 0, 0, 0], [4, 3, 4, 3]]
    assert predicted.tolist() == [2, 3, 0]
    assert said.tolist() == [[2, 7, 0], [2, 8, 9], [0, 0, 0]]
    assert wanted.tolist() == [[7, 2, 0], [8, 9, 2], [0, 0, 0]]


def test_the_loss_that_is_learned_is_the_one_that_is_scored() -> None:
    """Without noise and smoothing."""
    journey = fitted("train.label_smoothing=0")
    task, network = journey.model.task, journey.model.network
    batch = task.collate(task.encode(VALID), np.arange(len(VALID)))
    total, count = task.learn(network, batch, None, {})
    outputs = network(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))
    wanted, tokens = task.loss(outputs, batch)
    assert count == tokens == sum(len(str(e.target).split()) + 1 for e in VALID)
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_copying_mixes_what_is_written_with_what_is_read() -> None:
    """p(w) = g softmax_w + (1 - g) (attention on the places where w stands), by hand, and it is a distribution."""
    journey = fitted(*KINDS[5])
    network = journey.model.network
    draws = torch.Generator().manual_seed(0)
    states = torch.randn(3, network.join.in_features, generator=draws)
    weights = torch.rand(3, 4, generator=draws).softmax(1)
    sources = torch.tensor([[5, 6, 5, 0], [4, 4, 4, 4], [7, 8, 9, 3]])
    with torch.inference_mode():
        found = network.logits(states, weights, sources).exp()
        torch.testing.assert_close(found.sum(1), torch.ones(3))
        gate = network.copy(states).sigmoid()[:, 0]
        plain = network.logits(states, None, sources).softmax(1)
    for i in range(3):
        for token in range(len(network.bias)):
            copied = sum(float(weights[i, j]) for j in range(4) if sources[i, j] == token)
            wanted = float(gate[i] * plain[i, token] + (1 - gate[i]) * copied)
            assert float(found[i, token]) == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_coverage_costs_what_is_attended_to_again() -> None:
    """The loss with it, less the loss without, is the sum of min(a, what it had before), by hand."""
    journey = fitted()
    task, network = journey.model.task, journey.model.network
    batch = task.collate(task.encode(VALID), np.arange(len(VALID)))
    paying = dataclasses.replace(task, options=task.options.model_copy(update={"coverage": 3.0}))
    (dear, count), (cheap, _) = (each.learn(network, batch, None, {}) for each in (paying, task))
    sources, lengths, targets, _, predicted = parted(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))
    with torch.inference_mode():
        _, weights = network.decode(network.read(sources, lengths), targets, predicted)
    wanted = 0.0
    for row, steps in zip(weights, predicted.tolist(), strict=True):
        seen = torch.zeros(row.shape[1])
        for a in row[:steps]:
            wanted += float(torch.minimum(a, seen).sum())
            seen += a
    assert wanted > count / 10
    assert float((dear - cheap).detach()) == pytest.approx(3 * wanted, rel=1e-3)


def test_some_of_what_is_read_is_its_own_guesses() -> None:
    """All of it in the end, none at first; a beginning, an end and padding stay."""
    journey = fitted("task.sampled=1", "train.epochs=20")
    task, network = journey.model.task, journey.model.network
    batch = task.collate(task.encode(VALID), np.arange(len(VALID)))
    sources, lengths, targets, _, predicted = parted(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))
    memory = network.read(sources, lengths)
    none = network.guessed(memory, targets, predicted, Noise(0, 0), 0.0)
    assert torch.equal(none, targets)
    every = network.guessed(memory, targets, predicted, Noise(0, 1), 1.0)
    with torch.inference_mode():
        states, _ = network.decode(memory, targets, predicted)
        guesses = network.logits(states, None, memory.sources).argmax(2)
    assert not torch.equal(every, targets)
    for row, size in enumerate(predicted.tolist()):
        assert every[row, 0] == EMPTY
        assert (every[row, size:] == PAD).all()
        for step in range(1, size):
            guess = int(guesses[row, step - 1])
            assert int(every[row, step]) == (guess if guess > EMPTY else int(targets[row, step]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("task.copying=true", "task.attention=none"), "task.copying: there is no attention"),
        (("task.coverage=1", "task.attention=none"), "task.coverage: there is no attention"),
        (("task.copying=true", "task.vocabulary=separate"), "task.vocabulary = joint"),
        (("model.layers=0",), "a translator without a recurrence"),
        (("task.sampled=2",), "task.sampled|/task/sampled|sampled"),
    ],
)
def test_options_that_do_not_go_together(settings: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        fit(*settings)


def test_the_search_takes_its_options() -> None:
    model = fitted().model
    texts = [e.input for e in VALID]
    greedy, wide = model.predict(texts, beam_size=1), model.predict(texts, beam_size=8, n_best=3)
    assert all(r.translations is None and r.scores is None for r in greedy)
    for record in wide:
        assert record.translations is not None
        assert len(record.translations) == 3
        assert record.translation == record.translations[0]
        assert record.scores == sorted(record.scores, reverse=True)
    sums = [sum(r.score for r in model.predict(texts, beam_size=k, length_penalty=0.0)) for k in (1, 8)]
    assert sums[0] <= sums[1]
    begun = model.predict(texts, prefix="the dog")
    assert all(r.translation.startswith("the dog") for r in begun)
    short = model.predict(texts, max_ratio=0.5)
    assert all(len(r.translation.split()) <= 3 for r in short)
    once = model.predict(texts, no_repeat=1)
    assert all(len(set(r.translation.split())) == len(r.translation.split()) for r in once)
    drawn = [model.predict(texts, temperature=1.5, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert model.predict(texts, coverage_penalty=5.0) != model.predict(texts)
    with pytest.raises(UsageError, match="no attention"):
        fitted(*KINDS[2]).model.predict(texts, coverage_penalty=1.0)
    for wrong in ({"beam_size": 0}, {"n_best": 0}, {"max_ratio": -1.0}, {"length_penalty": -1.0}):
        with pytest.raises(UsageError, match="wants a number"):
            model.predict(texts, **wrong)
    for useless in ({"n_best": 2}, {"coverage_penalty": 1.0}):
        with pytest.raises(UsageError, match="with a temperature one answer is drawn"):
            model.predict(texts, temperature=1.0, **useless)


# Bad input


def test_an_empty_text_is_an_empty_translation() -> None:
    first, second, _ = fitted().model.predict(["", "  ", "ein Hund"])
    assert first.translation == second.translation == ""


def test_a_source_of_5000_tokens_is_refused_by_its_number() -> None:
    with pytest.raises(DataError, match=r"text 2: 5,000 tokens, and this model reads 256 \(text.max_tokens\)"):
        fitted().model.predict(["ein Hund", "Hund " * 5000])


def test_a_long_pair_is_cut_in_training_and_counted() -> None:
    said: list[str] = []
    long = Example("Hund " * 300, "dog " * 300, None, 1)
    pipeline.fit([*TRAIN, long], VALID, config("train.epochs=1"), said=said.append)
    assert any("2 training texts were cut to 256 tokens" in each for each in said)


def test_where_a_target_was_cut_is_no_end() -> None:
    task = fitted().model.task
    short, long = task.encode([Example("Hund", "dog", None, 1), Example("Hund", "dog " * 300, None, 2)]).rows
    assert short.tolist()[-1] == EMPTY
    assert len(long) == 2 + 256
    assert long[2:].min() > EMPTY
    targets = task.encode([Example("Hund", "dog " * 300, None, 1)]).targets
    assert targets is not None
    assert targets.tolist() == [256]


def test_pairs_to_score_are_cut_as_those_of_training() -> None:
    model, long = fitted().model, Example("Hund " * 300, "dog " * 300, None, 1)
    scores = translate.evaluate(model, [long, *VALID])
    assert scores["translated"] == 1 + len(VALID)
    assert scores["cut"] == {"texts": 2, "tokens": 88, "kept": 256}
    assert "2 texts were cut to 256 tokens (text.max_tokens), as in training" in translate.remarks(scores)
    assert "cut" not in translate.evaluate(model, VALID)


def test_numbers_that_are_none_are_no_translation() -> None:
    model = fit().model
    with torch.no_grad():
        model.network.bias[-1] = float("nan")
    for more in ({}, {"temperature": 1.0}):
        with pytest.raises(DataError, match="the model's answers are no numbers"):
            model.predict(["ein Hund"], **more)


def test_an_untrained_script_is_named() -> None:
    record, known = fitted().model.predict(["狗看见 Hund", "ein Hund"])
    assert record.unseen == "狗看见"
    assert known.unseen is None


@pytest.mark.parametrize(
    ("source", "target", "side"), [("ein", "", "target"), (" ", "a", "source"), ("ein", None, "target")]
)
def test_an_empty_side_is_refused_by_its_row(source: str, target: str | None, side: str) -> None:
    with pytest.raises(DataError, match=f"row 41: the {side} is empty"):
        pipeline.fit([*TRAIN, Example(source, target, None, 41)], VALID, config())


# Settings


@pytest.mark.parametrize("key", NO_USE)
def test_a_setting_without_use_is_refused(key: str) -> None:
    default, _ = describe()[key]
    other = {
        bool: "false" if default else "true",
        int: "7",
        float: "0.3",
        str: "dot",
        type(None): "x",
        tuple: '["a","b"]',
    }[type(default)]
    other = {
        "model.pool": "mean",
        "model.segment": "64",
        "train.class_weights": "balanced",
        "train.augment": "swap",
        "model.attention": "dot",
        "model.ngrams": "true",
    }.get(key, other)
    with pytest.raises(ConfigError, match=f"{key} = .*says nothing to a translator"):
        fit(f"{key}={other}")


@pytest.mark.parametrize("key", STEP_BY_STEP)
def test_noise_of_all_steps_does_not_go_with_input_feeding(key: str) -> None:
    value = "true" if key.endswith("norm") else "0.1"
    off = [f"{each}={'false' if each.endswith('norm') else 0}" for each in STEP_BY_STEP if each != key]
    with pytest.raises(ConfigError, match=f"{key} = .*input_feeding"):
        fit("task.input_feeding=true", *off, f"{key}={value}")


def test_input_feeding_has_no_dropout_between_layers_above() -> None:
    with pytest.raises(ConfigError, match=r"model.dropout_layers = 0.3: not with task.input_feeding"):
        fit("task.input_feeding=true", "model.variational=0", "model.layers=2", "model.dropout_layers=0.3")


@pytest.mark.parametrize(
    "setting",
    [
        "task.attention=additive", "task.attention=none", "task.vocabulary=separate", "task.tied=false",
        "model.variational=0", "model.dropout_words=0.3", "model.dropout_embedding=0", "model.dropout_layers=0",
        "model.dropout_output=0", "train.label_smoothing=0", "model.bidirectional=false", "model.layers=2",
        "text.lowercase=true", "text.max_tokens=3", "task.copying=true", "task.coverage=1", "task.sampled=1",
    ],
)  # fmt: skip
def test_every_setting_changes_something(setting: str) -> None:
    def everything(journey: pipeline.Journey) -> Any:
        return journey.model.task.files(), bits(journey.model.network)

    assert everything(fitted("train.epochs=1")) != everything(fit("train.epochs=1", setting))


@pytest.mark.skipif(not native.has_bfloat16(), reason="this processor does not multiply bfloat16")
def test_bfloat16_trains_and_answers_in_float32() -> None:
    journey = fit("train.bfloat16=true")
    assert bits(journey.model.network) != bits(fitted().model.network)
    assert all(each.dtype == torch.float32 for each in journey.model.network.state_dict().values())
    assert len(journey.model.predict(["ein Hund"])) == 1


def test_every_option_is_tried() -> None:
    tried = {s.partition("=")[0].removeprefix("task.") for kind in KINDS for s in kind if s.startswith("task.")}
    assert set(Options.model_fields) == tried


def test_input_feeding_says_that_it_is_slow() -> None:
    said: list[str] = []
    Translate.fit(TRAIN, config("task.input_feeding=true", "model.variational=0"), said.append)
    assert any("step by step" in each for each in said)


@pytest.mark.parametrize(
    ("source", "target", "kinds"),
    [
        ("Ein Hund.", "A dog.", ["bpe"]),
        ("A dog.", "一只狗。", ["bpe", "codepoints"]),
        ("狗叫了。", "Hund", ["codepoints", "bpe"]),
    ],
)
def test_auto_looks_at_both_sides(source: str, target: str, kinds: list[str]) -> None:
    task = Translate.fit([Example(source, target, None, 1)] * 3, config("text.tokenizer=auto"))
    assert [p.kind for p in (task.text, task.own) if p is not None] == kinds
    assert task.written.decode(task.written.encode([target])[0]) == target


def test_one_mask_holds_for_all_steps() -> None:
    """Variational dropout: the same rows, the same step, the same draw."""
    network = fitted().model.network
    rows, lengths = torch.tensor([[5, 6, 2, 7, 2]]), torch.tensor([5])
    one, two, other = (network(rows, lengths, Noise(0, step)) for step in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


# Saved, killed, resumed


@pytest.mark.parametrize("settings", [KINDS[0], KINDS[3]], ids=" ".join)
def test_a_killed_run_ends_in_the_same_bits(settings: tuple[str, ...], tmp_path: Path) -> None:
    wanted = bits(fit(*settings).model.network)

    class Stop(Exception):
        pass

    class Watch(pipeline.Silent):
        def step(self, line: dict[str, Any]) -> None:
            if line["step"] == 7:
                raise Stop

    every = (*settings, "train.checkpoint_seconds=0")
    with pytest.raises(Stop):
        fit(*every, run=tmp_path, watch=Watch())
    assert bits(fit(*every, run=tmp_path, resume=True).model.network) == wanted


@pytest.mark.parametrize("settings", [KINDS[0], KINDS[3]], ids=" ".join)
def test_a_bundle_answers_as_the_model_did(settings: tuple[str, ...], tmp_path: Path) -> None:
    model = fitted(*settings).model
    model.save(tmp_path / "m")
    assert load(tmp_path / "m").predict(["ein Hund sieht"], n_best=2) == model.predict(["ein Hund sieht"], n_best=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ratio": 0}, "ratio"),
        ({"alphabet": None, "ratio": "x"}, "not what echoic wrote"),
        ({"joint": False}, "tokenizer.json: missing"),
    ],
)
def test_damaged_settings_are_named(change: dict[str, Any], says: str) -> None:
    task: Translate = fitted().model.task
    files = task.files()
    files["translate.json"] = json.dumps({**json.loads(files["translate.json"]), **change}).encode()
    with pytest.raises(BundleError, match=says):
        Translate.from_files(files, task.config)
    del files["translate.json"]
    with pytest.raises(BundleError, match="missing"):
        Translate.from_files(files, task.config)


def test_a_network_of_another_vocabulary_is_refused() -> None:
    model = fitted().model
    tensors = dict(model.network.state_dict()) | {"embed.weight": torch.zeros(4, 6)}
    with pytest.raises(BundleError, match="4 rows, but"):
        model.task.restore(tensors)
