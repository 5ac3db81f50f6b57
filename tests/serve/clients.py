"""A server in a thread on loopback, and ways to talk to it: properly, and byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from echoic.serve.models import Models
from echoic.serve.running import Server, serve


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    port: int
    server: Server
    models: Models
    log: list[str] = field(default_factory=list)

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Reply:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            given.setdefault("content-type", "application/json")
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as client:
            client.request(method or ("GET" if data is None else "POST"), path, data, given)
            reply = client.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def raw(self, data: bytes, end: bool = False) -> Reply:
        """The first reply to these bytes; `end`: no more of them will come."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as link:
            link.sendall(data)
            if end:
                link.shutdown(socket.SHUT_WR)
            return read_reply(link)

    def logged(self, reply: Reply) -> Any:
        """The line of a reply's request."""
        self.ask("/healthz")  # a line is written behind its answer, and before the next one
        lines = [json.loads(line) for line in self.log]
        return next(line for line in lines if line["id"] == reply.headers["x-request-id"])

    def head(self, method: str = "GET", path: str = "/healthz", **headers: str) -> bytes:
        """The bytes of a request's head with its right Host, unless another is given."""
        lines = {"host": f"127.0.0.1:{self.port}", **{n.replace("_", "-"): v for n, v in headers.items()}}
        return "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in lines.items()), "", ""]).encode(
            "latin-1"
        )


def read_reply(link: socket.socket) -> Reply:
    data = b""
    while b"\r\n\r\n" not in data:
        part = link.recv(65_536)
        if not part:
            return Reply(0, {}, data)
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)) and (part := link.recv(65_536)):
        body += part
    return Reply(int(first.split()[1]), headers, body)


@contextlib.contextmanager
def serving(paths: dict[str, str], **how: Any) -> Iterator[Served]:
    models, log, begun = Models(paths), list[str](), threading.Event()
    found: list[Served] = []

    def ready(server: Server, port: int) -> None:
        found.append(Served(port, server, models, log))
        begun.set()

    thread = threading.Thread(
        target=serve, args=(models,), kwargs={"port": 0, "log": log.append, "ready": ready, **how}
    )
    thread.start()
    assert begun.wait(60)
    try:
        yield found[0]
    finally:
        found[0].server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
