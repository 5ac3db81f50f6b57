"""`echoic VERB ...`: finds the verb, runs it, and turns whatever happens into one line and an exit code.

    echoic.cli.<verb>   a function of the same name, decorated with `options.verb`
    run                 the programme: standard streams, signals, exit
    main(arguments)     the same without touching the process: arguments -> exit code

Exit codes are those of `core.errors`. Nothing here loads torch.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

import echoic
from echoic.cli.output import ReaderLeft, discard, flush
from echoic.core.errors import (
    CannotCreate,
    DataError,
    EchoicError,
    InputMissing,
    NotPermitted,
    OutOfMemory,
    StorageError,
    Unavailable,
    UsageError,
    show,
)

VERBS = (
    "train", "finetune", "evaluate", "predict", "explain", "inspect", "generate", "export", "serve", "check", "tune", "compare", "probe", "data", "demo", "doctor", "cells", "tasks",
)  # fmt: skip
"""In the order of `echoic --help`; each is a module of this package."""

EXTRAS = {
    "torch": "train",
    "sklearn": "train",
    "scipy": "train",
    "pyarrow": "train",
    "matplotlib": "train",
    "onnx": "train",
    "rjieba": "zh",
    "optuna": "tune",
    "fastapi": "serve",
    "uvicorn": "serve",
    "sacrebleu": "translate",
}
"""{module: the extra of this package that installs it}"""

NO_MEMORY = ("not enough memory", "out of memory", "allocate memory")
"""How torch's allocators, which raise RuntimeError, say it."""

_CLICK_ERROR: Any = typer.BadParameter.__mro__[2]
"""click's base error, which typer carries inside itself or imports, by its version."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"echoic {echoic.__version__}")
        raise typer.Exit


def _door(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may also stand after the verb.")
    ] = False,
) -> None:
    """Recurrent sequence models, from a labelled file to a measured model."""


def application(verbs: Sequence[str] = VERBS) -> typer.Typer:
    """The typer application with these verbs in it."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.callback()(_door)
    for name in verbs:
        app.command(name)(getattr(importlib.import_module(f"echoic.cli.{name}"), name))
    return app


def main(arguments: Sequence[str]) -> int:
    """Runs one command. Results go to stdout, everything else to stderr; returns the exit code."""
    debug, rest = _debug(list(arguments))
    try:
        _invoke(rest or ["--help"])
        flush()
    except typer.Exit as left:
        return left.exit_code
    except (ReaderLeft, BrokenPipeError):
        discard()
        return ReaderLeft.exit_code
    except SystemExit as left:
        return ReaderLeft.exit_code if isinstance(left.__context__, BrokenPipeError) else _code(left)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        code, message = explain(error)
        print(f"echoic: error: {' '.join(message.split())}", file=sys.stderr)
        return code
    return 0


def _debug(arguments: list[str]) -> tuple[bool, list[str]]:
    """(whether --debug stands before a `--`, the arguments without it)"""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [argument for argument in arguments[:end] if argument != "--debug"]
    return len(head) < end, head + arguments[end:]


def _invoke(arguments: list[str]) -> None:
    # the other verbs' modules are not waited for: `echoic predict` answers sooner
    command = get_command(application(arguments[:1] if arguments[0] in VERBS else VERBS))
    with command.make_context("echoic", arguments) as context:
        command.invoke(context)


def explain(error: BaseException) -> tuple[int, str]:
    """(exit code, message) of anything that was raised."""
    match error:
        case EchoicError():
            return error.exit_code, str(error)
        case _ if isinstance(error, _CLICK_ERROR):
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "echoic"
            return UsageError.exit_code, f"{show(error.format_message(), 400)} (see `{path} --help`)"
        case KeyboardInterrupt():
            return 130, "stopped by Ctrl-C"
        case MemoryError():
            return OutOfMemory.exit_code, "out of memory; give it less data or a smaller model"
        case RuntimeError() if any(sign in str(error).lower() for sign in NO_MEMORY):
            return OutOfMemory.exit_code, f"out of memory: {show(error, 200)}; give it less data or a smaller model"
        case ModuleNotFoundError() if (error.name or "").split(".")[0] in EXTRAS:
            module = str(error.name).split(".")[0]
            return Unavailable.exit_code, f"this needs {module}: pip install 'echoic[{EXTRAS[module]}]'"
        case OSError() if error.filename is not None:
            return _kind(error).exit_code, f"{show(error.filename, 200)}: {error.strerror}"
    what = f"{type(error).__name__}: {show(error, 300)}"
    return (
        EchoicError.exit_code,
        f"internal error: {what}; this is a bug in echoic: run again with --debug and report it",
    )


def _kind(error: OSError) -> type[EchoicError]:
    """The error of ours that says what the operating system's says, for a call that nobody translated."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG | errno.ELOOP:
            return InputMissing
        case errno.EISDIR:
            return DataError
        case errno.EACCES | errno.EPERM:
            return NotPermitted
        case errno.EEXIST | errno.EROFS:
            return CannotCreate
    return StorageError


def _code(left: SystemExit) -> int:
    return left.code if isinstance(left.code, int) else int(left.code is not None)


def run() -> NoReturn:
    """The `echoic` programme."""
    _open_standard_streams()
    signal.signal(signal.SIGTERM, _terminated)
    code = main(sys.argv[1:])
    try:
        flush()
    except EchoicError:
        code = code or StorageError.exit_code
    sys.exit(code)


def _terminated(signum: int, frame: Any) -> NoReturn:
    """SIGTERM leaves by the front door, so that half-written files are removed on the way."""
    raise SystemExit(128 + signum)


def _open_standard_streams() -> None:
    """UTF-8 on both outputs; a stream that the caller closed becomes the null device, as otherwise the
    next file to be opened would take its number and receive what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 (lives as long as the process)
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
