"""One process a run folder. The operating system holds the lock, so that it ends with its holder:
a process that was killed leaves none behind, and no clock or process list has to be believed."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echoic.core import durable
from echoic.core.errors import Locked, show

NAME = "lock"

_held: dict[Path, int] = {}
"""{run folder: the thread of this process that holds it}"""


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Holds the run folder (made if absent, its parent not). The thread that holds it may hold it again.

    Raises Locked with the other process's id, CannotCreate or NotPermitted if there can be no such folder.
    """
    me, where = threading.get_ident(), run.resolve()
    if _held.get(where) == me:
        yield
        return
    try:
        run.mkdir(exist_ok=True)
        handle = os.open(run / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise durable.translate(error, run) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                f"{show(run, 200)}: in use by {_holder(handle)}; wait for it, or choose another run folder"
            ) from None
        except OSError as error:
            raise durable.translate(error, run / NAME) from error
        _sign(handle)
        _held[where] = me
        try:
            yield
        finally:
            del _held[where]
    finally:
        os.close(handle)  # which ends the lock; the file stays, as removing it could take away a newer holder's


def _sign(handle: int) -> None:
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode(), 0)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(holder['pid'])} on {show(holder['host'])} since {show(holder['since'])}"
    except (ValueError, KeyError, TypeError):
        return "another process"
