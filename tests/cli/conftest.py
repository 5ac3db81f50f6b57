"""A tiny file, a tiny run trained once a process, and a way to give a command in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import TINY, Answer, sentences, write_csv
from echoic.cli.main import main


@pytest.fixture(scope="session")
def csv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "train.csv", sentences(60))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, csv_file: Path) -> Path:
    """A finished run; never changed by a test."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(csv_file), "--out", str(out), "--quiet", "--json", *TINY]) == 0
    return out


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Gives a command in this process."""

    def give(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return give
