"""Weights in eight bits for the ONNX file.

    eight = quantised(tensors)          the tensors with an `Eight` for each large one
    wide = widened(eight)               float32 tensors of the network that those weights are

A row of a matrix is its scale times whole numbers in -127..127 (`kernels/plain.py`); so is a token's embedding.
In the file eight-bit weights are widened once, when a runtime loads it, except an LSTM's, for which ONNX
Runtime has a node of its own that multiplies in eight bits. Processors without VNNI add two of its products in 16
bits, and an LSTM's weights are held in -64..64, so that they fit: the file answers alike everywhere.
The kernels multiply in eight bits for every cell (`serve.predictor`, int8), and need no such care.

The n-gram path's table has a scale a class. Of two classes' weights one is the other's negative, so one is
stored. Which n-gram owns a slot is stored in 16 bits where the table is large enough that it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from echoic.export.weights import Tensors
from echoic.kernels.plain import NOTHING, Array, Eight

LARGEST = {"lstm": 64}
"""Of the whole numbers of a recurrent weight, where not 127: 2 * 255 * 64 < 2^15."""

MATRICES = (
    "embed.weight", "out.weight", "project.weight", "pool.attention.key.weight",
    "written.weight", "start.weight", "join.weight", "attention.key.weight", "attention.query.weight",
)  # fmt: skip
RECURRENT = (".weight_ih", ".weight_hh")


def quantised(tensors: Mapping[str, Array], cell: str = "") -> dict[str, Array | Eight]:
    """`without_batch_norm`'s tensors, the large ones in eight bits. Small vectors stay as they are."""
    out: dict[str, Any] = dict(tensors)
    for name, array in tensors.items():
        if name in MATRICES:
            out[name] = _rows(array, 127)
        elif ".cells." in name and name.endswith(RECURRENT):
            out[name] = _rows(array, LARGEST.get(cell, 127))
    if "ngrams.weight" in tensors:
        out["ngrams.weight"] = _rows(_columns(tensors["ngrams.weight"]), 127)
        out["ngrams.check"] = _narrow(tensors["ngrams.check"])
    return out


def widened(tensors: Tensors) -> dict[str, Array]:
    """The float32 tensors that these eight bits stand for."""
    out = {name: _wide(each) if isinstance(each, Eight) else each for name, each in tensors.items()}
    if isinstance(tensors.get("ngrams.weight"), Eight):
        columns = out["ngrams.weight"]
        out["ngrams.weight"] = np.ascontiguousarray(
            (np.stack([-columns[0], columns[0]]) if len(columns) == 1 else columns).T
        )
        out["ngrams.check"] = out["ngrams.check"].astype(np.int32)
    return out


def _rows(weight: Array, largest: int) -> Eight:
    """(R, K) -> a scale a row, and whole numbers up to `largest`."""
    scale = (np.abs(weight).max(axis=1) / np.float32(largest)).astype(np.float32)
    per_unit = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > NOTHING)
    return Eight(np.rint(weight * per_unit[:, None]).astype(np.int8), scale)


def _columns(weight: Array) -> Array:
    """(S, C) -> (columns, S): both classes' weights, or one where the other is its negative."""
    if weight.shape[1] == 2 and np.allclose(weight[:, 0], -weight[:, 1], rtol=1e-3, atol=1e-6):
        weight = (weight[:, 1:] - weight[:, :1]) / 2
    return np.ascontiguousarray(weight.T)


def _narrow(check: Array) -> Array:
    return check.astype(np.int16) if check.max(initial=0) <= np.iinfo(np.int16).max else check


def _wide(eight: Eight) -> Array:
    values: Array = eight.values.astype(np.float32) * eight.scale[:, None]
    return values
