"""`echoic explain`: one text or a file, JSON, a page, a picture, and which method is faithful."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import Answer, process
from echoic.explain.record import METHODS

Call = Callable[..., Answer]


def test_json_of_one_text(call: Call, run: Path) -> None:
    answer = call("explain", run, "A good film", "--json")
    assert (answer.code, answer.err) == (0, "")
    found = answer.json
    assert found["label"] == call("predict", run, "A good film", "--json").json["predictions"][0]["label"]
    assert [(t["text"], t["start"], t["end"]) for t in found["tokens"]] == [
        ("A", 0, 1),
        ("good", 2, 6),
        ("film", 7, 11),
    ]
    assert found["method"] == "integrated-gradients"
    assert found["completeness"] <= 0.01
    total = sum(t["score"] for t in found["tokens"])
    assert abs(total - found["difference"]) / max(abs(found["difference"]), 0.05) == pytest.approx(
        found["completeness"], abs=1e-9
    )


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("attention", "integrated-gradients")])
def test_other_methods_promise_no_sum(call: Call, run: Path, method: str) -> None:
    found = call("explain", run, "a good film", "--method", method, "--json").json
    assert (found["method"], found["completeness"]) == (method, None)
    assert ("beliefs" in found) == (method == "trace")


def test_for_people(call: Call, run: Path) -> None:
    answer = call("explain", run, "a good \x1b[31m film")
    assert answer.code == 0
    assert "by integrated-gradients" in answer.out
    assert "\x1b" not in answer.out
    assert "good" in answer.out


def test_a_page_and_a_picture(call: Call, run: Path, tmp_path: Path) -> None:
    answer = call(
        "explain", run, "一部 good film", "--html", tmp_path / "p.html", "--png", tmp_path / "p.png", "-q", "--json"
    )
    assert (answer.code, answer.err) == (0, "")
    assert "一" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    refused = call("explain", run, "a", "--html", tmp_path / "none" / "p.html", "-q")
    assert refused.code == 73
    assert "none" in refused.err


def test_a_file_gives_json_lines_and_stdin_is_a_file(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'id,text\n1,a good film\n2,"dull, cold"\n3,\n'
    (tmp_path / "texts.csv").write_text(source, encoding="utf-8")
    lines = call("explain", run, "--input", tmp_path / "texts.csv", "--json", "-q").out
    assert [json.loads(line)["text"] for line in lines.splitlines()] == ["a good film", "dull, cold", ""]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.encode())))
    assert call("explain", run, "--input", "-", "--json", "-q").out == lines
    people = call("explain", run, "--input", tmp_path / "texts.csv", "-q")
    assert people.out.count("by integrated-gradients") == 3


def test_which_method_is_faithful(call: Call, run: Path, csv_file: Path) -> None:
    answer = call("explain", run, "--input", csv_file, "--faithful", "--json", "-q")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json["texts"] == 60
    assert set(answer.json["methods"]) == set(METHODS) - {"attention"}
    assert answer.json["verdict"]
    assert "random" in call("explain", run, "a good film", "--faithful", "-q").out


def test_another_label(call: Call, run: Path) -> None:
    assert {call("explain", run, "a", "--why", name, "--json").json["label"] for name in ("pos", "neg")} == {
        "pos",
        "neg",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "one of the two"),
        (["a text", "--input", "texts.csv"], 2, "one of the two"),
        (["a text", "--method", "lime"], 2, "integrated-gradients, gradient-x-input"),
        (["a text", "--method", "attention"], 2, "--set model.pool=attention"),
        (["a text", "--why", "posi"], 2, "did you mean 'pos'"),
        (["a text", "--faithful", "--html", "p.html"], 2, "--faithful"),
        (["--input", "none.csv"], 66, "none.csv: no such file"),
        (["bad \udcff byte"], 65, "text 1"),
        (["a text", "--device", "cuda:9"], 69, "cuda:9"),
    ],
)
def test_what_explain_refuses(call: Call, run: Path, arguments: list[str], code: int, said: str) -> None:
    call("explain", run, "-q", *arguments).refused(code, said)


def test_no_color_and_a_reader_that_is_no_terminal(run: Path) -> None:
    done = process("explain", run, "a good film", env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert done.returncode == 0
    assert b"\x1b[4" not in done.stdout
    assert "⁺".encode() in done.stdout or "⁻".encode() in done.stdout
