"""The report of a run: one HTML file that needs no network, no script and no other file, and its short
form for a terminal.

    facts = ReportFacts(...)              what was found; the pipeline fills it
    write_report(path, facts)             report.html
    verdict(facts), render_table(facts)   one sentence; the same table for a terminal

The order is a reader's: what came out, whether to believe it, where it fails, on which data, at which
cost, how to use it, and where it came from. All that a file or a model says is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from echoic.core import durable
from echoic.core.errors import show
from echoic.evaluate import plots
from echoic.evaluate.intervals import Paired, wilson
from echoic.evaluate.metrics import Kind
from echoic.evaluate.page import ending, findings, page, pairs, percent, say, table, verdict_and_scores

if TYPE_CHECKING:
    from rich.console import Group

MODELS = {"model": "this model", "tfidf_lr": "TF-IDF + logistic regression", "majority": "majority class"}
SCORES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "loss": "loss",
    "ece": "calibration error",
}
MATRIX_CLASSES = 40
TEXT_LIMIT = 400


@dataclass(frozen=True)
class HardError:
    """A row that was answered wrong. `sure`: the probability given to `said`, 0 to 1. `misled`: the places in the
    text, (start, end), of the words that spoke loudest for what was said, the loudest first."""

    row: int
    text: str
    wanted: str
    said: str
    sure: float
    misled: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Part:
    """A part of the data. Lengths in tokens; cut: texts and tokens that text.max_tokens left unread."""

    name: str
    rows: int
    median: int
    p95: int
    longest: int
    cut_texts: int = 0
    cut_tokens: int = 0


@dataclass(frozen=True)
class ReportFacts:
    """All that a report says."""

    title: str
    names: Sequence[str]
    """The C classes or labels."""
    kind: Kind
    part: str
    """The part that was scored: "test", or "validation" where there was no test file."""
    scores: Mapping[str, Mapping[str, Any]]
    """{"model": ..., "tfidf_lr": ..., "majority": ..., any other row's own name: ...}, each as
    metrics.classification gives it; "model" must be there. Shown in this order."""
    difference: Paired | None = None
    """The model less the TF-IDF baseline, in `metric`."""
    metric: str = "accuracy"
    """The score that the verdict and `difference` speak of: a key of SCORES."""
    history: Sequence[Mapping[str, float]] = ()
    """One mapping an epoch: "epoch" and any numbers; a key with "loss" in its name is drawn on the left,
    one with "accuracy", "f1" or "score" on the right, "train" and "valid" in their names as such."""
    best_epoch: float | None = None
    calibration: Mapping[str, str] = field(default_factory=dict)
    """Facts in words, as {"scale of the recurrent path": "0.83"}."""
    errors: Sequence[HardError] = ()
    faithful: str = ""
    """Whether the words that are marked in them are those that count, in a sentence."""
    neighbours: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]] = field(default_factory=dict)
    """{word: {"after training": its nearest words and their cosines, ...}}"""
    data: Sequence[Part] = ()
    findings: Sequence[tuple[str, str]] = ()
    """(level, message): duplicates, leaks and whatever else the checks found; how columns were chosen."""
    cost: Mapping[str, str] = field(default_factory=dict)
    """In words, as {"parameters": "5,384,962", "training": "12 min 4 s", "peak memory": "1.2 GiB"}."""
    commands: Sequence[tuple[str, str]] = ()
    """(what it does, the command to copy)."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Seed, versions, hashes, command line."""

    def html(self) -> str:
        return html(self)

    def table(self) -> Group:
        return render_table(self)


class Facts(Protocol):
    """What any task's run is drawn from: as a page, and as a table in the terminal."""

    def html(self) -> str: ...

    def table(self) -> Any: ...


def write_report(path: str | Path, facts: Facts) -> None:
    """Writes the HTML file. Raises core.errors' kinds where the disk refuses."""
    durable.write_file(Path(path), facts.html().encode())


def verdict(facts: ReportFacts) -> str:
    """The score, the baseline and the interval of the difference, in a sentence or two; and, of validation
    rows, that they flatter."""
    own, metric = facts.scores["model"], facts.metric
    rows = own["examples"]
    score = f"{_metric(facts, metric)} {percent(own[metric])}"
    if metric == "accuracy":
        low, high = wilson(round(own["accuracy"] * rows), rows)
        score += f" (95 % interval {percent(low)} to {percent(high)})"
    head = f"On {rows:,} {facts.part} rows: {score}."
    return " ".join(filter(None, (head, _against_tfidf(facts), _chosen_here(facts))))


def _against_tfidf(facts: ReportFacts) -> str:
    if facts.difference is None or "tfidf_lr" not in facts.scores:
        return ""
    d = facts.difference
    points = f"{abs(100 * d.difference):.1f} points"
    base = f"TF-IDF + logistic regression ({percent(facts.scores['tfidf_lr'][facts.metric])})"
    spread = f"the paired 95 % interval of the difference is {100 * d.low:+.1f} to {100 * d.high:+.1f}"
    return {
        "above": f"That is {points} above {base}; {spread}.",
        "below": f"That is {points} below {base}; {spread}. The simple thing is better here: use it, or give the network more data.",
        "level": f"It cannot be told apart from {base}: {spread}, which holds zero.",
    }[d.verdict]


def _chosen_here(facts: ReportFacts) -> str:
    """What makes a score on the validation part too good to quote."""
    if facts.part != "validation":
        return ""
    thresholds = ", the thresholds" if facts.kind == "several" else ""
    return (
        f"These rows also chose the epoch, the n-grams' penalty{thresholds} and the scales: quote a test file's score."
    )


def render_table(facts: ReportFacts) -> Group:
    """The verdict and the table of scores, for `rich.print`."""
    return verdict_and_scores(verdict(facts), *_score_rows(facts))


def html(facts: ReportFacts) -> str:
    """The whole page."""
    sections = [
        ("verdict", "", _verdict(facts)),
        ("curves", "Learning curves", _curves(facts)),
        ("confusion", "What is taken for what", _confusion(facts)),
        ("classes", "Class by class" if facts.kind != "several" else "Label by label", _classes(facts)),
        ("calibration", "Do the probabilities mean what they say?", _calibration(facts)),
        ("errors", "The hardest errors", _errors(facts)),
        ("words", "What the words mean to it", _neighbours(facts)),
        ("data", "The data", _data(facts)),
        *ending(facts),
    ]
    return page(facts.title, sections)


def _verdict(facts: ReportFacts) -> str:
    columns, rows = _score_rows(facts)
    state = facts.difference.verdict if facts.difference else "plain"
    return f'<p class="verdict {state}">{say(verdict(facts), 1000)}</p>' + table(
        ["", *columns], [[say(n), *v] for n, v in rows], "scores"
    )


def _score_rows(facts: ReportFacts) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(column heads, (model, its values) for each model)."""
    keys = [key for key in SCORES if key != "micro_f1" or facts.kind == "several"]
    rows = [
        (MODELS.get(name, name), [f"{s[key]:.3f}" if key == "loss" else percent(s[key]) for key in keys])
        for name, s in facts.scores.items()
    ]
    return [_metric(facts, key) for key in keys], rows


def _metric(facts: ReportFacts, key: str) -> str:
    return "all labels right" if facts.kind == "several" and key == "accuracy" else SCORES[key]


def _curves(facts: ReportFacts) -> str:
    if not facts.history:
        return ""
    keys = list(dict.fromkeys(key for epoch in facts.history for key in epoch if key != "epoch"))
    losses = [key for key in keys if "loss" in key]
    scores = [key for key in keys if any(word in key for word in ("accuracy", "f1", "score")) and key not in losses]
    drawn = [
        plots.curves(facts.history, group, title, best=facts.best_epoch)
        for group, title in ((losses, "loss"), (scores, "score"))
        if group
    ]
    caption = (
        f"<p>The kept weights are those of epoch {facts.best_epoch:g} (the dotted line).</p>"
        if facts.best_epoch is not None
        else ""
    )
    return f'<div class="pair">{"".join(drawn)}</div>{caption}' if drawn else ""


def _confusion(facts: ReportFacts) -> str:
    matrix = facts.scores["model"].get("confusion")
    if matrix is None:
        return "<p>Several labels may stand together, so there is no single matrix; see the labels one by one.</p>"
    size = len(facts.names)
    small = size <= MATRIX_CLASSES
    drawn = (
        plots.confusion(matrix, facts.names)
        if small
        else f"<p>{size} classes are too many for a matrix; the most frequent confusions:</p>"
    )
    if size <= 2:
        return drawn
    often = sorted(
        ((matrix[i][j], i, j) for i in range(size) for j in range(size) if i != j and matrix[i][j]), reverse=True
    )
    rows = [[say(facts.names[i]), say(facts.names[j]), f"{n:,}"] for n, i, j in often[: 8 if small else 30]]
    return drawn + (
        table(["it was", "and was taken for", "rows"], rows, "pairs")
        if rows
        else "<p>No row was taken for another class.</p>"
    )


def _classes(facts: ReportFacts) -> str:
    own, base = facts.scores["model"], facts.scores.get("tfidf_lr", {}).get("per_class", {})
    cut = own.get("thresholds", {})
    head = [
        "",
        "precision",
        "recall",
        "F1",
        "",
        *(["F1 of TF-IDF"] if base else []),
        "rows",
        *(["threshold"] if cut else []),
    ]
    rows = []
    for name, c in own["per_class"].items():
        other = [percent(base[name]["f1"]) if name in base else ""] if base else []
        last = [f"{c['support']:,}", *([f"{cut[name]:.2f}"] if cut else [])]
        rows.append(
            [
                say(name),
                percent(c["precision"]),
                percent(c["recall"]),
                percent(c["f1"]),
                plots.bar(c["f1"]),
                *other,
                *last,
            ]
        )
    return table(head, rows)


def _calibration(facts: ReportFacts) -> str:
    own = facts.scores["model"]
    said = f"<p>On average the stated probability is {percent(own['ece'])} away from what came true (expected calibration error); Brier score {own['brier']:.3f}.</p>"
    return said + plots.reliability(own["bins"]) + pairs(facts.calibration)


def _errors(facts: ReportFacts) -> str:
    if not facts.errors:
        return "<p>Not one row was answered wrong.</p>" if facts.scores["model"]["accuracy"] == 1 else ""
    rows = [
        [
            f"{e.row:,}",
            f'<span dir="auto">{_marked(e) if e.misled else say(e.text, TEXT_LIMIT)}</span>',
            say(e.wanted),
            say(e.said),
            f'<span dir="auto">{say(", ".join(e.text[start:end].strip() for start, end in e.misled))}</span>',
            percent(e.sure),
        ]
        for e in facts.errors
    ]
    note = f"<p>Wrong with the greatest conviction, worst first. Some may be wrong in the data. Underlined: the words that misled, by gradient x input. {say(facts.faithful, 1000)}</p>"
    return note + table(["row", "text", "labelled", "answered", "misled by", "how sure"], rows, "errors")


def _marked(e: HardError) -> str:
    """The text's begin, the words that misled underlined."""
    shown, out, place = e.text[: TEXT_LIMIT - 1], "", 0
    for start, end in sorted(e.misled):
        if place <= start < end <= len(shown):
            out += f"{_run(shown[place:start])}<u>{_run(shown[start:end])}</u>"
            place = end
    return out + _run(shown[place:]) + ("…" if len(e.text) > len(shown) else "")


def _run(text: str) -> str:
    """As `page.say`, but for the spaces at its ends, and whole."""
    return escape(show(re.sub(r"\s+", " ", text), TEXT_LIMIT * 10), quote=True)


def _neighbours(facts: ReportFacts) -> str:
    if not facts.neighbours:
        return ""
    heads = list(next(iter(facts.neighbours.values())))
    rows = [
        [say(word), *(say(", ".join(f"{near} {cosine:.2f}" for near, cosine in found[head]), 300) for head in heads)]
        for word, found in facts.neighbours.items()
    ]
    note = "<p>The words that tell the classes apart best in the training rows, and the words whose embeddings are nearest (cosine).</p>"
    return note + table(["word", *heads], rows, "errors")


def _data(facts: ReportFacts) -> str:
    rows = [
        [
            say(p.name),
            f"{p.rows:,}",
            f"{p.median:,}",
            f"{p.p95:,}",
            f"{p.longest:,}",
            f"{p.cut_texts:,} texts, {p.cut_tokens:,} tokens" if p.cut_texts else "nothing",
        ]
        for p in facts.data
    ]
    read = table(["part", "rows", "tokens, median", "95 %", "longest", "cut"], rows) if rows else ""
    return read + findings(facts.findings)
