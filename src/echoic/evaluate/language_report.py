"""The report of a language model: what it paid for unseen text beside an n-gram model, and how it writes.

The page is built of the same parts as a classifier's (`report.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from echoic.core.errors import show
from echoic.evaluate import plots
from echoic.evaluate.intervals import Paired
from echoic.evaluate.page import ending, findings, page, say, table, verdict_and_scores

if TYPE_CHECKING:
    from rich.console import Group

MODELS = {"model": "this model", "ngram": "n-grams, Kneser-Ney"}


@dataclass(frozen=True)
class Sample:
    """How the model went on from the report's prompt at one temperature."""

    temperature: float
    continuation: str
    perplexity: float
    """To the model itself, at temperature 1."""
    distinct: Sequence[float]
    """Share of distinct words, pairs and triples of words."""


@dataclass(frozen=True)
class LanguageFacts:
    """All that a language model's report says."""

    title: str
    unit: str
    """What a token is: the tokenizer's name."""
    part: str
    scores: Mapping[str, Mapping[str, Any]]
    """{"model": ..., "ngram": ...}, each as `language` gives it; "model" must be there."""
    difference: Paired | None = None
    """Nats a token that the n-gram model pays more."""
    order: int | None = None
    """Tokens of the longest n-grams."""
    history: Sequence[Mapping[str, float]] = ()
    best_epoch: float | None = None
    prompt: str = ""
    samples: Sequence[Sample] = ()
    data: Sequence[tuple[str, int, int, int]] = ()
    """(part, texts, tokens, tokens that are unknown)"""
    findings: Sequence[tuple[str, str]] = ()
    cost: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[tuple[str, str]] = ()
    origin: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        return html(self)

    def table(self) -> Group:
        return render_table(self)


def verdict(facts: LanguageFacts) -> str:
    """The score, the n-gram model's, and the interval of the difference."""
    own = facts.scores["model"]
    head = f"On {own['characters']:,} {facts.part} characters: {own['bits_per_character']:.3f} bits a character, perplexity {own['perplexity']:.2f} a token ({facts.unit})."
    return " ".join(filter(None, (head, _against_ngrams(facts), _chosen_here(facts), _unknown(own))))


def _against_ngrams(facts: LanguageFacts) -> str:
    if "ngram" not in facts.scores:
        return ""
    base = f"an n-gram model ({facts.scores['ngram']['bits_per_character']:.3f} bits)"
    if facts.difference is None:
        return f"Beside it {base}; the text is too short to tell the two apart."
    d = facts.difference
    spread = f"the paired 95 % interval of the difference is {d.low:+.3f} to {d.high:+.3f} nats a token"
    return {
        "above": f"That is {d.difference:.3f} nats a token better than {base}; {spread}.",
        "below": f"That is {-d.difference:.3f} nats a token worse than {base}; {spread}. The simple thing is better here: train longer, or give the network more text.",
        "level": f"It cannot be told apart from {base}: {spread}, which holds zero.",
    }[d.verdict]


def _chosen_here(facts: LanguageFacts) -> str:
    return "This text also chose the epoch: quote a test file's score." if facts.part == "validation" else ""


def _unknown(own: Mapping[str, Any]) -> str:
    if not own["unknown"]:
        return ""
    return f"{own['unknown']:,} of {own['tokens']:,} tokens are unknown and were predicted as such, so figures by the character flatter."


def score_rows(facts: LanguageFacts) -> tuple[list[str], list[tuple[str, list[str]]]]:
    keys = {
        "bits_per_character": "bits a character",
        "nats_per_character": "nats a character",
        "loss": "nats a token",
        "perplexity": "perplexity",
    }
    names = MODELS | ({"ngram": f"{facts.order}-grams, Kneser-Ney"} if facts.order else {})
    rows = [(names.get(name, name), [f"{s[key]:.3f}" for key in keys]) for name, s in facts.scores.items()]
    return list(keys.values()), rows


def render_table(facts: LanguageFacts) -> Group:
    """The verdict and the table of scores, for `rich.print`."""
    return verdict_and_scores(verdict(facts), *score_rows(facts))


def html(facts: LanguageFacts) -> str:
    """The whole page."""
    columns, rows = score_rows(facts)
    state = facts.difference.verdict if facts.difference else "plain"
    top = f'<p class="verdict {state}">{say(verdict(facts), 1000)}</p>'
    return page(
        facts.title,
        [
            ("verdict", "", top + table(["", *columns], [[say(n), *v] for n, v in rows], "scores")),
            (
                "curves",
                "Learning curves",
                plots.losses(facts.history, facts.best_epoch, "The training loss is measured with dropout on."),
            ),
            ("writing", "How it writes", _writing(facts)),
            ("data", "The data", _data(facts)),
            *ending(facts),
        ],
    )


def _writing(facts: LanguageFacts) -> str:
    if not facts.samples:
        return ""
    head = ["temperature", "perplexity to itself", "distinct words", "pairs", "triples"]
    rows = [[f"{s.temperature:g}", f"{s.perplexity:.2f}", *(f"{d:.2f}" for d in s.distinct)] for s in facts.samples]
    said = "<p>The same prompt, from the beginning of the validation part, at several temperatures. A low one repeats itself (few distinct pairs and triples) and a high one surprises the model itself.</p>"
    texts = "".join(
        f'<h3>temperature {s.temperature:g}</h3><pre dir="auto"><b>{_prose(facts.prompt)}</b>{_prose(s.continuation)}</pre>'
        for s in facts.samples
    )
    return said + table(head, rows) + texts


def _prose(text: str) -> str:
    """A text as HTML with its line ends; other invisible characters are spelled out."""
    return "\n".join(escape(show(line.replace("\u3000", "  "), 100_000), quote=True) for line in text.split("\n"))


def _data(facts: LanguageFacts) -> str:
    rows = [[say(name), f"{texts:,}", f"{tokens:,}", f"{unknown:,}"] for name, texts, tokens, unknown in facts.data]
    return table(["part", "texts", "tokens", "unknown"], rows) + findings(facts.findings)
