"""`echoic evaluate` and `echoic check`: what they say, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import Answer, sentences, write_csv

Call = Callable[..., Answer]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "test.csv", sentences(20, seed=8))


def test_scores_as_json(call: Call, run: Path, held_out: Path) -> None:
    answer = call("evaluate", run, held_out, "--json", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    scores = answer.json
    assert scores["examples"] == 20
    assert 0 <= scores["accuracy"] <= 1
    assert {"macro_f1", "loss", "per_class", "accuracy_interval", "difference", "seen_in_training"} <= scores.keys()
    assert scores["baselines"].keys() == {"majority", "tfidf_lr"}
    assert scores["baselines"]["majority"]["accuracy"] == 0.5
    difference = scores["accuracy"] - scores["baselines"]["tfidf_lr"]["accuracy"]
    assert scores["difference"]["difference"] == pytest.approx(difference)


def test_scores_as_a_table(call: Call, run: Path, held_out: Path) -> None:
    answer = call("evaluate", run, held_out)
    assert answer.code == 0
    for part in ("On 20 given rows", "majority class", "TF-IDF + logistic regression", "interval"):
        assert part in answer.out


def test_scores_as_a_page_and_a_picture(call: Call, run: Path, held_out: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "scores.html", tmp_path / "scores.png"
    assert call("evaluate", run, held_out, "--html", page, "--png", picture, "-q").code == 0
    assert "On 20 given rows" in page.read_text()
    assert picture.read_bytes()[:4] == b"\x89PNG"
    call("evaluate", run, held_out, "--html", page, "-q").refused(73, "--force replaces it")
    assert call("evaluate", run, held_out, "--html", page, "-q", "--force").code == 0
    before = held_out.read_bytes()
    call("evaluate", run, held_out, "--html", held_out, "-q", "--force").refused(2, "is the input as well")
    assert held_out.read_bytes() == before
    call("evaluate", run, held_out, "--html", tmp_path / "no" / "x.html", "-q").refused(73, "x.html")


def test_training_rows_are_pointed_out(call: Call, run: Path, csv_file: Path) -> None:
    assert "of these rows were used in training or validation; " in call("evaluate", run, csv_file).out


def test_columns_may_have_other_names(call: Call, run: Path, held_out: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("sorte;satz\n" + held_out.read_text().partition("\n")[2].replace(",", ";"))
    call("evaluate", run, other).refused(65, "no column 'label'", "satz")
    answer = call("evaluate", run, other, "--text", "satz", "--label", "1", "--json", "-q")
    assert answer.json == call("evaluate", run, held_out, "--json", "-q").json


def test_a_label_unseen_in_training_is_65(call: Call, run: Path, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "o.csv", [*sentences(10), ("meh", "a film")])
    call("evaluate", run, other, "-q").refused(65, "'meh'")


def test_check_of_a_clean_file(call: Call, csv_file: Path) -> None:
    answer = call("check", csv_file, "--json", "-q")
    assert answer.code == 0
    assert answer.json["parts"]["train"]["rows"] == 60
    assert answer.json["parts"]["train"]["classes"] == {"pos": 30, "neg": 30}
    assert [f for f in answer.json["findings"] if f["level"] == "error"] == []


def test_check_finds_a_leak_and_strict_makes_it_a_no(call: Call, csv_file: Path, tmp_path: Path) -> None:
    test = write_csv(tmp_path / "t.csv", [*sentences(20, seed=5), *sentences(3)])
    answer = call("check", csv_file, "--test", test, "--json")
    (leak,) = (f for f in answer.json["findings"] if f["code"] == "LEAK001")
    assert (answer.code, leak["count"]) == (0, 3)
    assert set(leak["rows"]) == {21, 22, 23}
    strict = call("check", csv_file, "--test", test, "--strict")
    assert strict.code == 1
    assert "LEAK001" in strict.out
    assert strict.err.splitlines()[-1].startswith("echoic: error: LEAK001")


def test_check_says_errors_and_strict_refuses_them(call: Call, tmp_path: Path) -> None:
    one = write_csv(tmp_path / "one.csv", [("x", f"text {i}") for i in range(8)])
    assert call("check", one).code == 0
    assert call("check", one, "--strict").code == 1
    few = write_csv(tmp_path / "few.csv", [("x", "a b"), ("x", "c d"), ("y", "e f")])
    assert "want at least 2 rows of a class: 'y' (1 row)" in call("check", few).out
    assert call("check", few, "--strict").code == 1


def test_check_of_running_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line\nanother line\n")
    answer = call("check", tmp_path / "a.txt", "--task", "generate")
    assert answer.code == 0, answer.err
    assert "train: 1 rows" in answer.out


@pytest.mark.parametrize(
    ("setting", "said"),
    [("several=False", None), ("several=maybe", "/task: /several"), ("separator=", "/task: /separator")],
)
def test_a_classifiers_own_settings_are_checked(call: Call, tmp_path: Path, setting: str, said: str | None) -> None:
    data = write_csv(tmp_path / "d.csv", [("a|b", "one two"), ("a", "three four")] * 3)
    answer = call("check", data, "--set", f"task.{setting}", *(["--several"] if said and "separator" in said else []))
    if said is None:
        assert "a|b" in answer.out
        assert "several labels" not in answer.err
    else:
        answer.refused(78, said)


def test_what_a_file_says_is_escaped(call: Call, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "d.csv", [("\x1b[31mred", "a b"), ("[bold]x", "b c")] * 10)
    answer = call("check", data)
    assert answer.code == 0
    assert "\x1b" not in answer.out + answer.err
    assert "[bold]x" in answer.out


def test_a_classifier_does_not_learn_from_what_it_is_scored_on(call: Call, run: Path, held_out: Path) -> None:
    for option in ("--dynamic", "--cache"):
        call("evaluate", run, held_out, option, "1").refused(2, "for a language model; this model does classify")


@pytest.mark.parametrize("verb", ["check", "train", "evaluate"])
@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 66, "no such file"),
        (b"", 65, "empty"),
        (b"label,text\n", 65, "0 rows"),
        (b"\x80\x04\x95", 65, "looks like pickle"),
        (b'label,text\na,"never closed\n', 65, "row 1"),
        (b"label,text\na,\xff\xfe bad\n", 65, "--on-bad-bytes"),
    ],
)
def test_every_reader_refuses_alike(
    call: Call, run: Path, tmp_path: Path, verb: str, content: bytes | None, code: int, said: str
) -> None:
    data = tmp_path / "d.csv"
    if content is not None:
        data.write_bytes(content)
    first = {"check": [], "evaluate": [run], "train": ["--out", tmp_path / "r"]}[verb]
    call(verb, *first, data, "--quiet").refused(code, said)
