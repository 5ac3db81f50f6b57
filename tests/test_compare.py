"""Rows of the table, what is trained on which rows, what is kept, and what is called real."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.commands import sentences, write_csv
from echoic import compare as comparing
from echoic import pipeline
from echoic.compare import BASELINE, MEAN, Row, compare, rows
from echoic.core.config import Config
from echoic.core.errors import CannotCreate, CheckFailed, ConfigError, DataError, UsageError
from echoic.core.types import Example
from echoic.evaluate.comparison import html, lines, render, verdict
from echoic.train.signals import Interrupted

BASE = Config().override(
    ["model.hidden=4", "model.embedding=4", "text.min_count=1", "train.adversarial=0", "threads=1"]
)


ALONE = comparing._alone


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    """A process for each training takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "_alone", comparing._train)
        yield


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "d.csv", sentences(80))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, csv: Path) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("c") / "out"
    return out, compare(csv, out, rows(["gru"], ["both"], ["max"], ["auto"]), BASE, seeds=2, updates=2)


def test_every_combination_has_a_name_and_settings_that_differ() -> None:
    table = rows(["rnn", "peephole"], ["one", "both"], ["max", "attention"], ["words", "bpe"])
    assert len(table) == 2 * 2 * 2 * 2 + 2
    assert table[0].name == "rnn, one way, max, words"
    assert len({row.name for row in table}) == len({json.dumps(row.settings) for row in table}) == len(table)
    config = table[5].config(BASE, 7)
    assert (config.model.cell.kind, config.model.cell.options) == ("lstm", {"peephole": True})
    assert (config.seed, config.model.ngrams, config.model.pool, config.text.tokenizer) == (
        7,
        False,
        "attention",
        "words",
    )
    mean = table[-1].config(BASE, 0).model
    assert (table[-1].name, mean.layers, mean.pool) == (f"{MEAN}, bpe", 0, "mean")
    for wrong in (["grru"], ["one"], ["max"], ["auto"]), (["gru"], ["two"], ["max"], ["auto"]):
        with pytest.raises(UsageError, match="there is no"):
            rows(*wrong)


def test_what_comes_out(done: tuple[Path, dict[str, Any]]) -> None:
    out, found = done
    assert found["rows"] == {"train": 58, "valid": 6, "test": 16}
    assert {line["name"] for line in found["table"]} == {"gru", MEAN, BASELINE}
    by_name = {line["name"]: line for line in found["table"]}
    assert [by_name[name]["seeds"] for name in ("gru", MEAN, BASELINE)] == [2, 2, 1]
    assert by_name["gru"]["parameters"] > by_name[MEAN]["parameters"] > 0
    for line in found["table"]:
        assert line["low"] <= line["accuracy"] <= line["high"]
        assert line["accuracy"] == pytest.approx(np.mean(line["each"]), abs=1e-6)
    assert len(found["differences"]) == 3
    assert all(d["p_corrected"] >= d["p"] for d in found["differences"])
    json.dumps(found, allow_nan=False)
    assert "<script" not in (out / "compare.html").read_text(encoding="utf-8")


