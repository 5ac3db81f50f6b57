"""The report of a translator: BLEU and chrF beside copying and a table of words, by length, and what it wrote.

The page is built of the same parts as a classifier's (`report.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from echoic.evaluate import plots
from echoic.evaluate.intervals import Paired
from echoic.evaluate.page import ending, findings, page, pairs, say, table, verdict_and_scores

if TYPE_CHECKING:
    from rich.console import Group

MODELS = {"model": "this model", "words": "a word for a word", "copy": "the source, copied"}
SCORES = {"bleu": "BLEU", "bleu_lc": "BLEU, case folded", "chrf": "chrF", "rougeL": "ROUGE-L"}


@dataclass(frozen=True)
class Written:
    """A source, its reference, and what the model wrote."""

    row: int
    source: str
    wanted: str
    said: str
    score: float


@dataclass(frozen=True)
class TranslationFacts:
    """All that a translator's report says."""

    title: str
    part: str
    scores: Mapping[str, Mapping[str, Any]]
    """{"model": ..., "words": ..., "copy": ...}, each as `translation` gives it; "model" must be there."""
    difference: Paired | None = None
    """The model's BLEU less that of a word for a word."""
    history: Sequence[Mapping[str, float]] = ()
    best_epoch: float | None = None
    written: Sequence[Written] = ()
    data: Sequence[tuple[str, int, int, int]] = ()
    """(part, pairs, tokens of the sources, of the targets)"""
    findings: Sequence[tuple[str, str]] = ()
    cost: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[tuple[str, str]] = ()
    origin: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        return html(self)

    def table(self) -> Group:
        """The verdict and the table of scores, for `rich.print`."""
        return verdict_and_scores(verdict(self), *score_rows(self))


def verdict(facts: TranslationFacts) -> str:
    """The score, the simple thing's, and the interval of the difference."""
    own = facts.scores["model"]
    head = f"On {own['translated']:,} {facts.part} texts: BLEU {own['bleu']:.1f}, chrF {own['chrf']:.1f}; perplexity {own['perplexity']:.2f} a token of the right translations."
    return " ".join(filter(None, (head, _against_words(facts), _chosen_here(facts))))


def _against_words(facts: TranslationFacts) -> str:
    if facts.difference is None:
        return ""
    d, base = facts.difference, f"a word for a word (BLEU {facts.scores['words']['bleu']:.1f})"
    spread = f"the paired 95 % interval of the difference is {d.low:+.1f} to {d.high:+.1f}"
    return {
        "above": f"That is {d.difference:.1f} above {base}; {spread}.",
        "below": f"That is {-d.difference:.1f} below {base}; {spread}. Train longer, or give it more pairs.",
        "level": f"It cannot be told apart from {base}: {spread}, which holds zero.",
    }[d.verdict]


def _chosen_here(facts: TranslationFacts) -> str:
    return "This part also chose the epoch: quote a test file's score." if facts.part == "validation" else ""


def score_rows(facts: TranslationFacts) -> tuple[list[str], list[tuple[str, list[str]]]]:
    digits = {"rougeL": 3}
    rows = [
        (MODELS.get(name, name), [f"{found[key]:.{digits.get(key, 1)}f}" for key in SCORES])
        for name, found in facts.scores.items()
    ]
    return list(SCORES.values()), rows


def html(facts: TranslationFacts) -> str:
    """The whole page."""
    columns, rows = score_rows(facts)
    state = facts.difference.verdict if facts.difference else "plain"
    top = f'<p class="verdict {state}">{say(verdict(facts), 1000)}</p>'
    signatures = pairs(facts.scores["model"]["signatures"])
    return page(
        facts.title,
        [
            ("verdict", "", top + table(["", *columns], [[say(n), *v] for n, v in rows], "scores") + signatures),
            ("lengths", "By the length of the source", _lengths(facts)),
            (
                "curves",
                "Learning curves",
                plots.losses(
                    facts.history,
                    facts.best_epoch,
                    "They are those with the largest share of tokens that are the likeliest. The training loss is measured with dropout and smoothed labels.",
                ),
            ),
            ("writing", "What it writes", _written(facts)),
            ("data", "The data", _data(facts)),
            *ending(facts),
        ],
    )


def _lengths(facts: TranslationFacts) -> str:
    groups = facts.scores["model"].get("by_length", ())
    if not groups:
        return ""
    ends = [f"{a['tokens']} to {b['tokens'] - 1}" for a, b in pairwise(groups)] + [f"{groups[-1]['tokens']} and more"]
    rows = [[end, f"{g['rows']:,}", f"{g['bleu']:.1f}"] for end, g in zip(ends, groups, strict=True)]
    return table(["tokens of the source", "texts", "BLEU"], rows)


def _written(facts: TranslationFacts) -> str:
    if not facts.written:
        return ""
    rows = [
        [str(w.row), say(w.source, 400), say(w.wanted, 400), say(w.said, 400), f"{w.score:.2f}"] for w in facts.written
    ]
    return table(["row", "source", "reference", "this model", "score"], rows, "errors")


def _data(facts: TranslationFacts) -> str:
    rows = [[say(name), f"{n:,}", f"{sources:,}", f"{targets:,}"] for name, n, sources, targets in facts.data]
    return table(["part", "pairs", "source tokens", "target tokens"], rows) + findings(facts.findings)
