"""The queue: what waits goes together, is bounded, has a deadline, and is left by clients that leave."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from echoic.serve import batching
from echoic.serve.batching import Batcher, Full, TooLate
from echoic.serve.gate import Gate, Rules
from echoic.serve.metrics import Metrics


class Slow:
    """A predictor that answers each text with its length, when it is let."""

    def __init__(self) -> None:
        self.may, self.begun, self.batches = threading.Event(), threading.Event(), list[list[str]]()

    def logits(self, texts: list[str]) -> np.ndarray:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.may.wait(30)
        return np.array([[len(text)] for text in texts], np.float32)


def run(work: Any) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(whole())


async def begun(slow: Slow) -> None:
    assert await asyncio.to_thread(slow.begun.wait, 30)


def test_what_waits_is_computed_together() -> None:
    async def work() -> None:
        slow, batcher, seen = Slow(), Batcher(), list[int]()
        batcher.seen = seen.append
        batcher.start()
        other = Slow()
        other.may.set()
        asked = [asyncio.create_task(batcher.logits(slow, ["x"]))]
        await begun(slow)
        asked += [asyncio.create_task(batcher.logits(slow, ["y" * i] * i)) for i in (1, 2, 3)]
        asked.append(asyncio.create_task(batcher.logits(other, ["zz"])))
        asked.append(asyncio.create_task(batcher.logits(slow, [])))
        called = asyncio.create_task(batcher.call(lambda: "by itself", 1))
        await asyncio.sleep(0)
        assert len(batcher.waiting) == 6
        slow.may.set()
        found = [each[:, 0].tolist() for each in await asyncio.gather(*asked)]
        assert found == [[1], [1], [2, 2], [3, 3, 3], [2], []]
        assert await called == "by itself"
        assert slow.batches == [["x"], ["y", "yy", "yy", "yyy", "yyy", "yyy"]]
        assert seen == [1, 6, 1]
        await batcher.stop()

    run(work)


def test_the_queue_is_bounded() -> None:
    async def work() -> None:
        slow, batcher = Slow(), Batcher(most_waiting=2, most_characters=100)
        batcher.start()
        asked = [asyncio.create_task(batcher.logits(slow, ["x"]))]
        await begun(slow)
        asked += [asyncio.create_task(batcher.logits(slow, ["y" * 60]))]
        await asyncio.sleep(0)
        with pytest.raises(Full) as full:
            await batcher.logits(slow, ["z" * 50])
        assert full.value.after >= 1
        asked += [asyncio.create_task(batcher.logits(slow, ["z"]))]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.call(lambda: None, 0)
        slow.may.set()
        assert [len(each) for each in await asyncio.gather(*asked)] == [1, 1, 1]
        assert (len(batcher.waiting), batcher.characters) == (0, 0)
        await batcher.stop()

    run(work)


def test_a_deadline_and_a_client_that_leaves() -> None:
    async def work() -> None:
        slow, batcher = Slow(), Batcher(seconds=0.05)
        batcher.start()
        first = asyncio.create_task(batcher.logits(slow, ["x"]))
        await begun(slow)
        second = asyncio.create_task(batcher.logits(slow, ["y"]))
        third = asyncio.create_task(batcher.logits(slow, ["z"]))
        await asyncio.sleep(0)
        third.cancel()
        with pytest.raises(TooLate):
            await second
        with pytest.raises(TooLate):
            await first
        assert not batcher.waiting
        slow.may.set()
        assert (await batcher.logits(slow, ["ww"]))[0, 0] == 2
        assert slow.batches == [["x"], ["ww"]]
        await batcher.stop()

    run(work)


def test_one_failure_is_told_to_those_it_concerns() -> None:
    async def work() -> None:
        batcher = Batcher()
        batcher.start()

        def broken() -> None:
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            await batcher.call(broken, 1)
        assert await batcher.call(lambda: 1, 1) == 1
        await batcher.stop()

    run(work)


# The gate, with clients made by hand


def asked(gate: Gate, messages: list[dict[str, Any]], path: str = "/x") -> list[dict[str, Any]]:
    """What the gate sends to a client that sends these messages and then nothing."""
    sent: list[dict[str, Any]] = []

    async def work() -> None:
        async def receive() -> Any:
            if not messages:
                await asyncio.Event().wait()
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost:1"), (b"content-type", b"application/json")]
        await gate({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)

    run(work)
    return sent


def test_a_body_that_does_not_come_is_408() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("asked although there is no body")

    log: list[str] = []
    gate = Gate(app, Rules(1, body_seconds=0.02), Metrics(), ["/x"], log.append)
    start = asked(gate, [{"type": "http.request", "body": b"{", "more_body": True}])[0]
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]


def test_a_client_that_leaves_is_not_worked_for() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    log: list[str] = []
    gate = Gate(app, Rules(1), Metrics(), ["/x"], log.append)
    assert asked(gate, [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]) == []
    assert ended == ["cancelled"]
    assert '"status": 499' in log[0]


def test_what_has_begun_is_not_refused() -> None:
    async def work() -> None:
        batcher = Batcher(most_waiting=1)
        first = asyncio.create_task(batcher.call(lambda: 1, 0))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher.call(lambda: 2, 0)
        going_on = asyncio.create_task(batcher.call(lambda: 3, 0, begun=True))
        await asyncio.sleep(0)
        batcher.start()
        assert (await first, await going_on) == (1, 3)
        await batcher.stop()

    run(work)


def test_a_panic_of_a_library_is_told_and_the_next_job_is_computed() -> None:
    class Panic(BaseException):
        pass

    def panics() -> None:
        raise Panic("at the worst moment")

    async def work() -> None:
        batcher = Batcher()
        batcher.start()
        with pytest.raises(RuntimeError, match="Panic: at the worst moment"):
            await batcher.call(panics, 1)
        assert await batcher.call(lambda: 1, 1) == 1
        assert batcher.works
        await batcher.stop()
        assert not batcher.works

    run(work)


def test_leaving_waits_for_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LAST_SECONDS", 0.05)

    async def work() -> None:
        slow, batcher = Slow(), Batcher()
        batcher.start()
        asked = asyncio.create_task(batcher.logits(slow, ["x"]))
        await begun(slow)
        await batcher.stop()
        asked.cancel()
        slow.may.set()

    run(work)
