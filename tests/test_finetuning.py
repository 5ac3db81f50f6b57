"""Fine-tuning: what a classifier takes from a language model, what is refused, and going on where it stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli.commands import process, sentences, write_csv
from echoic import finetuning, pipeline, transplant
from echoic.core import bundle
from echoic.core.config import Config
from echoic.core.errors import BundleError, CannotCreate, ConfigError, DataError, InputMissing, UsageError
from echoic.core.types import SPECIALS, Example
from echoic.model import Model, load
from echoic.train.loop import Interrupted
from echoic.train.progress import Silent

pytestmark = pytest.mark.usefixtures("unsynced")

LANGUAGE = Config.parse(
    {
        "task": {"kind": "generate", "bptt": 12},
        "text": {"tokenizer": "words", "min_count": 1},
        "model": {"hidden": 6, "embedding": 5, "layers": 2},
        "train": {"epochs": 1, "batch_size": 8, "checkpoint_seconds": 0},
    }
)
SMALL = Config.parse(
    {
        "model": {"ngrams": False},
        "text": {"min_count": 1},
        "train": {"epochs": 3, "batch_size": 16, "checkpoint_seconds": 0},
    }
)


def language_model(config: Config = LANGUAGE, texts: list[str] | None = None) -> Model:
    examples = [Example(text) for text in texts or [text for _, text in sentences(40, 9)]]
    return pipeline.fit(examples, examples[:4], config).model


@pytest.fixture(scope="module")
def base() -> Model:
    return language_model()


@pytest.fixture(scope="module")
def folder(base: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finetuning")
    base.save(path / "base")
    write_csv(path / "data.csv", sentences(60))
    write_csv(path / "test.csv", sentences(20, 5))
    (path / "texts.txt").write_text("".join(f"{text}\n" for _, text in sentences(60, 3)), encoding="utf-8")
    return path


def examples(count: int, seed: int = 0, more: str = "") -> list[Example]:
    return [Example(text + more, label, row=i + 1) for i, (label, text) in enumerate(sentences(count, seed))]


def fitted(base: Model, *settings: str, rows: int = 40, more: str = "") -> Model:
    config = transplant.settings(base, SMALL.override(settings))
    return pipeline.fit(examples(rows, more=more), examples(20, 1), config, base=base).model


# What is taken over


def test_a_base_that_reads_both_ways_gives_a_classifier_that_does() -> None:
    base = language_model(LANGUAGE.override(["model.layers=1", "model.bidirectional=true"]))
    config = transplant.settings(base, SMALL)
    text = transplant.text(base, ["the film"], config, lambda _: None)
    network = pipeline.registry.get("task", "classify").fit(examples(8), config, lambda _: None, text).network(0)
    transplant.weights(network, base)
    stack, x = network.stack, torch.randn(3, 7, 5)
    assert stack.directions == 2
    y = stack(x)[0]
    torch.testing.assert_close(y[..., :6], base.network.stack(x)[0])
    torch.testing.assert_close(y[..., 6:], base.network.behind(x.flip(1))[0].flip(1))
    with pytest.raises(ConfigError, match=r"model.bidirectional = False: the base has True"):
        transplant.settings(base, SMALL.override(["model.bidirectional=false"]))
    adapted = transplant.settings(base, Config.parse({"task": {"kind": "generate"}}))
    assert adapted.model.bidirectional


def test_the_classifier_reads_as_the_language_model_does(base: Model) -> None:
    config = transplant.settings(base, SMALL)
    text = transplant.text(base, ["the film"], config, lambda _: None)
    task = pipeline.registry.get("task", "classify").fit(examples(8), config, lambda _: None, text)
    network = task.network(0)
    transplant.weights(network, base)
    ids = task.text.encode(["the film was very good"])[0]
    np.testing.assert_array_equal(ids, base.task.text.encode(["the film was very good"])[0])
    rows, lengths = torch.from_numpy(ids[None].astype(np.int64)), torch.tensor([len(ids)])
    with torch.no_grad():
        wanted = base.network.read(rows, lengths, None, None)[0]
        torch.testing.assert_close(network.states(rows, lengths), wanted, atol=1e-6, rtol=0)
        assert not torch.equal(network.out.weight, base.network.out.weight[: len(network.out.weight)])


def test_new_tokens_come_behind_and_get_the_mean(base: Model) -> None:
    model = fitted(base, "train.unfreeze=0.9", "train.average=0", more=" zebra")
    known = len(base.task.text.vocabulary)
    assert model.task.text.vocabulary[:known] == base.task.text.vocabulary
    assert model.task.text.vocabulary[known:] == ["zebra"]
    table, given = model.network.embed.weight, base.network.embed.weight
    assert torch.equal(table[:known], given)
    torch.testing.assert_close(table[known], given[len(SPECIALS) :].mean(0))


def test_the_vocabulary_stops_at_max_vocab(base: Model) -> None:
    known = len(base.task.text.vocabulary)
    model = fitted(base, f"text.max_vocab={known}", more=" zebra")
    assert model.task.text.vocabulary == base.task.text.vocabulary


@pytest.mark.parametrize("tokenizer", ["chars", "codepoints", "bytes", "bpe", "spaced"])
def test_every_tokenizer_is_kept(tokenizer: str) -> None:
    settings = ["text.max_vocab=300", f"text.tokenizer={tokenizer}", "model.layers=1"]
    base = language_model(LANGUAGE.override(settings))
    model = fitted(base, more=" ž")
    assert model.task.text.kind == tokenizer
    assert model.task.text.vocabulary[: len(base.task.text.vocabulary)] == base.task.text.vocabulary
    if tokenizer in ("bytes", "bpe"):
        assert model.task.text.vocabulary == base.task.text.vocabulary
    else:
        assert "ž" in model.task.text.vocabulary


def test_a_frozen_layer_stays_and_a_lower_one_learns_less(base: Model) -> None:
    """Layers from the bottom up: embedding, two recurrent layers."""

    def moved(*settings: str) -> list[float]:
        own = fitted(base, "train.average=0", *settings).network.state_dict()
        names = ("embed.weight", "stack.cells.0.weight_hh", "stack.cells.1.weight_hh")
        given = base.network.state_dict()
        return [float((own[name][: len(given[name])] - given[name]).abs().sum()) for name in names]

    assert moved("train.unfreeze=0.99") == [0.0, 0.0, 0.0]
    low, middle, top = moved("train.unfreeze=0.35", "train.layer_rate=1")
    assert low == 0.0
    assert 0.0 < middle < top
    even, uneven = (moved("train.unfreeze=0", f"train.layer_rate={rate}") for rate in (1, 4))
    assert uneven[0] / uneven[2] < 0.5 * even[0] / even[2]


def test_a_language_model_goes_on_as_one(base: Model) -> None:
    """More epochs with the same text from the weights of a base: the loss begins lower than from nothing."""
    texts = examples(40, 9)
    config = transplant.settings(base, LANGUAGE.override(["train.lr=1e-6"]))
    after = pipeline.fit([Example(e.input) for e in texts], [Example(e.input) for e in texts[:4]], config, base=base)
    given = base.network.state_dict()
    for name, tensor in after.model.network.state_dict().items():
        torch.testing.assert_close(tensor, given[name], atol=1e-3, rtol=0)


def test_an_adaptive_softmax_grows_in_its_last_cluster() -> None:
    config = LANGUAGE.override(["task.cutoffs=[6,12]", "task.tied=true", "train.average=0"])
    base = language_model(config)
    settings = transplant.settings(base, LANGUAGE.override(["train.lr=1e-9", "train.average=0"]))
    assert (settings.task.options["cutoffs"], settings.task.options["tied"]) == ([6, 12], True)
    texts = [Example(e.input) for e in examples(40, 9, more=" zebra")]
    after = pipeline.fit(texts, texts[:4], settings, base=base).model.network
    assert len(after.bias) == len(base.network.bias) + 1
    torch.testing.assert_close(after.bias[-1], base.network.bias[len(SPECIALS) :].mean(), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.clusters.weight, base.network.clusters.weight, atol=1e-5, rtol=0)


def test_an_adaptive_softmax_that_gains_a_cluster_draws_it() -> None:
    base = language_model(LANGUAGE.override(["task.tied=true", "task.cutoffs=[6,30]"]))
    known = len(base.task.text.vocabulary)
    assert 6 < known < 30
    assert len(base.network.clusters.weight) == 1
    settings = transplant.settings(base, LANGUAGE)
    texts = [Example(f"{e.input} w{i}") for i, e in enumerate(examples(40, 9))]
    after = pipeline.fit(texts, texts[:4], settings, base=base).model.network
    assert len(after.clusters.weight) == 2
    assert all(t.isfinite().all() for t in after.state_dict().values())


# What is refused


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.hidden=9", r"model.hidden = 9: the base has 6, and its structure is kept; leave it out"),
        ("model.layers=1", "the base has 2"),
        ("model.cell.kind=gru", "model.cell"),
        ("model.bidirectional=true", "model.bidirectional"),
        ("text.tokenizer=bpe", "text.tokenizer = bpe: the base has words, and its tokenizer is kept"),
        ("text.lowercase=true", "text.lowercase"),
        ("text.vectors=x.txt", "vectors of its own"),
    ],
)
def test_a_setting_against_the_base_is_refused(base: Model, setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        transplant.settings(base, SMALL.override([setting]))


def test_what_the_base_has_may_be_named(base: Model) -> None:
    named = SMALL.override(["model.hidden=6", "model.cell.kind=lstm", "text.tokenizer=auto", "text.lowercase=false"])
    assert transplant.settings(base, named).text.tokenizer == "auto"
    settings = transplant.settings(base, SMALL)
    assert (settings.model.hidden, settings.model.layers, settings.model.bidirectional) == (6, 2, False)
    assert (settings.model.pool, settings.train.layer_rate) == ("concat", 1.3)
    assert transplant.settings(base, SMALL.override(["model.pool=max"])).model.pool == "max"


def test_a_base_of_another_language_is_refused(base: Model) -> None:
    chinese = [Example(text, label) for label, text in [("好", "这部电影很好看"), ("坏", "太差了不要看")] * 8]
    with pytest.raises(DataError, match="of the tokens are unknown to the base: the base is of another language"):
        pipeline.fit(chinese, chinese[:4], transplant.settings(base, SMALL), base=base)
    pieces = language_model(LANGUAGE.override(["text.max_vocab=300", "text.tokenizer=bpe"]))
    with pytest.raises(DataError, match="spells them byte by byte"):
        pipeline.fit(chinese, chinese[:4], transplant.settings(pieces, SMALL), base=pieces)


def test_only_a_language_model_is_a_base(base: Model) -> None:
    with pytest.raises(UsageError, match="the base does classify"):
        transplant.settings(fitted(base), SMALL)


def test_a_base_of_a_newer_format_is_refused(folder: Path, tmp_path: Path) -> None:
    opened = bundle.read(folder / "base", "bundle")
    bundle.write(tmp_path / "newer", "bundle", opened.about, opened.files)
    manifest = json.loads((tmp_path / "newer" / "manifest.json").read_text())
    (tmp_path / "newer" / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(BundleError, match="install a newer echoic"):
        finetuning.finetune(folder / "data.csv", tmp_path / "run", base=tmp_path / "newer")


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({}, UsageError, "give BASE, or --unlabelled FILE"),
        ({"base": "base", "test": "test.csv"}, UsageError, "--unlabelled"),
        ({"base": "base", "config": LANGUAGE}, UsageError, "not generate"),
        ({"unlabelled": "texts.txt", "language": SMALL.override(["task.kind=classify"])}, ConfigError, "generate"),
        ({"base": "base", "resume": True}, CannotCreate, "no run to resume"),
        ({"unlabelled": "-"}, UsageError, "stdin"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, tmp_path: Path, how: dict[str, Any], error: type[Exception], said: str
) -> None:
    placed = {k: folder / v if isinstance(v, str) and v != "-" else v for k, v in how.items()}
    with pytest.raises(error, match=said):
        finetuning.finetune(folder / "data.csv", tmp_path / "run", **placed)


# Texts without labels


def test_texts_of_the_evaluation_sets_are_left_out(folder: Path, tmp_path: Path) -> None:
    parts, _ = pipeline.read_parts(folder / "data.csv", None, SMALL)
    leaks = [parts["valid"][0].input.upper(), "  ".join(parts["valid"][1].input.split()), sentences(20, 5)[3][1]]
    (tmp_path / "texts.txt").write_text("\n".join([*leaks, "a wholly new text", "another one", "", "another one"]))
    said: list[str] = []
    sources = {"labelled": folder / "data.csv", "valid": None, "test": folder / "test.csv"}
    read, tables = finetuning.read_texts(
        tmp_path / "texts.txt", None, LANGUAGE, said.append, labelled=SMALL, sources=sources
    )
    texts = [e.input for part in read.values() for e in part]
    held = {e.input.casefold() for e in parts["valid"]} | {text for _, text in sentences(20, 5)}
    assert {" ".join(text.casefold().split()) for text in texts}.isdisjoint(held)
    assert sorted(texts) == sorted({"a wholly new text", "another one"} | {e.input for e in parts["train"]} - held)
    assert any(note.startswith("3 of 7 texts stand in the validation part or the test file") for note in said)
    assert tables.keys() == {"train", "labelled", "test", finetuning.APART}
    assert all(e.target is None for part in read.values() for e in part)


def run(folder: Path, out: Path, watch: Any = None, **how: Any) -> dict[str, Any]:
    how = {"base": folder / "base", "unlabelled": folder / "texts.txt", "language": SHORT} | how
    return finetuning.finetune(folder / "data.csv", out, how.pop("config", SMALL), watch=watch or Silent(), **how)


SHORT = Config.parse({"task": {"kind": "generate"}, "train": {"epochs": 2, "batch_size": 8, "checkpoint_seconds": 0}})


class Stops(Silent):
    """Presses Ctrl-C after the given step, counted over both stages."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self, line: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def answers(out: Path) -> dict[str, bytes]:
    return {
        stage: bundle.read(out / stage, "bundle").files["model.safetensors"] for stage in ("language/bundle", "bundle")
    }


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    out = folder / "whole"
    durable_free = finetuning.finetune(
        folder / "data.csv", out, SMALL, base=folder / "base", unlabelled=folder / "texts.txt", language=SHORT
    )
    assert durable_free["task"] == "classify"
    return out


