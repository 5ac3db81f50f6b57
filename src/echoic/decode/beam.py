"""Searching for the best sequences: greedy is a beam of one, several rows at once, nothing finished computed.

    found = search(step, take, state, limits, Search(beam=5))       found[row][0] is the best of that row

`step` is a pure function, as for sampling: the ids that were just chosen and the state before them give
the logits of what comes next. A row may stand in it several times, once for each hypothesis that is
still alive; `take(state, places)` gives the state of those hypotheses. What has ended is left out of
the next step, so that neither a finished hypothesis nor padding is computed on.

    log p(Y) = sum_t log p(y_t | y_<t)                          the score of a sequence under the network
    lp(Y)    = ((5 + |Y|) / 6)^alpha                            Wu et al. 2016, eq. 14; |Y| counts the end
    cp(Y)    = beta * sum_j log(min(sum_t a_tj, 1))             the same; a_tj: attention of step t to source j
    rank by    log p(Y) / lp(Y) + cp(Y)

Of each row the best `beam` of all continuations that do not end are gone on with; those that end are
finished if they are among the best `beam`; a row is done when so many are finished. Constraints (limits, forbidden
tokens, a forced prefix, no repeated n-gram) take continuations away and leave log p as the network says it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from echoic.core.errors import DataError, UsageError, show
from echoic.core.types import EMPTY
from echoic.decode.sampling import How, State, choose, softmax
from echoic.kernels.linear import Pending, likeliest

Logits = np.ndarray | Pending
"""(N, V) float32, perhaps not multiplied yet."""

Step = Callable[[np.ndarray, State], tuple[Logits, np.ndarray | None, State]]
"""(ids (N,) int64, the state before them) -> (what comes next, attention (N, S) or None, the state)."""

NO_NUMBERS = "the model's answers are no numbers; its training diverged, or it is damaged"

Take = Callable[[State, np.ndarray], State]
"""(state, places (M,) int64) -> the state of those hypotheses, in that order."""


@dataclass(frozen=True)
class Search:
    """How to search. Raises UsageError for a number that makes no sense."""

    beam: int = 5
    """Hypotheses kept of each row; 1 is greedy."""
    length_penalty: float = 1.0
    """alpha: 0 ranks by log p, which favours short sequences."""
    coverage_penalty: float = 0.0
    """beta: above 0 punishes source tokens that were not attended to; needs a step that gives attention."""
    no_repeat: int = 0
    """No n-gram of this many tokens stands twice in a sequence; 0: any may."""
    forbidden: tuple[int, ...] = ()
    """Tokens that are never written."""
    begin: int = EMPTY
    end: int = EMPTY

    def __post_init__(self) -> None:
        wanted = {
            "beam": (self.beam >= 1, "of at least 1 (1 is greedy)"),
            "length-penalty": (0 <= self.length_penalty < np.inf, "0 or above"),
            "coverage-penalty": (0 <= self.coverage_penalty < np.inf, "0 or above"),
            "no-repeat": (self.no_repeat >= 0, "0 (any n-gram may be repeated) or above"),
        }
        for name, (right, what) in wanted.items():
            if not right:
                raise UsageError(f"{name} {show(getattr(self, name.replace('-', '_')))}: wants a number {what}")


@dataclass(frozen=True)
class Found:
    """A sequence that was found."""

    ids: tuple[int, ...]
    """Without the beginning and the end."""
    log_p: float
    """Of its tokens and of the end, which its limit may have forced."""
    score: float
    """What it is ranked by."""
    ended: bool
    """Whether it ended before its limit."""


@dataclass
class _Alive:
    """N hypotheses that go on, of rows in rising order."""

    row: np.ndarray
    """(N,) which row each belongs to."""
    ids: np.ndarray
    """(N, 1 + t) what was chosen so far, the beginning first."""
    log_p: np.ndarray
    """(N,) float64."""
    attended: np.ndarray | None = None
    """(N, S) the sum of the attention so far."""

    def of(self, which: np.ndarray) -> _Alive:
        return _Alive(
            self.row[which],
            self.ids[which],
            self.log_p[which],
            None if self.attended is None else self.attended[which],
        )


def search(
    step: Step,
    take: Take,
    state: State,
    limits: np.ndarray,
    how: Search,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Found]]:
    """For each row up to `beam` sequences, the best first. Raises DataError where logits are no numbers.

    state: of the R rows, before the beginning is read. limits (R,): tokens that are written at most, the
    end not counted. prefixes: what each row's sequences must begin with.
    """
    rows = len(limits)
    alive = _Alive(np.arange(rows), np.full((rows, 1), how.begin, np.int64), np.zeros(rows))
    found: list[list[Found]] = [[] for _ in range(rows)]
    while len(alive.row):
        logits, attention, state = step(alive.ids[:, -1], state)
        if attention is not None and how.coverage_penalty:
            alive.attended = attention if alive.attended is None else alive.attended + attention
        place, token, log_p = _best(logits, alive, how, limits, prefixes)
        places, tokens, scores = _sort_out(alive, place, token, log_p, found, how, limits)
        alive = replace(alive.of(places), log_p=scores)
        alive.ids = np.concatenate([alive.ids, tokens[:, None]], 1)
        if len(places):
            state = take(state, places)
    return [sorted(each, key=lambda one: -one.score)[: how.beam] for each in found]


def _best(
    logits: Logits, alive: _Alive, how: Search, limits: np.ndarray, prefixes: Sequence[Sequence[int]] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M,) candidates: the place of the hypothesis each goes on from, its token, its log p; of every hypothesis
    the best 2 `beam` that are allowed, or a few more."""
    never = list(how.forbidden)
    held = _held(alive, how, limits, prefixes)
    if held.any():
        logits = np.asarray(logits)  # they are looked at again
    values, tokens, norm = likeliest(logits, 2 * how.beam + len(never))
    if not np.isfinite(norm).all():
        raise DataError(NO_NUMBERS)
    values[np.isin(tokens, never)] = -np.inf
    if held.any():
        allowed = _constrained(np.asarray(logits)[held], alive.of(held), how, limits, prefixes)
        values[held], tokens[held], _ = likeliest(allowed, values.shape[1])
    log_p = alive.log_p[:, None] + (values.astype(np.float64) - norm[:, None])
    place, column = np.nonzero(np.isfinite(log_p))
    return place, tokens[place, column], log_p[place, column]


