"""The server under load: held, overloaded, and how much HTTP costs one text.

    python benchmarks/serve.py RUN FILE [--clients 100 --flood 500 --seconds 20] [--save NAME]

`echoic serve RUN` runs as a process of its own; the clients are this one, by asyncio, and take their share of the
same processor, so a rate is a lower bound. Each client keeps its connection and asks one text of FILE at a time.

held      as many clients as --clients; every answer is compared with the predictor's own
flood     as many as --flood, who ask again at once whatever they were told; what is answered, refused and how
after     the held load once more with a tenth of the clients, from the moment the flood ends
one       a lone client and the predictor called directly, by turns
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import record
from echoic.core.config import DataConfig
from echoic.read.tables import stream_texts
from echoic.serve.predictor import Predictor, open_predictor

HOST = "127.0.0.1"
NEAR = 1e-5
"""A probability's largest difference from the offline one."""


class Connection:
    """HTTP/1.1, kept alive."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        if self.streams is None:
            self.streams = await asyncio.open_connection(HOST, self.port)
        reader, writer = self.streams
        head = f"{method} {path} HTTP/1.1\r\nhost: {HOST}:{self.port}\r\ncontent-length: {len(body)}\r\n"
        kind = "content-type: application/json\r\n" if body else ""
        writer.write(f"{head}{kind}\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        answer = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), headers, answer

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


@dataclass
class Load:
    """What clients saw."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    broken: int = 0
    """Connections that ended without an answer."""
    wrong: int = 0
    """Answers that are not the offline ones."""
    rude: int = 0
    """Refusals without Retry-After in whole seconds, or that are no problem in JSON."""

    def facts(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "texts_a_second": round(len(self.answered) / self.seconds, 1),
            "answered_ms": quantiles(self.answered),
            "refused_ms": quantiles(self.refused),
            "healthz_ms": quantiles(self.health),
            "broken": self.broken,
            "wrong": self.wrong,
            "refusals_without_retry_after": self.rude,
        }


def quantiles(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    every = sorted(seconds)
    return {name: round(1e3 * every[int(share * (len(every) - 1))], 2) for name, share in (("p50", 0.5), ("p99", 0.99))}


def body_of(text: str) -> bytes:
    return json.dumps({"texts": [text]}).encode()


async def client(
    port: int, number: int, bodies: list[bytes], wanted: list[dict[str, float]], end: float, seen: Load
) -> None:
    connection, i = Connection(port), number * 7919
    while time.perf_counter() < end:
        i = (i + 1) % len(bodies)
        start = time.perf_counter()
        try:
            status, headers, answer = await connection.ask("POST", "/v1/predict", bodies[i])
        except (OSError, asyncio.IncompleteReadError):
            seen.broken += 1
            connection.close()
            continue
        taken = time.perf_counter() - start
        seen.statuses[status] += 1
        if status == 200:
            seen.answered.append(taken)
            found = json.loads(answer)["predictions"][0]["probabilities"]
            seen.wrong += max(abs(found[name] - p) for name, p in wanted[i].items()) > NEAR
        else:
            seen.refused.append(taken)
            polite = headers.get("retry-after", "").isdigit() and "problem+json" in headers.get("content-type", "")
            seen.rude += not polite
            await asyncio.sleep(0)
    connection.close()


async def watch(port: int, end: float, seen: Load) -> None:
    connection = Connection(port)
    while time.perf_counter() < end:
        start = time.perf_counter()
        await connection.ask("GET", "/healthz")
        seen.health.append(time.perf_counter() - start)
        await asyncio.sleep(0.1)
    connection.close()


async def load(port: int, clients: int, seconds: float, bodies: list[bytes], wanted: list[dict[str, float]]) -> Load:
    seen, start = Load(), time.perf_counter()
    end = start + seconds
    everybody = [client(port, number, bodies, wanted, end, seen) for number in range(clients)]
    await asyncio.gather(*everybody, watch(port, end, seen))
    seen.seconds = time.perf_counter() - start
    return seen


async def lone(port: int, predictor: Predictor, texts: list[str], rounds: int) -> dict[str, Any]:
    connection, direct, served = Connection(port), [], []
    for i in range(rounds + 3):
        text = texts[i % len(texts)]
        start = time.perf_counter()
        predictor.predict([text])
        middle = time.perf_counter()
        status, _, _ = await connection.ask("POST", "/v1/predict", body_of(text))
        done = time.perf_counter()
        if status != 200:
            raise SystemExit(f"a lone client was answered {status}")
        if i >= 3:
            direct.append(middle - start)
            served.append(done - middle)
    connection.close()
    found = {"predictor_ms": 1e3 * statistics.median(direct), "served_ms": 1e3 * statistics.median(served)}
    return {**{name: round(ms, 3) for name, ms in found.items()}, "rounds": rounds}


async def programme(port: int, predictor: Predictor, texts: list[str], given: argparse.Namespace) -> dict[str, Any]:
    bodies = [body_of(text) for text in texts]
    wanted = [answer.probabilities for answer in predictor.predict(texts)]
    one = await lone(port, predictor, texts, given.rounds)
    facts: dict[str, Any] = {"one": one}
    for name, clients, seconds in (
        ("held", given.clients, given.seconds),
        ("before", max(1, given.clients // 10), given.seconds / 4),
        ("flood", given.flood, given.seconds),
        ("after", max(1, given.clients // 10), 5.0),
    ):
        facts[name] = {"clients": clients, **(await load(port, clients, seconds, bodies, wanted)).facts()}
        print(name, facts[name], flush=True)
    return facts


def memory(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("file")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--flood", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--save", metavar="NAME", help="keep the figures as results/serve/NAME.json")
    given = parser.parse_args()
    texts = [each.input for each in islice(stream_texts(given.file, DataConfig()), given.texts)]
    predictor = open_predictor(given.run)
    code = "from echoic.cli.main import run; run()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, "serve", given.run, "--port", "0", "--json", "--quiet"], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        before = memory(server.pid)
        facts = asyncio.run(programme(port, predictor, texts, given))
        facts |= {"memory_mib": {"before": before >> 10, "after": memory(server.pid) >> 10}}
    finally:
        server.terminate()
        facts_rc = server.wait(30)
    facts |= {"texts": len(texts), "kernel": predictor.kernel[0], "exit": facts_rc}
    if given.save:
        print(record.save(f"serve/{given.save}", facts))
    print(record.text(facts))


if __name__ == "__main__":
    main()
