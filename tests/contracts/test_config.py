"""check_config: what ships loads, what is wrong is refused with a hint, and every field, when changed, changes something."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoic import pipeline
from echoic.core import registry
from echoic.core.config import Config, describe
from echoic.core.errors import ConfigError, EchoicError, InputMissing
from echoic.core.types import Example
from echoic.kernels import native
from echoic.read.tables import read_table
from echoic.transplant import recipe

# Loading and refusing


def test_the_defaults_go_through_toml_and_back(tmp_path: Path) -> None:
    Config().save(tmp_path / "config.toml")
    assert Config.load(tmp_path / "config.toml") == Config()
    stated = tomllib.loads((tmp_path / "config.toml").read_text())
    for key, (default, _) in describe().items():
        value: Any = stated
        for part in key.split("."):
            value = value.get(part) if value is not None else None
        assert value == (list(default) if isinstance(default, tuple) else default), f"{key} has no line"


def test_a_changed_configuration_goes_through_toml_and_back(tmp_path: Path) -> None:
    changed = Config().override(
        ["model.cell.kind=gru", "model.cell.reset=before", 'data.soft_labels=["a","乙"]', "train.lr=1"]
    )
    changed.save(tmp_path / "config.toml")
    assert Config.load(tmp_path / "config.toml") == changed != Config()


def test_every_shipped_configuration_loads() -> None:
    root = Path(__file__).parents[2]
    for folder in ("src", "examples", "benchmarks"):
        for path in root.joinpath(folder).rglob("*.toml"):
            if path.name != "finetune.toml":
                Config.load(path)
    for stage, task in (("classify", "classify"), ("language", "generate"), ("adapt", "generate")):
        Config.parse({"task": {"kind": task}}).with_defaults(recipe(stage))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("model.hiden=3", r"unknown key 'hiden' \(did you mean 'hidden'\?\)"),
        ("modle.hidden=3", r"unknown key 'modle' \(did you mean 'model'\?\)"),
        ("train.learning_rate=3", "unknown key 'learning_rate'"),
        ('model.hidden="64"', "/model/hidden.*number"),
        ("model.hidden=true", "/model/hidden.*number"),
        ("model.hidden=2.5", "/model/hidden"),
        ("model.hidden=0", "/model/hidden.*greater than or equal to 1"),
        ("train.lr=nan", "/train/lr.*finite"),
        ("model.pool=maximum", "/model/pool.*'max'"),
        ("model.cell.kind=lsmt", "no cell named 'lsmt'.*did you mean 'lstm'"),
        ("text.tokenizer=wrods", "no tokenizer named.*'words'"),
        ("task.kind=clasify", "no task named.*'classify'"),
        ("model=3", "/model"),
        ("seed=-1", "/seed"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_with_a_hint(settings: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Config().override([settings])
    assert "\n" not in str(caught.value)


def test_options_of_a_cell_or_task_are_refused_when_it_is_built() -> None:
    for setting, says in (("model.cell.peephol=true", "peephole"), ("task.severl=true", "several")):
        with pytest.raises(ConfigError, match=says):
            run((setting,))


def test_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        Config.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("model = [")
    with pytest.raises(ConfigError, match=r"broken\.toml: not TOML"):
        Config.load(tmp_path / "broken.toml")


# Every field changes something

BASE = (
    "model.hidden=4",
    "model.embedding=6",
    "model.segment=16",
    "text.min_count=1",
    "text.tokenizer=words",
    "train.epochs=2",
    "train.batch_size=8",
    "train.batch_tokens=4096",
    "train.average=0.5",
    "train.lr=0.01",
)
STUCK = ("train.lr=0.05", "train.epochs=4", "train.patience=0")
"""Nothing is learned, so no epoch gains on the first."""

CHANGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "text.tokenizer": ("chars", ()),
    "text.lowercase": ("false", ()),
    "text.max_vocab": ("8", ()),
    "text.min_count": ("4", ()),
    "text.max_tokens": ("3", ()),
    "text.vectors": ("VECTORS", ()),
    "text.vectors_trained": ("false", ("text.vectors=VECTORS",)),
    "model.cell.kind": ("gru", ()),
    "model.hidden": ("5", ()),
    "model.layers": ("2", ()),
    "model.bidirectional": ("false", ()),
    "model.embedding": ("5", ()),
    "model.pool": ("mean", ()),
    "model.attention": ("dot", ("model.pool=attention",)),
    "model.segment": ("8", ()),
    "model.dropout_words": ("0.4", ()),
    "model.dropout_embedding": ("0.1", ()),
    "model.dropout_layers": ("0.6", ("model.layers=2",)),
    "model.dropout_output": ("0.1", ()),
    "model.variational": ("0.3", ()),
    "model.candidate": ("0.3", ()),
    "model.zoneout": ("0.3", ()),
    "model.weight_drop": ("0.3", ()),
    "model.layer_norm": ("true", ()),
    "model.batch_norm": ("true", ()),
    "model.ngrams": ("false", ()),
    "model.ngram_order": ("1", ()),
    "model.ngram_size": ("5", ()),
    "train.updates": ("30", ("train.epochs=0", "train.updates=4")),
    "train.epochs": ("3", ()),
    "train.batch_size": ("5", ()),
    "train.batch_tokens": ("40", ()),
    "train.optimizer": ("sgd", ()),
    "train.lr": ("0.02", ()),
    "train.momentum": ("0.5", ()),
    "train.weight_decay": ("0.9", ()),
    "train.clip": ("0.001", ("train.optimizer=sgd",)),
    "train.schedule": ("constant", ()),
    "train.warmup": ("0.0", ()),
    "train.plateau_patience": ("0", ("train.schedule=plateau", *STUCK)),
    "train.patience": ("1", STUCK),
    "train.layer_rate": ("2.0", ()),
    "train.unfreeze": ("0.4", ()),
    "train.average": ("0.0", ()),
    "train.label_smoothing": ("0.3", ()),
    "train.adversarial": ("0.0", ()),
    "train.virtual": ("1.0", ()),
    "train.entropy": ("1.0", ()),
    "train.class_weights": ("balanced", ()),
    "train.augment": ("swap", ()),
    "train.augment_rate": ("0.6", ("train.augment=delete",)),
    "seed": ("1", ()),
}
"""A field: another value, and the settings beside which it can matter."""

NO_EFFECT_ON_A_MODEL = {
    "task.kind": "another task is another journey: tests/tasks/test_generate.py",
    "device": "where it is computed, not what; an absent one is refused (tested below)",
    "threads": "how fast; the last digits may differ (tested below)",
    "train.checkpoint_seconds": "how often a run is saved (tested below)",
    "train.checkpoints": "how many are kept (tested below)",
    "train.bfloat16": "how fast, and less exactly, where the processor can; elsewhere it is said (tested below)",
}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    words = [*"abcdef", "good", "bad"]
    path.write_text(
        "\n".join(f"{word} {' '.join(f'{(i * 7 + k) % 5 - 2}' for k in range(3))}" for i, word in enumerate(words))
    )
    return str(path)


def rows(count: int, seed: int) -> list[Example]:
    """Unbalanced, of 4 to 20 tokens, some capitals, some words once."""
    draws = np.random.default_rng(seed)
    out = []
    for i in range(count):
        label = "many" if draws.random() < 0.7 else "few"
        words = draws.choice([*"abcdef", "A", f"once{i}"], draws.integers(3, 20)).tolist()
        words.insert(int(draws.integers(len(words))), "good" if label == "many" else "bad")
        out.append(Example(" ".join(words), label, None, i + 1))
    return out


TRAIN, VALID = rows(24, 0), rows(12, 1)


@cache
def run(settings: tuple[str, ...]) -> dict[str, Any]:
    """Everything a tiny training leaves: vocabulary, weights, course, answers."""
    journey = pipeline.fit(TRAIN, VALID, Config().override((*BASE, *settings)))
    weights = {name: tensor.numpy().tobytes() for name, tensor in journey.model.network.state_dict().items()}
    return {
        "vocabulary": tuple(journey.model.task.text.vocabulary),
        "weights": weights,
        "course": json.dumps(journey.fitted.history),
        "answers": journey.model.outputs([e.input for e in VALID]).tobytes(),
    }


def test_every_field_is_accounted_for() -> None:
    read = {key for key in describe() if key.startswith("data.")}
    assert CHANGES.keys() | NO_EFFECT_ON_A_MODEL.keys() | read == describe().keys()
    assert DATA_CHANGES.keys() == read


def test_the_same_settings_change_nothing() -> None:
    """Without this the next test would be passed by any run that differs by chance."""
    assert run(()) == run.__wrapped__(())


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_field_changes_something(key: str, vectors: str) -> None:
    value, beside = CHANGES[key]
    beside = tuple(each.replace("VECTORS", vectors) for each in beside)
    changed = (*beside, f"{key}={value.replace('VECTORS', vectors)}")
    assert Config().override((*BASE, *beside)) != Config().override((*BASE, *changed)), "no change was made"
    assert run(beside) != run(changed), f"{key} = {value} changed nothing"


def other_value(default: Any, kind: Any) -> str:
    if isinstance(default, bool):
        return json.dumps(not default)
    choices = [choice for choice in getattr(kind, "__args__", ()) if choice != default]
    assert choices, f"say another value for {default!r}"
    return str(choices[0])


CELL_OPTIONS = [
    (cell, name) for cell in registry.names("cell") for name in registry.get("cell", cell).Options.model_fields
]


@pytest.mark.parametrize(("cell", "name"), CELL_OPTIONS)
def test_a_changed_option_of_a_cell_changes_something(cell: str, name: str) -> None:
    field = registry.get("cell", cell).Options.model_fields[name]
    value = other_value(field.default, field.annotation)
    assert run((f"model.cell.kind={cell}",)) != run((f"model.cell.kind={cell}", f"model.cell.{name}={value}"))


def test_each_cell_tokenizer_pool_optimizer_and_augmentation_is_another() -> None:
    """No two names for one thing."""
    for key, values in (
        ("model.cell.kind", registry.names("cell")),
        ("model.pool", ["last", "mean", "max", "concat", "attention"]),
        ("train.optimizer", ["adam", "adamw", "sgd", "rmsprop"]),
        ("train.augment", ["none", "swap", "delete"]),
        ("train.schedule", ["constant", "onecycle"]),
    ):
        beside = ("train.weight_decay=0.9",)
        assert len({json.dumps(run((*beside, f"{key}={value}"))["course"]) for value in values}) == len(values), key


def test_task_options_change_something(tmp_path: Path) -> None:
    """task.several gives thresholds; task.separator is what a field is cut at."""
    assert pipeline.fit(TRAIN, VALID, Config().override(BASE)).model.task.thresholds is None
    several = Config().override((*BASE, "task.several=true"))
    assert pipeline.fit(TRAIN, VALID, several).model.task.thresholds is not None
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"word{i} thing,a|b;c\n" for i in range(8)))
    found = {}
    for separator in "|;":
        config = several.override([f"task.separator={separator}"])
        parts, _ = pipeline.read_parts(path, None, config)
        found[separator] = parts["train"][0].target
    assert found == {"|": ("a", "b;c"), ";": ("a|b", "c")}


# What changes no model


@pytest.mark.parametrize("key", ["threads=2", "train.checkpoint_seconds=0", "train.checkpoints=3"])
def test_what_is_about_the_machine_changes_no_answer(key: str) -> None:
    before = torch.get_num_threads()
    changed = run((key,))
    torch.set_num_threads(before)
    wanted = np.frombuffer(run(())["answers"], np.float32)
    np.testing.assert_allclose(np.frombuffer(changed["answers"], np.float32), wanted, atol=1e-3)


def test_checkpoint_settings_change_what_is_saved(tmp_path: Path) -> None:
    def saved(name: str, *settings: str) -> list[str]:
        config = Config().override((*BASE, "train.epochs=4", *settings))
        pipeline.fit(TRAIN, VALID, config, run=tmp_path / name)
        return sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir())

    assert len(saved("two")) == 2
    assert len(saved("three", "train.checkpoints=3")) == 3
    steps = [int(name.partition("-")[0]) for name in saved("each", "train.checkpoint_seconds=0", "train.checkpoints=3")]
    assert steps[0] >= steps[-1] - 1, "one after every step"


def test_threads_and_device_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    pipeline.fit(TRAIN, VALID, Config().override((*BASE, "threads=3")))
    assert asked == [3]
    with pytest.raises(EchoicError, match="cuda:63"):
        pipeline.fit(TRAIN, VALID, Config().override((*BASE, "device=cuda:63")))


def test_bfloat16_changes_the_training_or_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    if native.has_bfloat16():
        exact, rounded = run(()), run(("train.bfloat16=true",))
        assert exact["weights"] != rounded["weights"]
        wanted = np.frombuffer(exact["answers"], np.float32)
        np.testing.assert_allclose(np.frombuffer(rounded["answers"], np.float32), wanted, atol=0.1)
    monkeypatch.setattr(native, "has_bfloat16", lambda: False)
    said: list[str] = []
    journey = pipeline.fit(TRAIN, VALID, Config().override((*BASE, "train.bfloat16=true")), said=said.append)
    assert any("training multiplies float32" in line for line in said)
    assert journey.model.outputs([e.input for e in VALID]).tobytes() == run(())["answers"]


# The fields that say how a file is read: {field: (file, settings beside, value)}

TABLE = "id,text,label,who\n" + "".join(f"{i},word{i} thing,{'ab'[i % 2]},{'xyz'[i % 3]}\n" for i in range(12))
LATIN = "text,label\ncaf\xe9 one,a\ntea two,b\ncaf\xe9 three,a\n".encode("latin-1")
DATA_CHANGES: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "data.text": (TABLE.encode(), (), "who"),
    "data.label": (TABLE.encode(), (), "who"),
    "data.soft_labels": (b"text,no,yes\none word,0.2,0.8\ntwo words,0.7,0.3\n", (), '["no","yes"]'),
    "data.group": (TABLE.encode(), (), "who"),
    "data.header": (TABLE.encode(), ('data.text="2"', 'data.label="3"'), "false"),
    "data.encoding": (LATIN, (), "latin-1"),
    "data.on_bad_bytes": (LATIN, (), "replace"),
    "data.skip_bad": (b"text,label\none,a\ntwo,b,extra,more\nthree,b\n", (), "true"),
    "data.drop_unlabelled": (b"text,label\none thing,a\ntwo things,\nthree things,b\n", (), "true"),
    "data.max_bytes": (TABLE.encode(), (), "20"),
    "data.max_field": (TABLE.encode(), (), "3"),
    "data.valid_fraction": (TABLE.encode(), (), "0.5"),
    "data.min_class_count": (TABLE.encode(), (), "9"),
}


@pytest.mark.parametrize("key", DATA_CHANGES)
def test_a_changed_field_changes_what_is_read(key: str, tmp_path: Path) -> None:
    raw, beside, value = DATA_CHANGES[key]
    path = tmp_path / "data.csv"
    path.write_bytes(raw)

    def read(*settings: str) -> Any:
        config = Config().override((*BASE, *beside, "train.epochs=1", *settings))
        try:
            if key == "data.min_class_count":
                return pipeline.train(path, tmp_path / f"run{len(settings)}", config)["data"]
            parts, _ = pipeline.read_parts(path, None, config) if key == "data.valid_fraction" else (None, None)
            table = read_table(path, config.data)
        except EchoicError as error:
            return type(error).__name__
        return parts, table.examples, table.text, table.label

    assert read() != read(f"{key}={value}"), f"{key} = {value} changed nothing"
