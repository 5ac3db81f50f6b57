"""Errors that teach: what was wrong, where, and what to do. Each kind has one exit code.

| code | meaning                  | code | meaning              |
| ---- | ------------------------ | ---- | -------------------- |
| 0    | done                     | 73   | cannot create output |
| 1    | a check said no          | 74   | input/output error   |
| 2    | usage                    | 75   | locked, try later    |
| 65   | bad data                 | 77   | permission           |
| 66   | no such input            | 78   | bad configuration    |
| 69   | something is unavailable | 130  | interrupted (Ctrl-C) |
| 70   | internal error (a bug)   | 141  | the reader left      |
| 71   | out of memory            | 143  | terminated           |
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EchoicError(Exception):
    """A mistake that a person can mend; its text is one line, shown without a traceback."""

    exit_code = 70


class CheckFailed(EchoicError):
    exit_code = 1


class UsageError(EchoicError, ValueError):
    exit_code = 2


class DataError(EchoicError, ValueError):
    exit_code = 65


class InputMissing(EchoicError, FileNotFoundError):
    exit_code = 66


class Unavailable(EchoicError):
    exit_code = 69


class OutOfMemory(EchoicError, MemoryError):
    exit_code = 71


class CannotCreate(EchoicError):
    exit_code = 73


class StorageError(EchoicError, OSError):
    exit_code = 74


class Locked(EchoicError):
    exit_code = 75


class NotPermitted(EchoicError, PermissionError):
    exit_code = 77


class ConfigError(EchoicError, ValueError):
    exit_code = 78


class BundleError(DataError):
    """A bundle or checkpoint that is damaged, foreign or newer than this release."""


class Newer(BundleError):
    """A whole one, of a release that is newer than this one."""


def show(text: object, limit: int = 80) -> str:
    """Untrusted text made safe for a terminal: control characters escaped, cut at `limit`."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text))
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


NAMED = 20
"""Names that a hint lists."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: " (did you mean 'x'?)" or the list of what exists."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {show(close[0])!r}?)"
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f" (known: {', '.join(show(name, 40) for name in names[:NAMED])}{more})" if names else ""
