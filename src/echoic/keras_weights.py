"""Keras's weights -> torch's: other gate orders, transposed matrices, one bias where torch has two.

    Keras                                       torch, as in echoic
    kernel            (D, G*H)                  weight_ih (G*H, D)
    recurrent_kernel  (H, G*H)                  weight_hh (G*H, H)
    bias              (G*H,)                    bias_ih (G*H,), and a bias_hh of zeros
    bias              (2, G*H), GRU reset_after bias_ih and bias_hh
    LSTM  i f c o     GRU  z r h                LSTM  i f g o     GRU  r z n

Both GRUs mix as h = z * h + (1 - z) * n, so only the order differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PLACES = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}
"""Where each gate of torch's order stands in Keras's."""


def read(
    cell: str, arrays: Sequence[np.ndarray], *, bidirectional: bool, bias: bool, reset_after: bool
) -> list[dict[str, np.ndarray]]:
    """Layers end to end, each as `get_weights()` gives it, forwards then backwards -> for each direction
    of each layer {"weight_ih", "weight_hh" and, with `bias`, "bias_ih", "bias_hh"}.

    Raises ValueError with the place of the array that does not fit."""
    arrays = [np.asarray(array) for array in arrays]
    directions, each = 2 if bidirectional else 1, 3 if bias else 2
    if not arrays or len(arrays) % (directions * each):
        raise ValueError(f"arrays: expected {directions * each} a layer, got {len(arrays)}")
    if arrays[0].ndim != 2 or arrays[1].ndim != 2:
        raise ValueError("arrays: expected the first two to be a kernel (D, G*H) and a recurrent_kernel (H, G*H)")
    features, hidden = arrays[0].shape[0], arrays[1].shape[0]
    rows = len(PLACES[cell]) * hidden
    out = []
    for start in range(0, len(arrays), each):
        size = features if start < directions * each else directions * hidden
        wanted = [(size, rows), (hidden, rows), (2, rows) if reset_after else (rows,)][:each]
        for place, shape in enumerate(wanted, start):
            if arrays[place].shape != shape:
                raise ValueError(f"arrays[{place}]: expected shape {shape}, got {arrays[place].shape}")
        out.append(_one(cell, arrays[start : start + each]))
    return out


def _one(cell: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    kernel, recurrent, *bias = (_reorder(cell, array) for array in arrays)
    out = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
    if bias:
        ih, hh = bias[0] if bias[0].ndim == 2 else (bias[0], np.zeros_like(bias[0]))
        out |= {"bias_ih": ih, "bias_hh": hh}
    return out


def _reorder(cell: str, array: np.ndarray) -> np.ndarray:
    """The gates along the last axis, in torch's order."""
    gates = np.split(array, len(PLACES[cell]), axis=-1)
    return np.concatenate([gates[place] for place in PLACES[cell]], axis=-1)
