"""`echoic inspect`: one text in a terminal, as JSON, as a page; words; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import Answer

Call = Callable[..., Answer]


def test_json(call: Call, run: Path, csv_file: Path) -> None:
    answer = call("inspect", run, "a good film", "--json", "--data", csv_file, "-q")
    assert (answer.code, answer.err) == (0, "")
    found = answer.json
    assert [token["text"] for token in found["tokens"]] == ["a", "good", "film"]
    assert [(cell["layer"], cell["direction"]) for cell in found["cells"]] == [(0, "forwards"), (0, "backwards")]
    assert found["cells"][0]["gates"] == ["i", "f", "g", "o"]
    assert {(len(v), len(v[0])) for v in found["cells"][0]["fields"].values()} == {(3, 4)}
    assert found["label"] == call("predict", run, "a good film", "--json").json["predictions"][0]["label"]
    assert [flow["name"] for flow in found["gradient"]][:2] == ["lstm, this model", "rnn"]
    assert len(found["alike"][0]["highest"]) == 4
    assert len(found["alike"][0]["nearest"]) == 3


def test_for_people(call: Call, run: Path) -> None:
    answer = call("inspect", run, "a good \x1b[31m film " * 20)
    assert answer.code == 0
    assert "\x1b" not in answer.out
    for part in ("layer 0 forwards", "layer 0 backwards", "good", "rnn, U x 4", "tokens more"):
        assert part in answer.out


def test_a_page_and_a_picture(call: Call, run: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "p.html", tmp_path / "p.png"
    answer = call("inspect", run, "一部 good film", "--html", page, "--png", picture, "-q")
    assert (answer.code, answer.err) == (0, "")
    assert "一" in page.read_text(encoding="utf-8")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert call("inspect", run, "a", "--html", tmp_path / "none" / "p.html", "-q").code == 73


def test_words(call: Call, run: Path) -> None:
    found = call("inspect", run, "--neighbours", "good", "--analogy", "good", "bad", "film", "--json").json
    assert [each["question"] for each in found["words"]] == ["near good", "good is to bad as film is to"]
    near = found["words"][0]["after training"]
    assert len(near) == 10
    assert near == sorted(near, key=lambda each: -each["cosine"])
    assert "good" not in [each["word"] for each in near]
    people = call("inspect", run, "--neighbours", "good")
    assert people.code == 0
    assert near[0]["word"] in people.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--neighbours"),
        (["a text", "--neighbours", "good"], 2, "--neighbours"),
        (["--neighbours", "good", "--html", "p.html"], 2, "belong to a text"),
        (["--neighbours", "goood"], 2, "did you mean 'good'"),
        (["a text", "--from", "3"], 2, "the text has 2"),
        (["a text", "--data", "none.csv"], 66, "none.csv: no such file"),
        (["bad \udcff byte"], 65, "text 1"),
    ],
)
def test_what_inspect_refuses(call: Call, run: Path, arguments: list[str], code: int, said: str) -> None:
    call("inspect", run, "-q", *arguments).refused(code, said)
