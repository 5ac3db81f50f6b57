"""Files to examples: csv, tsv, jsonl, parquet, txt or stdin, plain or compressed, in one pass.

    path -> opening (bytes) -> encodings (lines) -> layout, rows (cells) -> columns (which is what) -> Example

Whatever is decided by looking is a sentence in `Table.notes`, and is told to `said` as it is decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, show
from echoic.core.types import Example
from echoic.read.columns import Columns, find_columns
from echoic.read.labels import Unlabelled, label_of, same_kind, soft_label_of
from echoic.read.opening import opened
from echoic.read.rows import MISSING, Sheet, read_rows

EMPTY_WORDS = {"", "nan", "none", "null"}


def ignore(_: str) -> None:
    """Where notes go if nobody listens."""


@dataclass(frozen=True)
class Table:
    """A file that was read whole."""

    examples: list[Example]
    columns: list[str]
    """All columns of the file, by name (by number from 1 where it has no header)."""
    text: str
    label: str | None
    notes: list[str]
    digest: str
    """SHA-256 of the file's bytes as they stand (still compressed)."""
    skipped: int
    chosen: Columns
    """What to hand to `like=` so that the next file is read the same way."""


def read_table(
    path: str | Path,
    data: DataConfig,
    *,
    need_label: bool = True,
    label_separator: str | None = None,
    said: Callable[[str], None] = ignore,
    like: Columns | None = None,
) -> Table:
    """Reads the labelled file at `path` (`-` is stdin) whole.

    `label_separator="|"` reads `a|b` as the labels ("a", "b"); a JSON array is several labels
    anyway. `like` is the `chosen` of a table read before. Without `need_label`, targets are None
    where there is no label. Raises DataError (65), InputMissing (66), NotPermitted (77), UsageError
    (2: one column for text and label), ConfigError (78: no such encoding).
    """
    notes: list[str] = []

    def note(sentence: str) -> None:
        notes.append(sentence)
        said(sentence)

    with ExitStack() as stack:
        source = stack.enter_context(opened(path, data.max_bytes))
        sheet, columns = _begin(source, data, stack, need_label, like, note)
        examples, unlabelled = _examples(sheet, columns, label_separator, data, source.name, note)
        digest = source.digest()
    if need_label and unlabelled:
        _refuse_or_say_unlabelled(unlabelled, data, source.name, columns, note)
        examples = [example for example in examples if example.target is not None]
    _refuse_empty(examples, source.name)
    if sheet.bad:
        note(
            f"{len(sheet.bad):,} rows with too few or too many fields were skipped, the first is row {sheet.bad[0]:,}."
        )
    skipped = len(sheet.bad) + (len(unlabelled) if need_label else 0)
    return Table(examples, sheet.columns, columns.text, columns.label, notes, digest, skipped, columns)


def stream_texts(
    path: str | Path,
    data: DataConfig,
    *,
    said: Callable[[str], None] = ignore,
    like: Columns | None = None,
) -> Iterator[Example]:
    """The texts of a file of any size, one after another in constant memory; targets are None.

    A compressed file is bounded by `data.max_bytes`, a plain one is not. Raises what `read_table` raises.
    """
    with ExitStack() as stack:
        source = stack.enter_context(opened(path, data.max_bytes, bound_plain=False))
        sheet, columns = _begin(source, data, stack, False, like, said)
        place = sheet.columns.index(columns.text)
        for row, cells in sheet.rows:
            yield Example(text_of(cells[place], f"{source.name}: row {row}"), row=row)
    if sheet.bad:
        said(
            f"{len(sheet.bad):,} rows with too few or too many fields were skipped, the first is row {sheet.bad[0]:,}."
        )


def _begin(
    source: Any, data: DataConfig, stack: ExitStack, need_label: bool, like: Columns | None, note: Callable[[str], None]
) -> tuple[Sheet, Columns]:
    asked = {data.text, data.label, data.group, *data.soft_labels} - {None}
    if like:
        asked |= {like.text, like.label, *like.soft_labels} - {None}
    sheet = read_rows(source, data, stack, asked={str(each) for each in asked}, labelled=need_label, said=note)
    columns = find_columns(
        sheet.columns, sheet.sample, data, need_label=need_label, like=like, where=source.name, said=note
    )
    return sheet, columns


def _examples(
    sheet: Sheet, columns: Columns, separator: str | None, data: DataConfig, name: str, note: Callable[[str], None]
) -> tuple[list[Example], list[int]]:
    """All examples (target None where there is no label) and the rows without a label."""
    place = {column: i for i, column in enumerate(sheet.columns)}
    soft = [place[column] for column in columns.soft_labels]
    examples, unlabelled, scaled = [], [], 0
    for row, cells in sheet.rows:
        where = f"{name}: row {row}"
        target: Any = None
        try:
            if soft:
                target, off = soft_label_of({c: cells[place[c]] for c in columns.soft_labels}, where)
                scaled += off
            elif columns.label is not None:
                target = label_of(cells[place[columns.label]], separator, where)
        except Unlabelled:
            unlabelled.append(row)
        group = None if columns.group is None else cells[place[columns.group]]
        group = None if group is None or group == "" else str(group)
        examples.append(Example(text_of(cells[place[columns.text]], where), target, group, row))
    if scaled:
        note(f"The soft labels of {scaled:,} rows did not sum to 1 and were divided by their sum.")
    if data.on_bad_bytes == "replace" and (count := sum("\ufffd" in example.input for example in examples)):
        note(f"{count:,} texts hold U+FFFD, where bytes that are not {show(data.encoding)} were replaced.")
    return same_kind(examples, note), unlabelled


def text_of(cell: Any, where: str) -> str:
    """A cell as a text, empty where there is nothing. Raises DataError for what is none."""
    if cell is MISSING:
        raise DataError(f"{where}: this object has no text column; give it one (null stands for an empty text)")
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, (bool, int, float)):
        return str(cell).lower()
    kinds: dict[type, str] = {list: "an array", dict: "an object", bytes: "binary"}
    raise DataError(f"{where}: the text is {kinds.get(type(cell), type(cell).__name__)}, want a string")


def _refuse_or_say_unlabelled(
    rows: list[int], data: DataConfig, name: str, columns: Columns, note: Callable[[str], None]
) -> None:
    listed = ", ".join(f"{row}" for row in rows[:5]) + (", …" if len(rows) > 5 else "")
    if not data.drop_unlabelled:
        column = columns.label or "/".join(columns.soft_labels)
        raise DataError(
            f"{name}: column {show(column)!r} is empty in {len(rows):,} rows: {listed}; fill them in, or drop them with --drop-unlabelled"
        )
    note(f"{len(rows):,} rows without a label were dropped: {listed}.")


def _refuse_empty(examples: list[Example], name: str) -> None:
    if not examples:
        raise DataError(f"{name}: 0 rows with a label; want at least one")
    if all(example.input.strip().casefold() in EMPTY_WORDS for example in examples):
        raise DataError(f"{name}: all {len(examples):,} texts are empty; is it the right column? (--text)")
