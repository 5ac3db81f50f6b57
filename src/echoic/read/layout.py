"""What kind of table a text is, decided from its first lines: format, delimiter, quoting, header.

Nothing is decided silently: every choice that another reader might make otherwise becomes a note.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from echoic.read.columns import named_role
from echoic.read.encodings import bare

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
FASTTEXT = "__label__"
LOOKED_AT = (1000, 1 << 16)
"""How many lines, and about how many characters, are looked at."""
Form = Literal["delimited", "jsonl", "fasttext", "lines"]


@dataclass(frozen=True)
class Layout:
    """How to read the lines. The last four matter to `delimited` only."""

    form: Form
    delimiter: str = ","
    quoted: bool = True
    header: bool = False
    spaced: bool = False
    """A space stands behind each delimiter, and belongs to no cell."""


def lay_out(
    first: Sequence[str],
    suffix: str,
    *,
    header: bool | None,
    asked: Collection[str],
    labelled: bool,
    said: Callable[[str], None],
) -> Layout:
    """The layout of a text that begins with the lines `first`.

    `asked` are the columns somebody named; `labelled` says that a label is wanted, so that a
    nameless stream of `a,b` lines is taken for a table and not for sentences with commas.
    """
    if suffix in (".jsonl", ".ndjson", ".json"):
        return Layout("jsonl")
    if suffix in (".csv", ".tsv", ".tab"):
        return _delimited(first, suffix, header, asked, said)
    start = next((line for line in first if line.strip()), "")
    if suffix != ".txt" and start.lstrip().startswith("{"):
        said("The text begins with {, so it is read as JSON lines.")
        return Layout("jsonl")
    if start.startswith(FASTTEXT):
        said("The lines begin with __label__, so they are read as fastText's labels and text.")
        return Layout("fasttext")
    if _tabbed(first):
        return _delimited(first, ".tsv", header, asked, said)
    if suffix != ".txt":
        delimiter = _delimiter(first)
        cells = next(iter(_records([start], delimiter or ",")), [])
        if header or _names_columns(cells, asked) or (labelled and delimiter):
            return _delimited(first, suffix, header, asked, said)
    said("The text is no table, so it is read as one unlabelled text a line.")
    return Layout("lines")


def _delimited(
    first: Sequence[str], suffix: str, header: bool | None, asked: Collection[str], said: Callable[[str], None]
) -> Layout:
    delimiter = "\t" if suffix in (".tsv", ".tab") else _delimiter(first) or ","
    if delimiter != "," or suffix != ".csv":
        said(f"Columns are separated by {DELIMITERS[delimiter]}s.")
    quoted = delimiter != "\t" or _quoted(first)
    if not quoted and any('"' in line for line in first):
        said("Quotation marks are plain characters here, as fields between tabs do not open and close with them.")
    spaced = _spaced(_records(first, delimiter, quoted))
    if spaced:
        said(f"The space behind each {DELIMITERS[delimiter]} is left out.")
    if header is None:
        header = _looks_like_header(_records(first, delimiter, quoted), asked)
        said("The first row names the columns." if header else "There is no header row; columns are numbered from 1.")
    return Layout("delimited", delimiter, quoted, header, spaced)


def _spaced(rows: Sequence[Sequence[str]]) -> bool:
    behind = [cell for row in rows for cell in row[1:] if cell]
    return len(rows) > 1 and bool(behind) and all(cell.startswith(" ") for cell in behind)


def _records(first: Sequence[str], delimiter: str, quoted: bool = True) -> list[list[str]]:
    """The first rows, leniently; the last is left out where the lines stop within the file, as it may be cut off."""
    reader = csv.reader(first, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    out: list[list[str]] = []
    with suppress(csv.Error):
        out.extend(row for row in reader if any(cell.strip() for cell in row))
    cut = len(first) >= LOOKED_AT[0] or sum(map(len, first)) > LOOKED_AT[1]
    return out[:-1] if cut and len(out) > 2 else out


def _delimiter(first: Sequence[str]) -> str | None:
    """The delimiter that gives most rows the first row's number of fields, at least two; None if none does."""

    def agreement(delimiter: str) -> float:
        counts = [len(row) for row in _records(first, delimiter)]
        return counts.count(counts[0]) / len(counts) if counts and counts[0] > 1 else 0.0

    shares = {delimiter: agreement(delimiter) for delimiter in DELIMITERS}
    best = max(shares, key=lambda delimiter: shares[delimiter])
    return best if shares[best] > 0.5 else None


def _tabbed(first: Sequence[str]) -> bool:
    counts = Counter(line.count("\t") for line in first if line.strip())
    most, rows = counts.most_common(1)[0] if counts else (0, 0)
    return most >= 1 and rows >= 0.9 * counts.total()


def _quoted(first: Sequence[str]) -> bool:
    cells = [cell for line in first for cell in bare(line).split("\t") if cell.startswith('"')]
    return bool(cells) and all(len(cell) > 1 and cell.endswith('"') for cell in cells)


def _names_columns(cells: Sequence[str], asked: Collection[str]) -> bool:
    """Whether a cell is a name that somebody asked for, or one that columns usually have."""
    return any(cell in asked and not cell.isdecimal() for cell in cells) or any(map(named_role, cells))


def _looks_like_header(rows: Sequence[Sequence[str]], asked: Collection[str]) -> bool:
    """By its names; else by its kind: words above numbers, or short words above long texts."""
    if not rows:
        return True
    top, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if len(set(top)) < len(top) and not any(map(named_role, top)):
        return False
    if _names_columns(
        [cell for i, cell in enumerate(top) if cell in asked or all(cell != row[i] for row in below)], asked
    ):
        return True
    if not below or any(not cell.strip() or _number(cell) for cell in top):
        return False
    columns = list(zip(*below, strict=True))
    if any(all(map(_number, column)) for column in columns):
        return True
    lengths = [sorted(map(len, column))[len(column) // 2] for column in columns]
    text = lengths.index(max(lengths))
    short = len(top[text]) < 30 and len(top[text]) * 4 < lengths[text]
    return short and len(below) >= 3 and all(cell not in column for cell, column in zip(top, columns, strict=True))


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
