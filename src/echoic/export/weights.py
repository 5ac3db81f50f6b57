"""A bundle's tensors as what computes without torch wants them: batch norm folded away, one `Recurrence` a cell.

The ONNX file, the eight-bit weights and the predictor (`serve/opening.py`) are all made from this page. Names and shapes are those of
`model.safetensors`; a tensor is an array, or, in eight bits, an `Eight` (`quantise.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from echoic.core.config import ModelConfig
from echoic.core.errors import UsageError
from echoic.kernels.plain import Array, Eight

Tensors = Mapping[str, Array | Eight]

CELLS = {"rnn": ("nonlinearity", "tanh"), "gru": ("reset", "after")}
"""The option of a cell that is part of the kernel's name, and its default."""

EPSILON = 1e-5
"""torch's, of batch norm."""


@dataclass(frozen=True)
class Recurrence:
    """One direction of one layer."""

    kind: str
    """One of `kernels.native.KINDS`."""
    weights: dict[str, Any]
    """Under torch's names, gates in torch's order: weight_ih, weight_hh, bias_ih, bias_hh, perhaps peepholes."""

    @property
    def cell(self) -> str:
        return self.kind.partition("_")[0]

    @property
    def hidden(self) -> int:
        return len(self.weights["bias_hh"]) // {"rnn": 1, "lstm": 4, "gru": 3}[self.cell]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its state's arrays."""
        return ("h", "c") if self.cell == "lstm" else ("h",)


def without_kernel(model: ModelConfig) -> str:
    """What in this recurrence neither ONNX nor the kernels compute; "" where there is nothing."""
    if not model.layers:
        return "a network without recurrence (model.layers=0)"
    if model.cell.kind not in ("rnn", "lstm", "gru"):
        return f"the cell {model.cell.kind}"
    if model.layer_norm:
        return "layer norm in the recurrence (model.layer_norm=true)"
    if model.zoneout:
        return f"zoneout (model.zoneout={model.zoneout:g})"
    return ""


def kind_of(model: ModelConfig) -> str:
    """The recurrence as one of `kernels.native.KINDS`; of an RNN a nonlinearity more.
    Raises UsageError for what is `without_kernel`."""
    if reason := without_kernel(model):
        raise UsageError(f"{reason}: ONNX has no node for it")
    if model.cell.kind not in CELLS:
        return model.cell.kind
    option, default = CELLS[model.cell.kind]
    return f"{model.cell.kind}_{model.cell.options.get(option, default)}"


def without_batch_norm(model: ModelConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors of the network that computes the same without it: W (s x + t) + b = (W s) x + (b + W t).

    Raises UsageError for a recurrence that cannot be exported (`kind_of`).
    """
    kind_of(model)
    kept = {name: array for name, array in tensors.items() if ".norms." not in name}
    for stack, layers in _stacks(model, tensors):
        cells = _cells(tensors, stack)
        for place in range(cells if model.batch_norm else 0):
            norm, cell = f"{stack}.norms.{place // (cells // layers)}.", f"{stack}.cells.{place}."
            weight, bias, mean, variance = (
                tensors[norm + part].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = weight / np.sqrt(variance + EPSILON)
            wide = kept[cell + "weight_ih"].astype(np.float64)
            kept[cell + "bias_ih"] = (kept[cell + "bias_ih"] + wide @ (bias - mean * scale)).astype(np.float32)
            kept[cell + "weight_ih"] = (wide * scale).astype(np.float32)
    return kept


def recurrences(model: ModelConfig, tensors: Tensors, stack: str = "stack") -> list[list[Recurrence]]:
    """For each layer its directions; `stack` names one of a translator's. Raises UsageError where the recurrence cannot
    be exported."""
    kind, made = kind_of(model), []
    for place in range(_cells(tensors, stack)):
        own = f"{stack}.cells.{place}."
        made.append(Recurrence(kind, {n.removeprefix(own): each for n, each in tensors.items() if n.startswith(own)}))
    directions = len(made) // dict(_stacks(model, tensors))[stack]
    return [made[first : first + directions] for first in range(0, len(made), directions)]


def _stacks(model: ModelConfig, tensors: Tensors) -> list[tuple[str, int]]:
    """The stacks of the network and how many layers each has; a translator's (`layers/seq2seq.py`) are three."""
    if "stack.below.cells.0.weight_hh" not in tensors:
        return [("stack", model.layers)]
    return [("stack.encoder", model.layers), ("stack.below", 1), ("stack.above", model.layers)]


def _cells(tensors: Mapping[str, Any], stack: str) -> int:
    return sum(name.startswith(f"{stack}.cells.") and name.endswith(".weight_hh") for name in tensors)
