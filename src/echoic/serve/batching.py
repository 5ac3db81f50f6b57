"""What waits is computed together: requests -> batches, on one thread, with a bounded queue and a deadline.

    batcher = Batcher(); await batcher.start()
    logits = await batcher.logits(predictor, texts)     joined with whatever else waits for the same predictor
    found = await batcher.call(function, cost)          by itself

Nothing waits for company: while a batch is computed the next one gathers, so that a lone request is as fast as the
predictor, and a crowd as fast as its batches. A request whose client has gone, or whose time is up, leaves the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echoic.core.errors import Unavailable
from echoic.serve.predictor import Predictor

MOST_WAITING = 64
MOST_CHARACTERS = 2_000_000
"""Of all that waits; a single request that finds nothing waiting is always taken."""
BATCH_TEXTS, BATCH_CHARACTERS = 256, 500_000
SECONDS = 30.0
"""How long a request may take, waiting included."""
LAST_SECONDS = 1.0


class Refused(Unavailable):
    """Not now; `after`: whole seconds until it is worth another try."""

    def __init__(self, what: str, after: int) -> None:
        super().__init__(what)
        self.after = after


class Full(Refused):
    """The queue is."""


class TooLate(Refused):
    """The deadline has passed."""


class Thread:
    """Computes one thing after another, beside the loop. The process need not wait for it in order to end."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._go, name="echoic", daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[], Any]) -> Any:
        """What it returns, or raises; of what is no Exception (a panic of a library's) a RuntimeError says it."""
        loop, future = asyncio.get_running_loop(), _future()

        def tell(settle: Callable[[Any], None], value: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lambda: None if future.done() else settle(value))

        def work() -> None:
            try:
                tell(future.set_result, function())
            except Exception as error:
                tell(future.set_exception, error)
            except BaseException as error:
                tell(future.set_exception, RuntimeError(f"{type(error).__name__}: {error}"))

        self._waiting.put(work)
        return await future

    async def stop(self, seconds: float) -> None:
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join, seconds)

    def _go(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()


@dataclass(eq=False)
class Job:
    cost: int
    """Characters."""
    future: asyncio.Future[Any]
    predictor: Predictor | None = None
    texts: Sequence[str] = ()
    function: Callable[[], Any] | None = None


class Batcher:
    def __init__(
        self,
        most_waiting: int = MOST_WAITING,
        most_characters: int = MOST_CHARACTERS,
        seconds: float = SECONDS,
        seen: Callable[[int], None] = lambda texts: None,
    ) -> None:
        """`seen` hears of every batch how many texts it held."""
        self.most_waiting, self.most_characters, self.seconds, self.seen = most_waiting, most_characters, seconds, seen
        self.waiting: deque[Job] = deque()
        self._some = asyncio.Event()
        self._thread = Thread()
        self._worker: asyncio.Task[None] | None = None
        self._pace = 0.01
        """Seconds that a job took lately."""

    def start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Waits for what is computed no longer than LAST_SECONDS: its client has had his time."""
        if self._worker is not None:
            self._worker.cancel()
        await self._thread.stop(LAST_SECONDS)

    @property
    def works(self) -> bool:
        return self._worker is not None and not self._worker.done()

    @property
    def characters(self) -> int:
        return sum(job.cost for job in self.waiting)

    async def logits(self, predictor: Predictor, texts: Sequence[str]) -> np.ndarray:
        """(N, C). Raises Full, TooLate, or what the predictor raises."""
        cost = sum(map(len, texts))
        found = await self._wait(Job(cost, _future(), predictor, texts))
        return np.asarray(found)

    async def call(self, function: Callable[[], Any], cost: int, begun: bool = False) -> Any:
        """What `function()` returns. Raises Full, TooLate, or what it raises. `begun`: it goes on with what had its
        place already, so it is never Full."""
        return await self._wait(Job(cost, _future(), function=function), begun)

    async def _wait(self, job: Job, begun: bool = False) -> Any:
        if (
            not begun
            and self.waiting
            and (len(self.waiting) >= self.most_waiting or self.characters + job.cost > self.most_characters)
        ):
            raise Full("the queue is full", max(1, math.ceil(self._pace * len(self.waiting))))
        self.waiting.append(job)
        self._some.set()
        try:
            return await asyncio.wait_for(job.future, self.seconds)
        except TimeoutError:
            raise TooLate(f"no answer within {self.seconds:g} seconds", 1) from None
        finally:
            if job in self.waiting:
                self.waiting.remove(job)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            if not self.waiting:
                self._some.clear()
                continue
            jobs = self._take()
            start = loop.time()
            try:
                results = await self._thread.run(lambda jobs=jobs: _compute(jobs))  # type: ignore[misc]
            except Exception as error:
                for job in jobs:
                    _settle(job.future.set_exception, job, error)
            else:
                for job, result in zip(jobs, results, strict=True):
                    _settle(job.future.set_result, job, result)
            self._pace = 0.8 * self._pace + 0.2 * (loop.time() - start) / len(jobs)

    def _take(self) -> list[Job]:
        """The oldest job, and those that can be computed with it."""
        jobs = [self.waiting.popleft()]
        if (predictor := jobs[0].predictor) is None:
            return jobs
        texts, cost = len(jobs[0].texts), jobs[0].cost
        for job in [job for job in self.waiting if job.predictor is predictor]:
            texts, cost = texts + len(job.texts), cost + job.cost
            if texts > BATCH_TEXTS or cost > BATCH_CHARACTERS:
                break
            self.waiting.remove(job)
            jobs.append(job)
        self.seen(sum(len(job.texts) for job in jobs))
        return jobs


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _compute(jobs: list[Job]) -> list[Any]:
    first = jobs[0]
    if first.predictor is None:
        assert first.function is not None
        return [first.function()]
    logits = first.predictor.logits([text for job in jobs for text in job.texts])
    ends = np.cumsum([len(job.texts) for job in jobs])
    return np.split(logits, ends[:-1])


def _settle(settle: Callable[[Any], None], job: Job, value: Any) -> None:
    if not job.future.done():
        settle(value)
