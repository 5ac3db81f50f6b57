"""The inside of a text in a terminal: a line for each token, its gates' means and its states' sizes as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from echoic.explain.flow import Flow, sentence
from echoic.explain.flow_shown import render as flow_table
from echoic.explain.inside import Inside, Watched
from echoic.explain.pieces import visible
from echoic.explain.words import Near

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

SHOWN = 24
"""Tokens of a text; the page has more."""
BLOCKS = " ▁▂▃▄▅▆▇█"


def render(found: Inside, flows: Sequence[Flow], notes: Sequence[str]) -> Group:
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = [Text(f"{visible(found.label)}: {found.probability:.1%}", style="bold")]
    for cell in found.cells:
        lines += [Text(""), Text(cell.name, style="bold"), _cell(found, cell)]
    if found.cells:
        about = "gates: the mean over the units; a state, and a gate that may be negative: the mean of its size"
        lines.append(Text(about, style="dim"))
    if len(found.tokens) > SHOWN:
        lines.append(Text(f"… and {found.total - SHOWN - found.first:,} tokens more (--html, --from)", style="dim"))
    if flows:
        lines += [Text(""), Text("where the gradient goes, by steps back from the last token", style="bold")]
        lines += [flow_table(flows), Text(sentence(flows), style="dim")]
    return Group(*lines, *(Text(note, style="dim") for note in (*found.notes, *notes)))


def _cell(found: Inside, cell: Watched) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("token")
    means: Mapping[str, np.ndarray] = {name: np.abs(values).mean(1) for name, values in cell.fields.items()}
    for name in means:
        table.add_column(name)
    top = {name: max(1.0, float(mean.max())) for name, mean in means.items()}
    for t, token in enumerate(found.tokens[:SHOWN]):
        words = visible("".join(" " if c.isspace() else c for c in token)).strip()[:30] or "(space)"
        bars = [f"{BLOCKS[round(8 * mean[t] / top[name])]} {mean[t]:.2f}" for name, mean in means.items()]
        table.add_row(Text(words), *bars)
    return table


def render_words(found: Mapping[str, Mapping[str, Sequence[Near]]], notes: Sequence[str]) -> Group:
    """{question: {before or after training: words}}"""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines: list[Any] = []
    for question, columns in found.items():
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
        for when in columns:
            table.add_column(when)
        for i in range(max(map(len, columns.values()))):
            table.add_row(*(Text(_near(each[i]) if i < len(each) else "") for each in columns.values()))
        lines += [Text(question, style="bold"), table, Text("")]
    return Group(*lines, *(Text(note, style="dim") for note in notes))


def _near(each: Near) -> str:
    return f"{each.cosine:.2f}  {visible(each.word)}"
