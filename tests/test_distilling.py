"""Distilling: the student learns the teacher's probabilities, on its own rows and on texts without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.commands import sentences, write_csv
from echoic import pipeline, transplant
from echoic.cli.main import main
from echoic.core import bundle
from echoic.core.config import Config
from echoic.core.errors import ConfigError, DataError, UsageError
from echoic.core.types import Example
from echoic.distilling import Teacher
from echoic.model import Model, load

pytestmark = pytest.mark.usefixtures("unsynced")

SMALL = Config.parse(
    {
        "model": {"hidden": 4, "embedding": 4, "ngrams": False},
        "text": {"min_count": 1},
        "train": {"epochs": 2, "batch_size": 16, "adversarial": 0.0},
    }
)


def examples(count: int, seed: int = 0) -> list[Example]:
    return [Example(text, label, row=i + 1) for i, (label, text) in enumerate(sentences(count, seed))]


@pytest.fixture(scope="module")
def teacher() -> Model:
    better = SMALL.override(["model.hidden=16", "model.embedding=16", "train.epochs=12", "train.lr=0.01"])
    return pipeline.fit(examples(200, 7), examples(20, 8), better).model


@pytest.fixture(scope="module")
def folder(teacher: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distilling")
    teacher.save(path / "teacher")
    write_csv(path / "data.csv", sentences(60))
    (path / "texts.txt").write_text("".join(f"{text}\n" for _, text in sentences(60, 3)), encoding="utf-8")
    return path


def test_targets_are_the_teachers_softened_probabilities(teacher: Model) -> None:
    parts = {"train": examples(6), "valid": examples(4, 1)}
    logits = teacher.outputs([e.input for e in parts["train"]]).astype(np.float64)
    for temperature in (1.0, 4.0):
        taught = Teacher(teacher, temperature=temperature).teach(parts, SMALL, lambda _: None)
        assert [e.input for e in taught] == [e.input for e in parts["train"]]
        odds = [np.log(e.target["neg"] / e.target["pos"]) for e in taught]
        np.testing.assert_allclose(odds, (logits[:, 0] - logits[:, 1]) / temperature, atol=1e-4)


def test_unlabelled_texts_are_learned_once_and_none_of_validation(teacher: Model, tmp_path: Path) -> None:
    parts = {"train": examples(6), "valid": examples(4, 1)}
    path = tmp_path / "texts.txt"
    path.write_text(
        "\n".join([parts["valid"][0].input.upper(), parts["train"][0].input, "new one", "new  ONE", "other"])
    )
    said: list[str] = []
    taught = Teacher(teacher, path).teach(parts, SMALL, said.append)
    assert [e.input for e in taught[6:]] == ["new  ONE", "other"]
    assert said[0] == "2 of 5 unlabelled texts are new, and learned from"


def test_a_student_of_a_good_teacher_needs_no_label_right(folder: Path, tmp_path: Path) -> None:
    """Half of DATA's training labels are wrong, the teacher's are not: the student follows the teacher."""
    rows = [(("neg", "pos")[i // 2 % 2], text) for i, (_, text) in enumerate(sentences(80, 4))]
    write_csv(tmp_path / "wrong.csv", rows)
    write_csv(tmp_path / "valid.csv", sentences(30, 5))
    settings = SMALL.override(["model.hidden=8", "model.embedding=8", "train.epochs=25", "train.lr=0.01"])
    scores = {}
    for name, teacher in (
        ("taught", Teacher(load(folder / "teacher"), folder / "texts.txt")),
        ("alone", None),
    ):
        out = tmp_path / name
        pipeline.train(tmp_path / "wrong.csv", out, settings, valid=tmp_path / "valid.csv", teacher=teacher)
        scores[name] = pipeline.evaluate(load(out), examples(60, 6))["accuracy"]
    assert scores["taught"] > 0.85 > scores["alone"]


def test_the_command_line_distils(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    settings = ["model.hidden=4", "model.embedding=4", "model.ngrams=false", "train.epochs=1", "train.adversarial=0"]
    train = ["train", str(folder / "data.csv"), *(f"--set={each}" for each in settings), "--json"]
    teacher = ["--teacher", str(folder / "teacher"), "--unlabelled", str(folder / "texts.txt")]
    assert main([*train, "--out", str(out), *teacher, "--temperature", "3"]) == 0
    assert "the teacher's answers to" in capsys.readouterr().err
    about: dict[str, Any] = bundle.read(out / "bundle", "bundle").about
    assert about["teacher"] == transplant.digest(load(folder / "teacher"))
    assert about["temperature"] == "3"
    assert load(out).task.kind == "soft"
    assert main([*train, "--out", str(out), "--resume", *teacher, "--temperature", "2"]) == 78
    assert "temperature was 3, is now 2" in capsys.readouterr().err
    assert main([*train, "--out", str(tmp_path / "no"), "--temperature", "2"]) == 2
    assert "--temperature is for a --teacher" in capsys.readouterr().err


def test_texts_without_labels_need_something_that_learns_from_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["model.hidden=4", "model.embedding=4", "model.ngrams=false", "train.epochs=1", "train.adversarial=0"]
    train = ["train", str(folder / "data.csv"), *(f"--set={each}" for each in settings), "--json"]
    more = ["--unlabelled", str(folder / "texts.txt")]
    assert main([*train, "--out", str(tmp_path / "no"), *more]) == 2
    assert "name train.virtual or train.entropy, or a --teacher" in capsys.readouterr().err
    assert main([*train, "--out", str(tmp_path / "run"), *more, "--set", "train.entropy=1"]) == 0
    said = capsys.readouterr().err
    assert "unlabelled texts are new, and learned from" in said
    about: dict[str, Any] = bundle.read(tmp_path / "run" / "bundle", "bundle").about
    assert about["unlabelled"] == pipeline.digest_now(folder / "texts.txt")


def test_what_is_no_teacher_is_refused(teacher: Model) -> None:
    parts = {"train": [Example("a", "strange"), Example("b", "pos")], "valid": examples(4, 1)}
    with pytest.raises(DataError, match=r"the teacher knows no label strange \(known: neg, pos\)"):
        Teacher(teacher).teach(parts, SMALL, lambda _: None)
    with pytest.raises(UsageError, match="temperature 0"):
        Teacher(teacher, temperature=0.0)
    with pytest.raises(ConfigError, match="one label a text"):
        Teacher(teacher).teach(parts, SMALL.override(["task.several=true"]), lambda _: None)
    writes = Config.parse(
        {"task": {"kind": "generate"}, "model": {"hidden": 4, "embedding": 4}, "train": {"epochs": 1}}
    )
    texts = [Example("the film was good")] * 3
    with pytest.raises(UsageError, match="the teacher does generate"):
        Teacher(pipeline.fit(texts, texts, writes).model)
