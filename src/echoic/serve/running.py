"""The socket, the process and the clients' clocks around the application: what `echoic serve` runs."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from echoic.core.errors import (
    ConfigError,
    EchoicError,
    InputMissing,
    NotPermitted,
    Unavailable,
    UsageError,
    show,
)
from echoic.serve.gate import HEADER_BYTES, Problem, Rules
from echoic.serve.http import Application, application
from echoic.serve.models import Models

HEADER_SECONDS, WRITE_SECONDS, LEAVE_SECONDS = 10.0, 30.0, 10
SHORTEST_TOKEN = 16


class _Connection(h11.Connection):
    hint = 400
    """What h11 says of a request that is none."""

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.hint = error.error_status_hint
            raise


class Patient(H11Protocol):
    """uvicorn's connection, with an end to its patience: headers that do not come, an answer that nobody reads."""

    header_seconds, write_seconds = HEADER_SECONDS, WRITE_SECONDS
    conn: _Connection

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.conn = _Connection(h11.SERVER, HEADER_BYTES)
        self._headers_due: asyncio.TimerHandle | None = None
        self._reading_due: asyncio.TimerHandle | None = None
        self._body_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop("_headers_due", "_reading_due", "_body_due")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_headers()
        else:
            self._stop("_headers_due")
        if self.conn.their_state is not h11.SEND_BODY:
            self._stop("_body_due")

    def on_response_complete(self) -> None:
        """A body that nobody waits for, as the answer was there before it, is given as long as headers are."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.SEND_BODY:
            self._body_due = self.loop.call_later(self.header_seconds, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading_due = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop("_reading_due")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        code, detail = {
            431: ("headers", f"at most {HEADER_BYTES:,} bytes of headers"),
            501: ("encoding", "only chunked is known"),
        }.get(self.conn.hint, ("http", "not a request in HTTP"))
        self._refuse(Problem(self.conn.hint, code, detail))

    def _await_headers(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(self.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._headers_due = None
        if not self.transport.is_closing() and self.conn.our_state is h11.IDLE:
            self._refuse(Problem(408, "slow", f"the headers took more than {self.header_seconds:g} seconds"))

    def _refuse(self, problem: Problem) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # the answer was given, or is being given
            self.transport.close()
            return
        body = problem.body()
        headers = [("content-type", "application/problem+json"), ("content-length", str(len(body)))]
        start = h11.Response(status_code=problem.status, headers=[*headers, ("connection", "close")])
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _stop(self, *timers: str) -> None:
        for name in timers:
            if (timer := getattr(self, name)) is not None:
                timer.cancel()
                setattr(self, name, None)


class Server(uvicorn.Server):
    """Leaves with code 0 when it is asked to: the first signal finishes what has begun, the second does not wait."""

    leaving: Callable[[], None] = staticmethod(lambda: None)

    def handle_exit(self, sig: int, frame: Any) -> None:
        del sig, frame
        self.leaving()
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    models: Models,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: bytes | None = None,
    allow_hosts: Sequence[str] = (),
    said: Callable[[str], None] = lambda line: None,
    log: Callable[[str], None] | None = None,
    ready: Callable[[Server, int], None] = lambda server, port: None,
) -> None:
    """Runs until it is told to leave. `ready` hears of the server and its port before it begins.

    Raises ConfigError for a host beyond this machine without a token, Unavailable where it cannot listen, and
    what opening a bundle raises.
    """
    if token is None and not _loopback(host):
        raise ConfigError(
            f"--host {show(host)}: others could ask this server: give it a --token-file, or leave --host at 127.0.0.1"
        )
    models.load()
    listening = bound(host, port)
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    names = {"127.0.0.1", "localhost", "[::1]", *(name.lower() for name in allow_hosts)}
    if host not in ("0.0.0.0", "::"):  # noqa: S104
        names.add(shown.lower())
    app = application(models, Rules(port, frozenset(names), token), log)
    server = Server(_settings(app))
    server.leaving = lambda: setattr(app.state, "draining", True)  # type: ignore[method-assign]
    said(f"{', '.join(models.paths)} at http://{shown}:{port}/ (Ctrl-C ends it)")
    ready(server, port)
    server.run(sockets=[listening])


def _settings(app: Application) -> uvicorn.Config:
    return uvicorn.Config(
        _reloading(app),
        http=Patient,
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=LEAVE_SECONDS,
    )


def _reloading(app: Application) -> Any:
    """`app`, and SIGHUP reads its bundles again."""
    tasks: set[asyncio.Task[None]] = set()

    async def again() -> None:
        try:
            await app.state.reload()
        except EchoicError as error:
            app.log(f'{{"reload": "refused", "exit_code": {error.exit_code}}}')
        else:
            app.log('{"reload": "done"}')

    def begin() -> None:
        tasks.add(task := asyncio.get_running_loop().create_task(again()))
        task.add_done_callback(tasks.discard)

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)
        await app(scope, receive, send)

    return wrapped


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises Unavailable."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, proto)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(1024)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        where = f"{show(host)}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"{where}: the port is in use; choose another with --port, or 0 for any free one"
            ) from None
        raise Unavailable(f"{where}: cannot listen there: {error.strerror or error}") from None
    return listening


def token_of(path: Path | None, variable: str | None) -> bytes | None:
    """The token in a file that nobody else may read, or in the environment. None where neither is given."""
    if path is None and variable is None:
        return None
    if path is None:
        token, where = os.fsencode(str(variable)), "ECHOIC_TOKEN"
    else:
        token, where = _private(path), show(path, 300)
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(c <= 32 or c == 127 for c in token):
        raise UsageError(f"{where}: a token is at least {SHORTEST_TOKEN} visible ASCII characters without a space")
    return token


def _private(path: Path) -> bytes:
    where = show(path, 300)
    try:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise NotPermitted(f"{where}: others may read the token: chmod 600 it")
            return file.read(4096)
    except FileNotFoundError:
        raise InputMissing(f"{where}: no such file") from None
