"""Flags, --set and --config: which wins, and what is refused (rows 36 and 37 of the table of bad input)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cli.commands import Answer
from echoic.cli.options import Reading, Settings
from echoic.core.config import Config, DataConfig
from echoic.core.errors import ConfigError

Call = Callable[..., Answer]

READING: dict[str, tuple[Any, Any]] = {
    "text": ("review", "review"),
    "label": ("2", "2"),
    "group": ("author", "author"),
    "soft_labels": ("p,q", ("p", "q")),
    "no_header": (True, False),
    "encoding": ("gb18030", "gb18030"),
    "on_bad_bytes": ("replace", "replace"),
    "max_bytes": (5, 5),
    "max_field": (6, 6),
    "min_class_count": (1, 1),
    "skip_bad": (True, True),
    "drop_unlabelled": (True, True),
}
"""{option: (what is given, what the setting becomes)}"""


def test_the_table_is_whole() -> None:
    assert set(READING) == {field.name for field in fields(Reading)}


@pytest.mark.parametrize("option", READING)
def test_every_reading_option_changes_its_setting_and_no_other(option: str) -> None:
    given, wanted = READING[option]
    key = "header" if option == "no_header" else option
    data = Reading(**{option: given}).over(DataConfig())
    assert getattr(data, key) == wanted
    assert {name for name in DataConfig.model_fields if getattr(data, name) != getattr(DataConfig(), name)} == {key}
    assert Settings().build(Reading(**{option: given})).data == data


def test_flags_win_over_set_over_config_over_defaults(tmp_path: Path) -> None:
    stated = tmp_path / "c.toml"
    stated.write_text('seed = 1\n[model]\nhidden = 5\nlayers = 2\n[data]\ntext = "a"\n')
    config = Settings(config=stated, set=["seed=2", "model.hidden=6", "data.text=b"], seed=3).build(Reading(text="c"))
    assert (config.seed, config.model.hidden, config.model.layers, config.data.text) == (3, 6, 2, "c")
    assert config.train == Config().train


def test_task_several_seed_and_device() -> None:
    config = Settings(task="classify", several=True, seed=7, device="meta").build(Reading())
    assert (config.task.kind, config.task.options, config.seed, config.device) == (
        "classify", {"several": True}, 7, "meta",
    )  # fmt: skip


def test_a_named_label_replaces_soft_labels() -> None:
    assert Reading(label="y").over(DataConfig(soft_labels=("p", "q"))).soft_labels == ()


def test_nothing_given_is_told_apart_from_something() -> None:
    assert not Settings().given(Reading())
    assert Settings(seed=0).given(Reading())
    assert Settings().given(Reading(no_header=True))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.hiden=4", "/model/hiden: unknown key 'hiden' (did you mean 'hidden'?)"),
        ("modell.hidden=4", "/modell: unknown key 'modell' (did you mean 'model'?)"),
        ("model.hidden", "not of the form section.key=value"),
        ("model.hidden.size=4", "'hidden' is a value, not a section"),
        ("model.hidden=0", "/model/hidden"),
        ("model.hidden=-1", "greater than or equal to 1"),
        ("model.hidden=1.5", "/model/hidden"),
        ('model.hidden="64"', "should be a number"),
        ("model.hidden=true", "should be a number"),
        (f"model.hidden={2**40}", "less than or equal to 65536"),
        ("model.hidden=nan", "/model/hidden"),
        ("model.dropout_output=1.0", "less than 1"),
        ("model.layers=-1", "/model/layers"),
        ("model.cell.kind=lstn", "did you mean 'lstm'?"),
        ("model.pool=sum", "/model/pool"),
        ("train.lr=-1", "greater than or equal to 0"),
        ("train.lr=inf", "/train/lr"),
        ("train.batch_size=0", "/train/batch_size"),
        ("task.kind=clasify", "did you mean 'classify'?"),
        ("text.tokenizer=wordz", "did you mean 'words'?"),
        ("data.on_bad_bytes=guess", "/data/on_bad_bytes"),
        ("seed=-1", "/seed"),
    ],
)
def test_a_wrong_setting_is_78_and_named(call: Call, csv_file: Path, tmp_path: Path, setting: str, said: str) -> None:
    call("train", csv_file, "--out", tmp_path / "r", "--set", setting).refused(78, said)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.cell.peephol=true", "did you mean 'peephole'?"),
        ("task.sevral=true", "did you mean 'several'?"),
        ("model.cell.peephole=7", "peephole"),
    ],
)
def test_a_wrong_option_of_a_cell_or_task_is_78(
    call: Call, csv_file: Path, tmp_path: Path, setting: str, said: str
) -> None:
    call("train", csv_file, "--out", tmp_path / "r", "--quiet", "--set", setting).refused(78, said)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"[model]\nhiden = 4\n", 78, "did you mean 'hidden'?"),
        (b"[model\n", 78, "not TOML"),
        (b"\xff\xfe", 78, "not TOML"),
        (b"model = 3\n", 78, "/model"),
        (None, 66, "no such file"),
    ],
)
def test_a_wrong_config_file(
    call: Call, csv_file: Path, tmp_path: Path, content: bytes | None, code: int, said: str
) -> None:
    place = tmp_path / "c\n.toml"
    if content is not None:
        place.write_bytes(content)
    call("train", csv_file, "--out", tmp_path / "r", "--config", place).refused(code, "c\\n.toml", said)


def test_a_folder_as_config_is_78(call: Call, csv_file: Path, tmp_path: Path) -> None:
    call("train", csv_file, "--out", tmp_path / "r", "--config", tmp_path).refused(78, "is a directory")


def test_a_wrong_range_of_reading_is_refused() -> None:
    with pytest.raises(ConfigError, match="/max_bytes"):
        Reading(max_bytes=-1).over(DataConfig())
