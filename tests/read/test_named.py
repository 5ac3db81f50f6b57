"""Sets by name: the shipped one is whole, a fetched one is verified, what is not verified is not fetched."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, Unavailable, UsageError
from echoic.read.named import NAMED, Named, data_dir, fetch, shipped
from echoic.read.tables import read_table

BODY = b"text,label\ngood,1\nbad,0\n" * 5000
ASKED: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append(self.path)
        if self.path == "/gone.csv":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2] if self.path == "/cut.csv" else BODY)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ECHOIC_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    ASKED.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def entry(url: str, body: bytes = BODY) -> dict[str, Named]:
    return {"toy": Named("a toy", "none", url, hashlib.sha256(body).hexdigest())}


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_fetched_once_and_verified(origin: str) -> None:
    said: list[str] = []
    path = fetch("toy", sets=entry(f"{origin}/toy.csv"), said=said.append)
    assert path == data_dir() / "toy" / "toy.csv"
    assert path.read_bytes() == BODY
    assert origin in said[0]
    assert fetch("toy", sets=entry(f"{origin}/toy.csv")) == path
    assert ASKED == ["/toy.csv"]
    path.write_bytes(b"damaged")
    assert fetch("toy", sets=entry(f"{origin}/toy.csv")).read_bytes() == BODY
    assert kept(data_dir()) == ["toy.csv"]


@pytest.mark.parametrize(("file", "error"), [("gone.csv", Unavailable), ("cut.csv", (DataError, Unavailable))])
def test_what_does_not_arrive_whole_is_not_kept(file: str, error: type[Exception], origin: str) -> None:
    with pytest.raises(error, match=file):
        fetch("toy", sets=entry(f"{origin}/{file}"))
    assert kept(data_dir()) == []


def test_other_bytes_are_not_kept(origin: str) -> None:
    with pytest.raises(DataError, match="SHA-256"):
        fetch("toy", sets=entry(f"{origin}/toy.csv", b"something else"))
    assert kept(data_dir()) == []


def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOIC_DATA", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(Unavailable, match="put it at"):
        fetch("toy", sets=entry("http://127.0.0.1:9/toy.csv"))
    with pytest.raises(UsageError, match="http"):
        fetch("toy", sets=entry("file:///etc/hostname"))


def test_names_that_are_unknown_or_unverified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOIC_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="did you mean 'imdb'"):
        fetch("imbd")
    with pytest.raises(UsageError, match="fetch it by hand from https://"):
        fetch("imdb")
    with pytest.raises(UsageError, match="rotten_tomatoes_mr"):
        shipped("imdb")


def test_the_shipped_set_is_whole_and_named_in_its_readme() -> None:
    path = shipped("rotten_tomatoes_mr")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == NAMED["rotten_tomatoes_mr"].sha256
    assert fetch("rotten_tomatoes_mr") == path
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert digest in readme
    assert "CC BY 4.0" in readme
    table = read_table(path, DataConfig())
    assert sorted(e.target for e in table.examples) == ["0"] * 5331 + ["1"] * 5331
    assert table.digest == digest


def test_data_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ECHOIC_DATA", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_dir() == tmp_path / "echoic"
