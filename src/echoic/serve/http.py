"""The server: bundles by name, answered over HTTP on a machine without torch.

    POST /v1/predict   {"texts": [...], "model"?, "min_confidence"?}   -> {"model", "predictions": [...]}
    POST /v1/explain   {"text", "method"?, "label"?, "model"?}         -> an explanation: occlusion, trace
    POST /v1/stream    {"pieces": [...], "model"?}                     -> {"model", "predictions": [...]}, one a piece
    POST /v1/translate {"texts": [...], "beam"?, "n_best"?, "model"?}  -> {"model", "translations": [...]}
    POST /v1/generate  {"prompt"?, "length"?, "temperature"?, ..., "model"?} -> the record of `echoic generate`
    GET  /v1/models, /healthz, /readyz, /metrics, /openapi.json, and a page at /

`gate.py` stands before every route, `batching.py` behind those that compute. SIGHUP reads the bundles again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse

import echoic
from echoic.core.errors import DataError, EchoicError, UsageError, show
from echoic.decode import prompts
from echoic.decode.answers import Prediction
from echoic.decode.prompts import Generated
from echoic.decode.translations import Translation
from echoic.decode.writer import Writer
from echoic.explain.record import METHODS, Explanation
from echoic.serve import page
from echoic.serve.author import Author
from echoic.serve.batching import Batcher, Refused, TooLate
from echoic.serve.gate import Gate, Problem, Rules, bug
from echoic.serve.interpreter import Interpreter
from echoic.serve.metrics import Metrics
from echoic.serve.models import Models, Served
from echoic.serve.predictor import METHODS as FORWARD
from echoic.serve.predictor import Predictor

MOST_TEXTS, LONGEST = 64, 100_000
"""Texts of a request; characters of a text."""
MOST_STEPS = 64
"""Points of an explanation: in a longer text neighbours share one."""
LONGEST_PROMPT, MOST_TOKENS, MOST_SAMPLES, MOST_STOPS = 10_000, 2_000, 8, 8
"""Characters read, tokens written, continuations of one prompt, strings to end before."""
MOST_HYPOTHESES = 16
SLICE, SOURCES = 16, 4
"""Tokens written, and texts translated, in one go: between two, whatever else waits has its turn."""

Text = Annotated[str, Field(max_length=LONGEST)]
ModelName = Annotated[str | None, Field(description="one of /v1/models; the first, if not given", max_length=64)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    model: ModelName = None


class Predict(Asked):
    texts: Annotated[list[Text], Field(max_length=MOST_TEXTS)]
    min_confidence: Annotated[float, Field(ge=0.0, le=1.0, description="below it the label is null")] = 0.0


class Explain(Asked):
    text: Text
    method: Literal["occlusion", "trace", "integrated-gradients", "gradient-x-input", "attention"] = "occlusion"
    label: Annotated[str | None, Field(max_length=10_000)] = None


class Stream(Asked):
    pieces: Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


class Translate(Asked):
    texts: Annotated[list[Text], Field(max_length=MOST_TEXTS)]
    beam: Annotated[int, Field(ge=1, le=MOST_HYPOTHESES, description="hypotheses of each text; 1: greedy")] = 5
    n_best: Annotated[int, Field(ge=1, le=MOST_HYPOTHESES, description="translations of each text")] = 1


class Generate(Asked):
    prompt: Annotated[str, Field(max_length=LONGEST_PROMPT)] = ""
    length: Annotated[int, Field(ge=0, le=MOST_TOKENS, description="tokens; fewer where a text ends")] = 200
    temperature: Annotated[float, Field(ge=0.0, le=100.0, description="0: always the likeliest token")] = 1.0
    top_k: Annotated[int, Field(ge=0, le=10**9, description="0: all")] = 0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100.0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 1
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=MOST_STOPS)] = []
    stream: Annotated[bool, Field(description="one sample, as JSON lines: its pieces as they are written")] = False


class Predictions(BaseModel):
    model: str
    predictions: list[Prediction]


class Translations(BaseModel):
    model: str
    translations: list[Translation]


class Explained(Explanation):
    model: str


class Continued(Generated):
    model: str


class About(BaseModel):
    name: str
    task: Literal["classify", "generate", "translate"]
    labels: list[str] = Field(description="of a classifier")
    several: bool = Field(description="a text may have several labels, or none")
    streams: bool = Field(description="it answers /v1/stream")
    cell: str
    kernel: str = Field(description="what computes the recurrence")


class Listed(BaseModel):
    models: list[About]


class Refusal(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str = Field(description="for programs")
    detail: str = Field(description="for people")


JSON_LINES = "application/x-ndjson"
LINES: dict[str, Any] = {"content": {JSON_LINES: {"schema": {"type": "string"}}}}
"""What /v1/generate answers with `stream`."""

NO: dict[int | str, dict[str, Any]] = {
    each: {"description": what, "content": {"application/problem+json": {"schema": Refusal.model_json_schema()}}}
    for each, what in (("4XX", "refused; try another request"), ("5XX", "not now, or not here"))
}
"""What any route may answer instead."""


@dataclass
class State:
    models: Models
    batcher: Batcher
    metrics: Metrics
    draining: bool = False

    async def reload(self) -> None:
        """Reads every bundle again beside the requests; a bundle that cannot be opened leaves the old ones in place."""
        try:
            await asyncio.to_thread(self.models.load)
        except EchoicError:
            self.metrics.count("echoic_reloads_total", result="refused")
            raise
        self.metrics.count("echoic_reloads_total", result="done")


class Application(Gate):
    """The whole server, for whatever runs ASGI."""

    state: State


def application(models: Models, rules: Rules, log: Callable[[str], None] | None = None, **limits: Any) -> Application:
    """`log` takes a line of JSON; `limits` are the Batcher's."""
    state = State(models, Batcher(**limits), Metrics())
    state.batcher.seen = lambda texts: _batch_seen(state.metrics, texts)
    state.metrics.gauges = {
        "echoic_waiting": ("Requests in the queue.", lambda: len(state.batcher.waiting)),
        "echoic_waiting_characters": ("Characters in the queue.", lambda: state.batcher.characters),
        "echoic_models": ("Models loaded.", lambda: len(models.loaded)),
    }

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        state.batcher.start()
        yield
        await state.batcher.stop()

    app = FastAPI(title="echoic", version=echoic.__version__, docs_url=None, redoc_url=None, lifespan=life)
    _routes(app, state)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _problem)
    app.add_exception_handler(RequestValidationError, _problem)
    app.add_exception_handler(Refused, _problem)
    app.add_exception_handler(EchoicError, _problem)
    app.add_exception_handler(Exception, _bug)
    paths = [getattr(route, "path", "") for route in app.routes]
    gate = Application(app, rules, state.metrics, paths, log)  # type: ignore[arg-type]
    gate.state = state
    return gate