def _held(alive: _Alive, how: Search, limits: np.ndarray, prefixes: Sequence[Sequence[int]] | None) -> np.ndarray:
    """(N,) which hypotheses have more tokens taken away than the forbidden ones."""
    t = alive.ids.shape[1] - 1
    held = (limits[alive.row] <= t) | (0 < how.no_repeat <= t)
    if prefixes is not None:
        held |= np.array([len(each) > t for each in prefixes])[alive.row]
    return np.asarray(held)


def _constrained(
    logits: np.ndarray, alive: _Alive, how: Search, limits: np.ndarray, prefixes: Sequence[Sequence[int]] | None
) -> np.ndarray:
    """The logits, -inf where a token may not stand. At its limit a sequence may only end."""
    t = alive.ids.shape[1] - 1
    out = logits.copy()
    out[:, list(how.forbidden)] = -np.inf
    full = limits[alive.row] <= t
    if full.any():
        kept = out[full, how.end].copy()
        out[full] = -np.inf
        out[full, how.end] = kept
    if how.no_repeat:
        for place, ids in enumerate(alive.ids[:, 1:].tolist()):
            out[place, [token for token in _repeating(ids, how.no_repeat) if token != how.end]] = -np.inf
    if prefixes is not None:
        for place, row in enumerate(alive.row.tolist()):
            if t < len(prefixes[row]):
                kept = logits[place, prefixes[row][t]]
                out[place] = -np.inf
                out[place, prefixes[row][t]] = kept
    return out


