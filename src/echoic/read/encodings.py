"""Bytes to lines of text, strictly: the encoding is told, never guessed, and a bad byte has an address.

Lines end at \\n or \\r\\n only: U+2028, U+0085 and a bare \\r are characters of the text. A reader
meets a bad line only when it gets there, so that its message can name the row.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from echoic.core.errors import ConfigError, DataError, show

CHUNK = 1 << 16
_HIGH = re.compile(rb"[\x80-\xff]")
_HIGH_RUN = re.compile(rb"[\x81-\xfe]{2,}")


class BadLine(Exception):
    """A line that cannot be read; the reader of rows turns it into a DataError that names the row."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line, self.problem = line, problem


def codec(encoding: str) -> codecs.CodecInfo:
    """The codec of that name. Raises ConfigError where there is none that makes text of bytes."""
    try:
        b"aa".decode(encoding, "ignore")
        return codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise ConfigError(
            f"--encoding {show(encoding)!r}: no such text encoding (known: utf-8, gb18030, utf-16, big5 ...)"
        ) from None


def refuse_utf16(head: bytes, encoding: str, name: str) -> None:
    """Refuses what is plainly UTF-16 or UTF-32 when another encoding was told."""
    if codec(encoding).name.startswith(("utf-16", "utf-32")):
        return
    looks = None
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        looks = "utf-32"
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        looks = "utf-16"
    elif len(head) >= 4 and head[1::2].count(0) > 0.4 * (len(head) // 2) and head[::2].count(0) == 0:
        looks = "utf-16-le"
    elif len(head) >= 4 and head[::2].count(0) > 0.4 * (len(head) // 2) and head[1::2].count(0) == 0:
        looks = "utf-16-be"
    if looks:
        raise DataError(f"{name}: looks like {looks.upper()}; use --encoding {looks}")


def lines(stream: IO[bytes], encoding: str, on_bad_bytes: str, longest: int) -> Iterator[str]:
    """Each line with its end. Raises BadLine at a bad byte, a NUL, or a line over `longest` characters."""
    number = 1
    parts: list[str] = []
    held = 0
    pieces = _decoded(stream, encoding, on_bad_bytes)
    while True:
        try:
            piece = next(pieces, None)
        except _BadByte as bad:
            raise BadLine(number, str(bad)) from None
        if piece is None:
            break
        *whole, rest = piece.split("\n")
        for line in whole:
            yield _checked("".join((*parts, line, "\n")), number, longest)
            parts, held, number = [], 0, number + 1
        parts.append(rest)
        held += len(rest)
        if held > longest:
            raise BadLine(number, f"a line of more than {longest:,} characters; is it text? (--max-field)")
    if last := "".join(parts):
        yield _checked(last, number, longest)


def bare(line: str) -> str:
    """The line without its end."""
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


def _checked(line: str, number: int, longest: int) -> str:
    if "\0" in line:
        raise BadLine(
            number, f"NUL character at column {line.index(chr(0)) + 1}: not a text file, or another --encoding"
        )
    if len(line) > longest:
        raise BadLine(number, f"a line of {len(line):,} characters (--max-field)")
    return line


class _BadByte(Exception):
    pass


def _decoded(stream: IO[bytes], encoding: str, on_bad_bytes: str) -> Iterator[str]:
    """Pieces of text; before a bad byte is raised, the text in front of it is given out."""
    found = codec(encoding)
    decoder = codecs.getincrementaldecoder(encoding)("strict" if on_bad_bytes == "refuse" else "replace")
    position = 0
    final = False
    while not final:
        chunk = stream.read(CHUNK)
        final = not chunk
        before = decoder.getstate()
        try:
            text = decoder.decode(chunk, final)
            yield text.removeprefix("\ufeff") if position == 0 else text  # a byte order mark
        except UnicodeDecodeError as error:
            waiting = len(error.object) - len(chunk)
            decoder.setstate((b"", before[1]))
            good = ""
            with suppress(UnicodeError):  # UTF-16 without its mark fails here again
                good = decoder.decode(error.object[: error.start])
            yield good
            raise _BadByte(_explain(error, position - waiting + error.start, encoding, found.name)) from None
        except UnicodeError as error:
            raise _BadByte(f"{error}; name the byte order: --encoding utf-16-le or utf-16-be") from None
        position += len(chunk)


def _explain(error: UnicodeDecodeError, offset: int, encoding: str, name: str) -> str:
    byte = error.object[error.start : error.start + 1].hex()
    hint = (
        "it decodes as gb18030: use --encoding gb18030"
        if name == "utf-8" and _chinese(error.object)
        else "name its --encoding"
    )
    return f"byte 0x{byte} at byte offset {offset:,} is not {show(encoding)}; {hint}, or --on-bad-bytes replace"


def _chinese(sample: bytes) -> bool:
    """Whether gb18030 is a good guess: it decodes, and high bytes come in runs (in Latin text they stand alone)."""
    high = len(_HIGH.findall(sample))
    if high < 4 or sum(len(run) for run in _HIGH_RUN.findall(sample)) < 0.9 * high:
        return False
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(sample)
    except UnicodeDecodeError:
        return False
    beyond = [c for c in text if ord(c) > 127]
    return sum("\u3000" <= c <= "\u9fff" or "\uff00" <= c <= "\uffef" for c in beyond) >= 0.8 * len(beyond)
