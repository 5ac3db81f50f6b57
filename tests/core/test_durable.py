"""Writing is all or nothing: whichever call of the operating system fails, the old content stands."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echoic.core import durable
from echoic.core.errors import CannotCreate, EchoicError, NotPermitted, StorageError

CALLS = ("fsync", "rename", "replace", "open")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fail_at(monkeypatch: pytest.MonkeyPatch, nth: int, code: int) -> Callable[[], int]:
    """Makes the nth of the module's calls to the operating system fail."""
    made = [0]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made[0] += 1
            if made[0] == nth:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(durable.os, name, wrap(getattr(os, name)))
    return lambda: made[0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_folder_is_old_or_new_at_every_failing_call(tmp_path: Path, code: int) -> None:
    old, new = {"a": b"1", "b/c": b"2"}, {"a": b"3", "d": b"4"}
    failures = 0
    for nth in range(1, 40):
        place = tmp_path / f"{code}-{nth}" / "bundle"
        durable.write_folder(place, old)
        with pytest.MonkeyPatch.context() as patch:
            made = fail_at(patch, nth, code)
            try:
                durable.write_folder(place, new)
            except EchoicError as error:
                failures += 1
                assert "bundle" in str(error)
            else:
                assert content(place) == new, "a failing call went unnoticed"
                if made() < nth:
                    break
        assert content(place) in (old, new)
    assert failures >= 5


def test_a_file_is_old_or_new_at_every_failing_call(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for nth in range(1, 20):
        path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            made = fail_at(patch, nth, errno.ENOSPC)
            try:
                durable.write_file(path, b"new")
            except StorageError as error:
                assert "free some space" in str(error)
            else:
                assert made() < nth
                break
        assert path.read_bytes() in (b"old", b"new")
        assert not list(tmp_path.glob(".*.tmp")), "a half-written file was left behind"
    assert nth > 3


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        (errno.ENOSPC, StorageError, 74),
        (errno.EIO, StorageError, 74),
        (errno.EACCES, NotPermitted, 77),
        (errno.EROFS, CannotCreate, 73),
        (errno.ENOENT, CannotCreate, 73),
    ],
)
def test_errors_have_their_exit_codes(code: int, kind: type[EchoicError], exit_code: int, tmp_path: Path) -> None:
    error = durable.translate(OSError(code, os.strerror(code)), tmp_path / "x\ny", 10)
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert "\n" not in str(error)


def test_orphans_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".bundle.abc.tmp").mkdir()
    (tmp_path / ".bundle.abc.tmp" / "half").write_bytes(b"x")
    (tmp_path / ".state.json.1.tmp").write_bytes(b"x")
    (tmp_path / "kept").write_bytes(b"x")
    durable.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_new_folder_has_the_usual_mode(tmp_path: Path) -> None:
    durable.write_folder(tmp_path / "b", {"a": b"1"})
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "plain").stat().st_mode
