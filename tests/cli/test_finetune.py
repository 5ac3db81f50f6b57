"""`echoic finetune` by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import TINY, Answer, sentences, write_csv
from cli.test_generate import SMALL, verses
from echoic.cli.main import main

Call = Callable[..., Answer]

HOW = [each for each in TINY if "hidden" not in each and "embedding" not in each]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finetune")
    write_csv(path / "data.csv", sentences(40))
    more = "".join(f"{text} again\n" for _, text in sentences(30, 11))
    (path / "texts.txt").write_text(more, encoding="utf-8")
    (path / "foreign.txt").write_text(verses(60), encoding="utf-8")
    how = ["--quiet", "--json", *SMALL, "--set=text.tokenizer=words", "--set=text.min_count=1"]
    rows = "".join(f"{text}\n" for _, text in sentences(60, 3))
    (path / "base.txt").write_text(rows, encoding="utf-8")
    assert main(["train", str(path / "base.txt"), "--out", str(path / "base"), *how]) == 0
    return path


def test_a_base_and_a_file_make_a_classifier(call: Call, folder: Path) -> None:
    out = folder / "run"
    answer = call("finetune", folder / "base", folder / "data.csv", "--out", out, *HOW, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["task"] == "classify"
    assert "tokens of the base, " in answer.err
    assert "tfidf_lr" in answer.json["validation"]["baselines"]
    assert call("predict", out, "a good film", "--json").json["predictions"][0]["label"] in ("pos", "neg")
    again = call("finetune", folder / "base", folder / "data.csv", "--out", out, "--resume")
    assert again.code == 0, again.err
    assert "echoic predict" in again.out
    call("finetune", folder / "base", folder / "data.csv", "--out", out, *HOW).refused(73, "--resume goes on")


def test_texts_without_labels_come_first(call: Call, folder: Path) -> None:
    out, settings = folder / "adapted", folder / "language.toml"
    settings.write_text("[train]\nepochs = 1\nbatch_size = 8\n")
    how = ("--unlabelled", folder / "texts.txt", "--language-config", settings)
    answer = call("finetune", folder / "base", folder / "data.csv", "--out", out, *how, *HOW)
    assert answer.code == 0, answer.err
    assert "first the language model" in answer.err
    assert "then the classifier" in answer.err
    assert "tokens of the base, 1 new" in answer.err
    assert call("generate", out / "language", "--prompt", "the", "--length", 3).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("data.csv",), 2, "give BASE, or --unlabelled FILE"),
        (("base", "data.csv", "base"), 2, "wants [BASE] DATA, got 3 paths"),
        (("nothing", "data.csv"), 66, "no such file or folder"),
        (("base", "data.csv", "--set=model.hidden=3"), 78, "model.hidden = 3: the base has 8"),
        (("base", "data.csv", "--task=generate"), 2, "not generate"),
        (("base", "data.csv", "--unlabelled=foreign.txt"), 65, "the base is of another language"),
    ],
)
def test_what_makes_no_sense_is_refused(
    call: Call, folder: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    folders = f"--unlabelled={folder}/"
    placed = [each.replace("--unlabelled=", folders) if each.startswith("-") else folder / each for each in arguments]
    call("finetune", *placed, "--out", tmp_path / "no").refused(code, said)