def _repeating(ids: Sequence[int], n: int) -> list[int]:
    """The tokens that would make the last n - 1 of `ids` an n-gram that stands in it already."""
    last = tuple(ids[len(ids) - n + 1 :]) if n > 1 else ()
    if len(last) < n - 1:
        return []
    return [ids[i + n - 1] for i in range(len(ids) - n + 1) if tuple(ids[i : i + n - 1]) == last]


def _sort_out(
    alive: _Alive,
    place: np.ndarray,
    token: np.ndarray,
    log_p: np.ndarray,
    found: list[list[Found]],
    how: Search,
    limits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates, row by row: those that end go into `found`; of the others (place, token, log p) of those that go on."""
    row = alive.row[place]
    order = np.lexsort((token, place, -log_p, row))
    place, token, log_p, row = place[order], token[order], log_p[order], row[order]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    rank = np.arange(len(row)) - np.repeat(starts, np.diff(starts, append=len(row)))
    ends = token == how.end
    for i in np.flatnonzero(ends & (rank < how.beam)):
        found[row[i]].append(_finished(alive, int(place[i]), float(log_p[i]), how, limits))
    done = np.array([len(each) >= how.beam for each in found])
    on = np.flatnonzero(~ends & ~done[row])
    starts = np.flatnonzero(np.diff(row[on], prepend=-1))
    rank = np.arange(len(on)) - np.repeat(starts, np.diff(starts, append=len(on)))
    on = on[rank < how.beam]
    return place[on], token[on], log_p[on]


def _finished(alive: _Alive, place: int, log_p: float, how: Search, limits: np.ndarray) -> Found:
    ids = tuple(alive.ids[place, 1:].tolist())
    attended = None if alive.attended is None else alive.attended[place]
    return Found(ids, log_p, ranked(log_p, len(ids) + 1, attended, how), len(ids) < limits[alive.row[place]])


def ranked(log_p: float, length: int, attended: np.ndarray | None, how: Search) -> float:
    """log p / lp + cp of a sequence of `length` tokens, the end counted. attended (S,): the sum of its attention,
    0 on padding."""
    score = log_p / ((5 + length) / 6) ** how.length_penalty
    if attended is not None and how.coverage_penalty:
        real = attended[attended > 0]
        score += how.coverage_penalty * float(np.log(np.minimum(real, 1.0)).sum())
    return float(score)


def draw(
    step: Step,
    take: Take,
    state: State,
    limits: np.ndarray,
    how: Search,
    chance: How,
    draws: Sequence[np.random.Generator],
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Found]]:
    """One sequence a row, drawn as `sampling.choose` draws, each row with its own generator; limits, prefixes and
    constraints as for `search`, and so is the score."""
    alive = _Alive(np.arange(len(limits)), np.full((len(limits), 1), how.begin, np.int64), np.zeros(len(limits)))
    found: list[list[Found]] = [[] for _ in limits]
    while len(alive.row):
        told, _, state = step(alive.ids[:, -1], state)
        logits = np.asarray(told)
        allowed = _constrained(logits, alive, how, limits, prefixes)
        token = choose(allowed, np.zeros((1, 1), bool), chance, [draws[row] for row in alive.row])
        log_p = alive.log_p + np.log(softmax(logits.astype(np.float64))[np.arange(len(token)), token])
        if not np.isfinite(log_p).all():
            raise DataError(NO_NUMBERS)
        for i in np.flatnonzero(token == how.end):
            found[alive.row[i]].append(_finished(alive, int(i), float(log_p[i]), how, limits))
        on = np.flatnonzero(token != how.end)
        alive = _Alive(alive.row[on], np.concatenate([alive.ids[on], token[on, None]], 1), log_p[on])
        if len(on):
            state = take(state, on)
    return found
