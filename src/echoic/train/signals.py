"""Ctrl-C and SIGTERM, heard at a moment when stopping is clean.

The handler only takes a note: it writes nothing and locks nothing, as it may run in the middle of
anything. The loop looks at the note between two steps. A second signal stops at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from echoic.core.errors import EchoicError

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(EchoicError):
    """A run that was told to stop. `exit_code` is 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class Ears:
    """What has been heard. Inside `at_once()` the first signal already raises Interrupted."""

    def __init__(self) -> None:
        self.heard: int | None = None
        self.often = 0
        self._impatient = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._impatient = True
        try:
            if self.heard is not None:
                raise Interrupted(self.heard, "stopped")
            yield
        finally:
            self._impatient = False

    def hear(self, signum: int, frame: FrameType | None) -> None:
        self.heard, self.often = signum, self.often + 1
        if self.often > 1 or self._impatient:
            raise Interrupted(signum, f"stopped at once by {NAMES[signal.Signals(signum)]}")


@contextmanager
def listening() -> Iterator[Ears]:
    """Hears SIGINT and SIGTERM until it ends; in a thread that is not the main one it hears nothing."""
    ears = Ears()
    if threading.current_thread() is not threading.main_thread():
        yield ears
        return
    before = {signum: signal.signal(signum, ears.hear) for signum in NAMES}
    try:
        yield ears
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
