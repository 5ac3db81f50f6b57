"""The report: its order, its escaping, that it asks nothing of a network, and what its verdict says."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from echoic.core.errors import CannotCreate, Unavailable
from echoic.evaluate import intervals, metrics, plots, png, report
from echoic.evaluate.report import HardError, Part, ReportFacts, html, render_table, verdict

EVIL = "<script>alert('x')</script>\"&\u202e\x00[red]"
ORDER = ["verdict", "curves", "confusion", "classes", "calibration", "errors", "words", "data", "cost", "use", "origin"]


def _facts(classes: int = 3, kind: metrics.Kind = "single", names: list[str] | None = None, **more: Any) -> ReportFacts:
    generator = np.random.default_rng(0)
    names = names or ["负面", "positive", EVIL, *map(str, range(classes))][:classes]
    targets = generator.integers(0, classes, 200)
    strong, weak = (generator.dirichlet(np.ones(classes), 200) + s * np.eye(classes)[targets] for s in (0.4, 0.05))
    strong, weak = strong / strong.sum(1, keepdims=True), weak / weak.sum(1, keepdims=True)
    y = targets if kind == "single" else np.eye(classes)[targets]
    scores = {
        name: metrics.classification(p, y, names, kind=kind)
        for name, p in (("model", strong), ("tfidf_lr", weak), ("majority", np.roll(weak, 1, 1)))
    }
    a, b = (metrics.correct(metrics.decide(p, kind=kind), y, kind=kind) for p in (strong, weak))
    facts = ReportFacts(
        title=EVIL,
        names=names,
        kind=kind,
        part="test",
        scores=scores,
        difference=intervals.mcnemar(a, b),
        history=[
            {"epoch": i, "train_loss": 1 / i, "valid_loss": 2 / i, "valid_accuracy": 1 - 1 / i} for i in (1, 2, 3)
        ],
        best_epoch=2,
        calibration={EVIL: EVIL},
        errors=[HardError(7, "不好看" + EVIL, EVIL, "正面", 0.98, [(0, 3), (5, 11)])],
        neighbours={EVIL: {"after training": [(EVIL, 0.5), ("好", 0.25)]}},
        data=[Part("train", 1234, 10, 50, 900, 3, 77)],
        findings=[("warning", EVIL)],
        cost={"parameters": "5,384,962"},
        commands=[("Ask it:", f"echoic predict RUN '{EVIL}'")],
        origin={"seed": "0", EVIL: EVIL},
    )
    return dataclasses.replace(facts, **more)


class _Reader(HTMLParser):
    """Collects tags, attributes and text, and that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.sections: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta",):
            self.open.append(tag)
        if tag == "section":
            self.sections.append(str(dict(attrs)["id"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize(
    ("classes", "kind"), [(2, "single"), (3, "single"), (3, "several"), (3, "soft"), (15, "single"), (60, "single")]
)
def test_the_sections_stand_in_their_order(classes: int, kind: metrics.Kind) -> None:
    assert _read(html(_facts(classes, kind))).sections == ORDER


def test_nothing_is_asked_of_a_network_and_no_script_runs() -> None:
    page = _read(html(_facts()))
    assert not {"script", "link", "iframe", "object", "embed", "img", "form"} & set(page.tags)
    assert not {"src", "href", "action", "style", "srcset"} & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:|//[a-z]", html(_facts()).replace("<!doctype", ""))


@pytest.mark.parametrize("kind", ["single", "several"])
def test_a_score_on_validation_rows_says_what_they_chose(kind: metrics.Kind) -> None:
    facts = _facts(kind=kind, part="validation")
    said = "quote a test file's score."
    assert verdict(facts).endswith(said)
    assert ("thresholds" in verdict(facts)) == (kind == "several")
    assert said in verdict(dataclasses.replace(facts, difference=None))
    assert said in _read(html(facts)).text
    out = io.StringIO()
    Console(file=out, width=500).print(render_table(facts))
    assert said in out.getvalue()
    assert "These rows also chose" not in verdict(_facts(kind=kind))


def test_anybodys_text_is_escaped_and_shown() -> None:
    page = html(_facts())
    assert "<script" not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert _read(page).text.count("<script>alert('x')</script>") >= 8
    assert "不好看" in page


def test_a_lone_surrogate_can_be_written(tmp_path: Path) -> None:
    report.write_report(tmp_path / "r.html", _facts(errors=[HardError(1, "\ud800", "a", "b", 0.5)]))
    assert "\\ud800" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_place_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate):
        report.write_report(tmp_path / "no" / "r.html", _facts())


def test_a_long_text_is_cut() -> None:
    page = html(_facts(errors=[HardError(1, "字" * 5000, "a", "b", 0.5)]))
    assert "字" * (report.TEXT_LIMIT - 1) + "…" in page
    assert "字" * report.TEXT_LIMIT not in page


@pytest.mark.parametrize(
    ("paired", "words"),
    [
        ((0.02, 0.01, 0.03, 0.001), "2.0 points above TF-IDF"),
        ((-0.02, -0.03, -0.01, 0.001), "2.0 points below TF-IDF"),
        ((0.01, -0.01, 0.03, 0.3), "cannot be told apart from TF-IDF"),
    ],
)
def test_the_verdict_says_what_the_interval_allows(paired: tuple[float, ...], words: str) -> None:
    facts = _facts(difference=intervals.Paired(*paired))
    assert words in verdict(facts)
    assert f"{100 * paired[1]:+.1f} to {100 * paired[2]:+.1f}" in verdict(facts)
    accuracy = facts.scores["model"]["accuracy"]
    low, high = intervals.wilson(round(accuracy * 200), 200)
    assert f"accuracy {100 * accuracy:.1f} % (95 % interval {100 * low:.1f} % to {100 * high:.1f} %)" in verdict(facts)
    assert verdict(facts).startswith("On 200 test rows")


def test_every_model_stands_in_the_one_table() -> None:
    facts = _facts()
    page = _read(html(facts)).text
    for name, s in facts.scores.items():
        assert report.MODELS[name] in page
        assert f"{100 * s['accuracy']:.1f} %" in page


def test_a_bare_run_has_a_report_too() -> None:
    whole = _facts()
    bare = ReportFacts("run", whole.names, "single", "test", {"model": whole.scores["model"]})
    assert _read(html(bare)).sections == ["verdict", "confusion", "classes", "calibration"]
    assert verdict(bare).endswith(").")


def test_the_terminals_table() -> None:
    out = io.StringIO()
    Console(file=out, width=400).print(render_table(_facts()))
    text = out.getvalue()
    assert verdict(_facts()) in text
    assert "TF-IDF + logistic regression" in text
    assert "majority class" in text
    markup = _facts()
    out.truncate(0)
    Console(file=out, width=400).print(
        render_table(dataclasses.replace(markup, scores={**markup.scores, "[red]x": markup.scores["model"]}))
    )
    assert "[red]x" in out.getvalue()


def test_the_confusion_matrix_has_labels_in_rows() -> None:
    drawn = plots.confusion([[90, 10], [0, 50]], ["no", "yes"])
    assert "no → yes: 10 (10.0%)" in drawn
    assert "yes → no: 0 (0.0%)" in drawn


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.3, 0.3), (0.0, 0.0), (0.912, 0.9155), (1e-6, 3e4), (-2, 5)])
def test_ticks_hold_the_values(low: float, high: float) -> None:
    ticks = plots.nice_ticks(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8


def test_curves_leave_out_what_is_not_a_number() -> None:
    drawn = plots.curves(
        [{"epoch": 1, "valid_loss": 1.0}, {"epoch": 2, "valid_loss": float("nan")}, {"epoch": 3, "valid_loss": 0.5}],
        ["valid_loss"],
        "loss",
    )
    assert "nan" not in drawn
    assert drawn.count("<rect") == 2
    assert plots.curves([{"epoch": 1}], ["valid_loss"], "loss") == ""


def test_a_png_names_what_it_can_and_says_what_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(png, "fonts_for", lambda wanted: None)
    png.write_png(tmp_path / "r.png", _facts(names=["负面", "正面", "$x"]), said.append)
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"
    assert len(said) == 1
    assert "no installed font" in said[0]


def test_fonts_are_chosen_by_their_glyphs() -> None:
    assert png.fonts_for({ord("a")}) == ["DejaVu Sans"]
    assert png.fonts_for({0x10FFFD}) is None


def test_a_png_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Unavailable, match=r"echoic\[train\]"):
        png.write_png(tmp_path / "r.png", _facts(), print)


def test_the_words_that_misled_are_marked_in_the_text() -> None:
    text = "It was  good\n<b> not bad " + "x" * 500
    marks = [(8, 12), (17, 20), (23, 27), (490, 495)]
    page = html(_facts(errors=[HardError(1, text, "neg", "pos", 0.9, marks)]))
    assert "It was <u>good</u> &lt;b&gt; <u>not</u> ba<u>d xx</u>xxx" in page
    assert "good, not, d xx, xxxxx" in page
    assert "…" in page.partition('id="errors"')[2]
    plain = html(_facts(errors=[HardError(1, "short", "neg", "pos", 0.9)]))
    assert "<u>" not in plain


def test_neighbours() -> None:
    page = html(_facts(neighbours={"good": {"before training": [("bad", 0.9)], "after training": [("great", 0.81)]}}))
    assert "great 0.81" in page
    assert "before training" in page
    assert 'id="words"' not in html(_facts(neighbours={}))