def test_stopped_in_either_stage_it_ends_in_the_same_bits(folder: Path, whole: Path, tmp_path: Path) -> None:
    read = [json.loads(line)["kind"] for line in (whole / "language" / "metrics.jsonl").read_text().splitlines()]
    reading = read.count("step")
    out = tmp_path / "run"
    for stop in (2, reading, 4):
        with pytest.raises(Interrupted, match="the same command with --resume goes on"):
            run(folder, out, Stops(stop), resume=stop != 2)
    run(folder, out, resume=True)
    assert answers(out) == answers(whole)
    before = answers(out)
    run(folder, out, resume=True)
    assert answers(out) == before


def test_the_classifier_learns_from_the_texts_too_but_not_from_those_of_the_test_file(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("one text of the test\na wholly new text\nanother one\n")
    (tmp_path / "test.txt").write_text("One  text of the TEST\n")
    said: list[str] = []
    finetuning.finetune(
        folder / "data.csv",
        tmp_path / "run",
        SMALL.override(["train.virtual=1.0"]),
        unlabelled=tmp_path / "texts.txt",
        test=tmp_path / "test.txt",
        language=SHORT,
        said=said.append,
    )
    assert "2 of 3 unlabelled texts are new, and learned from" in said


def test_a_run_that_stands_there_is_kept(folder: Path, whole: Path) -> None:
    with pytest.raises(CannotCreate, match="--resume goes on with it, --force starts over"):
        run(folder, whole)


def test_a_run_goes_on_with_its_own_base_and_files_only(folder: Path, whole: Path, tmp_path: Path) -> None:
    other = language_model(LANGUAGE.override(["seed=1"]))
    other.save(tmp_path / "other")
    with pytest.raises(ConfigError, match="other base than"):
        run(folder, whole, resume=True, base=tmp_path / "other")
    (tmp_path / "more.txt").write_text("one more text\nand another\n")
    with pytest.raises(ConfigError, match="other data than"):
        run(folder, whole, resume=True, unlabelled=tmp_path / "more.txt")
    with pytest.raises(ConfigError, match="other data than"):  # which it has read some of
        run(folder, whole, resume=True, config=SMALL.override(["data.valid_fraction=0.4"]))
    with pytest.raises(ConfigError, match="other settings than"):
        run(folder, whole, resume=True, language=SHORT.override(["train.lr=0.5"]))
    with pytest.raises(ConfigError, match="base was"):
        finetuning.finetune(folder / "data.csv", whole, SMALL, base=folder / "base", resume=True)


def test_the_bundle_says_where_it_came_from_and_answers_alike_in_a_fresh_process(folder: Path, whole: Path) -> None:
    model, language = load(whole), load(whole / "language")
    assert model.about["base"] == transplant.digest(language)
    assert language.about["base"] == transplant.digest(load(folder / "base"))
    assert model.about["base"] in (whole / "report.html").read_text(encoding="utf-8")
    text = "the film was good"
    answer = json.loads(process("predict", whole, text, "--json").stdout)["predictions"][0]
    (here,) = model.predict([text])
    assert answer["probabilities"] == pytest.approx(here.probabilities, abs=1e-6)


def test_it_learns_more_from_few_labels_than_from_nothing(tmp_path: Path) -> None:
    """Synonyms that stand in the same places: a language model knows what the labels do not show."""
    draw = random.Random(0)
    good, bad = [f"g{i}" for i in range(12)], [f"b{i}" for i in range(12)]

    def text(words: list[str]) -> str:
        return " ".join(["it", "was", *draw.sample(words, 4), "really"])

    unlabelled = [Example(text(words)) for _ in range(400) for words in (good, bad)]
    config = LANGUAGE.override(["model.layers=1", "model.hidden=24", "model.embedding=16", "train.epochs=4"])
    base = pipeline.fit(unlabelled[40:], unlabelled[:40], config).model
    train = [Example(text(words[:4]), label) for _ in range(8) for words, label in ((good, "good"), (bad, "bad"))]
    test = [Example(text(words[6:]), label) for _ in range(30) for words, label in ((good, "good"), (bad, "bad"))]
    plain = Config.parse({"model": {"ngrams": False}, "text": {"min_count": 1}, "train": {"updates": 60}})

    def accuracy(base: Model | None) -> float:
        settings = plain if base is None else transplant.settings(base, plain)
        model = pipeline.fit(train, train, settings, base=base).model
        return float(pipeline.evaluate(model, test)["accuracy"])

    assert accuracy(base) > 0.9 > accuracy(None)


def test_force_removes_nothing_before_its_files_were_read(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for wrong in ({"base": tmp_path / "no-such-base"}, {"unlabelled": tmp_path / "none.txt"}):
        with pytest.raises(InputMissing):
            run(folder, out, force=True, **wrong)
        assert answers(out) == answers(whole)
        assert (out / "language" / "bundle").is_dir()


def test_force_removes_runs_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "language").mkdir(parents=True)
    (tmp_path / "mine" / "language" / "notes.txt").write_text("mine")
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(CannotCreate, match=r"exists already|holds other things than a run"):
            run(folder, tmp_path / "mine", force=force)
    (tmp_path / "mine" / "letter.txt").unlink()
    with pytest.raises(CannotCreate, match="holds other things than a run"):
        run(folder, tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "language" / "notes.txt").read_text() == "mine"
