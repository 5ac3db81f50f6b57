"""`echoic probe`: is the cell right? Problems with a known outcome (`problems.py`), given to each cell.

A cell, trained by Adam with the gradient clipped at 1, and one linear layer on its output; every 100
updates it is asked 200 rows of a third kind, and stops where it solved them twice in a row. The score is of rows
drawn from another seed. Nothing here is tuned to a cell: what differs in a row of the table is the cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from echoic.core import registry
from echoic.core.errors import UsageError, nearest, show
from echoic.layers.stack import Stack
from echoic.ledger import Ledger
from echoic.problems import PROBLEMS, Problem, Samples

CLIP = 1.0
EVERY, WATCHED, TESTED = 100, 200, 1000
"""Updates between two looks, and the rows of a look and of the test."""
SHORT = {"peephole": ("lstm", {"peephole": True})}
"""Names of cells that are a kind and an option."""


@dataclass(frozen=True)
class Outcome:
    problem: str
    cell: str
    seed: int
    measure: str
    score: float
    chance: float
    solved: bool
    known: bool | None
    """Whether this kind of cell is known to solve it."""
    updates: int
    parameters: int
    seconds: float
    kernel: str

    @property
    def surprise(self) -> bool:
        return self.known is not None and self.known != self.solved


class Asked(nn.Module):
    """A cell and a linear layer: x (B, T, D) -> (B, T, C), or (B, T, 1) where a number is wanted."""

    def __init__(self, problem: Problem, kind: str, options: Mapping[str, Any], hidden: int, seed: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.stack = Stack(problem.features, hidden, cell=kind, options=options, generator=draws)
        self.stack.init_orthogonal(draws)
        self.out = nn.Linear(hidden, max(1, problem.classes), device="meta").to_empty(device="cpu")
        nn.init.xavier_uniform_(self.out.weight, generator=draws)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stack(x, want_state=False)[0])  # type: ignore[no-any-return]


def cell_named(name: str) -> tuple[str, dict[str, Any]]:
    """`gru` -> ("gru", {}); `peephole` -> ("lstm", {"peephole": True}). Raises UsageError for none of them."""
    known = {**{kind: (kind, {}) for kind in registry.names("cell")}, **SHORT}
    if name not in known:
        raise UsageError(f"there is no cell named {show(name)!r}{nearest(name, known)}")
    kind, options = known[name]
    return kind, dict(options)


def probe(
    cells: Sequence[str],
    problems: Sequence[str] | None = None,
    *,
    hidden: int = 64,
    updates: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Every problem (all) by every cell. updates: of each at most so many, instead of the problem's own number;
    of such a trial nothing is known.

    With `out` each outcome is kept in that file as it comes, and those that are there are not made again."""
    names = list(PROBLEMS if problems is None else problems)
    for name in names:
        if name not in PROBLEMS:
            raise UsageError(f"there is no problem named {show(name)!r}{nearest(name, PROBLEMS)}")
    kinds = {cell: cell_named(cell) for cell in cells}
    kept = Ledger.open(out, {"hidden": hidden, "updates": updates}, said)
    found = []
    for name in names:
        problem = PROBLEMS[name] if updates is None else replace(PROBLEMS[name], updates=updates, known={})
        for cell, (kind, options) in kinds.items():
            place = f"{name}/{cell}/{seed}"
            if place not in kept.pieces:
                kept.keep(place, asdict(ask(name, problem, cell, kind, options, hidden, seed)))
                told = Outcome(**kept.pieces[place])
                said(f"{name} by {cell}: {told.measure} {told.score:.4g} in {told.seconds:.0f} s")
            found.append(Outcome(**kept.pieces[place]))
    return found


def ask(
    name: str, problem: Problem, cell: str, kind: str, options: Mapping[str, Any], hidden: int, seed: int
) -> Outcome:
    """Trains the cell on the problem and tests it."""
    began = time.perf_counter()
    network = Asked(problem, kind, options, hidden, seed)
    made = _train(network, problem, seed)
    score = _score(network, problem, problem.test(TESTED, np.random.default_rng((seed, 2))))
    return Outcome(
        problem=name,
        cell=cell,
        seed=seed,
        measure=problem.measure,
        score=round(score, 6),
        chance=round(problem.chance, 4),
        solved=problem.solves(score),
        known=problem.known.get(kind),
        updates=made,
        parameters=sum(p.numel() for p in network.parameters()),
        seconds=round(time.perf_counter() - began, 1),
        kernel=network.stack.kernels(training=True, ragged=False)[0].split(": ")[1],
    )


def _train(network: Asked, problem: Problem, seed: int) -> int:
    """-> updates made."""
    draws = np.random.default_rng((seed, 0))
    optimizer = torch.optim.Adam(network.parameters(), lr=problem.lr)
    watched = problem.watch(WATCHED, np.random.default_rng((seed, 1)))
    solved = False
    for update in range(1, problem.updates + 1):
        loss = _loss(network, problem, problem.train(problem.batch, draws))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        if update % EVERY == 0:
            before, solved = solved, problem.solves(_score(network, problem, watched))
            if before and solved:
                return update
    return problem.updates


def _asked(network: Asked, problem: Problem, samples: Samples) -> tuple[Tensor, Tensor]:
    """(answers (N, C) or (N,), what is wanted (N,)) at the steps that are asked."""
    asked = torch.from_numpy(samples.asked)
    answers = network(torch.from_numpy(samples.x))[asked]
    return answers if problem.classes else answers[:, 0], torch.from_numpy(samples.y)[asked]


def _loss(network: Asked, problem: Problem, samples: Samples) -> Tensor:
    answers, wanted = _asked(network, problem, samples)
    found = nn.functional.cross_entropy if problem.classes else nn.functional.mse_loss
    return found(answers, wanted)


@torch.inference_mode()
def _score(network: Asked, problem: Problem, samples: Samples) -> float:
    answers, wanted = _asked(network, problem, samples)
    if problem.classes:
        return float((answers.argmax(1) == wanted).float().mean())
    return float(((answers - wanted) ** 2).mean())


def rows(found: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """(heads, a row a problem): the score of each cell, + where it is solved, and what is known."""
    cells = list(dict.fromkeys(each.cell for each in found))
    body = []
    for name in dict.fromkeys(each.problem for each in found):
        of = {each.cell: each for each in found if each.problem == name}
        first = next(iter(of.values()))
        body.append([name, first.measure, f"{first.chance:.3g}", *(_cell(of.get(cell)) for cell in cells)])
    return ["problem", "measure", "chance", *cells], body


def _cell(each: Outcome | None) -> str:
    if each is None:
        return ""
    return f"{each.score:.3g}{' +' if each.solved else ''}{' !' if each.surprise else ''}"
