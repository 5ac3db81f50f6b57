"""Is the file the network? Asked of random ragged batches, before anything is written.

The batches hold texts of one token and of more than a segment, tokens drawn from all and from few (so that
n-grams come again), and columns of padding that no text needs. Torch answers, ONNX Runtime answers, and
the largest difference is what counts (`apart`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echoic.core.errors import CheckFailed
from echoic.core.types import EMPTY
from echoic.export.sealed import session

TOLERANCE = 1e-5
BATCHES = 12
LONGEST = 640
"""Tokens of a text in a batch, at most, unless two segments are shorter."""

Array = NDArray[Any]
Given = dict[str, Array]


def largest_difference(
    task: Any, network: torch.nn.Module, data: bytes, *, states: bool, batches: int = BATCHES, seed: int = 0
) -> float:
    """Over `batches` random batches, between the network and the file's bytes."""
    runtime, model = session(data), task.config.model
    vocabulary = len(task.text.vocabulary)
    found = 0.0
    for ids, lengths in ragged(vocabulary, model.segment, batches, seed, whole=not (states or task.streams)):
        with torch.inference_mode():
            if task.streams:
                each = _language(runtime, network, ids, lengths)
            elif states:
                each = _in_pieces(runtime, task, network, ids, lengths)
            else:
                each = _whole(runtime, task, network, ids, lengths)
        found = max(found, each)
    return found


def difference_of_translators(
    task: Any, network: Any, files: Mapping[str, bytes], *, batches: int = BATCHES, seed: int = 0
) -> float:
    """As `largest_difference`, of {"encoder", "step"}: the sources read, then three tokens written."""
    runtimes = {part: session(data) for part, data in files.items()}
    vocabulary, found = len(task.text.vocabulary), 0.0
    for number, (ids, lengths) in enumerate(ragged(vocabulary, LONGEST, batches, seed, whole=False)):
        with torch.inference_mode():
            memory = network.read(torch.from_numpy(ids), torch.from_numpy(lengths))
            state, valid = network.begin(memory), memory.valid.numpy()
            for given, answers in written(task, runtimes, ids, lengths, seed + number):
                if "keys" in given:
                    keys = [(given["keys"], memory.keys), (given.get("projected", given["keys"]), memory.projected)]
                    found = max([found, *(apart(got[valid], want.numpy()[valid]) for got, want in keys)])
                owner = torch.from_numpy(given["owner"])
                state = _taken(state, owner)
                x = network.target(torch.from_numpy(given["ids"])[:, None])
                told, weights, state = network.advance(x, state)
                weights = None if weights is None else weights[:, 0]
                want = network.logits(told[:, 0], weights, memory.sources[owner])
                found = max(found, apart(answers["logits"], want.numpy()))
                if weights is not None:
                    found = max(found, apart(answers["attention"], weights.numpy()))
                for name, states in (("below", state.below), ("above", state.above)):
                    found = max([found, *_states_apart(answers, states, f"{name}.")])
    return found


def _taken(state: Any, owner: torch.Tensor) -> Any:
    """The hypotheses as they stand, or, of the first step's one a source, a copy for each that begins there."""
    if len(owner) == len(state.owner):
        return state
    below, above = ([type(s)(*(t[owner] for t in s)) for s in each] for each in (state.below, state.above))
    return state._replace(owner=owner, below=below, above=above, context=state.context[owner])


def written(
    task: Any, runtimes: Mapping[str, Any], ids: Array, lengths: Array, seed: int, steps: int = 3
) -> Iterator[tuple[Given, Given]]:
    """What the step's graph is given and what it answers, of hypotheses that write drawn tokens: one or two a source."""
    draws = np.random.default_rng(seed)
    encoder, step = ([each.name for each in runtimes[part].get_outputs()] for part in ("encoder", "step"))
    wanted = {each.name for each in runtimes["step"].get_inputs()}
    answers = dict(zip(encoder, runtimes["encoder"].run(encoder, {"ids": ids, "lengths": lengths}), strict=True))
    owner = np.repeat(np.arange(len(ids)), draws.integers(1, 3, len(ids)))
    fixed = {"owner": owner, "lengths": lengths, "sources": ids, **answers}
    states = {name: state[owner] for name, state in after(encoder, [answers[name] for name in encoder]).items()}
    for number in range(steps):
        drawn = draws.integers(1, len(task.written.vocabulary), len(owner)) if number else np.full(len(owner), EMPTY)
        given = {name: each for name, each in {**fixed, **states, "ids": drawn}.items() if name in wanted}
        found = runtimes["step"].run(step, given)
        yield given | {"owner": owner}, dict(zip(step, found, strict=True))
        states = after(step, found)


