"""The gradient on its way back, drawn: as SVG for a page, as PNG, and as a table for a terminal.

One logarithmic plot, steps back to the right: a line that falls has vanished, one that rises explodes. Dashed: the
same after clipping, where clipping does anything. Dotted: with respect to c, of a cell that has one. Each line is
named at its end and has a mark of its own.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from echoic.core import durable
from echoic.core.errors import Unavailable
from echoic.explain.flow import Flow

if TYPE_CHECKING:
    from rich.table import Table

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
"""Of Okabe and Ito's palette, one darkened to be seen on white."""
MARKS = "osD^vP"
LOWEST, HIGHEST = 1e-12, 1e12
"""What lies beyond is drawn on the border."""
DOTTED = 'stroke-dasharray="0.1 5" stroke-linecap="round"'
LEFT, RIGHT, TOP, BOTTOM = 64, 640, 16, 300
SHOWN_AT = (0, 1, 5, 10, 20, 50, 100, 200)


def bounded(norms: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(norms, LOWEST, HIGHEST))


def svg(flows: Sequence[Flow]) -> str:
    """Inline SVG; empty without a step back."""
    steps = len(flows[0].norms)
    if steps < 2:
        return ""
    curves = [norms for f in flows for norms in (f.norms, f.norms * f.factor, f.memory) if norms is not None]
    drawn = bounded(np.concatenate(curves))
    low, high = math.floor(math.log10(drawn.min())), math.ceil(math.log10(drawn.max()) + 1e-9)

    def x(t: float) -> float:
        return LEFT + (RIGHT - LEFT) * t / (steps - 1)

    def y(norm: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (math.log10(norm) - low) / max(1, high - low)

    parts = []
    for power in range(low, high + 1, max(1, math.ceil((high - low) / 8))):
        at = y(10.0**power)
        parts.append(f'<path class="axis" d="M{LEFT} {at:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="soft" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_power(power)}</text>')
    for t in sorted({0, steps // 4, steps // 2, 3 * steps // 4, steps - 1}):
        parts.append(f'<text class="soft" x="{x(t):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{t}</text>')
    parts.append(
        f'<text class="soft" x="{RIGHT}" y="{BOTTOM + 36}" text-anchor="end">steps back from the last token</text>'
    )
    memories = [(f, colour, f.memory) for f, colour in zip(flows, COLOURS, strict=False) if f.memory is not None]
    ends = _apart(
        [y(float(bounded(n)[-1])) for n in (*(f.norms for f in flows), *(memory for _, _, memory in memories))]
    )
    for f, colour, mark, end in zip(flows, COLOURS, MARKS, ends, strict=False):
        parts += _line(f, colour, mark, end, x, y)
    for (f, colour, memory), end in zip(memories, ends[len(flows) :], strict=True):
        parts.append(
            f'<path d="{_path(memory, x, y)}" fill="none" stroke="{colour}" stroke-width="2" {DOTTED}/>'
            f'<text x="{RIGHT + 10}" y="{end + 4:.1f}" style="fill:{colour}">{escape(f.name)}: c</text>'
        )
    height = max(BOTTOM + 44, int(max(ends)) + 10)
    label = (
        "the norm of the gradient with respect to the state, h and where there is one c, by steps back, for each cell"
    )
    return (
        f'<svg class="flow" width="{RIGHT + 210}" height="{height}" viewBox="0 0 {RIGHT + 210} {height}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _power(power: int) -> str:
    return "1" if power == 0 else f'10<tspan dy="-5" font-size="9">{power}</tspan>'


def _line(f: Flow, colour: str, mark: str, end: float, x: Any, y: Any) -> list[str]:
    out = []
    for factor, dash in ((f.factor, ' stroke-dasharray="5 4" stroke-opacity=".7"'), (1.0, "")):
        if dash and factor == 1.0:
            continue
        wide = 3 if f.trained else 1.75
        out.append(
            f'<path d="{_path(f.norms * factor, x, y)}" fill="none" stroke="{colour}" stroke-width="{wide}"{dash}/>'
        )
    last = len(f.norms) - 1
    for i in range(5):
        t = round(last * i / 4)
        out.append(_mark(mark, x(t), y(float(bounded(f.norms)[t])), colour))
    name = f.name + (f" (clipped x {f.factor:.2g})" if f.factor < 1 else "")
    out.append(f'<text x="{RIGHT + 10}" y="{end + 4:.1f}" style="fill:{colour}">{escape(name)}</text>')
    return out


def _path(norms: np.ndarray, x: Any, y: Any) -> str:
    return "M" + "L".join(f"{x(t):.1f} {y(v):.1f}" for t, v in enumerate(bounded(norms)))


def _mark(kind: str, x: float, y: float, colour: str) -> str:
    points: dict[str, str] = {
        "s": "-4,-4 4,-4 4,4 -4,4",
        "D": "0,-5 5,0 0,5 -5,0",
        "^": "0,-5 5,4 -5,4",
        "v": "0,5 5,-4 -5,-4",
        "P": "-1.5,-5 1.5,-5 1.5,-1.5 5,-1.5 5,1.5 1.5,1.5 1.5,5 -1.5,5 -1.5,1.5 -5,1.5 -5,-1.5 -1.5,-1.5",
    }
    if kind == "o":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    return f'<polygon points="{points[kind]}" transform="translate({x:.1f} {y:.1f})" fill="{colour}"/>'


def _apart(heights: Sequence[float], gap: float = 15.0) -> list[float]:
    """The same heights, moved down where two names would overlap."""
    out, last = [0.0] * len(heights), -math.inf
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        last = out[i] = max(heights[i], last + gap)
    return out


def write_png(path: str | Path, flows: Sequence[Flow]) -> None:
    """The same plot by matplotlib. Raises Unavailable without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("a PNG needs matplotlib: pip install 'echoic[train]'") from None
    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for f, colour, mark in zip(flows, COLOURS, MARKS, strict=False):
        every = max(1, (len(f.norms) - 1) // 4)
        wide = 2.5 if f.trained else 1.5
        axes.plot(bounded(f.norms), color=colour, marker=mark, markevery=every, linewidth=wide, label=f.name)
        if f.memory is not None:
            axes.plot(bounded(f.memory), ":", color=colour, linewidth=2, label=f"{f.name}: c")
        if f.factor < 1:
            clipped = f"{f.name}, clipped (x {f.factor:.2g})"
            axes.plot(bounded(f.norms * f.factor), "--", color=colour, linewidth=1.2, alpha=0.7, label=clipped)
    axes.set(
        yscale="log",
        xlabel="steps back from the last token",
        ylabel="norm of dL/dh, dotted dL/dc",
        title="Where the gradient goes",
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=160, metadata={"Software": None})
    durable.write_file(Path(path), data.getvalue())


def rows(flows: Sequence[Flow]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of the table: the norm some steps back, and what it does."""
    at = [t for t in SHOWN_AT if t < len(flows[0].norms)]
    heads = ["cell", *(str(t) for t in at), "going back it", "clipping"]
    return heads, [
        [f.name, *(f"{f.norms[t]:.1e}" for t in at), f.verdict, f"x {f.factor:.2g}" if f.factor < 1 else "-"]
        for f in flows
    ]


def render(flows: Sequence[Flow]) -> Table:
    from rich.table import Table

    heads, body = rows(flows)
    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for head in heads:
        out.add_column(head, justify="right" if head.isdigit() else "left")
    for row in body:
        out.add_row(*row)
    return out
