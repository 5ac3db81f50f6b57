"""An opened source as rows of cells, whatever its format, with each row's number for messages.

A cell is a string (numbers as they are spelled), None where there is nothing, or a list. Ragged
rows and over-long fields are refused here, for every format alike.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, Unavailable, show
from echoic.read import json_lines
from echoic.read.encodings import BadLine, bare, lines, refuse_utf16
from echoic.read.layout import FASTTEXT, LOOKED_AT, Layout, lay_out
from echoic.read.opening import CHUNK, Source, seekable, size_in_words

SAMPLE = 500
PARQUET = b"PAR1"
MISSING = type("Missing", (str,), {})()
"""The cell of a JSON object that has no such key: an empty string, told apart by `is`."""
_ARROW_ROWS = 1024
Record = tuple[int, list[Any]]


@dataclass
class Sheet:
    """Named columns and their rows: `rows` yields (1-based data row, cells); `sample` is its beginning."""

    columns: list[str]
    rows: Iterator[Record]
    sample: list[list[Any]]
    bad: list[int]
    """Rows skipped as ragged, filled while `rows` is read."""


def read_rows(
    source: Source,
    data: DataConfig,
    stack: ExitStack,
    *,
    asked: Collection[str],
    labelled: bool,
    said: Callable[[str], None],
) -> Sheet:
    """The rows of `source`. Raises DataError that names file, row, line and what to do."""
    if source.head.startswith(PARQUET) or source.suffix == ".parquet":
        columns, records = _parquet(source, data, stack)
    else:
        columns, records = _text(source, data, asked, labelled, said)
    bad: list[int] = []
    rows = _numbered(records, source.name, len(columns), data, bad)
    sample = list(islice(rows, SAMPLE))
    if not sample:
        skipped = f" ({len(bad):,} were skipped as ragged)" if bad else ""
        raise DataError(f"{source.name}: 0 rows{skipped}; want at least one row of data")
    return Sheet(columns, chain(sample, rows), [cells for _, cells in sample], bad)


def _text(
    source: Source, data: DataConfig, asked: Collection[str], labelled: bool, said: Callable[[str], None]
) -> tuple[list[str], Iterator[Record]]:
    refuse_utf16(source.head, data.encoding, source.name)
    csv.field_size_limit(max(csv.field_size_limit(), data.max_field))
    longest = 4 * data.max_field + CHUNK
    first, all_lines = _beginning(lines(source.stream, data.encoding, data.on_bad_bytes, longest))
    layout = lay_out(first, source.suffix, header=data.header, asked=asked, labelled=labelled, said=said)
    if layout.form == "jsonl":
        return _json(all_lines)
    if layout.form == "fasttext":
        return ["label", "text"], _fasttext(all_lines)
    if layout.form == "lines":
        return ["text"], _plain(all_lines)
    return _delimited(all_lines, layout, data, source.name)


def _beginning(stream: Iterator[str]) -> tuple[list[str], Iterator[str]]:
    """The lines to look at, and all of them; a bad line is met in its turn."""
    first: list[str] = []
    size = 0
    try:
        for line in islice(stream, LOOKED_AT[0]):
            first.append(line)
            size += len(line)
            if size > LOOKED_AT[1]:
                break
    except BadLine as bad:
        return first, chain(first, _raising(bad))
    return first, chain(first, stream)


def _raising(error: Exception) -> Iterator[str]:
    raise error
    yield ""


def _delimited(
    all_lines: Iterator[str], layout: Layout, data: DataConfig, name: str
) -> tuple[list[str], Iterator[Record]]:
    records = _csv_records(all_lines, layout, data.max_field)
    try:
        line, cells = next(records)
    except StopIteration:
        raise DataError(f"{name}: 0 rows; want at least one row of data") from None
    except BadLine as bad:
        raise DataError(f"{name}: {'header' if layout.header else 'row 1'} (line {bad.line}): {bad.problem}") from None
    if not layout.header:
        return [str(i + 1) for i in range(len(cells))], chain([(line, cells)], records)
    names = [cell.strip() or str(i + 1) for i, cell in enumerate(cells)]
    for each in names:
        places = [i + 1 for i, other in enumerate(names) if other == each]
        if len(places) > 1:
            raise DataError(
                f"{name}: header: column {show(each)!r} stands {len(places)} times, at positions {', '.join(map(str, places))}; rename one"
            )
    return names, records


def _csv_records(all_lines: Iterator[str], layout: Layout, max_field: int) -> Iterator[Record]:
    reader = csv.reader(
        all_lines,
        delimiter=layout.delimiter,
        quoting=csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE,
        strict=True,
        skipinitialspace=layout.spaced,
    )
    alone = False
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadLine(line, _csv_problem(str(error), line, max_field)) from None
        if len(cells) > 1 or any(cell.strip() for cell in cells) or (cells and alone):
            alone = len(cells) == 1  # of one column a blank cell is an empty text, and a blank line is none
            yield line, cells


def _csv_problem(error: str, line: int, max_field: int) -> str:
    if "unexpected end of data" in error:
        return f'a quote that opens in line {line} is never closed; close it, or write " inside a field as ""'
    if "field larger" in error:
        return f"a field of more than {max_field:,} characters (--max-field), or a quote that opens in line {line} and is never closed"
    if "new-line" in error:
        return "a bare carriage return outside quotes; end lines with \\n, or quote the field"
    return f'a quoted field that opens in line {line} goes on after its closing quote; write " inside a field as ""'


def _json(all_lines: Iterator[str]) -> tuple[list[str], Iterator[Record]]:
    """Columns are the keys of the first rows, in the order they are met."""
    found = json_lines.objects(all_lines)
    first: list[tuple[int, dict[str, Any]]] = []
    stop: Iterator[Any] = iter(())
    try:
        first.extend(islice(found, SAMPLE))
    except BadLine as bad:
        stop = _raising(bad)
    columns = list(dict.fromkeys(key for _, each in first for key in each)) or ["text"]
    every = chain(first, stop, found)
    return columns, ((line, [each.get(key, MISSING) for key in columns]) for line, each in every)


def _fasttext(all_lines: Iterator[str]) -> Iterator[Record]:
    for number, line in enumerate(all_lines, start=1):
        if not line.strip():
            continue
        labels, rest = [], bare(line)
        while rest.startswith(FASTTEXT):
            label, *after = rest.split(maxsplit=1)
            labels.append(label.removeprefix(FASTTEXT))
            rest = "".join(after)
        yield number, [labels[0] if len(labels) == 1 else labels or None, rest]


def _plain(all_lines: Iterator[str]) -> Iterator[Record]:
    """A blank line is an empty text, so that line n stays row n; a file of nothing else has no rows."""
    blank = 0
    for number, line in enumerate(all_lines, start=1):
        if not line.strip():
            blank += 1
            continue
        for before in range(blank):
            yield number - blank + before, [""]
        blank = 0
        yield number, [bare(line)]


def _parquet(source: Source, data: DataConfig, stack: ExitStack) -> tuple[list[str], Iterator[Record]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Unavailable(f"{source.name}: parquet needs pyarrow: pip install 'echoic[train]'") from None
    try:
        file = stack.enter_context(parquet.ParquetFile(stack.enter_context(seekable(source.stream))))
        names = file.schema_arrow.names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source.name}: not a parquet file, or a damaged one: {show(error)}") from None
    for each in names:
        if names.count(each) > 1:
            raise DataError(f"{source.name}: column {show(each)!r} stands {names.count(each)} times; rename one")

    def records() -> Iterator[Record]:
        row = held = 0
        try:
            for batch in file.iter_batches(_ARROW_ROWS):
                held += batch.nbytes
                if held > data.max_bytes:
                    raise DataError(f"{source.name}: expands past limit {size_in_words(data.max_bytes)} (--max-bytes)")
                for cells in zip(*(_values(column) for column in batch.columns), strict=True):
                    row += 1
                    yield row, list(cells)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{source.name}: row {row + 1}: damaged parquet data: {show(error)}") from None

    def _values(column: Any) -> list[Any]:
        """Times as Arrow writes them: Python's do not hold all of them."""
        timed = pyarrow.types.is_temporal(column.type)
        return list((column.cast(pyarrow.string()) if timed else column).to_pylist())

    return list(names), records()


def _numbered(records: Iterator[Record], name: str, width: int, data: DataConfig, bad: list[int]) -> Iterator[Record]:
    """(row, cells), all of one width, no field too long."""
    row = 0
    while True:
        try:
            line, cells = next(records)
        except StopIteration:
            return
        except BadLine as error:
            raise DataError(f"{name}: row {row + 1} (line {error.line}): {error.problem}") from None
        row += 1
        if longest := next((len(c) for c in cells if isinstance(c, str) and len(c) > data.max_field), None):
            raise DataError(
                f"{name}: row {row} (line {line}): a field of {longest:,} characters, the limit is {data.max_field:,} (--max-field)"
            )
        if len(cells) == width:
            yield row, cells
        elif data.skip_bad:
            bad.append(row)
        else:
            raise DataError(
                f"{name}: row {row} (line {line}): got {_fields(cells)}, want {width}; {_cure(cells, width)}"
            )


def _fields(cells: Sequence[Any]) -> str:
    return f"{len(cells)} field" + "s" * (len(cells) != 1)


def _cure(cells: Sequence[Any], width: int) -> str:
    quote = "quote a field that holds the delimiter, or " if len(cells) > width else ""
    return f"{quote}drop such rows with --skip-bad"
