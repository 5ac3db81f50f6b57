"""What stands before the routes: who may ask, how much, how long, and what a body must be.

One ASGI application around another, so that a route that is added tomorrow is guarded too. In order: the Host
that was asked for, the size of the headers, another origin, the token, the kind of body, its size, its time, strict
JSON. A refusal is a problem (RFC 9457) in JSON. Logged is what happened, never what was written.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import math
import re
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from echoic.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_BYTES = 1 << 20
HEADER_BYTES, HEADERS = 16_384, 100
BODY_SECONDS = 30.0
OPEN = ("/healthz",)
"""Asked without a token."""
SAFE = ("GET", "HEAD", "OPTIONS")
LONGEST_NUMBER = 100
"""Digits."""

HEADERS_SENT = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Problem(Exception):
    """An answer that says no: a status, a short name for programs, a sentence for people."""

    def __init__(self, status: int, code: str, detail: str, close: bool = False, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if close:
            self.headers["connection"] = "close"

    def body(self) -> bytes:
        title = HTTPStatus(self.status).phrase
        what = {"type": "about:blank", "title": title, "status": self.status, "code": self.code, "detail": self.detail}
        return json.dumps(what, ensure_ascii=False).encode()


def bug(request: str) -> Problem:
    """What a client hears of an error that is ours; `request` is its id in the log."""
    return Problem(500, "internal", f"a bug in echoic; the log knows it as {request}")


@dataclass(frozen=True)
class Rules:
    port: int
    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "[::1]"})
    """Names by which the server may be asked for, without a port or with its own."""
    token: bytes | None = None
    body_bytes: int = BODY_BYTES
    body_seconds: float = BODY_SECONDS


@dataclass
class Seen:
    """One request, for the log."""

    id: str
    method: str
    route: str = "other"
    status: int = 0
    start: float = field(default_factory=time.perf_counter)


class Gate:
    def __init__(
        self, app: App, rules: Rules, metrics: Metrics, routes: Sequence[str], log: Callable[[str], None] | None = None
    ) -> None:
        """`routes`: the paths that exist, by which requests are counted. `log` takes a line of JSON."""
        self.app, self.rules, self.metrics, self.routes = app, rules, metrics, frozenset(routes)
        self.log = log or _to_stderr

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        seen = Seen(secrets.token_hex(8), scope["method"] if scope["method"].isalpha() else "?")
        if scope["path"] in self.routes:
            seen.route = scope["path"]
        answer = _marked(send, seen)
        failure = None
        try:
            await self._guarded({**scope, "echoic.id": seen.id}, receive, answer)
        except Problem as problem:
            await _refuse(answer, problem)
        except ClientLeft:
            seen.status = 499
        except asyncio.CancelledError:  # the server is leaving, and does not wait
            if not seen.status:
                await _refuse(answer, Problem(503, "draining", "the server is leaving", retry_after="1"))
        except Exception as error:
            failure = [type(error).__name__, *_places(error)]
            if not seen.status:
                await _refuse(answer, bug(seen.id))
        finally:
            seconds = time.perf_counter() - seen.start
            self.metrics.count("echoic_requests_total", route=seen.route, status=str(seen.status))
            self.metrics.took(seen.route, seconds)
            line = {
                "time": round(time.time(), 3),
                "id": seen.id,
                "method": seen.method[:16],
                "route": seen.route,
                "status": seen.status,
                "ms": round(1e3 * seconds, 2),
            }
            self.log(json.dumps(line | ({"failure": failure} if failure else {})))

    async def _guarded(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        check_host(_all(headers, b"host"), self.rules)
        check_sizes(headers)
        if _all(headers, b"content-length") and _all(headers, b"transfer-encoding"):
            raise Problem(400, "two_lengths", "Content-Length and Transfer-Encoding: one of the two", close=True)
        check_origin(scope["method"], headers)
        if self.rules.token is not None and scope["path"] not in OPEN:
            check_token(_all(headers, b"authorization"), self.rules.token)
        body = b""
        if scope["method"] == "POST" and scope["path"] in self.routes:
            check_kind(headers, self.rules.body_bytes)
            body = await read_body(receive, self.rules)
            if body:
                strict_json(body)
        await _while_there(self.app, scope, body, receive, send)


# Each check raises Problem


def check_host(given: Sequence[bytes], rules: Rules) -> None:
    """A page of another site that has pointed its own name at this machine asks for that name (DNS rebinding)."""
    host = given[0].decode("latin-1").lower() if len(given) == 1 else ""
    name = host.removesuffix(f":{rules.port}")
    if name not in rules.hosts or (host == name and rules.port != 80 and name in _LOCAL):
        raise Problem(421, "host", "this server is not asked for by that Host; see --allow-host", close=True)


_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def check_sizes(headers: Sequence[tuple[bytes, bytes]]) -> None:
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if len(headers) > HEADERS or size > HEADER_BYTES:
        limits = f"at most {HEADERS} headers and {HEADER_BYTES:,} bytes of them"
        raise Problem(431, "headers", f"{len(headers)} headers of {size:,} bytes; {limits}", close=True)


def check_origin(method: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """As Go's CrossOriginProtection: a browser says where a request comes from, and nothing else sends these headers."""
    if method in SAFE:
        return
    site, origin = _all(headers, b"sec-fetch-site"), _all(headers, b"origin")
    if site:
        if site in ([b"same-origin"], [b"none"]):
            return
    elif not origin or origin == [b"http://" + _all(headers, b"host")[0]]:
        return
    raise Problem(403, "origin", "a page of another origin may not ask this")


