"""All writing that must survive a crash: written aside, synced, then renamed into place.

At no instant is there a half-written file under its final name, and a folder appears whole or not
at all. The one place that talks to the disk for checkpoints and bundles, so that a test can make
each of its calls fail.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from echoic.core.errors import CannotCreate, EchoicError, NotPermitted, StorageError, UsageError, show


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """`data` becomes the content of `path`, all of it or (on an error) none."""
    try:
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _write(aside, data)
            os.replace(aside, path)
            _sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise translate(error, path, len(data)) from error


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """A new folder `path` with these files (names may hold `/`), complete or absent. An older
    folder of that name is moved aside first and removed after."""
    size = sum(map(len, files.values()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            os.chmod(aside, 0o777 & ~_umask())
            for name, data in files.items():
                target = aside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(target, data)
            for folder in {(aside / name).parent for name in files} | {aside}:
                _sync_folder(folder)
            _swap(aside, path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise translate(error, path, size) from error


def creatable(path: Path, force: bool, given: Sequence[str | None] = ()) -> None:
    """Refuses, before any work, a place where a file could not go: where there is no folder, where something stands
    already (unless `force`), and the files that are read, `given`."""
    where = show(path, 200)
    beside(path)
    if not path.exists():
        return
    if not path.is_file():
        raise CannotCreate(f"{where}: exists and is no file; choose another name")
    if any(each not in (None, "-") and Path(str(each)).exists() and path.samefile(str(each)) for each in given):
        raise UsageError(f"{where}: is the input as well; choose another name")
    if not force:
        raise CannotCreate(f"{where}: exists already; --force replaces it")


def beside(path: Path) -> None:
    """Refuses a parent folder in which nothing can be made."""
    if not path.parent.is_dir():
        raise CannotCreate(f"{show(path, 200)}: its parent folder does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise NotPermitted(f"{show(path, 200)}: its folder cannot be written to; choose another place")


def sweep(folder: Path) -> None:
    """Removes what writers that were killed left behind in `folder`."""
    for orphan in folder.glob(".*.tmp"):
        shutil.rmtree(orphan, ignore_errors=True) if orphan.is_dir() else orphan.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        os.rename(new, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old.tmp", dir=path.parent))
    os.rename(path, old / "was")
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old / "was", path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some file systems sync no folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def translate(error: OSError, path: Path, size: int = 0) -> EchoicError:
    """An operating system's error as one of ours: what could not be written, why, what to do."""
    where = show(path, 200)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"{where}: cannot write {size:,} bytes: {error.strerror}; free some space and go on with --resume"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(f"{where}: {error.strerror}; choose another place or change its permissions")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.EEXIST, errno.ENAMETOOLONG):
        return CannotCreate(f"{where}: {error.strerror}; choose another place")
    return StorageError(f"{where}: {error.strerror or error}")


def remove(folder: Path) -> None:
    """Removes a folder in one step: it is renamed first, so that no half of it is ever seen."""
    if folder.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old.tmp", dir=folder.parent))
        os.rename(folder, aside / "was")
        shutil.rmtree(aside, ignore_errors=True)
