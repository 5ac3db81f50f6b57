"""Running text: a file read as one text, or as the texts of its rows, and cut where it stands.

A .txt file, or one without a known suffix, is one text in its own order: lines are not rows, and line
ends are characters (\\r\\n is read as \\n). A csv, tsv, jsonl or parquet file has a text a row, as for any
other task. The validation part is the end of it: the last characters, or the last rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, UsageError
from echoic.core.types import Example
from echoic.read.columns import Columns
from echoic.read.encodings import BadLine, lines, refuse_utf16
from echoic.read.keys import text_key
from echoic.read.opening import Source, opened
from echoic.read.rows import PARQUET
from echoic.read.tables import Table, ignore, read_table

TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet")


def read_running_text(path: str | Path, data: DataConfig, *, said: Callable[[str], None] = ignore) -> Table:
    """The texts of the file at `path` (`-` is stdin), plain or compressed; targets are None.

    Raises what `read_table` raises, UsageError for settings about labels.
    """
    if data.label is not None or data.soft_labels or data.group is not None:
        raise UsageError("running text has no labels and no groups: leave out --label, --soft-labels and --group")
    if data.text is None:
        with opened(path, data.max_bytes) as source:
            if source.suffix not in TABLES and not source.head.startswith(PARQUET):
                return _one_text(source, data, said)
    table = read_table(path, data, need_label=False, said=said)
    return dataclasses.replace(table, examples=[dataclasses.replace(e, target=None) for e in table.examples])


def read_unlabelled(path: str | Path, data: DataConfig) -> Table:
    """A file's rows, or a .txt file's lines, as texts; targets are None. The settings are those of a labelled file: what
    they say of labels is left out, and a text column is looked for in tables only, as a .txt file has none."""
    off: dict[str, object] = {"label": None, "soft_labels": (), "group": None}
    if not any(suffix.lower() in TABLES for suffix in Path(path).suffixes):
        off |= {"text": None, "header": None}
    table = read_table(path, data.model_copy(update=off), need_label=False)
    return dataclasses.replace(table, examples=[dataclasses.replace(e, target=None) for e in table.examples])


def new_texts(given: Sequence[Example], known: Iterable[Example], said: Callable[[str], None]) -> list[Example]:
    """`distinct`, and how many they are."""
    new = distinct(given, known)
    said(f"{len(new):,} of {len(given):,} unlabelled texts are new, and learned from")
    return new


def distinct(given: Iterable[Example], known: Iterable[Example]) -> list[Example]:
    """The texts that are not empty and not known, each once, without labels."""
    keys = {text_key(e.input) for e in known} | {b""}
    new = {key: e for e in given if (key := text_key(e.input)) not in keys}
    return [Example(e.input, row=e.row) for e in new.values()]


def _one_text(source: Source, data: DataConfig, said: Callable[[str], None]) -> Table:
    refuse_utf16(source.head, data.encoding, source.name)
    try:
        text = "".join(lines(source.stream, data.encoding, data.on_bad_bytes, data.max_field)).replace("\r\n", "\n")
    except BadLine as bad:
        raise DataError(f"{source.name}: line {bad.line}: {bad.problem}") from None
    if not text.strip():
        raise DataError(f"{source.name}: holds nothing but white space; give running text")
    note = f"read as one text of {len(text):,} characters in {text.count(chr(10)) + 1:,} lines"
    said(note)
    return Table([Example(text, row=1)], ["text"], "text", None, [note], source.digest(), 0, Columns("text"))


def cut(examples: Sequence[Example], fraction: float) -> tuple[list[Example], list[Example]]:
    """(training part, validation part): `fraction` of one text's characters, or of several texts, from
    the end. Nothing is shuffled, as neighbouring lines know too much of each other. Raises DataError
    where a part would be empty."""
    if len(examples) > 1:
        place = min(max(1, int(len(examples) * (1 - fraction))), len(examples) - 1)
        return list(examples[:place]), list(examples[place:])
    (only,) = examples
    place = int(len(only.input) * (1 - fraction))
    parts = only.input[:place], only.input[place:]
    if not all(part.strip() for part in parts):
        raise DataError(f"a text of {len(only.input):,} characters is too short to hold out a part; give more text")
    first, second = (dataclasses.replace(only, input=part) for part in parts)
    return [first], [second]
