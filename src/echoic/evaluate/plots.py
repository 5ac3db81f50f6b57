"""The drawings of a report: SVG written here, with text as text, so that a browser's own fonts show any
script; colours are the report's CSS variables, and no line is told from another by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from echoic.core.errors import show

if TYPE_CHECKING:
    pass

BLUE, ORANGE = "#0072b2", "#c24e00"

LEFT, RIGHT, TOP, BOTTOM = 48, 330, 26, 224
"""The edges of a drawing's axes, in pixels."""


def curves(
    history: Sequence[Mapping[str, float]], keys: Sequence[str], title: str, *, best: float | None = None
) -> str:
    """Lines over the epochs: keys with "train" in their name solid with round marks, others dashed with
    square ones; each is named at its end. A missing or non-finite value leaves a gap."""
    xs = [float(h.get("epoch", i + 1)) for i, h in enumerate(history)]
    lines = {
        k: [(x, float(h[k])) for x, h in zip(xs, history, strict=True) if math.isfinite(h.get(k, math.nan))]
        for k in keys
    }
    lines = {key: line for key, line in lines.items() if line}
    if not lines:
        return ""
    values = [y for line in lines.values() for _, y in line]
    ticks = nice_ticks(min(values), max(values))
    x_of, y_of = _scale(min(xs), max(xs), LEFT, RIGHT), _scale(ticks[0], ticks[-1], BOTTOM, TOP)
    parts = [_text(LEFT, 14, title, "start", "soft"), _text(RIGHT, BOTTOM + 32, "epoch", "end", "soft")]
    parts += [part for t in ticks for part in _gridline(y_of(t), f"{t:g}")]
    parts += [_text(x_of(e), BOTTOM + 16, f"{e:g}", "middle", "soft") for e in _thin(sorted(set(xs)), 8)]
    if best is not None:
        parts.append(f'<path class="mark" d="M{x_of(best):.1f} {TOP}V{BOTTOM}"/>')
    ends = _apart({key: y_of(line[-1][1]) for key, line in lines.items()})
    for key, line in lines.items():
        parts += _line([(x_of(x), y_of(y)) for x, y in line], key.replace("_", " "), ends[key], "train" in key)
    return _svg(RIGHT + 16 + max(map(_width, lines)), BOTTOM + 36, parts, f"{title} over the epochs")


