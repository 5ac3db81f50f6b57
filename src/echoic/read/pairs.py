"""Files of pairs: a source and a target in every row, from csv, tsv, jsonl or parquet, plain or compressed.

The two columns are those that `data.text` and `data.label` name; else those whose names say it (source
and target, src and tgt, 原文 and 译文, ...); else the first two that hold texts. What was chosen is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, UsageError, show
from echoic.core.types import Example
from echoic.read.columns import Columns, column
from echoic.read.opening import opened
from echoic.read.rows import Sheet, read_rows
from echoic.read.split import split
from echoic.read.tables import Table, ignore, text_of

SOURCE = ("source", "src", "原文", "源文", "input", "question", "article", "document", "body", "text")
TARGET = ("target", "tgt", "译文", "目标", "translation", "output", "answer", "summary", "headline", "title")


def read_pairs(
    path: str | Path, data: DataConfig, *, said: Callable[[str], None] = ignore, like: Columns | None = None
) -> Table:
    """The pairs of the file at `path` (`-` is stdin); `Example.input` is the source, `Example.target` the target.

    `like` is the `chosen` of a table read before. Raises what `read_table` raises; DataError for a file of one
    column, and for empty sides unless data.drop_unlabelled, which drops such rows.
    """
    if data.soft_labels:
        raise UsageError(
            "pairs have a source and a target: leave out --soft-labels, name two columns with --text and --label"
        )
    notes: list[str] = []

    def note(sentence: str) -> None:
        notes.append(sentence)
        said(sentence)

    with ExitStack() as stack:
        source = stack.enter_context(opened(path, data.max_bytes))
        asked = {each for each in (data.text, data.label, data.group, *SOURCE, *TARGET) if each}
        sheet = read_rows(source, data, stack, asked=asked, labelled=True, said=note)
        columns = _columns(sheet, data, like, source.name, note)
        examples = _examples(sheet, columns, source.name)
        digest = source.digest()
    whole = [e for e in examples if e.input.strip() and e.target.strip()]
    if len(whole) < len(examples):
        _refuse_or_say(examples, data, columns, source.name, note)
    if not whole:
        raise DataError(f"{source.name}: 0 pairs; want at least one row with both sides")
    if sheet.bad:
        note(
            f"{len(sheet.bad):,} rows with too few or too many fields were skipped, the first is row {sheet.bad[0]:,}."
        )
    skipped = len(sheet.bad) + len(examples) - len(whole)
    return Table(whole, sheet.columns, columns.text, columns.label, notes, digest, skipped, columns)


def split_pairs(
    examples: Sequence[Example], fraction: float, seed: int, said: Callable[[str], None] = ignore
) -> tuple[list[Example], list[Example]]:
    """(training part, validation part): rows that share a source, a group, or where there are no groups a target,
    stay together. Raises DataError where a part would be empty."""
    alike = [dataclasses.replace(e, target=None, group=e.group or f"target {e.target}") for e in examples]
    first, second = split(alike, fraction, seed, said)
    return [examples[i] for i in first], [examples[i] for i in second]


def _columns(sheet: Sheet, data: DataConfig, like: Columns | None, where: str, said: Callable[[str], None]) -> Columns:
    names = sheet.columns
    if len(names) < 2:
        raise DataError(
            f"{where}: one column ({show(names[0], 30)!r}), and a pair needs two: a source and a target in every row, parted by a tab or a comma"
        )
    group = column(names, data.group, "--group", where) if data.group is not None else None
    text = data.text or (like.text if like else None)
    label = data.label or (like.label if like else None)
    first = column(names, text, "--text", where) if text else None
    second = column(names, label, "--label", where) if label else None
    free = [name for name in names if name not in (first, second, group)]
    looked = first is None or second is None
    first = first or _named(free, SOURCE) or next(iter(_texts(sheet, free, where)))
    free = [name for name in free if name != first]
    second = second or _named(free, TARGET) or next(iter(_texts(sheet, free, where)))
    if first == second:
        raise UsageError(f"{where}: column {show(first)!r} cannot be both sides; name two with --text and --label")
    if looked:
        said(
            f"The source is column {show(first)!r}, the target column {show(second)!r} (--text and --label name others)."
        )
    return Columns(first, second, (), group)


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    folded = {name.strip().casefold(): name for name in reversed(names)}
    return next((folded[each] for each in known if each in folded), None)


def _texts(sheet: Sheet, names: Sequence[str], where: str) -> list[str]:
    """The columns that hold texts, in their order: most cells have a letter. Raises DataError if there is none."""
    found = []
    for name in names:
        cells = [str(row[sheet.columns.index(name)] or "") for row in sheet.sample]
        if 2 * sum(any(c.isalpha() for c in cell) for cell in cells) > len(cells):
            found.append(name)
    if not found:
        listed = ", ".join(show(name, 30) for name in sheet.columns[:20])
        raise DataError(f"{where}: no two columns of texts; name them with --text and --label (columns: {listed})")
    return found


def _examples(sheet: Sheet, columns: Columns, name: str) -> list[Example]:
    assert columns.label is not None
    first, second = sheet.columns.index(columns.text), sheet.columns.index(columns.label)
    group = None if columns.group is None else sheet.columns.index(columns.group)
    examples = []
    for row, cells in sheet.rows:
        where = f"{name}: row {row}"
        alike: Any = None if group is None else cells[group]
        examples.append(
            Example(
                text_of(cells[first], where),
                text_of(cells[second], where),
                None if alike in (None, "") else str(alike),
                row,
            )
        )
    return examples


def _refuse_or_say(
    examples: Sequence[Example], data: DataConfig, columns: Columns, name: str, note: Callable[[str], None]
) -> None:
    for side, title in (("input", columns.text), ("target", columns.label)):
        rows = [e.row for e in examples if not getattr(e, side).strip()]
        if not rows:
            continue
        listed = ", ".join(str(row) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        if not data.drop_unlabelled:
            raise DataError(
                f"{name}: column {show(title)!r} is empty in {len(rows):,} rows: {listed}; a pair needs both sides: fill them in, or drop them with --drop-unlabelled"
            )
        note(f"{len(rows):,} rows with an empty {show(title)!r} were dropped: {listed}.")
