"""From tokens to text as it is written: several samples at once, stopped by a string, gone on with at will.

    writer = Writer(step, decode, prompt_ids, How(temperature=0.8), seed=0, samples=3)
    writer.write(100); writer.write(100)     the same texts as writer.write(200)
    writer.texts

A character that takes several tokens (bytes, pieces of them) appears when it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from echoic.core.types import EMPTY, PAD
from echoic.decode import beam
from echoic.decode.sampling import How, State, Step, before_stop, begin, generators, settled, write

PIECES = 4
"""Bytes of the longest character in UTF-8: a broken one that is older than this is not waited for."""
BROKEN = "\ufffd"
WEIGHED = 64
"""Tokens whose nats are counted together."""


@dataclass
class _Sample:
    tail: list[int]
    """The tokens settled last: what stands between words depends on them."""
    pending: list[int] = field(default_factory=list)
    text: str = ""
    tokens: int = 0
    nats: float = 0.0
    unweighed: list[tuple[np.ndarray, int]] = field(default_factory=list)
    """Logits and the token that was taken, whose nats are not in `nats` yet."""
    done: bool = False

    def weigh(self) -> None:
        """Many at once, since one at a time would take as long as choosing them did."""
        if self.unweighed:
            logits = np.array([row for row, _ in self.unweighed], np.float64)
            said = logits[np.arange(len(logits)), [token for _, token in self.unweighed]]
            top = logits.max(1)
            self.nats += float((top + np.log(np.exp(logits - top[:, None]).sum(1)) - said).sum())
            self.unweighed.clear()


class Writer:
    """S continuations of one prompt. `texts` are the continuations so far, without the stop string; a
    sample is done when it met one, or wrote `<empty>`, which begins the next text in training."""

    def __init__(
        self,
        step: Step,
        decode: Callable[[Sequence[int]], str],
        prompt: np.ndarray,
        how: How,
        *,
        seed: int | np.random.Generator = 0,
        samples: int = 1,
        stop: Sequence[str] = (),
    ) -> None:
        self.step, self.decode, self.how, self.stop = step, decode, how, tuple(filter(None, stop))
        self.thread = begin(step, prompt, generators(seed, samples))
        last = [int(prompt[-1])] if prompt[-1] != EMPTY else []
        self.samples = [_Sample(list(last)) for _ in range(samples)]

    @property
    def texts(self) -> list[str]:
        return [sample.text for sample in self.samples]

    @property
    def done(self) -> bool:
        return all(sample.done for sample in self.samples)

    @property
    def perplexities(self) -> list[float]:
        """How surprising each sample is to the network itself, at temperature 1 and with nothing cut off."""
        for sample in self.samples:
            sample.weigh()
        return [float(np.exp(sample.nats / max(1, sample.tokens))) for sample in self.samples]

    def write(self, tokens: int) -> None:
        """Goes on by `tokens` tokens, fewer where all samples are done."""
        for _ in range(tokens):
            if self.done:
                return
            logits = self.thread.logits
            ids, self.thread = write(self.step, self.thread, self.how)
            for sample, token, row in zip(self.samples, ids.tolist(), logits, strict=True):
                if not sample.done:
                    sample.tokens += 1
                    sample.unweighed.append((row, token))
                    if len(sample.unweighed) == WEIGHED:
                        sample.weigh()
                    self._add(sample, token)

    def search(self, tokens: int, width: int) -> None:
        """Goes on by the likeliest `tokens` tokens that a beam of `width` hypotheses finds (decode/beam.py), fewer where
        a text may end; the first sample, where nothing was written yet. Nothing is drawn and nothing penalised."""

        def step(ids: np.ndarray, before: tuple[int, State] | None) -> tuple[np.ndarray, None, tuple[int, State]]:
            written, state = (0, self.thread.state) if before is None else before
            logits = self.thread.logits[:1] if before is None else None
            if logits is None:
                logits, state = self.step(ids[:, None], state)
            logits = np.array(logits, np.float32)
            if EMPTY in self.how.forbidden:  # the search writes it where a text is cut; what it has goes to padding
                logits[:, PAD] = np.logaddexp(logits[:, PAD], logits[:, EMPTY])
                logits[:, EMPTY] = -np.inf
            if written == tokens:  # it is cut here, which costs nothing
                logits[:] = -np.inf
                logits[:, EMPTY] = 0.0
            return logits, None, (written + 1, state)

        def take(state: tuple[int, State], places: np.ndarray) -> tuple[int, State]:
            return state[0], taken(state[1], places)

        never = tuple(token for token in self.how.forbidden if token != EMPTY)
        ((best, *_),) = beam.search(step, take, None, np.array([tokens]), beam.Search(width, forbidden=never))
        sample = self.samples[0]
        for token in best.ids:
            if not sample.done:
                self._add(sample, token)
        sample.tokens, sample.nats = len(best.ids) + best.ended, -best.log_p
        sample.done = sample.done or best.ended

    def stream(self, tokens: int, at_once: int = 1) -> Iterator[str]:
        """`tokens` tokens more of every sample, and the first one's text as it settles: a piece, which may be empty,
        after every `at_once` tokens."""
        (sample, *_), shown = self.samples, 0
        for start in range(0, tokens, at_once):
            self.write(min(at_once, tokens - start))
            end = len(sample.text) if sample.done else settled(sample.text, self.stop)
            yield sample.text[shown:end]
            shown = max(shown, end)
            if self.done:
                return
        yield sample.text[shown:]

    def _add(self, sample: _Sample, token: int) -> None:
        if token == EMPTY:
            sample.done = True
            return
        sample.pending.append(token)
        before = self.decode(sample.tail)
        piece = self.decode([*sample.tail, *sample.pending])[len(before) :]
        if piece.endswith(BROKEN) and len(sample.pending) < PIECES:
            return
        sample.tail, sample.pending = sample.pending, []
        sample.text, sample.done = before_stop(sample.text + piece, self.stop)


def taken(state: State, places: np.ndarray) -> State:
    """The rows at `places` of every array in a state, whatever holds them."""
    if not isinstance(state, list | tuple):
        return state[places]
    parts = [taken(each, places) for each in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