def test_finished_trainings_are_not_made_again(
    done: tuple[Path, dict[str, Any]], csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first = done
    made: list[Config] = []
    fit = pipeline.fit
    monkeypatch.setattr(pipeline, "fit", lambda *given, **more: (made.append(given[2]), fit(*given, **more))[1])
    again = compare(csv, out, rows(["gru"], ["both"], ["max"], ["auto"]), BASE, seeds=2, updates=2)
    assert made == []
    assert again == first
    compare(csv, out, rows(["gru", "rnn"], ["both"], ["max"], ["auto"]), BASE, seeds=1, updates=2)
    assert [config.model.cell.kind for config in made] == ["rnn"]
    with pytest.raises(ConfigError, match="settings"):
        compare(csv, out, [], BASE, seeds=1, updates=3)


def test_what_a_training_needs_does_not_depend_on_those_before_it(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process the first loads the libraries, and the next uses its pages again: a third of the memory."""
    monkeypatch.setattr(comparing, "_alone", ALONE)
    row = Row("mean", {"model.layers": 0, "model.pool": "mean"})
    found = compare(csv, tmp_path / "o", [row], BASE, seeds=2, updates=1)
    kept = json.loads((tmp_path / "o" / "compare.json").read_bytes())["pieces"]
    first, second = (kept[row.key(seed)] for seed in (0, 1))
    if first["peak_memory_mib"] is not None:
        assert second["peak_memory_mib"] == pytest.approx(first["peak_memory_mib"], rel=0.1)
    parts, _ = comparing._parts(csv, None, BASE, lambda _: None)
    same = comparing._train(row.config(BASE.override(["train.updates=1"]), 0), parts)
    costs = {"seconds", "tokens_per_second", "texts_per_second", "peak_memory_mib"}
    assert {k: v for k, v in same.items() if k not in costs} == {k: v for k, v in first.items() if k not in costs}
    assert found["seeds"] == 2


@pytest.mark.parametrize("label", ["yes", ("a", "b"), {"a": 0.25, "b": 0.75}])
def test_an_example_arrives_in_the_other_process_as_it_left(label: Any) -> None:
    example = Example("a text", label, "group", 3)
    assert comparing._example(*json.loads(json.dumps(astuple(example)))) == example


def test_a_process_that_dies_is_a_training_that_failed(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing.sys, "executable", "/bin/false")
    assert ALONE(BASE, comparing._parts(csv, None, BASE, lambda _: None)[0]) == {
        "error": "the process that trained it ended with code 1"
    }


def test_a_signal_ends_the_process_too(csv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What hangs is killed; the parent tells why."""
    hanging = tmp_path / "python"
    hanging.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\nkill -TERM {os.getpid()}\nread forever < {tmp_path}/pipe\n"
    )
    hanging.chmod(0o755)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(comparing.sys, "executable", str(hanging))
    with pytest.raises(Interrupted):
        ALONE(BASE, comparing._parts(csv, None, BASE, lambda _: None)[0])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_benchmark_names_no_setting_that_a_row_would_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "compare.py"
    monkeypatch.syspath_prepend(str(script.parent))
    comparing._refuse_decided(Config().override(runpy.run_path(str(script))["SETTINGS"]))


def test_no_row_is_in_two_parts_and_a_test_file_is_taken(csv: Path, tmp_path: Path) -> None:
    parts, _ = comparing._parts(csv, None, BASE, lambda _: None)
    numbers = [example.row for part in parts.values() for example in part]
    assert sorted(numbers) == list(range(1, 81))
    other = write_csv(tmp_path / "t.csv", sentences(10, 3))
    parts, digests = comparing._parts(csv, other, BASE, lambda _: None)
    assert [len(parts[name]) for name in ("train", "valid", "test")] == [72, 8, 10]
    assert set(digests) == {"data", "test"}


def test_one_name_in_two_tables_is_two_trainings(csv: Path, tmp_path: Path) -> None:
    """A name says what differs within a table: `gru` is read both ways here and one way there."""
    found = [
        compare(csv, tmp_path / "o", rows(["gru"], [way], ["max"], ["auto"]), BASE, seeds=1, updates=1)
        for way in ("both", "one")
    ]
    sizes = [next(line["parameters"] for line in each["table"] if line["name"] == "gru") for each in found]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("setting", ["train.updates=9", "train.epochs=2", "model.pool=mean", "text.tokenizer=words"])
def test_a_setting_that_a_row_would_replace_is_refused(csv: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        compare(csv, tmp_path / "o", rows(["gru"], ["both"], ["max"], ["auto"]), BASE.override([setting]))


def test_what_stands_in_the_test_file_is_not_learned_from(csv: Path) -> None:
    said: list[str] = []
    with pytest.raises(DataError, match="nothing is left"):
        comparing._parts(csv, csv, BASE, said.append)
    assert any("80 rows" in each for each in said)


def test_a_training_that_fails_is_said_and_the_others_go_on(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, bad = pipeline.fit, Row("bad", {"model.pool": "last"})

    def failing(*given: Any, **more: Any) -> Any:
        if given[2].model.pool == "last" and given[2].seed == 1:
            raise CheckFailed("the loss is not finite")
        return fit(*given, **more)

    monkeypatch.setattr(pipeline, "fit", failing)
    found = compare(csv, tmp_path / "o", [Row("good", {"model.pool": "mean"}), bad], BASE, seeds=2, updates=1)
    line = next(line for line in found["table"] if line["name"] == "bad")
    assert (line["seeds"], line["failed"]) == (1, ["the loss is not finite"])
    assert any("bad (1 of 2 seeds)" in cells[0] for cells in lines(found))
    assert "What failed" in html(found)
    assert not any(d["real"] for d in found["differences"] if "bad" in (d["better"], d["worse"]))
    monkeypatch.setattr(pipeline, "fit", fit)
    again = compare(csv, tmp_path / "o", [bad], BASE, seeds=2, updates=1)
    assert next(line for line in again["table"] if line["name"] == "bad")["seeds"] == 2, "what failed is tried again"


def test_another_folder_is_left_alone(csv: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CannotCreate, match="other than a comparison"):
        compare(csv, tmp_path, [], BASE)
    with pytest.raises(ConfigError, match="classifiers"):
        compare(csv, tmp_path / "o", [], Config().override(["task.kind=generate"]))


def line(name: str, accuracy: float) -> dict[str, Any]:
    rest = dict.fromkeys(("parameters", "updates", "tokens_per_second", "texts_per_second", "peak_memory_mib"))
    return {"name": name, "seeds": 1, "failed": [], "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1,
            "each": [accuracy], "seconds": 3.0, **rest}  # fmt: skip


def test_the_verdict_and_the_table() -> None:
    names = ["<b>best</b>", "second", "third"]
    differences = [
        {
            "better": a,
            "worse": b,
            "difference": 0.1,
            "low": 0.0,
            "high": 0.2,
            "p": 0.01,
            "p_corrected": 0.02,
            "real": real,
        }
        for a, b, real in ((names[0], names[1], False), (names[0], names[2], True), (names[1], names[2], False))
    ]
    found = {"table": [line(name, 0.9 - 0.1 * i) for i, name in enumerate(names)], "differences": differences,
             "rows": {"train": 9, "valid": 1, "test": 5}, "updates": 1, "seeds": 1, "data": "d.csv"}  # fmt: skip
    assert verdict(found).endswith("It cannot be told apart from 1 of the others: second.")
    assert [cells[3] for cells in lines(found)] == ["", "", "1"]
    page = html(found)
    assert "<b>best" not in page
    assert "+10.0 (+0.0 to +20.0)" in page
    assert render(found).renderables
    differences[0]["real"] = True
    assert verdict(found).endswith("really better than every other.")


def test_rows_that_are_better_stand_as_ranges() -> None:
    names = [str(i) for i in range(1, 9)]
    differences = [{"better": a, "worse": "8", "real": a in "12346"} for a in names[:-1]]
    found = {"table": [line(name, 0.9) for name in names], "differences": differences, "seeds": 1}
    assert lines(found)[-1][3] == "1–4, 6"
