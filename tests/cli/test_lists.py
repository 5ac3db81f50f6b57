"""The verbs that list or look: cells, tasks, doctor, data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

import echoic
from cli.commands import Answer
from echoic.core import registry

Call = Callable[..., Answer]


@pytest.mark.parametrize(("verb", "kind"), [("cells", "cell"), ("tasks", "task")])
def test_every_registered_thing_is_listed(call: Call, verb: str, kind: str) -> None:
    listed = call(verb, "--json").json[verb]
    assert [each["name"] for each in listed] == registry.names(kind)
    assert all(each["summary"] for each in listed)
    shown = call(verb).out
    for each in listed:
        assert each["name"] in shown
        assert each["options"].keys() == registry.get(kind, each["name"]).Options.model_fields.keys()
        assert all(option["description"] for option in each["options"].values())


def test_tasks_show_what_an_answer_looks_like(call: Call) -> None:
    (classify,) = (t for t in call("tasks", "--json").json["tasks"] if t["name"] == "classify")
    assert {"text", "label", "probabilities"} <= classify["record"]["properties"].keys()


def test_doctor_says_what_is_here(call: Call) -> None:
    found = call("doctor", "--json").json
    assert found["echoic"] == echoic.__version__
    assert found["packages"]["torch"]["version"]
    assert "cpu" in found["devices"]
    assert found["kernels"].startswith("lstm: ")
    assert "torch" in call("doctor").out


def test_doctor_says_what_is_missing_and_how_to_get_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rjieba" else usual(name))
    answer = call("doctor", "--json").json["packages"]["rjieba"]
    assert answer == {"version": None, "install": "pip install 'echoic[zh]'"}
    assert "missing: pip install 'echoic[zh]'" in call("doctor").out


def test_data_lists_and_finds_what_is_shipped(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ECHOIC_DATA", str(tmp_path))
    listed = call("data", "--json").json
    assert listed["folder"] == str(tmp_path)
    assert listed["sets"]["rotten_tomatoes_mr"]["licence"].startswith("CC BY")
    path = Path(call("data", "rotten_tomatoes_mr").out.rstrip("\n"))
    assert path.is_file()
    assert call("data", "rotten_tomatoes_mr", "--json").json["path"] == str(path)
    assert "imdb" in call("data").out


def test_data_refuses_what_it_does_not_know(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOIC_DATA", str(tmp_path))
    call("data", "imbd").refused(2, "did you mean 'imdb'?")
    call("data", "imdb").refused(2, "fetch it by hand")
    (tmp_path / "imdb").mkdir()
    call("data", "imdb").refused(2, "fetch it by hand")
    (tmp_path / "imdb" / "train.csv.xz").write_bytes(b"")
    assert call("data", "imdb").out.strip() == str(tmp_path / "imdb")
