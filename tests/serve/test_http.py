"""The server over loopback: its answers, and RELIABILITY's table of bad requests row by row."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from echoic.core.errors import BundleError, ConfigError, NotPermitted, Unavailable, UsageError
from echoic.serve import running
from echoic.serve.gate import HEADERS
from echoic.serve.models import Models, named
from echoic.serve.predictor import Predictor, open_predictor
from echoic.serve.running import Patient, bound, serve, token_of
from serve.bundles import make, saved, texts
from serve.clients import Served, read_reply, serving

ROUTES = ["/", "/healthz", "/readyz", "/metrics", "/v1/models", "/openapi.json"]
POSTS = ["/v1/predict", "/v1/explain", "/v1/stream", "/v1/generate", "/v1/translate"]
TOKEN = b"a-token-of-many-letters"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bundles")
    both = saved(make(), folder / "both")
    one = saved(make("model.bidirectional=false", seed=1, labels=("<b>a</b>", "b")), folder / "one")
    return {"both": str(both), "one": str(one)}


@pytest.fixture(scope="module")
def served(places: dict[str, str]) -> Iterator[Served]:
    with serving(places) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(places: dict[str, str]) -> Iterator[Served]:
    with serving(places, token=TOKEN, allow_hosts=["models.example.org"]) as found:
        yield found


@pytest.fixture(scope="module")
def offline(places: dict[str, str]) -> dict[str, Predictor]:
    return {name: open_predictor(path) for name, path in places.items()}


def dumped(predictor: Predictor, given: list[str], **how: Any) -> Any:
    return json.loads(json.dumps([each.model_dump(exclude_defaults=True) for each in predictor.predict(given, **how)]))


def close(found: list[Any], wanted: list[Any]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert {k: v for k, v in one.items() if k in ("text", "label", "labels")} == {
            k: v for k, v in other.items() if k in ("text", "label", "labels")
        }


# Answers


def test_predict_is_the_predictor(served: Served, offline: dict[str, Predictor]) -> None:
    given = texts(20)
    for model, name in ((None, "both"), ("both", "both"), ("one", "one")):
        reply = served.ask("/v1/predict", {"texts": given} | ({"model": model} if model else {}))
        assert reply.status == 200, reply.body
        assert reply.headers["content-type"] == "application/json"
        assert reply.json["model"] == name
        close(reply.json["predictions"], dumped(offline[name], given))
    unsure = served.ask("/v1/predict", {"texts": given, "min_confidence": 0.99}).json["predictions"]
    close(unsure, dumped(offline["both"], given, min_confidence=0.99))
    assert served.ask("/v1/predict", {"texts": []}).json["predictions"] == []


def test_explain_is_the_predictor(served: Served, offline: dict[str, Predictor]) -> None:
    text = "not good, a bad film"
    for method in ("occlusion", "trace"):
        reply = served.ask("/v1/explain", {"text": text, "method": method, "label": "maybe"})
        wanted = offline["both"].explain(text, method, "maybe").document()
        assert [t["score"] for t in reply.json["tokens"]] == pytest.approx(
            [t["score"] for t in wanted["tokens"]], abs=1e-5
        )
        assert reply.json["label"] == "maybe"
    long = served.ask("/v1/explain", {"text": "good bad " * 200}).json
    assert long["window"] == -(-400 // 64)


@pytest.mark.parametrize("method", ["integrated-gradients", "gradient-x-input", "attention"])
def test_what_needs_torch_is_501(served: Served, method: str) -> None:
    reply = served.ask("/v1/explain", {"text": "good", "method": method})
    assert (reply.status, reply.json["code"]) == (501, "method")


def test_stream_answers_after_every_piece(served: Served, offline: dict[str, Predictor]) -> None:
    pieces = ["not ", "go", "od, a", " bad film"]
    found = served.ask("/v1/stream", {"pieces": pieces, "model": "one"}).json["predictions"]
    for i, each in enumerate(found):
        (wanted,) = dumped(offline["one"], ["".join(pieces[: i + 1])])
        assert each["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)
    reply = served.ask("/v1/stream", {"pieces": pieces})
    assert reply.status == 422
    assert "one way" in reply.json["detail"]


def test_what_a_server_says_of_itself(served: Served) -> None:
    models = served.ask("/v1/models").json["models"]
    assert [each["name"] for each in models] == ["both", "one"]
    assert [each["streams"] for each in models] == [False, True]
    assert served.ask("/healthz").body == b"ok\n"
    assert served.ask("/readyz").body == b"ready\n"
    assert set(served.ask("/openapi.json").json["paths"]) == {*POSTS, "/v1/models", "/healthz", "/readyz", "/metrics"}


def test_metrics_count(served: Served) -> None:
    def value(line: str) -> float:
        text = served.ask("/metrics").body.decode()
        return next((float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line)), 0.0)

    line = 'echoic_requests_total{route="/v1/predict",status="200"}'
    before, answered = value(line), value('echoic_texts_total{model="both"}')
    served.ask("/v1/predict", {"texts": ["good", "bad"]})
    served.ask("/none/of/these")
    assert value(line) == before + 1
    assert value('echoic_texts_total{model="both"}') == answered + 2
    assert value('echoic_requests_total{route="other",status="404"}') >= 1
    assert value("echoic_waiting ") == 0
    assert value('echoic_request_seconds_bucket{le="+Inf",route="/v1/predict"}') >= before + 1
    for each in served.ask("/metrics").body.decode().splitlines():
        assert each.startswith("#") or len(each.rsplit(" ", 1)) == 2


def test_many_clients_get_the_offline_answers(served: Served, offline: dict[str, Predictor]) -> None:
    given = texts(16)
    wanted = dumped(offline["both"], given)

    def client(first: int) -> int:
        link = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        for i in range(6):
            at = (first + i) % len(given)
            link.request(
                "POST", "/v1/predict", json.dumps({"texts": [given[at]]}), {"content-type": "application/json"}
            )
            reply = link.getresponse()
            close(json.loads(reply.read())["predictions"], [wanted[at]])
        link.close()
        return reply.status

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(client, range(20))) == {200}


# Bad bodies: RELIABILITY 3.3

LONE = b'{"texts": ["ab\\ud800"]}'
BODIES: dict[str, tuple[bytes, int, str]] = {
    "a lone surrogate": (LONE, 422, "lone surrogate U+D800 at character 3"),
    "a lone surrogate in a name": (b'{"texts": [], "model": "\\udc00"}', 422, "U+DC00 at character 1"),
    "NaN": (b'{"texts": ["a"], "min_confidence": NaN}', 422, "number"),
    "Infinity": (b'{"texts": ["a"], "min_confidence": -Infinity}', 422, "number"),
    "1e400": (b'{"texts": ["a"], "min_confidence": 1e400}', 422, "number"),
    "5,000 digits": (b'{"texts": ["a"], "min_confidence": ' + b"1" * 5000 + b"}", 422, "5,000 digits"),
    "a float of 5,000 digits": (b'{"texts": ["a"], "min_confidence": 0.' + b"1" * 5000 + b"}", 422, "number"),
    "1e30": (b'{"texts": ["a"], "min_confidence": 1e30}', 422, "less than or equal to 1"),
    "not UTF-8": (b'{"texts": ["\xff"]}', 400, "not UTF-8 at byte 13"),
    "UTF-16": ('{"texts": []}'.encode("utf-16"), 400, "not UTF-8"),
    "nested": (b"[" * 100_000, 400, "nested too deeply"),
    "a key twice": (b'{"texts": ["a"], "texts": ["b"]}', 400, "a key stands twice"),
    "a key twice, inside": (b'{"texts": [{"a": 1, "a": 2}]}', 400, "a key stands twice"),
    "not JSON": (b"{'texts': []}", 400, "not JSON at line 1, column 2"),
    "empty": (b"", 422, "Field required"),
    "a list": (b"[]", 422, "/"),
    "a number": (b"1", 422, "/"),
    "null": (b"null", 422, "/"),
    "no texts": (b"{}", 422, "/texts: Field required"),
    "a text for texts": (b'{"texts": "good"}', 422, "/texts: Input should be a valid list"),
    "a number for a text": (b'{"texts": [1]}', 422, "/texts/0: Input should be a valid string"),
    "an unknown key": (b'{"texts": [], "n": 1}', 422, "/n: Extra inputs"),
    "65 texts": (json.dumps({"texts": ["a"] * 65}).encode(), 422, "at most 64 items"),
    "100,001 characters": (json.dumps({"texts": ["a" * 100_001]}).encode(), 422, "at most 100000 characters (got 100,001)"),
    "no such model": (b'{"texts": [], "model": "../both"}', 404, "there is both, one"),
    "a NUL in a name": (b'{"texts": [], "model": "both\\u0000"}', 404, "there is both, one"),
    "a name of 10 KB": (json.dumps({"texts": [], "model": "a" * 10_000}).encode(), 422, "/model"),
    "a text for a number": (b'{"texts": [], "min_confidence": "1"}', 422, "/min_confidence"),
    "a truth for a number": (b'{"texts": [], "min_confidence": true}', 422, "/min_confidence"),
}  # fmt: skip


@pytest.mark.parametrize("row", BODIES)
def test_a_bad_body(served: Served, row: str) -> None:
    body, status, said = BODIES[row]
    reply = served.ask("/v1/predict", body)
    assert (reply.status, said in reply.json["detail"]) == (status, True), reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(reply.json) == {"type", "title", "status", "code", "detail"}


def test_strange_texts_are_answered(served: Served) -> None:
    strange = [
        "\x00",
        "\ufeff",
        "\u202e",
        "\U0001f468\u200d\U0001f469",
        "e" + "\u0301" * 2000,
        "<pad>",
        "{{7*7}}",
        "\r\n",
        "\ud83d\ude00",
    ]
    body = json.dumps({"texts": strange}, ensure_ascii=True).encode()
    reply = served.ask("/v1/predict", body)
    assert reply.status == 200
    assert len(reply.json["predictions"]) == len(strange)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/xml", "json"]
)
def test_another_kind_of_body_is_415(served: Served, kind: str) -> None:
    reply = served.ask("/v1/predict", b'{"texts": ["a"]}', content_type=kind)
    assert (reply.status, reply.json["code"]) == (415, "media_type")


def test_a_compressed_body_is_415(served: Served) -> None:
    reply = served.ask("/v1/predict", gzip.compress(b'{"texts": []}'), content_encoding="gzip")
    assert (reply.status, reply.json["code"]) == (415, "encoding")


def test_a_method_that_is_not_there(served: Served) -> None:
    reply = served.ask("/v1/predict", method="GET")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    reply = served.ask("/healthz", b"{}")
    assert (reply.status, reply.headers["allow"]) == (405, "GET")
    assert served.ask("/v1/predict", method="BREW").status == 405


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/v1/..%5c..%5c", "/%00", "/static/../../x", "//etc/passwd",
     "/v1/predict/../../x", "/%c0%ae%c0%ae/", "/;/x", "/docs", "/redoc", "/v1/train"],
)  # fmt: skip
def test_no_path_leads_out(served: Served, path: str) -> None:
    assert served.raw(served.head(path=path)).status in (400, 404)


# Sizes and framing


def test_a_large_body_is_413_and_the_connection_ends(served: Served) -> None:
    head = served.head("POST", "/v1/predict", content_type="application/json", content_length=str(50 << 20))
    reply = served.raw(head + b"x" * 1000)
    assert (reply.status, reply.headers["connection"]) == (413, "close")


def test_a_large_body_in_pieces_is_413(served: Served) -> None:
    head = served.head("POST", "/v1/predict", content_type="application/json", transfer_encoding="chunked")
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as link:
        link.sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(40):
                link.sendall(piece)
        assert read_reply(link).status == 413


def test_a_body_in_pieces_is_read(served: Served) -> None:
    head = served.head("POST", "/v1/predict", content_type="application/json", transfer_encoding="chunked")
    body = b'{"texts": ["good"]}'
    pieces = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
    assert served.raw(head + pieces).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_length": "4", "transfer_encoding": "chunked"}, 400),
        ({"content_length": "-1"}, 400),
        ({"content_length": "4, 5"}, 400),
        ({"content_length": "0x4"}, 400),
        ({"content_length": "9" * 30}, 400),
        ({"content_length": "9" * 18}, 413),
        ({"transfer_encoding": "gzip, chunked"}, 501),
        ({"expect": "100-continue", "content_length": str(50 << 20)}, 413),
    ],
)
def test_framing_that_lies(served: Served, headers: dict[str, str], status: int) -> None:
    head = served.head("POST", "/v1/predict", content_type="application/json", **headers)
    reply = served.raw(head + b"0\r\n\r\n")
    assert reply.status == status, reply
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("size", [20_000, 100_000, 1_000_000])
def test_a_large_header_is_431(served: Served, size: int) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as link:
        with contextlib.suppress(OSError):
            link.sendall(served.head(x_filler="a" * size))
        assert read_reply(link).status in (431, 0 if size > 60_000 else 431)


def test_many_headers_are_431(served: Served) -> None:
    many = {f"x_{i}": "1" for i in range(HEADERS + 1)}
    assert served.raw(served.head(**many)).status == 431


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01\x02\r\n\r\n", b"GET /healthz\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"get\r\n\r\n", b"GET /he\xffalthz HTTP/1.1\r\nhost: a\r\n\r\n",
     b"GET / HTTP/1.1\r\nhost: a\r\n b: c\r\n\r\n", b"GET / HTTP/1.1\r\nho st: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request(served: Served, data: bytes) -> None:
    assert served.raw(data, end=True).status in (400, 421)
    assert served.ask("/healthz").status == 200


def test_headers_that_do_not_come_are_408(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patient, "header_seconds", 0.05)
    assert served.raw(b"").status == 408
    assert served.raw(b"GET /healthz HTTP/1.1\r\nhost:").status == 408


def test_a_body_that_comes_after_its_answer_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patient, "header_seconds", 0.1)
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as mine:
        mine.sendall(served.head("GET", "/healthz", content_length="100000") + b"x")
        while mine.recv(1 << 16):
            pass


# Who may ask

BAD_HOSTS = ["evil.example", "127.0.0.1.evil.example:{port}", "localhost.:{port}", "user@localhost:{port}", "localhost:1", "127.0.0.1", "",
             "127.1:{port}", "[::]:{port}", "0.0.0.0:{port}", "localhost:{port}:{port}", "2130706433:{port}"]  # fmt: skip


@pytest.mark.parametrize("path", [*ROUTES, *POSTS, "/none"])
def test_another_host_is_421_on_every_route_and_method(served: Served, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
        assert served.raw(served.head(method, path, host="evil.example", content_length="0")).status == 421


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_hosts(served: Served, host: str) -> None:
    reply = served.raw(served.head(host=host.format(port=served.port), x_forwarded_host=f"localhost:{served.port}"))
    assert reply.status in (400, 421)


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_good_hosts(served: Served, host: str) -> None:
    assert served.raw(served.head(host=host.format(port=served.port))).status == 200


def test_two_hosts(served: Served) -> None:
    head = f"GET /healthz HTTP/1.1\r\nhost: localhost:{served.port}\r\nhost: localhost:{served.port}\r\n\r\n"
    assert served.raw(head.encode()).status in (400, 421)


def test_an_allowed_host(guarded: Served) -> None:
    for host, status in (
        ("models.example.org", 200),
        (f"models.example.org:{guarded.port}", 200),
        ("example.org", 421),
    ):
        assert guarded.raw(guarded.head(host=host)).status == status


ORIGINS: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"sec_fetch_site": "same-origin"}, 200),
    ({"sec_fetch_site": "none"}, 200),
    ({"sec_fetch_site": "cross-site"}, 403),
    ({"sec_fetch_site": "same-site"}, 403),
    ({"sec_fetch_site": "SAME-ORIGIN"}, 403),
    ({"sec_fetch_site": ""}, 403),
    ({"sec_fetch_site": "same-origin", "origin": "https://evil.example"}, 200),
    ({"sec_fetch_site": "cross-site", "origin": "http://127.0.0.1:{port}"}, 403),
    ({"origin": "http://127.0.0.1:{port}"}, 200),
    ({"origin": "https://127.0.0.1:{port}"}, 403),
    ({"origin": "http://127.0.0.1"}, 403),
    ({"origin": "http://127.0.0.1:{port}.evil.example"}, 403),
    ({"origin": "http://localhost:{port}"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": ""}, 403),
    ({"origin": "https://evil.example"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), ORIGINS)
def test_origins(served: Served, headers: dict[str, str], status: int) -> None:
    given = {name: value.format(port=served.port) for name, value in headers.items()}
    reply = served.ask("/v1/predict", {"texts": []}, **given)
    assert reply.status == status
    assert not [name for name in reply.headers if name.startswith("access-control")]
    for method in ("PUT", "BREW", "DELETE"):
        assert served.ask("/v1/predict", method=method, **given).status == (405 if status == 200 else 403)
    assert served.ask("/healthz", **given).status == 200


def test_every_route_wants_the_token(guarded: Served) -> None:
    assert guarded.ask("/healthz").status == 200
    for path in [*ROUTES, *POSTS, "/none"]:
        if path != "/healthz":
            reply = guarded.ask(path, {} if path in POSTS else None)
            assert (reply.status, reply.json["code"]) == (401, "token"), path
            assert "Bearer" in reply.headers["www-authenticate"]


def test_the_right_token(guarded: Served) -> None:
    import base64

    right = f"Bearer {TOKEN.decode()}"
    assert guarded.ask("/v1/predict", {"texts": ["good"]}, authorization=right).status == 200
    basic = base64.b64encode(b"anybody:" + TOKEN).decode()
    assert guarded.ask("/", authorization=f"Basic {basic}").status == 200
    wrong = ["", "Bearer", "Bearer ", f"Bearer {TOKEN.decode()}x", TOKEN.decode(), f"Basic {TOKEN.decode()}", "Bearer " + "x" * 10_000,
             "Basic !!!", "Bearer \xe9\xe9", f"Digest {TOKEN.decode()}"]  # fmt: skip
    for each in wrong:
        assert guarded.ask("/readyz", authorization=each).status == 401, each
    assert guarded.ask(f"/readyz?token={TOKEN.decode()}").status == 401
    twice = guarded.head(path="/readyz").replace(
        b"\r\n\r\n", f"\r\nauthorization: {right}\r\nauthorization: {right}\r\n\r\n".encode()
    )
    assert guarded.raw(twice).status == 401
    assert not [line for line in guarded.log if TOKEN.decode() in line or basic in line]


def test_what_every_answer_forbids(served: Served) -> None:
    for path in [*ROUTES, "/none"]:
        headers = served.ask(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    policy = served.ask("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


# The log


def test_the_log_has_no_text_and_knows_the_request(served: Served) -> None:
    secret = "a very private matter\n{forged}"
    replies = [
        served.ask("/v1/predict", {"texts": [secret], "model": "both"}),
        served.ask("/v1/predict", {"texts": [secret], "model": secret}),
        served.ask("/private%0a{forged}?q=private"),
    ]
    assert [served.logged(each)["status"] for each in replies] == [200, 404, 404]
    assert served.logged(replies[2])["route"] == "other"
    assert not [line for line in served.log if "private" in line or "forged" in line or "\n" in line]


def test_a_bug_is_a_500_that_quotes_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, texts: Any) -> Any:
        raise RuntimeError(f"cannot read {texts}")

    monkeypatch.setattr(Predictor, "logits", broken)
    reply = served.ask("/v1/predict", {"texts": ["a private matter"]})
    assert (reply.status, reply.json["code"]) == (500, "internal")
    line = served.logged(reply)
    assert line["failure"][0] == "RuntimeError"
    assert line["id"] in reply.json["detail"]
    assert "private" not in f"{reply.body!r} {line}"
    monkeypatch.undo()
    assert served.ask("/v1/predict", {"texts": ["good"]}).status == 200


# Models and places


def test_names_of_models(tmp_path: Path) -> None:
    assert named(["runs/A b", f"{tmp_path}/x/bundle", "other=runs/y"]) == {
        "a-b": "runs/A b",
        "x": f"{tmp_path}/x/bundle",
        "other": "runs/y",
    }
    with pytest.raises(UsageError, match="two models named x"):
        named(["a/x", "b/x"])


def test_a_reload_takes_all_or_nothing(tmp_path: Path) -> None:
    first, second = saved(make(), tmp_path / "now"), saved(make(seed=5), tmp_path / "next")
    models = Models({"m": str(first)})
    models.load()
    before = models.loaded["m"]
    shutil.rmtree(first)
    shutil.copytree(second, first)
    models.load()
    assert models.loaded["m"] is not before
    assert models.loaded["m"].predict(["good"]) == open_predictor(second).predict(["good"])
    after = models.loaded["m"]
    (first / "labels.json").write_bytes(b"{}")
    with pytest.raises(BundleError):
        models.load()
    assert models.loaded["m"] is after


def test_a_port_in_use(served: Served) -> None:
    with pytest.raises(Unavailable, match="in use; choose another with --port"):
        bound("127.0.0.1", served.port)
    with pytest.raises(Unavailable, match="cannot listen"):
        bound("no.such.host.invalid", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_this_machine_wants_a_token(host: str, places: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"--token-file, or leave --host"):
        serve(Models(places), host=host)


def test_tokens(tmp_path: Path) -> None:
    place = tmp_path / "token"
    place.write_bytes(TOKEN + b"\n")
    place.chmod(0o600)
    assert token_of(place, None) == TOKEN
    assert token_of(None, TOKEN.decode()) == TOKEN
    assert token_of(None, None) is None
    place.chmod(0o644)
    with pytest.raises(NotPermitted, match="chmod 600"):
        token_of(place, None)
    for wrong in ("short", "a token with spaces in it", "é" * 20, ""):
        with pytest.raises(UsageError, match="at least 16"):
            token_of(None, wrong)


def test_limits_are_the_defaults() -> None:
    assert (running.HEADER_SECONDS, running.WRITE_SECONDS) == (10.0, 30.0)
