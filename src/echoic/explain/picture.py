"""Explanations as one picture, with matplotlib: the text in a grid of columns, for a slide or a paper.

The sign of a token is where its bar stands, as on the page. A character that no installed font can show
becomes ▯, and that is said once.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import category, east_asian_width

from echoic.core import durable
from echoic.core.errors import Unavailable
from echoic.evaluate.plots import BLUE, ORANGE
from echoic.evaluate.png import covering
from echoic.explain.pieces import Piece, headline, pieces, visible
from echoic.explain.record import Explanation

COLUMNS, LINES = 84, 60
"""Of the grid; a longer text is cut, and that is said."""
MISSING = "▯"
CELL, LINE = 0.104, 0.36
"""Inches of a column and of a line."""
HEAD, CURVE = 0.55, 1.6
"""Inches of the headline, and of the curve of a trace."""


class Word(NamedTuple):
    line: int
    column: int
    width: int
    text: str
    piece: Piece | None


def write_png(path: str | Path, found: Sequence[Explanation], said: Callable[[str], None]) -> None:
    """The texts one below another, 160 dots an inch. Raises Unavailable without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("a PNG needs matplotlib: pip install 'echoic[train]'") from None
    laid = [_laid_out(each) for each in found]
    room = [0, *(lines for _, lines in laid)]
    shown = [i for i in range(len(found)) if sum(room[: i + 1]) < LINES or i == 0]
    if len(shown) < len(found) or any(lines > LINES for _, lines in laid):
        said(f"the picture holds {LINES} lines of text; --html has room for all")
    fonts, missing = covering({ord(c) for i in shown for c in headline(found[i]) + "".join(w.text for w in laid[i][0])})
    if missing:
        said("some characters have no glyph in any installed font and are drawn as ▯ (the page needs no fonts)")
    heights = [min(laid[i][1], LINES) * LINE + HEAD + 0.2 + (CURVE if found[i].beliefs else 0) for i in shown]
    data = io.BytesIO()
    fonts = ["DejaVu Sans Mono", *(font for font in fonts if font != "DejaVu Sans Mono")]
    with rc_context({"font.family": fonts, "font.size": 12, "text.parse_math": False}):
        figure = Figure(figsize=(COLUMNS * CELL + 0.4, sum(heights)))
        top = sum(heights)
        for i, height in zip(shown, heights, strict=True):
            _draw(figure, found[i], laid[i][0], (top - height) / sum(heights), height / sum(heights), missing)
            top -= height
        figure.savefig(data, format="png", dpi=160, metadata={"Software": None})
    durable.write_file(Path(path), data.getvalue())


def _draw(
    figure: Any, found: Explanation, words: Sequence[Word], bottom: float, share: float, missing: set[int]
) -> None:
    """One explanation in its part of the figure."""
    height = share * figure.get_figheight()
    curve = CURVE if found.beliefs else 0.0
    axes = figure.add_axes((0, bottom, 1, share * (height - curve - HEAD) / height))
    axes.set(xlim=(-1.5, COLUMNS + 1.5), ylim=((height - curve - HEAD) / LINE, 0))
    axes.set_axis_off()
    head = "".join(MISSING if ord(c) in missing else c for c in headline(found))
    figure.text(0.02, bottom + share * (1 - 0.3 / height), f"{head}   by {found.method}", weight="bold", va="center")
    for word in words:
        text = "".join(MISSING if ord(c) in missing else c for c in word.text)
        if word.piece is not None:
            _box(axes, word, word.piece)
        middle = word.column + word.width / 2
        axes.text(middle, word.line + 0.5, text, ha="center", va="center", color="black" if word.piece else "#5b6570")
    if found.beliefs:
        place = (0.08, bottom + share * (1 - (HEAD + CURVE - 0.35) / height))
        _belief(figure, found, place, (0.74, (CURVE - 0.5) * share / height))


def _box(axes: Any, word: Word, piece: Piece) -> None:
    colour = BLUE if piece.score >= 0 else ORANGE
    strength = piece.strength
    place = (word.column, word.line + 0.04)
    axes.add_patch(_rectangle(place, word.width, 0.92, colour, 0.38 * strength))
    thick = 0.14 * strength
    top = word.line + 0.04 if piece.score >= 0 else word.line + 0.96 - thick
    axes.add_patch(_rectangle((word.column, top), word.width, thick, colour, 1.0))


def _rectangle(place: tuple[float, float], width: float, height: float, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(place, width, height, facecolor=colour, alpha=alpha, linewidth=0)


def _belief(figure: Any, found: Explanation, place: tuple[float, float], size: tuple[float, float]) -> None:
    axes = figure.add_axes((*place, *size))
    for label, beliefs in (found.beliefs or {}).items():
        own = label == found.label
        steps = range(1, len(beliefs) + 1)
        axes.plot(steps, beliefs, "-" if own else "--", color=BLUE if own else ORANGE, label=visible(label)[:20])
    axes.set(ylim=(-0.02, 1.02))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _laid_out(found: Explanation) -> tuple[list[Word], int]:
    """(the words of the first LINES lines, how many lines the whole text takes)"""
    words: list[Word] = []
    line = column = place = 0
    for piece in [*pieces(found), None]:
        end = len(found.text) if piece is None else piece.start
        for run, owner in (
            (found.text[place:end], None),
            ("" if piece is None else found.text[piece.start : piece.end], piece),
        ):
            for part in _parts(visible(" ".join(run.split(" ")).replace("\n", " ").replace("\t", " "))):
                width = columns(part)
                if column + width > COLUMNS:
                    line, column, part = line + 1, 0, part.lstrip(" ")
                    width = columns(part)
                if part and line < LINES:
                    words.append(Word(line, column, width, part, owner))
                column += width
        place = end if piece is None else piece.end
    return words, line + 1


def _parts(text: str) -> list[str]:
    """What is wider than a line, in parts."""
    size = COLUMNS // 2
    return [text[i : i + size] for i in range(0, len(text), size)]


def columns(text: str) -> int:
    """Of a grid of equal columns, those that the text takes: two for an East Asian character or an emoji."""
    wide = sum(2 if east_asian_width(c) in "WF" else 1 for c in text if category(c) not in ("Mn", "Me", "Cf"))
    return max(wide, 1) if text else 0
