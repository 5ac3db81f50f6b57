"""Word vectors from a file, for the words of a vocabulary and no others.

| format                  | how it is told                                                    |
| ----------------------- | ----------------------------------------------------------------- |
| GloVe text              | no header; `word number ... number`                               |
| word2vec, fastText .vec | a header `words numbers`, then lines as above                     |
| word2vec binary         | the same header, then `word`, a space and little-endian float32   |
| fastText .bin           | refused: it is a model, not a list; its .vec file holds the words |

Plain, gzip, xz or bzip2, told by the first bytes. The file is streamed, so memory is what the
vocabulary takes, and only the rows it names have their numbers read.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np

from echoic.core.errors import DataError, InputMissing, NotPermitted, StorageError, show
from echoic.core.types import PAD, SPECIALS

_HEAD = 1 << 20
"""Bytes looked at to tell the format; also the longest line."""
_MOST_DIMENSIONS = 1 << 16
_FASTTEXT_BIN = (793_712_314).to_bytes(4, "little")
_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}

Found = tuple[bytes, np.ndarray]
"""A word of the file that is wanted, and its (D,) float32 numbers."""


@dataclass(frozen=True)
class Vectors:
    matrix: np.ndarray
    """(V, D) float32; row 0 (padding) is zero, rows not found are noise."""
    found: np.ndarray
    """(V,) bool: the rows that come from the file."""
    notes: list[str]
    """What was found, to be said."""
    digest: str
    """SHA-256 of the file as it stands, compressed or not."""


@dataclass(frozen=True)
class _Format:
    name: str
    dimensions: int
    words: int | None
    """How many the header promises; None where there is no header."""
    binary: bool = False


def load_vectors(path: str | Path, vocabulary: Sequence[str], *, seed: int = 0) -> Vectors:
    """Vectors of the vocabulary (index = id, the specials first) from `path`.

    A word is looked up as it is, then in lower case. `<unk>`, `<empty>` and words that are not in the file get
    normal noise with the standard deviation of the rows found, drawn from `seed`. Raises InputMissing
    if there is no file; DataError naming the line (or the place of the word in a binary file) that does
    not fit, or if the file is damaged or holds no word of the vocabulary.
    """
    where = show(path)
    wanted = _wanted(vocabulary)
    with _opened(path, where) as stream:
        form = _look(stream.read(_HEAD), where)
    rows: dict[bytes, np.ndarray] = {}
    with _opened(path, where) as stream:
        for word, numbers in (_binary if form.binary else _text)(stream, form, wanted, where):
            rows.setdefault(word, numbers)
    return _assemble(rows, vocabulary, form, seed, where, digest_of(path))


def digest_of(path: str | Path) -> str:
    """SHA-256 of the file as it stands, in hex. Raises as `load_vectors` does where it cannot be read."""
    with _raw(path, show(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted(vocabulary: Sequence[str]) -> set[bytes]:
    words = vocabulary[len(SPECIALS) :]
    return {word.encode() for word in words} | {word.lower().encode() for word in words}


@contextlib.contextmanager
def _opened(path: str | Path, where: str) -> Iterator[IO[bytes]]:
    """The bytes of the file, decompressed."""
    with _raw(path, where) as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic.startswith(b"PK\x03\x04"):
            raise DataError(f"{where}: a zip archive; unpack it and give the .txt or .vec file inside")
        opener = next((opener for start, opener in _DECOMPRESSORS.items() if magic.startswith(start)), None)
        yield opener(raw) if opener else raw


@contextlib.contextmanager
def _raw(path: str | Path, where: str) -> Iterator[BufferedReader]:
    """The file, open; what goes wrong in reading or decompressing it becomes one of our errors."""
    try:
        with open(path, "rb") as raw:
            yield raw
    except FileNotFoundError:
        raise InputMissing(f"{where}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{where}: is a directory, not a file of word vectors") from None
    except PermissionError as error:
        raise NotPermitted(f"{where}: {error.strerror}") from None
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's; a decompressor's has no number
            raise StorageError(f"{where}: {error.strerror}") from None
        raise DataError(f"{where}: damaged ({show(error)}); fetch it again") from None


def _look(head: bytes, where: str) -> _Format:
    if not head.strip():
        raise DataError(f"{where}: empty")
    if head.startswith(_FASTTEXT_BIN):
        raise DataError(f"{where}: a fastText .bin model, not a list of vectors; give its .vec file")
    first, _, rest = head.partition(b"\n")
    header = first.split()
    if len(header) == 2 and all(field.isdigit() and len(field) < 16 for field in header):
        words, dimensions = map(int, header)
        binary = not _is_text(rest[rest.find(b" ") + 1 :][: 4 * dimensions])
        name = "word2vec binary" if binary else "word2vec or fastText text"
        form = _Format(name, dimensions, words, binary)
    else:
        form = _Format("GloVe text", len(_fields(first)) - 1, None)
    if not 1 <= form.dimensions <= _MOST_DIMENSIONS:
        raise DataError(f"{where}: line 1: not a file of word vectors (`word number ... number`, separated by spaces)")
    return form


def _is_text(body: bytes) -> bool:
    """Written numbers hold no control characters; numbers in binary do, or are not UTF-8."""
    text = body.decode("utf-8", "replace").rstrip("\ufffd")
    return "\ufffd" not in text and all(char.isprintable() or char in "\r\n" for char in text)


def _fields(line: bytes) -> list[bytes]:
    return line.rstrip(b" \r\n").split(b" ")


def _text(stream: IO[bytes], form: _Format, wanted: set[bytes], where: str) -> Iterator[Found]:
    number = blank = 0
    if form.words is not None:
        stream.readline(_HEAD)
        number = 1
    while line := stream.readline(_HEAD):
        number += 1
        line = line.rstrip(b" \r\n")
        if not line:
            blank += 1
            continue
        gaps = line.count(b" ")
        if gaps < form.dimensions or len(line) >= _HEAD:
            raise DataError(f"{where}: line {number}: {gaps} numbers, wants {form.dimensions}; is the file whole?")
        word = line[: line.find(b" ")] if gaps == form.dimensions else line.rsplit(b" ", form.dimensions)[0]
        if word in wanted:
            yield word, _numbers(line[len(word) :], form.dimensions, f"{where}: line {number}")
    _check_count(number - 1 - blank, form, where)


def _numbers(written: bytes, dimensions: int, where: str) -> np.ndarray:
    fields = written.split()
    if len(fields) != dimensions:
        raise DataError(f"{where}: {len(fields)} numbers, wants {dimensions}; is the file whole?")
    try:
        row = np.array(fields, dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {show(error)}") from None
    return _finite(row, where)


def _finite(row: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(row).all():
        raise DataError(f"{where}: number {int(np.argmin(np.isfinite(row))) + 1} is not finite")
    return row


def _binary(stream: IO[bytes], form: _Format, wanted: set[bytes], where: str) -> Iterator[Found]:
    stream.readline(_HEAD)
    size = 4 * form.dimensions
    held, at = b"", 0
    for place in range(1, (form.words or 0) + 1):
        while (space := held.find(b" ", at)) < 0 or space + 1 + size > len(held):
            more = stream.read(_HEAD)
            if not more or (space < 0 and len(held) - at > _HEAD):
                raise DataError(
                    f"{where}: word {place:,} of {form.words:,}: no vector of {form.dimensions} numbers; is the file whole?"
                )
            held, at = held[at:] + more, 0
        word = held[at:space].lstrip(b"\n")  # the original tool ends a vector with a line feed, gensim does not
        at = space + 1 + size
        if word in wanted:
            yield word, _finite(np.frombuffer(held[space + 1 : at], dtype="<f4"), f"{where}: word {place:,}")


def _check_count(words: int, form: _Format, where: str) -> None:
    if form.words is not None and words != form.words:
        raise DataError(f"{where}: {words:,} vectors, its first line promises {form.words:,}; is the file whole?")


def _assemble(
    rows: dict[bytes, np.ndarray], vocabulary: Sequence[str], form: _Format, seed: int, where: str, digest: str
) -> Vectors:
    nothing = np.zeros(form.dimensions, dtype=np.float32)
    found = np.zeros(len(vocabulary), dtype=bool)
    matrix = np.zeros((len(vocabulary), form.dimensions), dtype=np.float32)
    for i, word in enumerate(vocabulary[len(SPECIALS) :], len(SPECIALS)):
        row = rows.get(word.encode(), rows.get(word.lower().encode(), nothing))
        found[i] = row is not nothing
        matrix[i] = row
    count, of = int(found.sum()), len(vocabulary) - len(SPECIALS)
    if not count:
        raise DataError(
            f"{where}: holds none of the vocabulary's {of:,} tokens; are they cut the same way ({form.name}, {form.dimensions} dimensions)?"
        )
    missing = np.flatnonzero(~found)
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((len(missing), form.dimensions), dtype=np.float32)
    matrix[missing] = noise * matrix[found].std()
    matrix[PAD] = 0.0
    note = f"vectors: {count:,} of {of:,} tokens ({count / of:.1%}) found in {where} ({form.name}, {form.dimensions} dimensions)"
    return Vectors(matrix, found, [note], digest)
