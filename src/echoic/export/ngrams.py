"""The n-gram path (`layers/ngrams.py`) in ONNX: integer arithmetic on ids, one sort, gathers."""

from __future__ import annotations

from typing import Any

import numpy as np

from echoic.core.hashing import MULTIPLIERS, PRIME
from echoic.export.graph import FLOAT, INT64, Graph
from echoic.kernels.plain import Eight


def ngram_logits(g: Graph, ids: str, lengths: str, tensors: Any, scale: float) -> str:
    """ids (B, T), lengths (B,) -> s_n logits_n (B, C)."""
    slot, counts = slots(g, ids, lengths, np.asarray(tensors["ngrams.check"]), int(tensors["ngrams.order"]))
    seen = g("Unsqueeze", g("Cast", counts, to=FLOAT), [1])  # (B, 1, N)
    weight = tensors["ngrams.weight"]
    if isinstance(weight, Eight):  # (columns, S): stored as (S, columns), widened after the sum
        found = g("Cast", g("Gather", g.tensor(weight.values.T, "ngrams.weight"), slot), to=FLOAT)
        summed = g("Mul", g("MatMul", seen, found), g.tensor(weight.scale, "ngrams.scale"))
        if len(weight.scale) == 1:  # of two classes' weights one is the other's negative
            summed = g("Concat", g("Neg", summed), summed, axis=2)
    else:
        summed = g("MatMul", seen, g("Gather", g.tensor(weight, "ngrams.weight"), slot))
    logits = g("Add", g("Squeeze", summed, [1]), g.tensor(tensors["ngrams.bias"], "ngrams.bias"))
    return g("Mul", logits, scale)


def slots(g: Graph, ids: str, lengths: str, check: Any, order: int) -> tuple[str, str]:
    """ids (B, T), lengths (B,) -> slots (B, T * order) and which of them count."""
    hashed = hashes(g, ids, lengths, order)
    ordered = g.several("TopK", 2, hashed, g("Unsqueeze", g.size(hashed, 1), [0]), axis=1, largest=0)[0]
    before = g("Pad", g("Slice", ordered, [0], [-1], [1]), [0, 1, 0, 0], -1)
    slot = g("Mod", g("Max", ordered, 0), len(check))
    owner = g("Cast", g("Gather", g.tensor(check, "ngrams.check"), slot), to=INT64)
    owned = g("Equal", owner, g("Div", ordered, len(check)))
    fresh = g("And", g("Not", g("Less", ordered, 0)), g("Not", g("Equal", ordered, before)))
    return slot, g("And", owned, fresh)


def hashes(g: Graph, ids: str, lengths: str, order: int) -> str:
    """-> (B, T * order) int64, -1 where an n-gram leaves its text: h <- (h A_n + token + 1) mod P."""
    steps = g.size(ids, 1)
    position = g("Range", 0, steps, 1)
    whole = g("Pad", ids, [0, 0, 0, order - 1])
    tokens = [g("Add", g("Slice", whole, [k], g("Unsqueeze", g("Add", steps, k), [0]), [1]), 1) for k in range(order)]
    columns = []
    for n in range(1, order + 1):
        rolling = g("Mod", tokens[0], PRIME)
        for token in tokens[1:n]:
            rolling = g("Mod", g("Add", g("Mul", rolling, MULTIPLIERS[n - 1]), token), PRIME)
        outside = g("Less", g("Unsqueeze", lengths, [1]), g("Add", position, n))
        columns.append(g("Where", outside, -1, rolling))
    return g("Concat", *columns, axis=1)
