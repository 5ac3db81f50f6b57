"""Attention: a score for every key, a softmax over the valid ones, their weighted sum.

    e_j = v . tanh(W q + U k_j + b)       Additive   Bahdanau et al. 2015, eq. in A.1.2
    e_j = (q . W k_j) / sqrt(Q)           Dot        Luong et al. 2015, eq. 8 ("dot", and with W "general"),
                                                     scaled as in Vaswani et al. 2017, eq. 1
    a_j = exp(e_j) / sum_i exp(e_i)       over valid steps alone; exactly 0 on the others
    c   = sum_j a_j k_j

The query q is a decoder's state, or without one a learned vector: for Dot the parameter `query`, for
Additive the bias b alone, since W q would be a constant added to it (Yang et al. 2016, eq. 5 and 6).

K is the size of a key, Q that of a query; keys are (B, T, K), scores (B, T). `project` holds what
does not depend on the query: a decoder calls it once a sentence and `score` once a step, or once for
the queries (B, U, Q) of all U steps, which gives scores (B, U, T).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from echoic.layers import segments


def masked_softmax(scores: Tensor, valid: Tensor, owner: Tensor | None = None, texts: int = 0) -> Tensor:
    """(B, T) scores, (B, T) valid -> weights, 0 where not valid. A row without a valid step is all 0.

    With `owner` (see layers.segments) the rows of one text share one distribution.
    """
    if owner is None:
        owner, texts = torch.arange(len(scores), device=scores.device), len(scores)
    scores = scores.masked_fill(~valid, -math.inf)
    top = segments.largest(scores.detach().amax(1, keepdim=True), owner, texts)[owner]
    exp = (scores - top.masked_fill(top.isneginf(), 0.0)).exp()
    whole = segments.total(exp.sum(1, keepdim=True), owner, texts)[owner]
    return exp / whole.masked_fill(whole == 0, 1.0)


class Additive(nn.Module):
    """`Additive(K)` scores with a learned query, `Additive(K, Q)` with one that is given; `size` is A, by default K.

    First weights are uniform in +-1/sqrt(K), drawn by `generator` (None: torch's own)."""

    def __init__(
        self,
        key_size: int,
        query_size: int | None = None,
        size: int | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        size = size or key_size
        self.key = nn.Linear(key_size, size)
        self.query = None if query_size is None else nn.Linear(query_size, size, bias=False)
        self.energy = nn.Linear(size, 1, bias=False)
        _draw(self, key_size, generator)

    def project(self, keys: Tensor) -> Tensor:
        """(B, T, K) -> (B, T, A)."""
        return self.key(keys)  # type: ignore[no-any-return]

    def score(self, projected: Tensor, query: Tensor | None = None) -> Tensor:
        """(B, T, A), (B, Q) or None -> (B, T); (B, T, A), (B, U, Q) -> (B, U, T)."""
        _agree(self.query is not None, query)
        if self.query is not None and query is not None:
            projected = projected if query.dim() == 2 else projected[:, None]
            projected = projected + self.query(query)[..., None, :]
        return self.energy(projected.tanh()).squeeze(-1)  # type: ignore[no-any-return]

    def forward(self, keys: Tensor, query: Tensor | None = None) -> Tensor:
        """(B, T, K), (B, Q) or None -> scores (B, T)."""
        return self.score(self.project(keys), query)


class Dot(nn.Module):
    """`Dot(K)` scores with a learned query, `Dot(K, K)` by the plain product, `Dot(K, Q)` through W (Q, K).

    First weights as Additive's."""

    def __init__(
        self, key_size: int, query_size: int | None = None, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.given = query_size is not None
        self.key = nn.Identity() if query_size in (None, key_size) else nn.Linear(key_size, query_size or 0, bias=False)
        self.scale = 1 / math.sqrt(query_size or key_size)
        self.query = None if self.given else nn.Parameter(torch.empty(key_size))
        _draw(self, key_size, generator)

    def project(self, keys: Tensor) -> Tensor:
        """(B, T, K) -> (B, T, Q)."""
        return self.key(keys)  # type: ignore[no-any-return]

    def score(self, projected: Tensor, query: Tensor | None = None) -> Tensor:
        """(B, T, Q), (B, Q) or None -> (B, T); (B, T, Q), (B, U, Q) -> (B, U, T)."""
        _agree(self.given, query)
        if self.query is not None:
            return projected @ self.query * self.scale
        assert query is not None
        if query.dim() == 3:
            return torch.bmm(query, projected.mT) * self.scale
        return torch.bmm(projected, query[:, :, None]).squeeze(2) * self.scale

    def forward(self, keys: Tensor, query: Tensor | None = None) -> Tensor:
        """(B, T, K), (B, Q) or None -> scores (B, T)."""
        return self.score(self.project(keys), query)


SCORES: dict[str, type[Additive] | type[Dot]] = {"additive": Additive, "dot": Dot}


def attend(keys: Tensor, weights: Tensor) -> Tensor:
    """(B, T, K), (B, T) -> contexts (B, K), the weighted sum of the keys."""
    return torch.bmm(weights[:, None], keys).squeeze(1)


@torch.no_grad()
def _draw(module: nn.Module, key_size: int, generator: torch.Generator | None) -> None:
    limit = 1 / math.sqrt(key_size)
    for parameter in module.parameters():
        parameter.uniform_(-limit, limit, generator=generator)


def _agree(given: bool, query: Tensor | None) -> None:
    if given and query is None:
        raise ValueError("query: this attention was built with a query_size and needs a query, got None")
    if not given and query is not None:
        raise ValueError("query: this attention learned its own query (query_size=None), got one as well")
