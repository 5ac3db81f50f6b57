"""The entry, the errors and their exit codes, and what happens when a stream is not what it should be."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import echoic
from cli.commands import PROGRAMME, TINY, Answer, process, sentences, write_csv
from echoic.cli import main as door
from echoic.cli.main import VERBS, explain
from echoic.core import errors

Call = Callable[..., Answer]


def test_the_package_declares_the_programme() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="echoic")
    assert entry.load() is door.run


def test_version(call: Call) -> None:
    assert call("--version") == Answer(0, f"echoic {echoic.__version__}\n", "")


def test_no_verb_shows_the_help(call: Call) -> None:
    answer = call()
    assert answer.code == 0
    assert answer == call("--help")
    assert all(verb in answer.out for verb in VERBS)


def test_every_verb_is_a_file_and_no_file_is_forgotten() -> None:
    shared = {"__init__", "main", "options", "output"}
    assert {path.stem for path in Path(door.__file__).parent.glob("*.py")} - shared == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(call: Call, verb: str) -> None:
    answer = call(verb, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "--json" in answer.out
    assert "--quiet" in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "train"),
        (["train"], "DATA"),
        (["train", "x.csv"], "--out"),
        (["train", "x.csv", "--out", "r", "--sed", "1"], "--sed"),
        (["train", "x.csv", "--out", "r", "--seed", "one"], "--seed"),
        (["predict", "r", "a", "--min-confidence", "2"], "--min-confidence"),
        (["cells", "lstm"], "lstm"),
        (["--colour"], "--colour"),
        (["check", "x.csv", "--\x1b[31mred"], "\\x1b[31mred"),
    ],
)
def test_wrong_usage_is_2(call: Call, arguments: list[str], said: str) -> None:
    call(*arguments).refused(2, said, "--help")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.CheckFailed("no"), 1, "no"),
        (errors.UsageError("no"), 2, "no"),
        (errors.DataError("no"), 65, "no"),
        (errors.BundleError("no"), 65, "no"),
        (errors.InputMissing("no"), 66, "no"),
        (errors.Unavailable("no"), 69, "no"),
        (errors.OutOfMemory("no"), 71, "no"),
        (errors.CannotCreate("no"), 73, "no"),
        (errors.StorageError("no"), 74, "no"),
        (errors.Locked("no"), 75, "no"),
        (errors.NotPermitted("no"), 77, "no"),
        (errors.ConfigError("no"), 78, "no"),
        (MemoryError(), 71, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 71, "out of memory"),
        (KeyboardInterrupt(), 130, "Ctrl-C"),
        (ModuleNotFoundError("x", name="torch.nn"), 69, "pip install 'echoic[train]'"),
        (ModuleNotFoundError("x", name="rjieba"), 69, "pip install 'echoic[zh]'"),
        (ModuleNotFoundError("x", name="elsewhere"), 70, "internal error: ModuleNotFoundError"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a\x1bb"), 66, "a\\x1bb"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), 66, "a"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), 65, "a"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 77, "a"),
        (FileExistsError(errno.EEXIST, "File exists", "a"), 73, "a"),
        (OSError(errno.EIO, "Input/output error", "a"), 74, "a"),
        (ValueError("odd"), 70, "internal error: ValueError: odd; this is a bug in echoic: run again with --debug"),
        (RuntimeError("shapes"), 70, "internal error"),
        (AssertionError(), 70, "internal error"),
    ],
)
def test_what_an_error_becomes(error: BaseException, code: int, said: str) -> None:
    assert explain(error)[0] == code
    assert said in explain(error)[1]


def fails_with(error: BaseException) -> Callable[..., None]:
    def listing(kind: str) -> None:
        raise error

    return listing


def test_a_bug_is_one_line_and_a_traceback_only_if_asked_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoic.cli.cells.listing", fails_with(ZeroDivisionError("two\nlines")))
    answer = call("cells", "--json")
    answer.refused(70, "internal error: ZeroDivisionError: two", "--debug")
    assert answer.err.count("\n") == 1
    for arguments in (["--debug", "cells"], ["cells", "--debug"]):
        assert "Traceback" in call(*arguments).err


def test_debug_after_a_double_dash_is_a_text(call: Call, tmp_path: Path) -> None:
    answer = call("predict", tmp_path / "none", "--", "--debug")
    answer.refused(66, "none")


def test_ctrl_c_is_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoic.cli.cells.listing", fails_with(KeyboardInterrupt()))
    call("cells").refused(130, "Ctrl-C")


def test_a_reader_that_leaves_is_141_and_quiet() -> None:
    for arguments in (["check", "--help"], ["cells", "--json"], ["data"]):
        answer = _into_closed_pipe(*arguments)
        assert (answer.returncode, answer.stderr) == (141, b""), arguments


def _into_closed_pipe(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command's stdout is a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return process(*arguments, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)


def test_a_full_disk_behind_stdout_is_74() -> None:
    with open("/dev/full", "wb") as full:
        answer = process("data", "--json", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert answer.returncode == 74
    assert answer.stderr.startswith(b"echoic: error: stdout: ")
    assert answer.stderr.count(b"\n") == 1


def test_closed_streams_do_no_harm(tmp_path: Path) -> None:
    """With stderr closed there is nobody to ask whether it is a terminal; with stdin closed, nothing to read."""
    data = write_csv(tmp_path / "d.csv", sentences(60))
    line = f"exec {_shell('train', str(data), '--out', str(tmp_path / 'r'), *TINY)} >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", line], timeout=120, check=False).returncode == 0
    assert (tmp_path / "r" / "bundle" / "manifest.json").is_file()
    closed = subprocess.run(
        ["bash", "-c", f"{_shell('check', '-')} <&-"], capture_output=True, timeout=120, check=False
    )
    assert closed.returncode in (65, 66)
    assert b"Traceback" not in closed.stderr


def _shell(*arguments: str) -> str:
    return shlex.join([*PROGRAMME, *arguments])
