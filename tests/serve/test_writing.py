"""Writing over HTTP: the author's very text whole and in pieces, between other requests, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from echoic.serve import http as routes
from echoic.serve.author import Author, open_author
from export.models import language
from serve.bundles import make, saved
from serve.clients import Served, serving

pytestmark = pytest.mark.usefixtures("unsynced")
PROMPT = "ab"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "films": str(saved(make(), folder / "a")),
        "writer": str(saved(language(), folder / "b")),
        "other": str(saved(language("model.cell.kind=gru"), folder / "c")),
    }


@pytest.fixture(scope="module")
def served(places: dict[str, str]) -> Iterator[Served]:
    with serving(places) as found:
        yield found


@pytest.fixture(scope="module")
def author(places: dict[str, str]) -> Author:
    return open_author(places["writer"])


def lines(served: Served, body: dict[str, Any]) -> tuple[str, list[Any]]:
    """(its content type, the lines) of a streamed answer."""
    with contextlib.closing(HTTPConnection("127.0.0.1", served.port, timeout=60)) as link:
        link.request("POST", "/v1/generate", json.dumps(body), {"content-type": "application/json"})
        reply = link.getresponse()
        return reply.headers["content-type"], [json.loads(line) for line in reply.read().splitlines()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.5, "seed": 9, "top_k": 3},
        {"samples": 3, "stop": ["c"]},
        {"length": 0},
    ],
)
def test_it_is_the_authors_text(served: Served, author: Author, options: dict[str, Any]) -> None:
    how: dict[str, Any] = {"length": 100, **options}
    found = served.ask("/v1/generate", {"prompt": PROMPT, **how}).json
    wanted = author.generate(PROMPT, **how)
    assert found == {"model": "writer", **wanted.model_dump(exclude_defaults=True)}


def test_the_pieces_are_the_whole(served: Served, author: Author) -> None:
    kind, found = lines(served, {"prompt": PROMPT, "length": 100, "seed": 4, "stream": True})
    assert kind == "application/x-ndjson"
    assert found[-1] == {"end": True}
    whole = author.generate(PROMPT, length=100, seed=4).continuation
    assert "".join(each["piece"] for each in found[:-1]) == whole
    assert len(found) - 1 == math.ceil(len(whole) / routes.SLICE) > 1
    _, stopped = lines(served, {"prompt": PROMPT, "length": 100, "seed": 4, "stream": True, "stop": ["c"]})
    short = author.generate(PROMPT, length=100, seed=4, stop=["c"]).continuation
    assert "".join(each["piece"] for each in stopped[:-1]) == short


def test_each_route_takes_its_kind_of_model(served: Served, author: Author) -> None:
    listed = {each["name"]: each for each in served.ask("/v1/models").json["models"]}
    assert {name: each["task"] for name, each in listed.items()} == {
        "films": "classify",
        "writer": "generate",
        "other": "generate",
    }
    assert listed["writer"]["labels"] == []
    assert served.ask("/v1/predict", {"texts": ["good"]}).json["model"] == "films"
    other = served.ask("/v1/generate", {"prompt": PROMPT, "model": "other"}).json
    assert other["model"] == "other"
    assert other["continuation"] != author.generate(PROMPT).continuation
    for route, body, says in (
        ("/v1/generate", {"model": "films"}, "films classifies; this wants a model that writes"),
        ("/v1/predict", {"texts": [], "model": "writer"}, "writer writes; this wants a model that classifies"),
        ("/v1/explain", {"text": "", "model": "writer"}, "this wants a model that classifies"),
        ("/v1/stream", {"pieces": ["a"], "model": "writer"}, "this wants a model that classifies"),
    ):
        reply = served.ask(route, body)
        assert (reply.status, says in reply.json["detail"]) == (422, True), reply.body


def test_where_nothing_writes(places: dict[str, str]) -> None:
    with serving({"films": places["films"]}) as alone:
        reply = alone.ask("/v1/generate", {"prompt": "a"})
    assert (reply.status, reply.json["detail"]) == (404, "no model here writes")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt": "a" * 10_001}, "/prompt: String should have at most 10000 characters (got 10,001)"),
        ({"length": 2_001}, "/length: Input should be less than or equal to 2000"),
        ({"length": -1}, "/length"),
        ({"temperature": -0.1}, "/temperature: Input should be greater than or equal to 0"),
        ({"top_p": 0.0}, "/top_p"),
        ({"samples": 9}, "/samples"),
        ({"samples": 0}, "/samples"),
        ({"seed": -1}, "/seed"),
        ({"stop": [""]}, "/stop/0"),
        ({"stop": "c"}, "/stop: Input should be a valid list"),
        ({"stream": True, "samples": 2}, "one sample is written at a time, not 2"),
        ({"beams": 2}, "/beams: Extra inputs"),
    ],
)
def test_what_is_refused(served: Served, body: dict[str, Any], says: str) -> None:
    reply = served.ask("/v1/generate", body)
    assert reply.status == 422
    assert says in reply.json["detail"]


def test_others_are_answered_between_two_slices(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that would never end does not keep a text waiting, and stops when its client leaves."""
    slices, second = [0], threading.Event()

    def endless(self: Any, tokens: int, at_once: int) -> Iterator[str]:
        while True:
            slices[0] += 1
            if slices[0] == 2:
                second.set()
            yield "x"

    monkeypatch.setattr("echoic.decode.writer.Writer.stream", endless)
    link = HTTPConnection("127.0.0.1", served.port, timeout=60)
    link.request(
        "POST", "/v1/generate", json.dumps({"length": 9, "stream": True}), {"content-type": "application/json"}
    )
    reply = link.getresponse()
    assert second.wait(60)
    assert served.ask("/v1/predict", {"texts": ["good"]}).status == 200
    reply.close()
    link.close()
    while not any('"status": 499' in line for line in served.log):
        served.ask("/healthz")
    stopped_at = slices[0]
    assert served.ask("/v1/predict", {"texts": ["good"]}).status == 200
    assert slices[0] <= stopped_at + 1