def check_token(given: Sequence[bytes], token: bytes) -> None:
    """`Bearer TOKEN`; or, as browsers ask a person for it, `Basic` with the token as the password."""
    kind, _, value = (given[0] if len(given) == 1 else b"").partition(b" ")
    if kind.lower() == b"basic":
        try:
            value = base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            value = b""
    elif kind.lower() != b"bearer":
        value = b""
    if not hmac.compare_digest(value, token):
        ways = 'Bearer realm="echoic", Basic realm="echoic"'
        raise Problem(401, "token", "wants the token: Authorization: Bearer TOKEN", www_authenticate=ways)


def check_kind(headers: Sequence[tuple[bytes, bytes]], most: int) -> None:
    kinds = [value.split(b";")[0].strip().lower() for value in _all(headers, b"content-type")]
    lengths = _all(headers, b"content-length")
    if _all(headers, b"content-encoding"):
        raise Problem(415, "encoding", "a compressed body is not read", close=True)
    if kinds != [b"application/json"] and (kinds or lengths not in ([], [b"0"])):
        raise Problem(415, "media_type", "wants Content-Type: application/json", close=True)
    if any(not length.isdigit() for length in lengths) or len(lengths) > 1:
        raise Problem(400, "length", "Content-Length: one number", close=True)
    if lengths and (len(lengths[0]) > 18 or int(lengths[0]) > most):
        raise Problem(413, "body", f"a body of at most {most:,} bytes", close=True)


async def read_body(receive: Receive, rules: Rules) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(rules.body_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                if part := message.get("body", b""):
                    parts.append(part)
                    size += len(part)
                if size > rules.body_bytes:
                    raise Problem(413, "body", f"a body of at most {rules.body_bytes:,} bytes", close=True)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Problem(408, "slow", f"the body took more than {rules.body_seconds:g} seconds", close=True) from None
    return b"".join(parts)


def strict_json(body: bytes) -> Any:
    """What the body says, if it can be read in one way only."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(400, "utf8", f"not UTF-8 at byte {error.start + 1}") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_short,
        )
    except json.JSONDecodeError as error:
        raise Problem(400, "json", f"not JSON at line {error.lineno}, column {error.colno}: {error.msg[:80]}") from None
    except RecursionError:
        raise Problem(400, "json", "nested too deeply") from None
    if _SURROGATE.search(text):
        _no_surrogates(value)
    return value


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes one; UTF-8 has none."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise Problem(400, "duplicate_key", "a key stands twice in one object")
    return out


def _finite(number: str) -> float:
    value = float(number) if len(number) <= LONGEST_NUMBER else math.nan
    if not math.isfinite(value):
        raise Problem(422, "number", "a number that JSON or a computer cannot hold")
    return value


def _short(number: str) -> int:
    if len(number) > LONGEST_NUMBER:
        raise Problem(422, "number", f"a number of {len(number):,} digits; at most {LONGEST_NUMBER}")
    return int(number)


def _no_surrogates(value: Any) -> None:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str):
            try:
                each.encode()
            except UnicodeEncodeError as error:
                code = f"U+{ord(each[error.start]):04X}"
                where = f"lone surrogate {code} at character {error.start + 1}"
                raise Problem(422, "invalid_text", f"{where}; half of a pair is no character") from None


# Around the application


class ClientLeft(Exception):
    """Nobody is there to be answered."""


async def _while_there(app: App, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
    """Runs `app` on a body that was read, and cancels it when the client leaves."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()

    async def replay() -> Message:
        if not messages:
            await never.wait()
        return messages.pop()

    work = asyncio.ensure_future(app(scope, replay, send))
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            raise ClientLeft
        work.result()
    finally:
        gone.cancel()
        work.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _marked(send: Send, seen: Seen) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
            own = {name for name, _ in message.get("headers", [])}
            more = {**HEADERS_SENT, "x-request-id": seen.id}
            added = [(n.encode(), v.encode()) for n, v in more.items() if n.encode() not in own]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return marked


async def _refuse(send: Send, problem: Problem) -> None:
    body = problem.body()
    headers = {"content-type": "application/problem+json", "content-length": str(len(body)), **problem.headers}
    start = {"type": "http.response.start", "status": problem.status}
    await send({**start, "headers": [(n.encode(), v.encode("latin-1")) for n, v in headers.items()]})
    await send({"type": "http.response.body", "body": body})


def _all(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _places(error: BaseException) -> list[str]:
    """Where it happened; the message is left out, as it may quote a text."""
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-8:]]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
