"""What goes to stdout (results) and to stderr (everything else)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from echoic.core.errors import EchoicError, StorageError

PLAIN_WIDTH = 110
"""Columns of a table that is not written to a terminal."""


class ReaderLeft(EchoicError):
    """Whoever read our stdout has closed it (`| head`): not worth a word."""

    exit_code = 141


def say(text: str = "") -> None:
    """One line on stdout."""
    _guarded(lambda: print(text))


def write(text: str) -> None:
    """A piece of text on stdout, seen at once."""
    _guarded(lambda: print(text, end="", flush=True))


def say_json(value: Any, *, line: bool = False) -> None:
    """One JSON document on stdout: readable, or on a single line as JSON lines want it."""
    say(to_json(value, line=line))


def to_json(value: Any, *, line: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=None if line else 2)


def render(*things: Any) -> None:
    """rich's tables and texts on stdout."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout and sys.stdout.isatty() else PLAIN_WIDTH)
    _guarded(lambda: console.print(*things, sep="\n"))


def table(columns: Mapping[str, str], rows: list[list[str]]) -> Any:
    """A plain table for `render`. `columns`: {head: "left" or "right"}; cells are text, never markup."""
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns))
    for head, side in columns.items():
        out.add_column(head, justify="right" if side == "right" else "left", header_style="bold")
    for row in rows:
        out.add_row(*(Text(cell) for cell in row))
    return out


def hint(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def listener(quiet: bool) -> Callable[[str], None]:
    """What hears the decisions of the rooms: stderr, or nobody."""
    return (lambda text: None) if quiet else hint


def flush() -> None:
    """Everything said so far is out, or the error that says why not."""
    if sys.stdout is not None:
        _guarded(sys.stdout.flush)


def _guarded(action: Callable[[], Any]) -> None:
    try:
        action()
    except BrokenPipeError:
        raise ReaderLeft("stdout was closed") from None
    except OSError as error:
        discard()
        raise StorageError(f"stdout: cannot write: {error.strerror}") from None


def discard() -> None:
    """What is still buffered has nowhere to go; without this the interpreter complains as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
