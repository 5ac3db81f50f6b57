"""An alignment drawn: as a heat map in a terminal, on a page and in a picture. The source runs from left to right, the
translation from top to bottom; the darker a cell, the more of its attention the written token gave to the source's.

On the page a cell has its number under the pointer, in the terminal a digit: tenths of the attention, so that nobody
needs to tell two shades apart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echoic.core import durable
from echoic.core.errors import Unavailable
from echoic.evaluate.page import page
from echoic.evaluate.png import covering
from echoic.explain.alignment import Alignment
from echoic.explain.page import say
from echoic.explain.pieces import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.text import Text

END = "(end)"
HEIGHT, WIDTH = 12, 16
"""Characters of a source token above its column, and of a written one beside its row, at most."""
SHADES = ("", "on #cfe6f5", "on #86c0e6", "bold white on #0072b2")
LEVELS = (0.05, 0.25, 0.6)
"""From here a cell has a darker shade."""
TOKENS = 60
"""Of each side in a picture."""
MISSING = "▯"


def _sides(found: Alignment) -> tuple[list[str], list[str]]:
    """What stands at the columns and at the rows."""
    names = [[visible(" ".join(token.text.split())) for token in side] for side in (found.source, found.target)]
    return [name or "(no words)" for name in names[0]], [name or END for name in names[1]]


# In a terminal


def render(found: Alignment) -> Group:
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = [Text(visible(found.translation) or "(nothing)", "bold"), Text("")]
    lines += [_Matrix(found), Text(""), Text("tenths of the attention; to the right how sure each token was", "dim")]
    return Group(*lines)


class _Matrix:
    """Columns two wide with the source's tokens above them, letter under letter; as many blocks as the terminal needs."""

    def __init__(self, found: Alignment) -> None:
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        above, beside = _sides(self.found)
        across = max(1, (options.max_width - WIDTH - 9) // 2)
        for first in range(0, len(above), across):
            if first:
                yield Text("")
            block = slice(first, first + across)
            yield from _head(above[block])
            for name, row, token in zip(beside, self.found.weights, self.found.target, strict=True):
                line = Text(_fitted(name, WIDTH) + " ")
                for weight in row[block]:
                    shade = SHADES[sum(weight >= least for least in LEVELS)]
                    line.append(f"{_digit(weight)} ", shade)
                if first + across >= len(above):
                    line.append(f"  {token.probability:5.0%}", "dim")
                yield line


def _head(names: Sequence[str]) -> Iterator[Text]:
    from rich.text import Text

    tall = min(HEIGHT, max(map(len, names)))
    cut = [name if len(name) <= tall else f"{name[: tall - 1]}…" for name in names]
    for line in range(tall):
        letters = [name[len(name) - tall + line] if len(name) - tall + line >= 0 else " " for name in cut]
        yield Text(" " * (WIDTH + 1) + "".join(_fitted(letter, 2) for letter in letters), "dim")


def _fitted(text: str, width: int) -> str:
    """`text` in exactly `width` columns of a terminal."""
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…", width)


def _digit(weight: float) -> str:
    tenths = min(9, int(weight * 10))
    return str(tenths) if tenths else "·" if weight < LEVELS[0] else "0"


# On a page


def write_page(path: str | Path, found: Sequence[Alignment]) -> None:
    """Writes the HTML file. Raises core.errors' kinds where the disk refuses."""
    durable.write_file(Path(path), html(found).encode())


def html(found: Sequence[Alignment]) -> str:
    """The whole page, a section for each text; it asks for nothing and runs nothing."""
    heading = (
        f"Where the translator looked: {found[0].translation}" if len(found) == 1 else f"{len(found):,} alignments"
    )
    sections = [(f"text-{i}", "", _section(each)) for i, each in enumerate(found, 1)]
    return page(heading, sections, OWN_STYLE)


def _section(found: Alignment) -> str:
    above, beside = _sides(found)
    head = "".join(f'<th scope="col"><span>{say(name)}</span></th>' for name in above)
    rows = []
    for name, row, token in zip(beside, found.weights, found.target, strict=True):
        cells = "".join(
            f'<td style="--s:{weight:.3f}" title="{say(name)} ← {say(column)}: {weight:.1%}"></td>'
            for weight, column in zip(row, above, strict=True)
        )
        rows.append(
            f'<tr><th scope="row" dir="auto">{say(name)}</th>{cells}<td class="p">{token.probability:.0%}</td></tr>'
        )
    return (
        f'<p dir="auto">{say(found.text)}</p><p dir="auto"><b>{say(found.translation)}</b></p>'
        f'<div class="wide"><table class="alignment"><thead><tr><td></td>{head}<td class="p">sure</td></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p>The source from left to right, the translation from top to bottom. The darker a cell, the more of its "
        "attention the written token gave to the source's; the number stands under the pointer. "
        "Attention says where the network looked, which is not always what it translated.</p>"
    )


OWN_STYLE = """
.alignment th, .alignment td { border: 0; padding: 0; text-align: center; color: var(--ink); font-weight: 400 }
.alignment thead th, .alignment thead td { vertical-align: bottom } .alignment thead span { writing-mode: vertical-rl; transform: rotate(180deg) }
.alignment tbody th { text-align: right; padding-right: .6rem; white-space: nowrap }
.alignment tbody td { width: 1.6rem; min-width: 1.6rem; height: 1.6rem; border: 1px solid var(--line);
  background: color-mix(in srgb, var(--one) calc(var(--s) * 100%), transparent) }
.alignment tbody td:hover { outline: 2px solid var(--ink) }
.alignment .p { border: 0; background: none; padding-left: .8rem; color: var(--soft); font-variant-numeric: tabular-nums }
"""


# In a picture


def write_png(path: str | Path, found: Sequence[Alignment], said: Callable[[str], None]) -> None:
    """The heat maps one below another, 160 dots an inch. Raises Unavailable without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("a PNG needs matplotlib: pip install 'echoic[train]'") from None
    if any(len(side) > TOKENS for each in found for side in (each.source, each.target)):
        said(f"the picture holds {TOKENS} tokens of each side; --html has room for all")
    sides = [tuple(side[:TOKENS] for side in _sides(each)) for each in found]
    fonts, missing = covering({ord(c) for both in sides for side in both for name in side for c in name})
    if missing:
        said("some characters have no glyph in any installed font and are drawn as ▯ (the page needs no fonts)")
    heights = [0.28 * len(beside) + 1.5 for _, beside in sides]
    data = io.BytesIO()
    with rc_context({"font.family": fonts, "font.size": 10, "text.parse_math": False}):
        wide = 0.28 * max(len(above) for above, _ in sides) + 2.5
        figure = Figure(figsize=(wide, sum(heights)), layout="constrained")
        every = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, each, (above, beside) in zip(every, found, sides, strict=True):
            axes.imshow([row[: len(above)] for row in each.weights[: len(beside)]], cmap="Blues", vmin=0, vmax=1)
            for side, names, place in (("x", above, axes.set_xticks), ("y", beside, axes.set_yticks)):
                drawn = ["".join(MISSING if ord(c) in missing else c for c in name) for name in names]
                place(range(len(names)), drawn, rotation=90 if side == "x" else 0)
            axes.xaxis.tick_top()
            axes.tick_params(length=0)
            axes.spines[:].set_color("#d5dae0")
        figure.savefig(data, format="png", dpi=160, metadata={"Software": None})
    durable.write_file(Path(path), data.getvalue())
