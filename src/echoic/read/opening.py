"""A file's bytes: opened, expanded if compressed, bounded and hashed. What is no table is refused here.

Compression is told by the first bytes, never by the name: gzip, xz, bzip2, zstd, and zip with one
member. One layer is opened; a second is refused like any other binary file, by what it looks like.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from echoic.core.errors import DataError, EchoicError, InputMissing, NotPermitted, StorageError, Unavailable, show

HEAD = 512
CHUNK = 1 << 16

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
BINARY = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "Excel",
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"\x89PNG\r\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"%PDF-": "PDF",
    b"SQLite format 3\x00": "SQLite",
    b"\x7fELF": "a programme",
    b"\x89HDF\r\n": "HDF5",
    b"\x93NUMPY": "NumPy",
    b"RIFF": "a RIFF file (wav, avi)",
    b"ID3": "MP3",
    b"ARROW1": "Arrow",
    b"Obj\x01": "Avro",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
}
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError)


class Stream(io.RawIOBase):
    """Bytes from `read`, each piece shown to `seen` once, with the first HEAD of them known beforehand."""

    def __init__(self, read: Callable[[int], bytes], seen: Callable[[bytes], None]) -> None:
        self._read, self._seen = read, seen
        self.head = b""
        while len(self.head) < HEAD and (piece := self._pull(HEAD - len(self.head))):
            self.head += piece
        self._ahead = self.head

    def _pull(self, size: int) -> bytes:
        piece = self._read(size)
        self._seen(piece)
        return piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        piece = piece or self._pull(size)
        buffer[: len(piece)] = piece
        return len(piece)


@dataclass(frozen=True)
class Source:
    """An opened input. `digest()` reads what is left and is the SHA-256 of the file as it stands."""

    name: str
    suffix: str
    packed: str | None
    stream: IO[bytes]
    head: bytes
    digest: Callable[[], str]


@contextmanager
def opened(path: str | Path, limit: int, *, bound_plain: bool = True) -> Iterator[Source]:
    """The bytes of `path` (`-` is stdin), expanded, at most `limit` of them.

    A plain file is bounded too unless `bound_plain` is False (streaming needs no bound). Raises
    InputMissing, NotPermitted, DataError for what is no table, StorageError for a failing disk.
    """
    name = "stdin" if str(path) == "-" else show(path, 200)
    digest = hashlib.sha256()
    with ExitStack() as stack:
        file = _open(path, name, stack)
        raw = Stream(_guarded(file.read, name, None), digest.update)
        if not raw.head:
            raise DataError(f"{name}: the file is empty (0 bytes)")
        packed = _packed(raw.head)
        inner, member = _expand(packed, raw, name, stack)
        bound = limit if packed or bound_plain else None
        stream = Stream(_guarded(inner.read, name, packed), _counter(bound, name, packed))
        if looks := _binary(stream.head):
            raise DataError(
                f"{name}: looks like {looks}, not CSV; give csv, tsv, jsonl, parquet or txt, plain or compressed"
            )

        def finish() -> str:
            while raw.read(CHUNK):
                pass
            return digest.hexdigest()

        yield Source(name, _suffix(member or str(path)), packed, io.BufferedReader(stream, CHUNK), stream.head, finish)


@contextmanager
def seekable(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """What is left of `stream` in a temporary file, for formats whose index stands at the end."""
    with tempfile.TemporaryFile() as file:
        while piece := stream.read(CHUNK):
            file.write(piece)
        file.seek(0)
        yield file


def _open(path: str | Path, name: str, stack: ExitStack) -> IO[bytes]:
    if str(path) == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise InputMissing("stdin is closed; give a file")
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(path, "rb", buffering=0))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise InputMissing(f"{name}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{name}: is a directory; give a file in it") from None
    except PermissionError:
        raise NotPermitted(f"{name}: no permission to read it") from None
    except OSError as error:
        missing = error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO)
        raise (InputMissing if missing else StorageError)(
            f"{name}: {'no such file: ' * missing}{error.strerror}"
        ) from None


def _packed(head: bytes) -> str | None:
    kind = next((kind for magic, kind in COMPRESSED.items() if head.startswith(magic)), None)
    if kind == "bzip2" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90"):
        return None
    return kind


def _binary(head: bytes) -> str | None:
    if head[257:262] == b"ustar":
        return "tar"
    kind = next((kind for magic, kind in BINARY.items() if head.startswith(magic)), None)
    # a text may begin with the letters of a sound or a picture, whose next bytes are no letters; PDF's and SQLite's are
    letters = head[:8].isascii() and head[:8].decode("ascii", "ignore").isprintable()
    return _packed(head) or (kind if not letters or kind in ("PDF", "SQLite") else None)


def _expand(packed: str | None, raw: Stream, name: str, stack: ExitStack) -> tuple[Any, str | None]:
    """(an object with `read`, the name of the zip's member)."""
    buffered: Any = io.BufferedReader(raw, CHUNK)
    if packed == "zip":
        return _only_member(stack.enter_context(seekable(buffered)), name, stack)
    if packed == "zstd":
        return _zstd(buffered, name), None
    openers: dict[str | None, Callable[..., Any]] = {"gzip": gzip.GzipFile, "xz": lzma.LZMAFile, "bzip2": bz2.BZ2File}
    if packed == "gzip":
        return stack.enter_context(gzip.GzipFile(fileobj=buffered)), None
    return (stack.enter_context(openers[packed](buffered)) if packed else raw), None


def _zstd(file: Any, name: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise Unavailable(f"{name}: zstd needs pyarrow: pip install 'echoic[train]'") from None
    if not pyarrow.Codec.is_available("zstd"):
        raise Unavailable(f"{name}: this pyarrow was built without zstd; unpack the file first")
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


def _only_member(file: IO[bytes], name: str, stack: ExitStack) -> tuple[Any, str]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except (*_DAMAGE, ValueError, IndexError, struct.error, OSError) as error:
        raise DataError(f"{name}: damaged zip: {show(error)}") from None
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        raise DataError(f"{name}: looks like Excel, not CSV; save it as CSV (UTF-8)")
    if any(PurePosixPath(each).name == "data.pkl" for each in names):
        raise DataError(f"{name}: looks like pickle, not CSV; a pickle is never loaded, as it can run code")
    members = [i for i in archive.infolist() if not i.is_dir() and not i.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise DataError(f"{name}: a zip of {len(members)} files; want one, so unpack it and name the file")
    if members[0].flag_bits & 1:
        raise DataError(f"{name}: the zip is encrypted; unpack it first")
    try:
        return stack.enter_context(archive.open(members[0])), members[0].filename
    except (*_DAMAGE, ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{name}: damaged zip: {show(error)}") from None


def _guarded(read: Callable[[int], bytes], name: str, packed: str | None) -> Callable[[int], bytes]:
    """`read`, with its many errors as ours: damaged data, or a disk that fails."""

    def guarded(size: int) -> bytes:
        try:
            return read(size)
        except EchoicError:
            raise
        except IsADirectoryError:
            raise DataError(f"{name}: is a directory; give a file in it") from None
        except (*_DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise StorageError(f"{name}: {error.strerror}") from None
            raise DataError(f"{name}: damaged {packed} data: {show(error)}") from None

    return guarded


def _counter(limit: int | None, name: str, packed: str | None) -> Callable[[bytes], None]:
    total = 0

    def count(piece: bytes) -> None:
        nonlocal total
        total += len(piece)
        if limit is not None and total > limit:
            what = "expands past limit" if packed else "is larger than the limit"
            raise DataError(f"{name}: {what} {size_in_words(limit)} (--max-bytes)")

    return count


def size_in_words(size: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power and size % (1 << power) == 0:
            return f"{size >> power:,} {unit}"
    return f"{size:,} bytes"


def _suffix(name: str) -> str:
    """`reviews.CSV.gz` -> `.csv`: the last suffix that names no compression, or ""."""
    suffixes = [s.lower() for s in PurePosixPath(name.replace("\\", "/")).suffixes]
    while suffixes and suffixes[-1] in (".gz", ".xz", ".bz2", ".zst", ".zip"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
