"""Planted leaks are found, clean data is left in peace, and each code fires on what it names."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest

from echoic.core.types import Example
from echoic.read.check import Finding, check_parts, require_trainable
from echoic.read.keys import FOLDED, classes_of, text_key

GOOD = ["excellent", "superb", "lovely", "moving", "charming", "精彩", "好看", "感人"]
BAD = ["awful", "boring", "terrible", "worst", "dull", "难看", "无聊", "失望"]
PLAIN = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)]
LEAKS = ("copies", "folded copies", "group", "tag", "rating", "label name", "word everywhere")


def sentence(rng: np.random.Generator, label: str) -> str:
    """Ordinary text: a good word is nearly always in a good text, and a few stand in good texts only."""
    words = list(rng.choice(PLAIN, size=int(rng.integers(8, 25))))
    right, wrong = (GOOD, BAD) if label == "pos" else (BAD, GOOD)
    words += list(rng.choice(right, size=1)) if rng.random() < 0.7 else []
    words += list(rng.choice(wrong[1:], size=1)) if rng.random() < 0.05 else []
    rng.shuffle(words)
    return " ".join(words)


def clean(seed: int) -> dict[str, list[Example]]:
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.3, 0.7)
    parts: dict[str, list[Example]] = {}
    for part, size in (("train", 600), ("valid", 120), ("test", 150)):
        parts[part] = []
        for row in range(1, size + 1):
            label = "pos" if rng.random() < share else "neg"
            parts[part].append(Example(sentence(rng, label), label, f"{part}{row % 40}", row))
    return parts


def with_text(example: Example, text: str) -> Example:
    return Example(text, example.target, example.group, example.row)


def leaky(seed: int, kind: str) -> dict[str, list[Example]]:
    parts = clean(seed)
    train, test = parts["train"], parts["test"]
    rng = np.random.default_rng(seed)
    for i in range(5):
        if kind == "copies":
            test[i * 3] = with_text(test[i * 3], train[i * 7].input)
        elif kind == "folded copies":
            test[i * 3] = with_text(test[i * 3], "  ".join(train[i * 7].input.upper().split()))
        elif kind == "group":
            test[i] = Example(test[i].input, test[i].target, train[i].group, i + 1)
    marks = {"tag": "<src_17>", "rating": "9/10", "label name": "#pos", "word everywhere": "zulu"}
    if kind in marks:
        rate = 0.9 if kind == "word everywhere" else 0.3
        for i, example in enumerate(train):
            if example.target == "pos" and rng.random() < rate:
                train[i] = with_text(example, f"{example.input} {marks[kind]}.")
    return parts


def leaks(findings: Sequence[Finding]) -> set[str]:
    return {f.code for f in findings if f.code.startswith("LEAK") and f.level == "warning"}


def test_planted_leaks_are_found_and_clean_sets_left_in_peace() -> None:
    wanted = {"copies": "LEAK001", "folded copies": "LEAK001", "group": "LEAK003"}
    found = sum(
        leaks(check_parts(leaky(seed, kind := LEAKS[seed % 7]))) == {wanted.get(kind, "LEAK002")} for seed in range(20)
    )
    alarms = sum(bool(leaks(check_parts(clean(seed)))) for seed in range(100, 120))
    assert found >= 19
    assert alarms <= 1


def some(findings: Sequence[Finding], code: str) -> Finding:
    return next(f for f in findings if f.code == code)


def part(*pairs: tuple[str, object]) -> list[Example]:
    return [Example(text, target, None, row) for row, (text, target) in enumerate(pairs, start=1)]


def test_duplicates_are_counted_with_their_rows() -> None:
    train = part(("Ａ b", "x"), ("c", "y"), ("a  B", "x"), ("", "x"), ("", "y"))
    test = part(("q", "x"), ("AB", "y"), ("c", "y"), ("", "y"))
    findings = check_parts({"train": train, "test": test})
    leak = some(findings, "LEAK001")
    assert (leak.level, leak.count, leak.rows) == ("warning", 2, (2, 3))
    assert "1 of them after folding" in leak.message
    assert some(findings, "DUP001").rows == (3,)
    assert some(findings, "LEN001").count == 2
    assert "CONF001" not in {f.code for f in findings}


def test_conflicting_labels() -> None:
    findings = check_parts(
        {"train": part(("a", "x"), ("A", "y"), ("b", "x"), ("b", "x"), ("c", ("p", "q")), ("c", ("q", "p")))}
    )
    assert some(findings, "CONF001").rows == (1, 2)


@pytest.mark.parametrize(
    ("code", "level", "parts"),
    [
        ("LABEL001", "error", {"train": part(*((f"t{i}", f"id{i}") for i in range(30)))}),
        ("LABEL002", "warning", {"train": part(("a", "x"), ("b", "y")), "test": part(("c", "x"))}),
        (
            "LABEL002",
            "error",
            {"train": part(("a", "x"), *((f"b{i}", "y") for i in range(10))), "valid": part(("c", "x"))},
        ),
        ("LABEL003", "warning", {"train": part(("a", "x"), ("b", "y"), ("c", "x"))}),
        ("LABEL004", "error", {"train": part(("a", "x"), ("b", "y")), "test": part(("c", "z"), ("d", "x"))}),
        ("LABEL005", "error", {"train": part(("a", "x"), ("b", "x"))}),
        ("LABEL006", "warning", {"train": part(("a", "Pos"), ("b", "pos "), ("c", "neg"))}),
        (
            "DRIFT001",
            "warning",
            {
                "train": part(*((f"a{i}", "xy"[i % 2]) for i in range(99))),
                "test": part(*((f"b{i}", "xy"[i % 9 == 0]) for i in range(99))),
            },
        ),
        ("ENC001", "warning", {"train": part(("cafÃ© crÃ¨me", "x"), ("itâ€™s", "y"), ("fine", "x"))}),
        ("LEN001", "warning", {"train": part(("", "x"), ("fine", "y"))}),
    ],
)
def test_each_code_fires(code: str, level: str, parts: dict[str, list[Example]]) -> None:
    finding = some(check_parts(parts), code)
    assert finding.level == level
    assert finding.count > 0


def test_nothing_is_found_in_good_chinese_and_european_text() -> None:
    texts = [
        "这家酒店很好",
        "服务态度太差了",
        "très agréable à côté",
        "Ünïcode für alle",
        "Îles, Àéè",
        "Всё хорошо",
        "日本語のテキスト",
    ]
    train = part(*((f"{text} {i}", "pn"[i % 2]) for i in range(6) for text in texts))
    assert [f for f in check_parts({"train": train}) if f.level != "note"] == []


def test_an_ordinary_word_of_one_class_is_a_note() -> None:
    rng = np.random.default_rng(0)
    train = [
        Example(sentence(rng, label) + " striker" * (label == "pos" and i % 10 == 0), label, None, i)
        for i in range(2000)
        for label in ("pos", "neg")
    ]
    finding = some(check_parts({"train": train}), "LEAK002")
    assert finding.level == "note"
    assert "striker" in finding.message


def test_soft_and_several_labels_are_checked() -> None:
    soft = part(("a", {"x": 0.9, "y": 0.1}), ("b", {"x": 0.8, "y": 0.2}))
    assert some(check_parts({"train": soft}), "LABEL005").message == "needs >=2 classes, found 1: 'x'"
    several = part(("a", ("x", "y")), ("b", ()), ("c", ("x",)))
    assert {f.code for f in check_parts({"train": several})} == {"LABEL003"}
    assert classes_of(("x", "y")) == ("x", "y")


def test_many_labels_look_like_ids_only_where_a_row_has_one() -> None:
    tags = part(*((f"t{i}", (f"tag{i % 30}", f"tag{i * 7 % 30}")) for i in range(50)))
    assert "LABEL001" not in {f.code for f in check_parts({"train": tags})}
    none_first = part(("t", ()), *((f"t{i}", (f"tag{i}",)) for i in range(30)))
    assert "LABEL001" not in {f.code for f in check_parts({"train": none_first})}
    require_trainable(tags, 1, "tags.csv")
    soft = part(*((f"t{i}", {f"c{j}": float(i == j) for j in range(30)}) for i in range(30)))
    assert "LABEL001" not in {f.code for f in check_parts({"train": soft})}
    single = part(*((f"t{i}", f"id{i % 16}") for i in range(30)))
    assert some(check_parts({"train": single}), "LABEL001").message.startswith(
        "labels look like ids: 16 different ones in 30"
    )


def test_targets_and_texts_of_other_tasks_do_no_harm() -> None:
    assert check_parts({}) == []
    assert check_parts({"train": [Example(np.zeros(3)), Example(np.ones(3))]}) == []


def test_keys_fold_width_case_and_space_and_nothing_else() -> None:
    assert text_key("Ｈｅｌｌｏ  世界\n") == text_key("hello世界") != text_key("hello世")
    assert text_key(unicodedata.normalize("NFD", "café")) == text_key("CAFÉ")
    assert text_key(" \t\u3000") == b""
    assert text_key("x" * FOLDED + "tail a") != text_key("x" * FOLDED + "tail b")
    assert text_key("\ud800") != text_key("x")


def test_what_is_normalised_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """NFKC takes quadratic time on combining marks, so it must never see a whole long text."""
    lengths: list[int] = []

    def normalise(form: str, text: str) -> str:
        lengths.append(len(text))
        return text

    monkeypatch.setattr("echoic.read.keys.unicodedata.normalize", normalise)
    text_key("a" + "\u0301\u0316" * 100_000)
    assert lengths == [FOLDED]
