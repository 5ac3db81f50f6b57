"""A comparison of models, shown: the table for a terminal, and one HTML page with the intervals drawn.

found: {"table": [{"name", "accuracy", "low", "high", "each", "parameters", ...}, best first], "differences":
[{"better", "worse", "difference", "low", "high", "p", "p_corrected", "real"}], "data", "rows", "updates", "seeds"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echoic.core import durable
from echoic.core.errors import show
from echoic.evaluate.page import page, percent, say, table
from echoic.evaluate.plots import nice_ticks

if TYPE_CHECKING:
    from rich.console import Group

Found = Mapping[str, Any]
HEADS = (
    "",
    "accuracy",
    "95 % interval",
    "worse than",
    "parameters",
    "updates",
    "training",
    "tokens/s",
    "texts/s",
    "memory",
)
ABOUT = (
    "The interval holds what other rows and other seeds would change. “Worse than” names the rows of the table that are really better: "
    "by a paired test, corrected for all pairs (Holm), below 0.05. Training, speeds and memory are medians over the seeds, on this "
    "machine as busy as it was; memory is what the training took beyond what was held before it, and the first of a table loads "
    "libraries too. A row of which a seed failed is called neither better nor worse."
)


def verdict(found: Found) -> str:
    best = found["table"][0]
    worse = [d["worse"] for d in found["differences"] if d["better"] == best["name"] and d["real"]]
    scored = [line for line in found["table"] if "accuracy" in line]
    head = f"Best of {len(scored)} on {found['rows']['test']:,} test rows: {show(best['name'])}, accuracy {percent(best['accuracy'])}."
    if len(worse) == len(scored) - 1:
        return f"{head} It is really better than every other."
    level = [line["name"] for line in scored[1:] if line["name"] not in worse]
    return f"{head} It cannot be told apart from {len(level)} of the others: {'; '.join(map(show, level[:6]))}{'; …' if len(level) > 6 else '.'}"


def lines(found: Found) -> list[list[str]]:
    """The cells of the table as text."""
    number = {line["name"]: i for i, line in enumerate(found["table"], 1)}
    above: dict[str, list[int]] = {}
    for d in found["differences"]:
        if d["real"]:
            above.setdefault(d["worse"], []).append(number[d["better"]])
    out = []
    for line in found["table"]:
        name = line["name"]
        if "accuracy" not in line:
            out.append([f"{number[name]}. {name}", "failed", *[""] * 8])
            continue
        out.append(
            [
                f"{number[name]}. {name}" + (f" ({line['seeds']} of {found['seeds']} seeds)" if line["failed"] else ""),
                percent(line["accuracy"]),
                f"{100 * line['low']:.1f} to {100 * line['high']:.1f}",
                _ranges(sorted(above.get(name, []))),
                _whole(line["parameters"]),
                _whole(line["updates"]),
                f"{line['seconds']:.0f} s",
                _whole(line["tokens_per_second"]),
                _whole(line["texts_per_second"]),
                _whole(line["peak_memory_mib"], " MiB"),
            ]
        )
    return out


def _ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 4, 7] -> "1–4, 7"; numbers rise."""
    runs: list[list[int]] = []
    for each in numbers:
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _whole(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:,.0f}{unit}"


def render(found: Found) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, head in enumerate(HEADS):
        drawn.add_column(head, justify="left" if i in (0, 3) else "right")
    for line in lines(found):
        drawn.add_row(*(Text(show(cell)) for cell in line))
    failed = [Text(f"{line['name']}: {show(line['failed'][0], 200)}") for line in found["table"] if line["failed"]]
    return Group(Text(verdict(found), style="bold"), Text(""), drawn, *failed, Text(""), Text(ABOUT, style="dim"))


def write_page(path: str | Path, found: Found) -> None:
    """Writes the HTML file. Raises core.errors' kinds where the disk refuses."""
    durable.write_file(Path(path), html(found).encode())


def html(found: Found) -> str:
    rows = found["rows"]
    body = [[say(cell) for cell in line] for line in lines(found)]
    about = (
        f"{rows['train']:,} rows to train on, {rows['valid']:,} to choose the epoch, {rows['test']:,} to score; at least {found['updates']:,} updates, in whole passes; "
        f"{found['seeds']} seeds. The networks are the recurrent ones alone, without the n-gram path."
    )
    real = [d for d in found["differences"] if d["real"]]
    pairs = [[say(d["better"]), say(d["worse"]), _points(d), f"{d['p_corrected']:.2g}"] for d in real]
    failed = "".join(
        f"<li>{say(line['name'])}: {say(line['failed'][0], 500)}</li>" for line in found["table"] if line["failed"]
    )
    sections = [
        ("verdict", "", f'<p class="verdict">{say(verdict(found), 1000)}</p><p>{say(about, 1000)}</p>'),
        ("table", "The table", table(HEADS, body, "cells") + f"<p>{say(ABOUT, 1000)}</p>"),
        ("intervals", "Scores and intervals", _intervals(found["table"])),
        (
            "differences",
            "Real differences",
            table(["better", "worse", "points", "p"], pairs, "pairs") if pairs else "<p>None.</p>",
        ),
        ("failed", "What failed", f"<ul>{failed}</ul>" if failed else ""),
    ]
    return page(f"{Path(found['data']).name}: which cell?", sections)


def _points(d: Mapping[str, Any]) -> str:
    return f"{100 * d['difference']:+.1f} ({100 * d['low']:+.1f} to {100 * d['high']:+.1f})"


def _intervals(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a row: its interval, its mean, and a small mark for each seed."""
    rows = [row for row in rows if "accuracy" in row]
    left, right, step = 250, 720, 22
    ticks = nice_ticks(min(min(r["low"], *r["each"]) for r in rows), max(max(r["high"], *r["each"]) for r in rows))
    bottom = 10 + step * len(rows)

    def x(share: float) -> float:
        return left + (right - left) * (share - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [
        f'<path class="axis" d="M{x(t):.1f} 4V{bottom}"/><text class="soft" x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{t:.0%}</text>'
        for t in ticks
    ]
    for i, row in enumerate(rows):
        y = 10 + step * (i + 0.5)
        parts.append(f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{say(row["name"], 34)}</text>')
        parts.append(f'<path class="one" d="M{x(row["low"]):.1f} {y:.1f}H{x(row["high"]):.1f}"/>')
        parts += [
            f'<path class="two" d="M{x(each):.1f} {y - 6:.1f}v12" stroke-dasharray="none"/>' for each in row["each"]
        ]
        parts.append(
            f'<circle class="dot-one" cx="{x(row["accuracy"]):.1f}" cy="{y:.1f}" r="4.5"><title>{percent(row["accuracy"])}</title></circle>'
        )
    height = bottom + 24
    return (
        f'<svg width="{right + 30}" height="{height}" viewBox="0 0 {right + 30} {height}" role="img" '
        f'aria-label="accuracy of each with its interval">{"".join(parts)}</svg><p>Line: 95 % interval. Dot: mean. Small strokes: the seeds.</p>'
    )