def _batch_seen(metrics: Metrics, texts: int) -> None:
    metrics.count("echoic_batches_total")
    metrics.count("echoic_batch_texts_total", texts)


def _routes(app: FastAPI, state: State) -> None:
    @app.post("/v1/predict", response_model=Predictions, responses=NO)
    async def predict(asked: Predict) -> Response:
        name, predictor = state.models.get(asked.model, Predictor)
        logits = await state.batcher.logits(predictor, asked.texts)
        found = predictor.records(asked.texts, logits, asked.min_confidence)
        state.metrics.count("echoic_texts_total", len(found), model=name)
        return _json({"model": name, "predictions": [each.model_dump(exclude_defaults=True) for each in found]})

    @app.post("/v1/explain", response_model=Explained, responses=NO)
    async def explain(asked: Explain) -> Response:
        name, predictor = state.models.get(asked.model, Predictor)
        if asked.method not in FORWARD:
            ways = " and ".join(FORWARD)
            raise Problem(501, "method", f"{asked.method} needs torch (echoic explain); a server has {ways}")
        found = await state.batcher.call(
            lambda: predictor.explain(asked.text, asked.method, asked.label, MOST_STEPS), len(asked.text)
        )
        return _json({"model": name, **found.document()})

    @app.post("/v1/stream", response_model=Predictions, responses=NO)
    async def stream(asked: Stream) -> Response:
        name, predictor = state.models.get(asked.model, Predictor)

        feeding = predictor.stream()

        def read(piece: str) -> Prediction:
            feeding.feed(piece)
            return feeding.answer()

        found = [
            await state.batcher.call(partial(read, piece), len(piece), begun=i > 0)
            for i, piece in enumerate(asked.pieces)
        ]
        return _json({"model": name, "predictions": [each.model_dump(exclude_defaults=True) for each in found]})

    @app.post("/v1/translate", response_model=Translations, responses=NO)
    async def translate(asked: Translate) -> Response:
        name, interpreter = state.models.get(asked.model, Interpreter)
        found: list[Translation] = []
        for start in range(0, len(asked.texts), SOURCES):
            texts = asked.texts[start : start + SOURCES]
            found += await state.batcher.call(
                partial(interpreter.predict, texts, beam_size=asked.beam, n_best=asked.n_best, first=start + 1),
                sum(map(len, texts)),
                begun=start > 0,
            )
        state.metrics.count("echoic_texts_total", len(found), model=name)
        return _json({"model": name, "translations": [each.model_dump(exclude_defaults=True) for each in found]})

    @app.post("/v1/generate", response_model=Continued, responses={200: LINES, **NO})
    async def generate(asked: Generate) -> Response:
        name, author = state.models.get(asked.model, Author)
        if asked.stream and asked.samples > 1:
            raise UsageError(f"stream: one sample is written at a time, not {asked.samples}")
        how = asked.model_dump(exclude={"model", "prompt", "length", "stream"})
        writer = await state.batcher.call(lambda: author.writer(asked.prompt, **how), len(asked.prompt))
        state.metrics.count("echoic_prompts_total", model=name)
        pieces = _written(state.batcher, writer, asked.length)
        if asked.stream:
            return StreamingResponse(_lines(pieces), media_type=JSON_LINES)
        async for _ in pieces:
            pass
        return _json({"model": name, **prompts.record(asked.prompt, writer).model_dump(exclude_defaults=True)})

    @app.get("/v1/models", response_model=Listed, responses=NO)
    async def models() -> Response:
        return _json(Listed(models=[_about(n, each) for n, each in state.models.loaded.items()]).model_dump())

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", response_class=PlainTextResponse, responses=NO)
    async def readyz() -> Response:
        if state.draining or not state.models.loaded:
            raise Problem(503, "draining", "the server is leaving", retry_after="1")
        if not state.batcher.works:
            raise Problem(503, "stopped", "nothing is computed any more")
        return Response("ready\n", media_type="text/plain")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def front() -> Response:
        return Response(page.HTML, media_type="text/html", headers={"content-security-policy": page.POLICY})


