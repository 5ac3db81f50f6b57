"""Where the gradient goes: how much of a loss at the last token reaches the state of each token before it.

    L = cross entropy of A h_T against one class          A (2, H) drawn once, the same for every cell
    ||dL/dh_t||  and, of a cell with a memory, ||dL/dc_t||          for t = T, T-1, ..., 1

Through k steps the gradient is multiplied by k Jacobians: where they shrink it vanishes, where they stretch it
explodes (Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063). A
loss at the last token alone shows this; a pooled one hands every token a gradient of its own.

Beside the recurrence of the model that was trained stand cells of the same size that were not, with torch.nn's first
weights, on the same embedded text; and an Elman network whose U is several times as large, so that it explodes.
Clipping (Pascanu et al., algorithm 1) multiplies the whole gradient by min(1, clip / norm), the norm taken over the
cell's weights: it bends no curve, it lowers one, so that it answers explosion and not vanishing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echoic.cells.base import NO_ZONEOUT, Cell, Zoneout
from echoic.core import registry
from echoic.explain.reading import require_classifier
from echoic.layers.unroll import unroll
from echoic.tasks.classify import ClassifierNetwork

MOST_STEPS = 256
"""Of a longer text the first so many tokens are read, and `sentence` says so."""
LARGE = 4.0
"""What U is multiplied by in the network that explodes."""
FRESH: tuple[tuple[str, dict[str, Any]], ...] = (("rnn", {}), ("lstm", {}), ("lstm", {"peephole": True}), ("gru", {}))
FLAT = 0.05
"""A norm that changes by less than this share a step neither vanishes nor explodes."""


@dataclass(frozen=True)
class Flow:
    name: str
    trained: bool
    norms: np.ndarray
    """(T,) ||dL/dh||, the last token first"""
    memory: np.ndarray | None
    """(T,) ||dL/dc|| of a cell that has a memory"""
    weights: float
    """The norm of dL/d(weights of the cell), which clipping looks at."""
    clip: float

    @property
    def factor(self) -> float:
        """What clipping multiplies the gradient by; 1 leaves it."""
        return min(1.0, self.clip / self.weights) if self.clip and self.weights > 0 else 1.0

    @property
    def rate(self) -> float:
        """What the norm is multiplied by at each step back, in the geometric mean."""
        if len(self.norms) < 2 or self.norms[0] == 0:
            return 1.0
        return float((self.norms[-1] / self.norms[0]) ** (1 / (len(self.norms) - 1)))

    @property
    def verdict(self) -> str:
        if self.rate == 0:
            return "vanishes: nothing is left"
        if abs(self.rate - 1) < FLAT:
            return "neither"
        steps = abs(math.log(10) / math.log(self.rate))
        return f"{'vanishes' if self.rate < 1 else 'explodes'}: tenfold in {steps:.1f} steps"

    def document(self) -> dict[str, Any]:
        memory = None if self.memory is None else [float(f"{v:.4g}") for v in self.memory]
        return {
            "name": self.name,
            "trained": self.trained,
            "norms": [float(f"{v:.4g}") for v in self.norms],
            "memory_norms": memory,
            "rate": round(self.rate, 4),
            "weight_gradient": float(f"{self.weights:.4g}"),
            "clip": self.clip,
            "clipping_multiplies_by": float(f"{self.factor:.4g}"),
        }


def flows(task: Any, network: ClassifierNetwork, text: str, *, clip: float = 1.0, seed: int = 0) -> list[Flow]:
    """That of the model's own last forward recurrence (if it has one), then those of fresh cells. clip 0: none."""
    require_classifier(task)
    ids = torch.as_tensor(task.text.encode([text])[0][:MOST_STEPS].astype(np.int64))[None].to(network.out.weight.device)
    with torch.no_grad():
        embedded = network.embed(ids).double()
    out = []
    stack = network.stack
    if len(stack.cells):
        own: Any = stack.cells[-stack.directions]
        with torch.no_grad():
            below = copy.deepcopy(stack).double()
            below.cells = below.cells[: -stack.directions]
            x, _ = below(embedded)
            x = x if not stack.norms else below.norms[-1](x, None, None)
        zoneout = Zoneout(stack.zoneout)
        out.append(flow(f"{named(own)}, this model", own, x, clip=clip, seed=seed, trained=True, zoneout=zoneout))
    for kind, options in FRESH:
        cell = _fresh(kind, options, embedded, network.model.hidden, seed)
        out.append(flow(named(cell), cell, embedded, clip=clip, seed=seed))
    large = _fresh("rnn", {}, embedded, network.model.hidden, seed)
    with torch.no_grad():
        large.weight_hh *= LARGE
    out.append(flow(f"rnn, U x {LARGE:g}", large, embedded, clip=clip, seed=seed))
    return out


def named(cell: Any) -> str:
    kind = type(cell).__module__.rpartition(".")[2]
    return f"{kind}, peepholes" if getattr(cell.options, "peephole", False) else kind


def _fresh(kind: str, options: dict[str, Any], like: Tensor, hidden: int, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return registry.get("cell", kind)(like.shape[2], hidden, generator=generator, **options).to(like)


def flow(
    name: str,
    cell: Cell,
    x: Tensor,
    *,
    clip: float = 1.0,
    seed: int = 0,
    trained: bool = False,
    zoneout: Zoneout = NO_ZONEOUT,
) -> Flow:
    """x (1, T, D). Computed in float64, so that what has vanished is still a number."""
    cell = copy.deepcopy(cell).double().requires_grad_(True)
    states: list[Any] = []
    with torch.enable_grad():
        state = None
        for t in range(x.shape[1]):
            _, state = unroll(cell, x[:, t : t + 1].double(), None, state, zoneout=zoneout)
            states.append(state)
        draws = torch.Generator().manual_seed(seed)
        head = torch.randn(2, states[-1][0].shape[1], generator=draws, dtype=torch.float64).to(x.device)
        logits = states[-1][0] @ head.T / math.sqrt(head.shape[1])
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(1, dtype=torch.int64, device=x.device))
        fields = [each for state in states for each in state]
        weights = list(cell.parameters())
        found = torch.autograd.grad(loss, [*fields, *weights], allow_unused=True)
    norms = [0.0 if g is None else float(g.norm()) for g in found]
    width = len(states[0])
    of = np.array(norms[: len(fields)]).reshape(len(states), width)[::-1]
    memory = of[:, states[0]._fields.index("c")].copy() if "c" in states[0]._fields else None
    total = math.sqrt(sum(norm**2 for norm in norms[len(fields) :]))
    return Flow(name, trained, of[:, 0].copy(), memory, total, clip)


def sentence(found: Sequence[Flow]) -> str:
    """What the curves say."""
    of = f"Of the first {MOST_STEPS} tokens: " if any(len(each.norms) == MOST_STEPS for each in found) else ""
    gone = [each.name for each in found if each.verdict.startswith("vanishes")]
    burst = [each.name for each in found if each.verdict.startswith("explodes")]
    said = []
    if gone:
        said.append(f"The gradient vanishes in {'; '.join(gone)}.")
    if burst:
        said.append(f"It explodes in {'; '.join(burst)}: clipping lowers the curve.")
    return of + (" ".join(said) or "The gradient neither vanishes nor explodes here.")
