"""A translator by the command line: train, predict, evaluate, resume, and what is refused."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import Answer
from echoic.cli import predict
from echoic.cli.main import main

Call = Callable[..., Answer]

SMALL = [
    "--task=translate",
    *(
        f"--set={setting}"
        for setting in (
            "text.tokenizer=words", "text.min_count=1", "model.hidden=10", "model.embedding=8", "train.epochs=2",
            "train.batch_size=16",
        )
    ),
]  # fmt: skip

WORDS = {"ein": "a", "Hund": "dog", "sieht": "sees", "den": "the", "Mann": "man", "Ball": "ball", "rot": "red"}


def rows() -> list[tuple[str, str]]:
    every = itertools.permutations(WORDS, 5)
    return [(" ".join(w), " ".join(WORDS[x] for x in w)) for w in itertools.islice(every, 0, None, 37)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs")
    lines = [f"{a}\t{b}" for a, b in rows()]
    (path / "pairs.tsv").write_text("source\ttarget\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (path / "test.csv").write_text("target,source\n" + "".join(f"{b},{a}\n" for a, b in rows()[:12]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    out = folder / "run"
    assert main(["train", str(folder / "pairs.tsv"), "--out", str(out), "--quiet", "--json", *SMALL]) == 0
    return out


def test_training_leaves_a_whole_run(call: Call, folder: Path, model: Path) -> None:
    answer = call("train", folder / "pairs.tsv", "--out", folder / "again", *SMALL, "--json")
    found = answer.json
    assert found["task"] == "translate"
    scores = found["validation"]
    assert 0 <= scores["bleu"] <= 100
    assert set(scores["baselines"]) == {"words", "copy"}
    assert "tok:13a" in scores["signatures"]["bleu"]
    assert "case:mixed" in scores["signatures"]["bleu"]
    assert "The source is column 'source', the target column 'target'" in answer.err
    page = (folder / "again" / "report.html").read_text(encoding="utf-8")
    for part in ("BLEU", "a word for a word", "What it writes", "By the length of the source"):
        assert part in page
    assert (folder / "again" / "bundle" / "words.json").is_file()
    resumed = call("train", folder / "pairs.tsv", "--out", folder / "again", "--resume", "--json", "--quiet")
    assert resumed.json["validation"]["bleu"] == scores["bleu"]


def test_predict_answers_and_evaluate_scores(call: Call, folder: Path, model: Path) -> None:
    records = call("predict", model, "ein Hund sieht", "狗", "--json", "--n-best", 2, "--beam", 4).json["predictions"]
    assert {"text", "translation", "score", "translations", "scores"} <= set(records[0])
    assert records[1]["unseen"] == "狗"
    answer = call("predict", model, "ein 狗", "")
    assert "text 1: a guess, as no training source held '狗'" in answer.err
    assert len(answer.out.splitlines()) == 2
    out = folder / "out.csv"
    assert call("predict", model, "--input", folder / "test.csv", "--output", out, "--n-best", 2).code == 0
    answers = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert len(answers) == 12
    assert list(answers[0]) == ["text", "translation", "score", "translation_2", "score_2", "unseen"]
    two = call("predict", model, "ein Hund", "--n-best", 2).out.splitlines()
    assert [len(line.split("\t")) for line in two] == [3, 2]
    scores = call("evaluate", model, folder / "test.csv", "--json", "--html", folder / "scores.html").json
    assert scores["examples"] == scores["translated"] == 12
    assert scores["seen_in_training"] == 12
    assert scores["baselines"]["words"]["bleu"] > scores["baselines"]["copy"]["bleu"]
    assert "BLEU" in call("evaluate", model, folder / "test.csv").out


def test_what_is_refused(call: Call, folder: Path, model: Path, run: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.txt"
    one.write_text("ein Hund\nein Ball\n", encoding="utf-8")
    call("train", one, "--out", tmp_path / "r", "--task", "translate").refused(65, "one column", "a pair needs two")
    half = tmp_path / "half.tsv"
    half.write_text("source\ttarget\nein Hund\ta dog\nein Ball\t\n", encoding="utf-8")
    call("train", half, "--out", tmp_path / "r", "--task", "translate").refused(65, "'target' is empty in 1 rows: 2")
    call("predict", model, "Hund " * 5000).refused(65, "5,000 tokens", "256")
    call("predict", model, "ein", "--min-confidence", 0.5).refused(2, "a model for translate knows no --min-confidence")
    call("predict", run, "good", "--n-best", 2).refused(2, "a model for classify knows no --n-best")
    call("evaluate", model, folder / "test.csv", "--png", tmp_path / "x.png").refused(2, "--html")
    call("generate", model, "--prompt", "ein").refused(2, "only a language model generates")
    call("export", model, tmp_path / "m.onnx", "--int8", "--measure", one).refused(2, "--measure wants a classifier")


def test_an_answer_is_shown_whole(call: Call, model: Path) -> None:
    said = call("predict", model, "ein Hund", "--n-best", 1).out
    assert said.startswith(call("predict", model, "ein Hund", "--json").json["predictions"][0]["translation"] + "\t")
    long = {"text": "x", "translation": "word " * 80, "score": -1.0}
    assert predict._readable(long) == "word " * 80 + "\t-1.000\tx"


def test_check_takes_targets_for_texts(call: Call, folder: Path) -> None:
    found = call("check", folder / "pairs.tsv", "--set", "task.kind=translate", "--strict")
    assert (found.code, "classes" in found.out) == (0, False)
    assert "LABEL" not in found.out


def test_explain_shows_where_it_looked(call: Call, model: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "a.html", tmp_path / "a.png"
    found = call("explain", model, "ein Hund", "--json", "--html", page, "--png", picture).json
    assert [len(found["weights"]), len(found["weights"][0])] == [len(found["target"]), 2]
    assert page.read_text(encoding="utf-8").count("<td style") == 2 * len(found["target"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "(end)" in call("explain", model, "ein Hund").out
    for more in (["--method", "occlusion"], ["--why", "x"]):
        call("explain", model, "ein Hund", *more).refused(2, "leave out --method and --why")
    call("explain", model, "ein Hund", "--faithful").refused(2, "only a classifier")
