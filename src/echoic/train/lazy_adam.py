"""Adam for a table of which a step reads a few rows: the numbers of Adam over the whole table, at the price of those rows.

A row whose words are not in a batch has the gradient 0, but Adam (Kingma and Ba 2015, algorithm 1) still
moves it by its memory, and its running average follows. From step s on, with nothing but zeros after it,

    m_t = beta1^(t-s) m_s        v_t = beta2^(t-s) v_s
    E_t = E_s - S m_s / sqrt(v_s)                      S = sum over j of rate_j (beta1 / sqrt(beta2))^(j-s)
    a_t = P a_s + (1 - P) E_s - T m_s / sqrt(v_s)      P = product over j of d_j

for j = s+1 .. t, where rate_j = lr_j sqrt(1 - beta2^j) / (1 - beta1^j), d_j is the average's decay
(train/average.py) and T follows T <- d_j T + (1 - d_j) S. S, T and P do not depend on the row, so
they are kept for every s, a few numbers a step, and a row catches up when it is read next.
Adam's epsilon, 1e-8, is added to sqrt(v_s) as it stands at step s, and then shrinks with it, where Adam
adds it anew in each step: m is gone before that can be seen. Without it numbers whose gradients are tiny
would be moved as far as the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from echoic.core.config import TrainConfig
from echoic.core.types import PAD
from echoic.layers.embed import Embed
from echoic.train import adversarial, optim
from echoic.train.average import Average

BETA2, EPSILON = 0.999, 1e-8
NOTHING = 1e-30
"""Added below, where at step 0 all of it is 0."""
JUST_NOW = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
"""S, T and P of the step that was just done."""


class LazyAdam:
    """The table of `embed`, called `name` in its network, and what Adam remembers of each row.

    While it stands, a call of `embed` in training reads rows of its own, which hold the gradient.
    """

    def __init__(self, name: str, embed: Embed, beta1: float, average: Tensor | None, depth: int = 0) -> None:
        self.name, self.embed, self.beta1, self.average = name, embed, beta1, average
        self.group: dict[str, Any] = {"params": [embed.weight], "depth": depth, "lr": 0.0}
        """As an optimiser's, for optim.set_rates."""
        table = embed.weight.detach()
        self.m, self.v = torch.zeros_like(table), torch.zeros_like(table)
        self.last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        """Of each row, the step it stands at; `since[:, i]` is of step `start + i`, the last one of now."""
        self.start = 0
        self.since = JUST_NOW
        self.read: list[tuple[Tensor, Tensor]] = []
        """What was read since the last step: which rows (R,), and their numbers (R, D) with their gradient."""
        embed.rows_of = self.rows_of

    @property
    def now(self) -> int:
        """Steps done."""
        return self.start + self.since.shape[1] - 1

    @property
    def words(self) -> list[adversarial.Words]:
        """What was read since the last step."""
        return [(numbers, self.embed.weight) for _, numbers in self.read if numbers.requires_grad]

    def rows_of(self, ids: Tensor) -> tuple[Tensor, Tensor, int | None]:
        """The rows of `ids`, each id's place among them, and padding's. The same rows, read again before the
        next step, are the same tensor, so that their gradients add up."""
        rows, places = torch.unique(ids, return_inverse=True)
        padding = 0 if len(rows) and rows[0] == PAD else None
        for others, numbers in self.read:
            if torch.equal(rows, others):
                return numbers, places, padding
        self.catch_up(rows)
        numbers = self.embed.weight.detach()[rows].requires_grad_(self.embed.weight.requires_grad)
        self.read.append((rows, numbers))
        return numbers, places, padding

    @torch.no_grad()
    def catch_up(self, rows: Tensor) -> None:
        """Brings rows, each named once, to where Adam over the whole table would have them."""
        rows = rows[self.last[rows] < self.now]
        if len(rows) == 0:
            return
        table, at = self.embed.weight.detach(), self.last[rows]
        moved, trailed, left = self.since[:, (at - self.start).cpu()].to(table)[:, :, None]
        m, v, before = self.m[rows], self.v[rows], table[rows]
        way = m / (v.sqrt() + EPSILON * (1 - BETA2 ** at[:, None].to(table.dtype)).sqrt() + NOTHING)
        table[rows] = before - way * moved
        if self.average is not None:
            self.average[rows] = left * self.average[rows] + (1 - left) * before - way * trailed
        gap = (self.now - at)[:, None].to(table.dtype)
        self.m[rows], self.v[rows] = m * self.beta1**gap, v * BETA2**gap
        self.last[rows] = self.now

    def all_catch_up(self) -> None:
        """Before the table or its average is read as a whole."""
        self.catch_up(torch.arange(len(self.last), device=self.last.device))
        self.start, self.since = self.now, JUST_NOW

    @torch.no_grad()
    def step(self, lr: float, decay: float) -> None:
        """Takes in the gradients of what was read; then one step of time has passed."""
        assert self.embed.weight.grad is None, f"{self.name} was read as a whole: its Embed wants by_rows=False"
        t = self.now + 1
        rate = lr * (1 - BETA2**t) ** 0.5 / (1 - self.beta1**t)
        given = [(rows, numbers.grad) for rows, numbers in self.read if numbers.grad is not None]
        if self.now == 0 and not given:  # as Adam, whose time begins with a tensor's first gradient
            self.read = []
            return
        if given:
            rows, places = torch.unique(torch.cat([rows for rows, _ in given]), return_inverse=True)
            g = self.m.new_zeros(len(rows), self.m.shape[1]).index_add_(0, places, torch.cat([g for _, g in given]))
            table = self.embed.weight.detach()
            m, v = self.m[rows].lerp_(g, 1 - self.beta1), self.v[rows].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            denominator = v.sqrt().add_(EPSILON * (1 - BETA2**t) ** 0.5)
            after = table[rows].addcdiv_(m, denominator, value=-rate)
            self.m[rows], self.v[rows], table[rows], self.last[rows] = m, v, after, t
            if self.average is not None:
                self.average[rows] = self.average[rows].lerp_(after, 1 - decay)
        moved, trailed, left = self.since
        age = torch.arange(len(moved), 0, -1, dtype=torch.float64)
        moved = moved + rate * (self.beta1 / BETA2**0.5) ** age
        passed = torch.stack([moved, decay * trailed + (1 - decay) * moved, decay * left])
        self.since = torch.cat([passed, JUST_NOW], 1)
        self.read = []

    def memory(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, by the names of optim.memory."""
        kept = {"exp_avg": self.m, "exp_avg_sq": self.v, "last": self.last, "since": self.since}
        kept["start"] = torch.tensor(self.start)
        return {f"{self.name}/{what}": tensor for what, tensor in kept.items()}

    @torch.no_grad()
    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `memory` gave. Raises KeyError if there is none of this table."""
        found = {what: tensors[f"{self.name}/{what}"] for what in ("exp_avg", "exp_avg_sq", "last", "since", "start")}
        self.m.copy_(found["exp_avg"])
        self.v.copy_(found["exp_avg_sq"])
        self.last.copy_(found["last"])
        self.since, self.start = found["since"].clone(), int(found["start"])

    def leave(self) -> None:
        """The table is whole, and an ordinary one again."""
        self.all_catch_up()
        self.embed.rows_of = None


def tables(network: nn.Module, config: TrainConfig, average: Average | None) -> list[LazyAdam]:
    """The tables of `network` that are trained by rows: those of every trained Embed that allows it, where Adam trains."""
    if config.optimizer not in ("adam", "adamw"):
        return []
    found = {name: module for name, module in network.named_modules() if isinstance(module, Embed)}
    kept = {} if average is None else average.tensors
    depth = optim.depths(network)
    return [
        LazyAdam(weight, embed, config.momentum, kept.get(weight), depth[weight])
        for name, embed in found.items()
        for weight in [f"{name}.weight".removeprefix(".")]
        if embed.by_rows and embed.weight.requires_grad
    ]
