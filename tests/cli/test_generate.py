"""`echoic generate`, and train, evaluate and resume of a language model by the command line."""

from __future__ import annotations

import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import Answer, loaded, process
from echoic.cli.main import main
from echoic.model import load
from export.models import language

Call = Callable[..., Answer]

SMALL = [
    "--task=generate",
    *(
        f"--set={setting}"
        for setting in ("model.hidden=8", "model.embedding=6", "task.bptt=16", "train.epochs=2", "train.batch_size=4")
    ),
]


def verses(count: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "home", "then", "slept", "all", "night"]
    return "".join(" ".join(draw.choices(words, k=6)).capitalize() + ".\n" for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts")
    (path / "text.txt.xz").write_bytes(lzma.compress(verses(120).encode()))
    (path / "test.txt").write_text(verses(500, 1), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    out = folder / "run"
    assert main(["train", str(folder / "text.txt.xz"), "--out", str(out), "--quiet", "--json", *SMALL]) == 0
    return out


def test_training_leaves_a_whole_run(call: Call, folder: Path) -> None:
    answer = call("train", folder / "text.txt.xz", "--out", folder / "again", *SMALL, "--json")
    found = answer.json
    assert found["task"] == "generate"
    assert {"loss", "perplexity", "bits_per_character", "baselines"} <= found["validation"].keys()
    assert [each["temperature"] for each in found["samples"]] == [0.3, 0.5, 0.7, 1.0, 1.3]
    assert "read as one text of" in answer.err
    assert "the last 10% of the text are held out" in answer.err
    page = (folder / "again" / "report.html").read_text(encoding="utf-8")
    assert "How it writes" in page
    assert "6-grams, Kneser-Ney" in page
    shown = call("train", folder / "text.txt.xz", "--out", folder / "again", *SMALL, "--force")
    assert "bits a character" in shown.out
    assert "echoic generate" in shown.out


def test_a_run_that_ended_is_given_back(call: Call, folder: Path, model: Path) -> None:
    answer = call("train", folder / "text.txt.xz", "--out", model, "--resume", "--json")
    assert answer.code == 0, answer.err
    assert "resumed after step" in answer.err


def test_evaluating_has_the_ngrams_beside_it(call: Call, folder: Path, model: Path) -> None:
    answer = call("evaluate", model, folder / "test.txt", "--json")
    found = answer.json
    assert found["baselines"]["ngram"]["tokens"] == found["tokens"] == found["characters"]
    assert found["difference"].keys() == {"difference", "low", "high", "p"}
    assert found["seen_share"] == 0.0
    assert "nats a character" in call("evaluate", model, folder / "test.txt").out
    assert call("evaluate", model, folder / "text.txt.xz", "--json").json["seen_share"] > 0.7
    assert "were used in training" in call("evaluate", model, folder / "text.txt.xz").out
    page = folder / "scores.html"
    assert call("evaluate", model, folder / "test.txt", "--html", page).code == 0
    assert "Kneser-Ney" in page.read_text(encoding="utf-8")
    call("evaluate", model, folder / "test.txt", "--png", folder / "x.png").refused(2, "--html")


def test_json_has_text_and_continuation(call: Call, model: Path) -> None:
    answer = call("generate", model, "--prompt", "The cat", "--length", 20, "--json")
    assert answer.json.keys() == {"text", "continuation"}
    assert answer.json["text"] == "The cat"
    assert len(answer.json["continuation"]) == 20
    several = call("generate", model, "--prompt", "The", "--length", 9, "--samples", 3, "--json").json
    assert len(several["continuations"]) == 3
    assert several["continuations"][0] == several["continuation"]
    shown = call("generate", model, "--prompt", "The", "--length", 9, "--samples", 3).out
    assert [f"--- {i} ---" in shown for i in (1, 2, 3, 4)] == [True, True, True, False]


def test_prompt_and_continuation_are_printed_whole_or_as_they_come(call: Call, model: Path) -> None:
    asked = ("generate", model, "--prompt", "The cat", "--length", 40, "--seed", 3)
    told = call(*asked, "--json").json
    assert call(*asked).out == told["text"] + told["continuation"] + "\n"
    assert call(*asked, "--stream").out == call(*asked).out
    assert call(*asked).err == ""
    assert call(*asked, "--seed", 4).out != call(*asked).out


def test_each_option_of_sampling_changes_the_text(call: Call, model: Path) -> None:
    asked = ("generate", model, "--prompt", "The cat", "--length", 60)
    usual = call(*asked).out
    for more in (
        ("--temperature", 0.3),
        ("--temperature", 0),
        ("--top-k", 2),
        ("--top-p", 0.3),
        ("--min-p", 0.7),
        ("--repetition-penalty", 9),
        ("--seed", 1),
        ("--stop", "e"),
    ):
        answer = call(*asked, *more)
        assert answer.code == 0, answer.err
        assert answer.out != usual, more
    assert "e" not in call(*asked, "--stop", "e", "--json").json["continuation"]
    assert call(*asked, "--temperature", 0, "--seed", 1).out == call(*asked, "--temperature", 0, "--seed", 2).out


def test_what_is_odd_is_said_and_done(call: Call, model: Path) -> None:
    empty = call("generate", model, "--length", 10)
    assert empty.code == 0
    assert "begins as its training texts begin" in empty.err
    assert len(empty.out) == 11
    unseen = call("generate", model, "--prompt", "The 猫 sat\x07", "--length", 5)
    assert unseen.code == 0
    assert "not in the training text, and read as <unk>: '猫', '\\x07'" in unseen.err
    many = call("generate", model, "--prompt", "The", "--top-k", 5000, "--length", 12)
    assert "above the vocabulary of" in many.err
    assert many.out == call("generate", model, "--prompt", "The", "--length", 12).out
    assert call("generate", model, "--prompt", "The 猫", "--top-k", 5000, "--quiet", "--length", 5).err == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--temperature", -0.5), "temperature -0.5: wants a number 0 (the most probable token) or above"),
        (("--temperature", "nan"), "temperature nan"),
        (("--top-k", -3), "top-k -3"),
        (("--top-p", 0), "top-p 0"),
        (("--min-p", 1.5), "min-p 1.5"),
        (("--repetition-penalty", 0), "repetition-penalty 0"),
        (("--length", -1), "--length"),
        (("--samples", 0), "--samples"),
        (("--stream", "--json"), "--stream prints one text"),
        (("--stream", "--samples", 2), "--stream prints one text"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Call, model: Path, options: tuple[object, ...], said: str) -> None:
    call("generate", model, "--prompt", "The", *options).refused(2, said)


def test_a_classifier_does_not_generate(call: Call, run: Path) -> None:
    call("generate", run, "--prompt", "x").refused(2, "only a language model generates")


def test_text_that_is_too_short_or_labelled_is_refused(call: Call, folder: Path) -> None:
    (folder / "short.txt").write_text("a")
    call("train", folder / "short.txt", "--out", folder / "no", *SMALL).refused(65, "too short")
    call("train", folder / "test.txt", "--out", folder / "no", *SMALL, "--label", "x").refused(2, "no labels")
    call("train", folder / "test.txt", "--out", folder / "no", *SMALL, "--set", "model.pool=mean").refused(
        78, "model.pool = mean: says nothing to a language model"
    )


def test_the_list_of_settings_has_the_tasks_own_defaults(call: Call) -> None:
    assert (
        "with --task generate these defaults are others: text.tokenizer=codepoints" in call("train", "--settings").out
    )


def test_a_fresh_process_writes_the_same(call: Call, model: Path) -> None:
    asked = ("generate", model, "--prompt", "The dog", "--length", 30, "--seed", 5)
    done = process(*asked, "--stream")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == call(*asked).out


def test_it_writes_without_torch_and_says_when_it_cannot(call: Call, folder: Path, model: Path, tmp_path: Path) -> None:
    code, names, said = loaded("generate", model, "--prompt", "the", "--length", "5")
    assert (code, names & {"torch", "scipy", "sklearn"}) == (0, set()), said
    asked = ("--prompt", "the", "--length", "20", "--json", "-q")
    assert call("generate", model, *asked).json["continuation"] == load(model).generate("the", length=20).continuation
    assert call("generate", model, *asked, "--int8").json["continuation"]
    language("model.cell.kind=jordan").save(tmp_path / "jordan")
    answer = call("generate", tmp_path / "jordan", "--prompt", "a", "--length", "3")
    assert answer.err == "the cell jordan runs in torch alone, so torch answers\n"
    call("generate", tmp_path / "jordan", "--int8").refused(2, "--int8", "the cell jordan")


def test_a_model_is_also_scored_while_it_learns_and_remembers(call: Call, model: Path, folder: Path) -> None:
    answer = call("evaluate", model, folder / "test.txt", "--dynamic", "0.05", "--cache", "50", "--json")
    more = answer.json["remembering"]
    assert (more["rate"], more["cache"]) == (0.05, 50)
    assert more["tokens"] == answer.json["tokens"]
    assert more["perplexity"] != answer.json["perplexity"]
    said = call("evaluate", model, folder / "test.txt", "--cache", "50").out
    assert "learning at 0, remembering 50 tokens: perplexity" in said
    call("evaluate", model, folder / "test.txt", "--dynamic", "-1").refused(2, "rate -1")
