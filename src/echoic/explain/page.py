"""Explanations as one HTML page that needs no network and runs no script.

A token's size is the depth of its colour and of its bar; its sign is where the bar stands, above the word for
the label and below it against, so that no colour need be told from another. Hovering (or the tab key)
shows the number. A trace has its curve above the text. What a text or a model says is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from echoic.core import durable
from echoic.evaluate.page import STYLE
from echoic.evaluate.plots import nice_ticks
from echoic.explain.pieces import Piece, headline, named, pieces, strongest, sums, visible
from echoic.explain.record import Explanation

RANKED = 12
LEFT, RIGHT, TOP, BOTTOM = 44, 640, 16, 150
"""The edges of the curve's axes, in pixels."""


def write_page(path: str | Path, found: Sequence[Explanation]) -> None:
    """Writes the HTML file. Raises core.errors' kinds where the disk refuses."""
    durable.write_file(Path(path), html(found).encode())


def html(found: Sequence[Explanation]) -> str:
    """The whole page, an article for each text."""
    title = f"Why {headline(found[0])}" if len(found) == 1 else f"{len(found):,} explanations"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{say(title)}</title><style>{STYLE}{OWN_STYLE}</style></head>\n"
        f"<body><main>\n{''.join(map(_article, found))}</main></body></html>\n"
    )


def _article(found: Explanation) -> str:
    notes = "".join(f"<p>{say(note)}</p>" for note in found.notes)
    return (
        f"<article><h1>{say(headline(found))} <small>by {escape(found.method)}</small></h1>"
        f'<p class="legend">{_legend(found)}</p>{_curve(found)}{_turns(found)}'
        f'<p class="text" dir="auto">{_text(found)}</p>'
        f"<h2>The strongest</h2>{_table(found)}<p>{say(sums(found))}</p>{notes}</article>\n"
    )


def _legend(found: Explanation) -> str:
    label = say(found.label)
    up, down = _mark("above", 1.0, "+"), _mark("below", 1.0, "−")
    if found.method == "attention":
        return f"{up} the deeper the colour, the more of the attention"
    if found.method == "trace":
        return f"{up} bar above: the token moved the probability of <b>{label}</b> up; {down} bar below: down"
    return f"{up} bar above: speaks for <b>{label}</b>; {down} bar below: against it"


def _mark(kind: str, strength: float, text: str) -> str:
    return f'<span class="t {kind}" style="--s:{strength:.3f}">&nbsp;{text}&nbsp;</span>'


def _text(found: Explanation) -> str:
    if not found.text.strip():
        return '<i class="soft">(a text without words)</i>'
    out, place = [], 0
    for piece in pieces(found):
        out.append(f"<i>{say(found.text[place : piece.start])}</i>" if place < piece.start else "")
        out.append(_token(found, piece))
        place = piece.end
    return "".join(out) + (f"<i>{say(found.text[place:])}</i>" if place < len(found.text) else "")


def _token(found: Explanation, piece: Piece) -> str:
    """The piece as a span; white space at its begin stays outside of the colour."""
    words = found.text[piece.start : piece.end]
    bare = words.lstrip() or words
    kind = "above" if piece.score >= 0 else "below"
    tip = f"{piece.score:+.4f}"
    if found.beliefs:
        tip += f" → {found.beliefs[found.label][piece.last]:.1%}"
    span = f'<span class="t {kind}" style="--s:{piece.strength:.3f}" tabindex="0" data-tip="{escape(tip)}">{say(bare)}</span>'
    return say(words[: len(words) - len(bare)]) + span


def _turns(found: Explanation, most: int = 10) -> str:
    turns = found.turns or []
    rows = [
        f"<li>at <b>{say(found.tokens[t.token].text.strip())}</b> (token {t.token + 1:,}) from {say(t.before)} to {say(t.after)}</li>"
        for t in turns[:most]
    ]
    more = f"<li>and {len(turns) - most:,} more</li>" if len(turns) > most else ""
    return f"<p>Where the answer turned:</p><ul>{''.join(rows)}{more}</ul>" if turns else ""


