"""`echoic serve`: the process from its first line to its exit code; rows 50 and 51 of the table of bad input."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import PROGRAMME, Answer
from serve.bundles import make, saved

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(make(), tmp_path_factory.mktemp("bundles") / "films")


def test_from_the_first_line_to_the_exit_code(place: Path) -> None:
    """It prints where it listens, answers, reads its model again on HUP, and leaves with 0 on TERM."""
    command = [*PROGRAMME, "serve", str(place), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        at = json.loads(server.stdout.readline())
        assert server.stderr.readline() == f"films at http://127.0.0.1:{at['port']}/ (Ctrl-C ends it)\n"
        url = f"http://127.0.0.1:{at['port']}/v1/predict"
        body = json.dumps({"texts": ["good"]}).encode()
        asked = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as reply:
            assert json.load(reply)["model"] == "films"
        assert json.loads(server.stderr.readline())["route"] == "/v1/predict"
        server.send_signal(signal.SIGHUP)
        assert json.loads(server.stderr.readline()) == {"reload": "done"}
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert server.stderr.read() == ""


def test_what_serve_refuses(call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("serve", place, "--host", "0.0.0.0").refused(78, "--token-file", "leave --host at 127.0.0.1")
    call("serve", tmp_path / "none").refused(66, "no such file or folder")
    call("serve", tmp_path).refused(65, "not a bundle")
    call("serve", place, f"{place}/").refused(2, "two models named films")
    call("serve", place, "--port", "65536").refused(2, "port")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        call("serve", place, "--port", port).refused(69, f"127.0.0.1:{port}", "in use", "--port")
    token = tmp_path / "token"
    token.write_text("a-token-of-many-letters")
    token.chmod(0o644)
    call("serve", place, "--token-file", token).refused(77, "chmod 600")
    call("serve", place, "--token-file", tmp_path / "none").refused(66, "no such file")
    monkeypatch.setenv("ECHOIC_TOKEN", "short")
    call("serve", place).refused(2, "ECHOIC_TOKEN", "at least 16")
    monkeypatch.delenv("ECHOIC_TOKEN")
    call("serve", saved(make("model.layer_norm=true"), tmp_path / "norm")).refused(69, "layer norm", "torch alone")