def require(difference: float, tolerance: float = TOLERANCE) -> None:
    """Raises CheckFailed."""
    if not difference <= tolerance:
        raise CheckFailed(
            f"the ONNX file answers otherwise than the bundle, by {difference:.1e} (at most {tolerance:.0e}): "
            "nothing was written"
        )


def ragged(vocabulary: int, segment: int, count: int, seed: int, *, whole: bool) -> Iterator[tuple[Array, Array]]:
    """(B, T) ids, (B,) lengths. whole: some texts are longer than a segment, if that is not beyond reason."""
    draws = np.random.default_rng(seed)
    longest = min(2 * segment + 5, LONGEST) if whole else min(segment, 40)
    for number in range(count):
        rows = int(draws.integers(1, 8)) if number % 4 else 2
        steps = 1 if number == 1 else longest if number % 4 == 0 else int(draws.integers(2, min(40, longest) + 1))
        lengths = draws.integers(1, steps + 1, rows)
        few = draws.integers(1, vocabulary, 5)
        ids = draws.choice(few, (rows, steps)) if number % 2 else draws.integers(1, vocabulary, (rows, steps))
        ids = np.where(np.arange(steps) < lengths[:, None], ids, 0)
        spare = int(draws.integers(0, 3))
        yield np.pad(ids, ((0, 0), (0, spare))).astype(np.int64), lengths.astype(np.int64)


def zeros(runtime: Any, rows: int) -> Given:
    """The states that begin a text."""
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    return {
        each.name: np.zeros((rows, each.shape[1]), kinds[each.type])
        for each in runtime.get_inputs()
        if each.name.startswith("state.")
    }


def after(names: list[str], answers: list[Array]) -> Given:
    """The states to give next."""
    return {f"state.{n.removeprefix('next.')}": a for n, a in zip(names, answers, strict=True) if n.startswith("next.")}


def apart(got: Array, want: Array) -> float:
    """The largest difference, of the largest number if that is above 1; infinite where one is not finite."""
    if got.shape != want.shape or not (np.isfinite(got).all() and np.isfinite(want).all()):
        return float("inf")
    return float(np.abs(got - want).max(initial=0) / max(1.0, float(np.abs(want).max(initial=0))))


def _whole(runtime: Any, task: Any, network: Any, ids: Array, lengths: Array) -> float:
    want = network(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
    probabilities, logits = runtime.run(["probabilities", "logits"], {"ids": ids, "lengths": lengths})
    return max(apart(logits, want), apart(probabilities, task.probabilities(want)))


def _in_pieces(runtime: Any, task: Any, network: Any, ids: Array, lengths: Array) -> float:
    """Each text in two pieces, those of one token in one, against the whole."""
    names = [each.name for each in runtime.get_outputs()]
    want = network(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
    first = lengths // 2
    rows = np.flatnonzero(first)
    states = zeros(runtime, len(ids))
    if len(rows):
        answers = runtime.run(names, {"ids": ids[rows], "lengths": first[rows], **zeros(runtime, len(rows))})
        for name, state in after(names, answers).items():
            states[name][rows] = state
    left = lengths - first
    rest = np.zeros((len(ids), int(left.max())), np.int64)
    for row, (start, count) in enumerate(zip(first, left, strict=True)):
        rest[row, :count] = ids[row, start : start + count]
    answers = dict(zip(names, runtime.run(names, {"ids": rest, "lengths": left, **states}), strict=True))
    _, last = network.stack(network.embed(torch.from_numpy(ids)), torch.from_numpy(lengths))
    probabilities = apart(answers["probabilities"], task.probabilities(want))
    return max(apart(answers["logits"], want), probabilities, *_states_apart(answers, last))


def _language(runtime: Any, network: Any, ids: Array, lengths: Array) -> float:
    """Twice: from the beginning, and on from there."""
    names = [each.name for each in runtime.get_outputs()]
    given, found = zeros(runtime, len(ids)), 0.0
    before: Any = None
    valid = np.arange(ids.shape[1]) < lengths[:, None]
    for _ in range(2):
        h, before = network.read(torch.from_numpy(ids), torch.from_numpy(lengths), before, None)
        answers = runtime.run(names, {"ids": ids, "lengths": lengths, **given})
        named = dict(zip(names, answers, strict=True))
        want = network.logits(h).numpy()
        found = max([found, apart(named["logits"][valid], want[valid]), *_states_apart(named, before)])
        given = after(names, answers)
    return found


def _states_apart(answers: Given, states: list[Any], of: str = "") -> list[float]:
    return [
        apart(answers[f"next.{of}{number}.{field}"], value.numpy())
        for number, state in enumerate(states)
        for field, value in state._asdict().items()
    ]