def _table(found: Explanation) -> str:
    rows = []
    for piece in strongest(found, RANKED):
        side = "above" if piece.score >= 0 else "below"
        bar = f'<span class="bar {side}" style="--s:{piece.strength:.3f}"></span>'
        word = say(named(found, piece))
        rows.append(
            f'<tr><td dir="auto">{word}</td><td>{piece.score:+.4f}</td><td>{bar}</td><td>{piece.start:,}-{piece.end:,}</td></tr>'
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("token", "score", "", "characters"))
    return f'<div class="wide"><table class="ranked"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _curve(found: Explanation) -> str:
    """The probability after each token: of the label explained a full line, of others dashed ones."""
    if not found.beliefs:
        return ""
    steps = len(found.tokens)

    def x(token: float) -> float:
        return LEFT + (RIGHT - LEFT) * (token + 0.5) / steps

    def y(p: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * p

    parts = [
        f'<path class="axis" d="M{LEFT} {y(t):.1f}H{RIGHT}"/><text class="soft" x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:.0%}</text>'
        for t in nice_ticks(0.0, 1.0, 4)
    ]
    parts += [f'<path class="mark" d="M{x(t.token):.1f} {TOP}V{BOTTOM}"/>' for t in (found.turns or [])[:50]]
    ends: list[float] = []
    for label, beliefs in found.beliefs.items():
        kind = "one" if label == found.label else "two"
        line = "L".join(f"{x(i):.1f} {y(p):.1f}" for i, p in enumerate(beliefs))
        at = y(beliefs[-1]) + 4
        while any(abs(at - other) < 13 for other in ends):
            at += 13
        ends.append(at)
        parts.append(f'<path class="{kind}" d="M{line}"/>')
        parts.append(f'<text x="{RIGHT + 8}" y="{at:.1f}">{say(label[:24])} {beliefs[-1]:.0%}</text>')
        if steps == 1:
            parts.append(f'<circle class="dot-{kind}" cx="{x(0):.1f}" cy="{y(beliefs[0]):.1f}" r="3"/>')
    below = max([BOTTOM + 30, *(end + 6 for end in ends)])
    parts.append(f'<text class="soft" x="{RIGHT}" y="{BOTTOM + 20}" text-anchor="end">token {steps:,}</text>')
    parts.append(f'<text class="soft" x="{LEFT}" y="{BOTTOM + 20}">token 1</text>')
    title = "the probability of each label after each token"
    return f'<svg class="curve" width="{RIGHT + 190}" height="{below:.0f}" viewBox="0 0 {RIGHT + 190} {below:.0f}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def say(text: str) -> str:
    """Anybody's text as HTML: escaped, and what cannot be seen spelled out."""
    return escape(visible(text), quote=True)


OWN_STYLE = """
:root { --for: 0 114 178; --against: 194 78 0 }
@media (prefers-color-scheme: dark) { :root { --for: 86 180 233; --against: 240 160 75 } }
article + article { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 1rem }
small { font-weight: 400; color: var(--soft) } .legend, .soft, .text i { color: var(--soft) } .text i { font-style: normal }
.text { font-size: 1.15rem; line-height: 2.3; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--pane); padding: 1rem 1.25rem }
.t { --c: var(--for); position: relative; padding: .28em .05em; -webkit-box-decoration-break: clone; box-decoration-break: clone;
  background: rgb(var(--c) / calc(var(--s) * .38)); box-shadow: inset 0 calc(var(--s) * .24em) 0 rgb(var(--c)) }
.t.below { --c: var(--against); box-shadow: inset 0 calc(var(--s) * -.24em) 0 rgb(var(--c)) }
.t:hover, .t:focus { outline: 2px solid var(--ink); outline-offset: 1px }
.t[data-tip]:hover::after, .t[data-tip]:focus::after { content: attr(data-tip); position: absolute; left: 0; bottom: 100%; z-index: 1; padding: .1rem .5rem;
  font-size: .85rem; line-height: 1.5; white-space: nowrap; background: var(--ink); color: var(--page); font-variant-numeric: tabular-nums }
.bar { display: block; height: .8em; width: calc(var(--s) * 9rem); background: rgb(var(--for)) }
.bar.below { background: repeating-linear-gradient(45deg, rgb(var(--against)) 0 4px, transparent 4px 6px) }
.ranked td:nth-child(3) { text-align: left; width: 10rem; vertical-align: middle } .curve { display: block; margin: .5rem 0 }
svg .dot-two { fill: var(--two) }
"""
