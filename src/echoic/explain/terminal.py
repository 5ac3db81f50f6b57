"""An explanation in a terminal: the text in colours and, for whoever sees none, with marks: good⁺⁺⁺ dull⁻."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from echoic.explain.faithful import SHARES, Faithfulness
from echoic.explain.pieces import Piece, headline, legend, named, pieces, strongest, sums, visible
from echoic.explain.record import Explanation

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.text import Text

FOR = ("", "black on #cfe6f5", "black on #86c0e6", "bold white on #0072b2")
AGAINST = ("", "black on #fbdfc6", "black on #f3ad72", "bold white on #c24e00")
"""Styles of the levels."""
SHOWN = 400
"""Pieces of a text; the page has them all."""
RANKED = 8
BLOCKS = " ▁▂▃▄▅▆▇█"


def render(found: Explanation) -> Group:
    """The answer, the text, its strongest tokens, and what the scores mean."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = [Text.assemble((headline(found), "bold"), f"   by {found.method}")]
    lines += [Text(legend(found), style="dim"), Text(""), _Marked(found), Text("")]
    lines += [Text(line) for line in _turns(found)]
    lines += [_table(found), Text(""), *(Text(line, style="dim") for line in (sums(found), *found.notes))]
    return Group(*lines)


class _Marked:
    """The text in lines as wide as the terminal; of a trace, the belief after each piece stands above it as a bar."""

    def __init__(self, found: Explanation) -> None:
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.cells import cell_len
        from rich.text import Text

        beliefs = (self.found.beliefs or {}).get(self.found.label)
        above, line, used = Text(style="dim"), Text(), 0
        for words, style, last in _runs(self.found):
            for part in _cut(words, options.max_width):
                width = cell_len(part)
                if used + width > options.max_width:
                    yield from ([above] if beliefs else [])
                    yield line
                    above, line, used = Text(style="dim"), Text(), 0
                    part = part.lstrip(" ")
                    width = cell_len(part)
                line.append(part, style)
                above.append(_block(beliefs[last]) * width if beliefs and last >= 0 else " " * width)
                used += width
        yield from ([above] if beliefs else [])
        yield line


def _runs(found: Explanation) -> Iterator[tuple[str, str, int]]:
    """(words, style, index of the last token or -1) from the text's begin to its end."""
    if not found.text.strip():
        yield "(a text without words)", "dim", -1
        return
    place, drawn = 0, pieces(found)
    for piece, after in zip(drawn[:SHOWN], [*drawn[1:SHOWN], None], strict=True):
        yield _flat(found.text[place : piece.start]), "dim", -1
        yield from _piece(found, piece, after)
        place = piece.end
    if len(drawn) > SHOWN:
        yield f" … and {len(found.tokens) - drawn[SHOWN].first:,} tokens more (--html shows them all)", "dim", -1
    else:
        yield _flat(found.text[place:]), "dim", -1


def _piece(found: Explanation, piece: Piece, after: Piece | None) -> Iterator[tuple[str, str, int]]:
    """The piece and its marks; pieces that touch and are marked alike, as characters of a word, are marked once."""
    words = _flat(found.text[piece.start : piece.end])
    bare = words.lstrip(" ") or words
    styles, mark = (FOR, "⁺") if piece.score >= 0 else (AGAINST, "⁻")
    touches = after is not None and after.start == piece.end and not found.text[after.start].isspace()
    alike = touches and after is not None and (after.level, after.score >= 0) == (piece.level, piece.score >= 0)
    yield words[: len(words) - len(bare)], "", piece.last
    yield bare + ("" if alike else mark * piece.level), styles[piece.level], piece.last


def _flat(text: str) -> str:
    """On one line: white space is a space."""
    return visible("".join(" " if c.isspace() else c for c in text))


def _cut(words: str, width: int) -> Iterator[str]:
    """What is wider than a line, in parts (a character may take two columns)."""
    size = max(1, width // 2)
    yield from (words[i : i + size] for i in range(0, len(words), size)) if len(words) > size else (words,)


def _block(belief: float) -> str:
    return BLOCKS[min(8, 1 + int(belief * 8))]


def _turns(found: Explanation, most: int = 5) -> Iterator[str]:
    turns = found.turns or []
    for turn in turns[:most]:
        word = _flat(found.tokens[turn.token].text)
        yield f"at “{word}” (token {turn.token + 1}) the answer turned from {visible(turn.before)} to {visible(turn.after)}"
    if len(turns) > most:
        yield f"and {len(turns) - most:,} turns more"
    if turns:
        yield ""


def _table(found: Explanation) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for piece in strongest(found, RANKED):
        bar = ("█" if piece.score >= 0 else "▒") * max(1, round(16 * piece.strength))
        table.add_row(f"{piece.score:+.3f}", Text(bar), Text(_flat(named(found, piece))[:40]))
    return table


def render_faithfulness(found: Faithfulness) -> Group:
    """The table of methods and the sentence under it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for head, side in (("method", "left"), ("fall", "right"), ("times random", "right"), ("95 % interval", "right")):
        table.add_column(head, justify="left" if side == "left" else "right")
    table.add_column("")
    for name, each in sorted(found.methods.items(), key=lambda item: -item[1].aopc):
        times = "-" if each.times_random is None else f"{each.times_random:.1f}"
        verdict = "faithful" if each.faithful else ""
        table.add_row(name, f"{each.aopc:+.3f}", times, f"{each.low:+.3f} to {each.high:+.3f}", verdict)
    table.add_row("random", f"{found.random:+.3f}", "", "", "")
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    head = (
        f"Over {found.texts:,} texts: how far the probability of the answer falls when a method's top words are deleted"
    )
    about = f"Mean over the top {shares} of the tokens (AOPC). The interval is of the difference to random words."
    return Group(Text(head), Text(""), table, Text(""), Text(about, style="dim"), Text(found.sentence(), style="bold"))
