"""What every page of ours is built from: one HTML file that needs no network, no script and no other file.

All text goes through `say`, so that nothing a file or a model says can run or break the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from echoic.core.errors import show

if TYPE_CHECKING:
    from rich.console import Group


def page(heading: str, sections: Sequence[tuple[str, str, str]], style: str = "") -> str:
    """A page of (id, heading, HTML) sections; one without content is left out. style: rules of its own."""
    body = "\n".join(
        f'<section id="{key}">{f"<h2>{title}</h2>" if title else ""}{content}</section>'
        for key, title, content in sections
        if content
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{say(heading)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body><main><h1>{say(heading)}</h1>\n{body}\n</main></body></html>\n"
    )


def verdict_and_scores(verdict: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Group:
    """rows: a name and what stands in each column; the first is the model."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    scores = Table(box=None, pad_edge=False, header_style="bold")
    scores.add_column("")
    for column in columns:
        scores.add_column(column, justify="right")
    for i, (name, values) in enumerate(rows):
        scores.add_row(Text(show(name)), *values, style="bold" if i == 0 else "")
    return Group(Text(verdict), Text(""), scores)


def findings(each: Sequence[tuple[str, str]]) -> str:
    """(level, message) of each: what the checks found, and what was decided on the way."""
    lines = "".join(f'<li class="{say(level)}"><b>{say(level)}</b> {say(text, 1000)}</li>' for level, text in each)
    return f'<ul class="findings">{lines}</ul>' if lines else ""


def ending(facts: Any) -> list[tuple[str, str, str]]:
    """The sections that every run's report ends with."""
    return [
        ("cost", "The cost", pairs(facts.cost)),
        ("use", "How to use it", commands(facts.commands)),
        ("origin", "Where it came from", pairs(facts.origin)),
    ]


def commands(each: Sequence[tuple[str, str]]) -> str:
    """(what it does, the command) of each."""
    return "".join(f"<p>{say(what, 300)}</p><pre><code>{say(command, 4000)}</code></pre>" for what, command in each)


def pairs(values: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{say(key)}</dt><dd>{say(value, 2000)}</dd>" for key, value in values.items())
    return f"<dl>{rows}</dl>" if rows else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already."""
    top = "".join(f'<th scope="col">{h}</th>' for h in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def say(text: object, limit: int = 120) -> str:
    """Anybody's text as HTML: spaces run together, invisible characters spelled out, cut, escaped."""
    return escape(show(" ".join(str(text).split()), limit), quote=True)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


STYLE = """
:root { --page: #fff; --ink: #1b1f24; --soft: #5b6570; --line: #d5dae0; --pane: #f4f6f8; --one: #0072b2; --two: #c24e00;
  --on: #fff; --good: #0072b2; --bad: #c24e00; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e6e9ed; --soft: #9aa5b1; --line: #39414a; --pane: #1e2329;
  --one: #56b4e9; --two: #f0a04b; --on: #10151a; --good: #56b4e9; --bad: #f0a04b; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans", "PingFang SC",
  "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC", sans-serif }
main { max-width: 58rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem }
.verdict { font-size: 1.1rem; margin: 0 0 1.25rem; padding: .9rem 1.1rem; background: var(--pane); border-left: 5px solid var(--soft) }
.verdict.above { border-color: var(--good) } .verdict.below { border-color: var(--bad) }
.wide { overflow-x: auto; margin: .75rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th { font-weight: 600; color: var(--soft); font-size: .85rem; text-align: right; vertical-align: bottom }
td { text-align: right; vertical-align: top; white-space: nowrap } th, td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 5rem; white-space: normal }
.scores tbody tr:first-child { font-weight: 700 }
.cells td, .cells th { padding-right: .7rem } .cells td:first-child { min-width: 12rem }
.errors td, .errors th, .pairs :nth-child(2) { text-align: left } .errors td { white-space: normal } .errors td:last-child { white-space: nowrap }
.errors td:nth-child(2) { min-width: 16rem; overflow-wrap: anywhere } .errors td:nth-child(n+3) { min-width: 5rem }
.pair { display: flex; flex-wrap: wrap; gap: 1rem }
svg { max-width: 100%; height: auto; color: var(--ink) } td svg { max-width: none } svg text { fill: var(--ink); font-size: 12px; font-family: inherit }
svg .soft { fill: var(--soft) } svg .on { fill: var(--on) } svg .axis { stroke: var(--line); fill: none }
svg .one { stroke: var(--one); fill: none; stroke-width: 2 } svg .two { stroke: var(--two); fill: none; stroke-width: 2; stroke-dasharray: 6 3 }
svg .mark { stroke: var(--soft); stroke-dasharray: 2 4; fill: none } svg .dot-one { fill: var(--one) } svg .dot-two { fill: var(--two) }
svg .cell { fill: var(--one); stroke: var(--line); stroke-width: .5 } svg .track { fill: var(--line) } svg .gap { stroke: var(--two); stroke-width: 3; stroke-opacity: .5 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: .5rem 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
pre { background: var(--pane); padding: .75rem 1rem; margin: .25rem 0 1rem; white-space: pre-wrap; overflow-wrap: anywhere; user-select: all }
.findings { padding-left: 1.2rem } .findings .error b, .findings .warning b { color: var(--bad) }
@media print { body { font-size: 11pt } main { max-width: none; padding: 0 } h2 { break-after: avoid } svg, tr, pre { break-inside: avoid }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""