def _line(points: Sequence[tuple[float, float]], name: str, end: float, solid: bool) -> list[str]:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if solid:
        marks = [f'<circle class="dot-one" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    else:
        marks = [f'<rect class="dot-two" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>' for x, y in points]
    kind = "one" if solid else "two"
    return [f'<path class="{kind}" d="{path}"/>', *marks, _text(points[-1][0] + 8, end + 4, name, "start")]


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Rows the labels of the data, columns the answers; a cell is as dark as its share of its row. Counts
    are written up to 12 classes, and are each cell's tooltip always."""
    size = len(names)
    cell = 64 if size <= 4 else 48 if size <= 12 else 20
    labels = [show(name, 24) for name in names]
    widest = max(map(_width, labels))
    flat = widest < cell - 4
    left, top = 30 + widest, 30 + (20 if flat else widest)
    parts = [
        _text(left, 14, "answered →", "start", "soft"),
        _text(14, top + size * cell, "labelled →", "start", "soft", turned=True),
    ]
    for i, row in enumerate(matrix):
        total, middle = sum(row) or 1, (i + 0.5) * cell
        parts.append(_text(left - 6, top + middle + 4, labels[i], "end"))
        parts.append(
            _text(
                left + middle + (0 if flat else 4), top - 8, labels[i], "middle" if flat else "start", turned=not flat
            )
        )
        for j, count in enumerate(row):
            what = f"{names[i]} → {names[j]}: {count:,}"
            parts.append(
                _cell(left + j * cell, top + i * cell, cell, f"{count:,}" if size <= 12 else "", count / total, what)
            )
    return _svg(left + size * cell + 12, top + size * cell + 8, parts, "confusion matrix")


def _cell(x: float, y: float, size: int, text: str, share: float, what: str) -> str:
    tip = f"<title>{escape(show(what, 200))} ({share:.1%})</title>"
    box = f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{size}" height="{size}" fill-opacity="{0.03 + 0.97 * share:.3f}">{tip}</rect>'
    return box + (_text(x + size / 2, y + size / 2 + 4, text, "middle", "on" if share > 0.55 else "") if text else "")


def reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """Stated probability to the right, share that came true upwards; on the dotted diagonal they are equal,
    and the bars are the gaps."""
    ticks = nice_ticks(min(0.9, *(b["confidence"] for b in bins), *(b["accuracy"] for b in bins)), 1.0)
    x_of, y_of = _scale(ticks[0], 1.0, LEFT, RIGHT), _scale(ticks[0], 1.0, BOTTOM + 40, TOP)
    below = BOTTOM + 40
    parts = [
        _text(LEFT, 14, "share that came true", "start", "soft"),
        _text(RIGHT, below + 32, "stated probability", "end", "soft"),
    ]
    parts += [part for t in ticks for part in _gridline(y_of(t), f"{t:.0%}")]
    parts += [_text(x_of(t), below + 16, f"{t:.0%}", "middle", "soft") for t in ticks]
    parts.append(f'<path class="mark" d="M{LEFT} {below}L{RIGHT} {TOP}"/>')
    for b in bins:
        x, y = x_of(b["confidence"]), y_of(b["accuracy"])
        tip = f"<title>{b['count']:,} answers stated {b['confidence']:.1%}, {b['accuracy']:.1%} came true</title>"
        parts.append(f'<path class="gap" d="M{x:.1f} {y_of(b["confidence"]):.1f}V{y:.1f}"/>')
        parts.append(f'<circle class="dot-one" cx="{x:.1f}" cy="{y:.1f}" r="4">{tip}</circle>')
    return _svg(RIGHT + 24, below + 36, parts, "reliability diagram")


def bar(share: float) -> str:
    """A small bar for a table's cell."""
    return f'<svg width="80" height="10" viewBox="0 0 80 10" aria-hidden="true"><rect class="track" width="80" height="10" fill-opacity=".4"/><rect class="dot-one" width="{80 * share:.1f}" height="10"/></svg>'


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that hold [low, high], about `wanted` steps apart by 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _gridline(y: float, label: str) -> list[str]:
    return [f'<path class="axis" d="M{LEFT} {y:.1f}H{RIGHT}"/>', _text(LEFT - 6, y + 4, label, "end", "soft")]


def _scale(low: float, high: float, start: float, end: float) -> Any:
    if low == high:
        return lambda _: (start + end) / 2
    return lambda v: start + (v - low) / (high - low) * (end - start)


def _thin(values: Sequence[float], most: int) -> list[float]:
    step = math.ceil(len(values) / most)
    return list(values[::step])


def _apart(heights: Mapping[str, float], gap: float = 14.0) -> dict[str, float]:
    """The same heights, moved down where two names would overlap."""
    out: dict[str, float] = {}
    last = -math.inf
    for key in sorted(heights, key=heights.__getitem__):
        last = max(heights[key], last + gap)
        out[key] = last
    return out


def _width(text: str) -> float:
    """About how wide 12-pixel text is: an East Asian character is square, others about 0.6 of that."""
    return sum(12.5 if ord(c) > 0x2E7F else 7.2 for c in text)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"{turn}>{escape(show(text, 40))}</text>'


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return f'<svg width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def losses(history: Sequence[Mapping[str, float]], best: float | None, remark: str) -> str:
    """The two losses of a model of tokens by epoch, and which was kept; empty where there was no training."""
    if not history:
        return ""
    lines = [{"epoch": h["epoch"], "train_loss": h["train_loss"], "validation": h["loss"]} for h in history]
    drawn = curves(lines, ["train_loss", "validation"], "nats a token", best=best)
    kept = "" if best is None else f"<p>The kept weights are those of epoch {best:g} (the dotted line). {remark}</p>"
    return f'<div class="pair">{drawn}</div>{kept}'