async def _written(batcher: Batcher, writer: Writer, length: int) -> AsyncIterator[str]:
    """The first sample's text in pieces; all samples are written. Raises Refused."""
    stream = writer.stream(length, SLICE)
    while (piece := await batcher.call(lambda: next(stream, None), 0, begun=True)) is not None:
        yield piece


async def _lines(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """{"piece"} a line; the last is {"end": true}, or the problem that came between."""
    try:
        async for piece in pieces:
            if piece:
                yield _bytes({"piece": piece}) + b"\n"
        yield b'{"end": true}\n'
    except Refused as error:
        yield _problem_of(error).body() + b"\n"


def _about(name: str, served: Served) -> About:
    model, classifies = served.config.model, isinstance(served, Predictor)
    return About(
        name=name,
        task=served.config.task.kind,
        labels=served.names if isinstance(served, Predictor) else [],
        several=isinstance(served, Predictor) and served.several,
        streams=classifies and not model.bidirectional,
        cell=model.cell.kind,
        kernel=served.kernel[0],
    )


def _json(value: Any, status: int = 200) -> Response:
    return Response(_bytes(value), status, media_type="application/json")


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _problem_of(error: Exception) -> Problem:
    """Whatever a route raised. Raises it again where it is a bug."""
    match error:
        case Problem():
            return error
        case Refused():
            code, status = ("slow", 503) if isinstance(error, TooLate) else ("full", 429)
            return Problem(status, code, str(error), retry_after=str(error.after))
        case RequestValidationError():
            return Problem(422, "invalid", _what_is_wrong(error))
        case HTTPException():
            problem = Problem(error.status_code, "route", str(error.detail))
            problem.headers |= {name.lower(): value for name, value in (error.headers or {}).items()}
            return problem
        case DataError() | UsageError():
            return Problem(422, "invalid", str(error))
        case _:
            raise error


async def _problem(_: Request, error: Exception) -> Response:
    problem = _problem_of(error)
    return Response(problem.body(), problem.status, problem.headers, "application/problem+json")


async def _bug(request: Request, _: Exception) -> Response:
    """Starlette raises the error again behind this answer, and the gate logs it."""
    problem = bug(request.scope["echoic.id"])
    return Response(problem.body(), problem.status, problem.headers, "application/problem+json")


def _what_is_wrong(error: RequestValidationError) -> str:
    """The first mistake: where, what, the limit, and how long what was given is; never what was given."""
    first = error.errors()[0]
    where = "/" + "/".join(show(part, 40) for part in first["loc"][1:])
    given = first.get("input")
    size = f" (got {len(given):,})" if "too_long" in first["type"] and hasattr(given, "__len__") else ""
    return f"{where}: {first['msg']}{size}"


assert set(Explain.model_fields["method"].annotation.__args__) == set(METHODS)  # type: ignore[union-attr]
