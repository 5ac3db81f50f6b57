"""A trained network as one ONNX file: ids in, probabilities out, by ONNX's own RNN, LSTM and GRU nodes.

    ids (B, T) int64, lengths (B,) int64 -> logits (B, C), probabilities (B, C)        a classifier
    the same and its state.* -> the same and its next.*                                 fed piece by piece
    ids, lengths, state.* -> logits (B, T, V), next.*                                   a language model

(A translator is two files: `translators.py`.) B and T are whatever they are at run time; lengths are 1..T. Everything of the bundle's network is in the graph:
embedding, recurrence (torch's gates in ONNX's order, batch norm folded), segments of long texts, pooling,
the n-gram path with its hashes, the scales. What has no node is refused with a reason (`weights.kind_of`).

Inside, steps come first: (T, R, F), as ONNX's recurrent nodes want it. R counts rows: the segments of all texts.
A state of zeros begins a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echoic.core.config import Config, ModelConfig
from echoic.core.errors import UsageError
from echoic.export.graph import ABSENT, FLOAT, INT32, INT64, Graph, filled
from echoic.export.ngrams import ngram_logits
from echoic.export.weights import Recurrence, Tensors, recurrences
from echoic.kernels.plain import Array, Eight

ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""torch's gates in ONNX's order: i f g o as i o f c, r z n as z r h."""

PHI = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}

NOTHING = -np.inf
"""The maximum over no step, and the log of no weight."""

BATCH, TIME = "batch", "time"


def graph_of(
    config: Config,
    tensors: Tensors,
    classes: int,
    *,
    several: bool = False,
    states: bool = False,
    fast_int8: bool = True,
) -> bytes:
    """The ModelProto, without metadata, of the network with these tensors (`weights.without_batch_norm`).

    several: a classifier whose labels are independent of one another, as `Classify.several` says.
    states: a classifier that takes the state before a piece of text and gives the state after it.
    fast_int8: eight-bit LSTMs by ONNX Runtime's own node, which rounds what meets the weights as well.
    Raises UsageError for what cannot be expressed.
    """
    model, g = config.model, Graph()
    layers = recurrences(model, tensors)
    ids, lengths = g.input("ids", INT64, [BATCH, TIME]), g.input("lengths", INT64, [BATCH])
    net = Network(g, model, tensors, layers, fast_int8)
    if config.task.kind == "generate":
        net.language(ids, lengths, bool(config.task.options.get("tied")))
    else:
        _refuse_states(states, layers, tensors)
        logits = net.pieces(ids, lengths) if states else net.whole(ids, lengths)
        g.output(
            g("Sigmoid", logits) if several else g("Softmax", logits, axis=1), "probabilities", FLOAT, [BATCH, classes]
        )
        g.output(logits, "logits", FLOAT, [BATCH, classes])
    return g.model(config.task.kind)


def _refuse_states(states: bool, layers: list[list[Recurrence]], tensors: Tensors) -> None:
    if states and len(layers[0]) > 1:
        raise UsageError("--states: this model reads both ways, so a piece's answer waits for the last one")
    if states and "ngrams.weight" in tensors:
        raise UsageError("--states: this model counts n-grams once a text, which no state of fixed size can know")


@dataclass
class Network:
    g: Graph
    model: ModelConfig
    tensors: Tensors
    layers: list[list[Recurrence]]
    fast_int8: bool

    # Whole texts

    def whole(self, ids: str, lengths: str) -> str:
        """-> logits (B, C), long texts in segments."""
        g = self.g
        rows, row_lengths, spread = segments(g, ids, lengths, self.model.segment)
        y, last = self.read(rows, row_lengths)
        pooled = {name: spread(value, empty) for name, (value, empty) in self.pool(y, last, row_lengths).items()}
        count = g("Unsqueeze", lengths, [1])
        ends = _ends(g, pooled, count, self.model) if "end" in pooled else []
        logits = self.logits(_joined(g, pooled, count), ends)
        if "ngrams.weight" not in self.tensors:
            return logits
        return g("Add", logits, ngram_logits(g, ids, lengths, self.tensors, float(self._scales[1])))

    @property
    def _scales(self) -> Array:
        return np.asarray(self.tensors["scales"])

    def read(self, rows: str, lengths: str, states: Sequence[Mapping[str, str]] | None = None) -> tuple[str, list[Any]]:
        """rows (R, S) ids -> (the last layer's states (S, R, F), for each layer {field: its last (directions, R, H)})."""
        x = self.embed(self.g("Transpose", rows, perm=[1, 0]))
        return self.stacked("layer", self.layers, x, self.g("Cast", lengths, to=INT32), states)

    def stacked(
        self,
        name: str,
        layers: list[list[Recurrence]],
        x: str,
        counts: str,
        states: Sequence[Mapping[str, str]] | None = None,
    ) -> tuple[str, list[dict[str, str]]]:
        """As `read`, of vectors x (S, R, D); counts (R,) int32, or ABSENT where every row has all steps."""
        g, last = self.g, []
        for number, directions in enumerate(layers):
            first = None if states is None else states[number]
            y, end = recurrence(g, f"{name}{number}", directions, x, counts, first, self.fast_int8)
            last.append(end)
            x = (
                g("Squeeze", y, [1])
                if len(directions) == 1
                else g("Reshape", g("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, -1])
            )
        return x, last

    def embed(self, ids: str, name: str = "embed.weight") -> str:
        g, table = self.g, self.tensors[name]
        if not isinstance(table, Eight):
            return g("Gather", g.tensor(table, name), ids)
        values = g("Cast", g("Gather", g.tensor(table.values, name), ids), to=FLOAT)
        return g("Mul", values, g("Gather", g.tensor(table.scale[:, None], f"{name}.scale"), ids))

    def linear(self, x: str, name: str, bias: bool = True) -> str:
        """x (..., K) -> (..., N) by the layer `name`."""
        g = self.g
        y = g("MatMul", x, g("Transpose", g.tensor(self.tensors[f"{name}.weight"], f"{name}.weight"), perm=[1, 0]))
        return g("Add", y, g.tensor(self.tensors[f"{name}.bias"], f"{name}.bias")) if bias else y

    def logits(self, pooled: list[str], ends: list[str]) -> str:
        """The vectors of a text, side by side, -> s_r logits_r (B, C)."""
        g, parts = self.g, [*ends, *pooled]
        features = parts[0] if len(parts) == 1 else g("Concat", *parts, axis=1)
        return g("Mul", self.linear(features, "out"), float(self._scales[0]))

    def pool(self, y: str, last: list[Mapping[str, str]], lengths: str) -> dict[str, tuple[str, float]]:
        """What is kept of each row, (R, ...), and what stands for none (`layers/pool.py`, `rows`)."""
        g, kind = self.g, self.model.pool
        steps = g("Range", 0, g.size(y, 0), 1)
        valid = g("Less", g("Unsqueeze", steps, [1]), g("Unsqueeze", lengths, [0]))  # (S, R)
        wide = g("Unsqueeze", valid, [2])
        kept: dict[str, tuple[str, float]] = {}
        if kind in ("last", "concat"):
            ends = g("Transpose", last[-1]["h"], perm=[1, 0, 2])
            kept["end"] = g("Reshape", ends, [0, -1]), 0.0
        if kind in ("mean", "concat"):
            kept["sum"] = g("ReduceSum", g("Where", wide, y, 0.0), [0], keepdims=0), 0.0
        if kind in ("max", "concat"):
            kept["top"] = g("ReduceMax", g("Where", wide, y, NOTHING), axes=[0], keepdims=0), NOTHING
        if kind == "attention":
            scores = g("Where", wide, self.scores(y), NOTHING)  # (S, R, 1)
            kept["energy"] = g("ReduceLogSumExp", scores, axes=[0], keepdims=0), NOTHING
            weighted = g("Mul", g("Softmax", scores, axis=0), g("Where", wide, y, 0.0))
            kept["context"] = g("ReduceSum", weighted, [0], keepdims=0), 0.0
        return kept

    def scores(self, y: str) -> str:
        """(S, R, F) -> e (S, R, 1) (`layers/attention.py`)"""
        g, own = self.g, "pool.attention"
        if self.model.attention == "additive":
            return self.linear(g("Tanh", self.linear(y, f"{own}.key")), f"{own}.energy", bias=False)
        query = np.asarray(self.tensors[f"{own}.query"])
        return g("MatMul", y, g.tensor((query / np.sqrt(len(query)))[:, None].astype(np.float32), f"{own}.query"))

    # Piece by piece

    def pieces(self, ids: str, lengths: str) -> str:
        """-> logits (B, C) of all that was read. What former pieces left is pooled as a segment before this one's."""
        g = self.g
        y, last = self.read(ids, lengths, self.given_states(self.layers))
        before = g.input("state.count", INT64, [BATCH, 1])
        started = g("Unsqueeze", g("Less", 0, before), [1])
        pooled: dict[str, str] = {}
        ends: list[str] = []
        for name, (value, empty) in self.pool(y, last, lengths).items():
            if name == "end":
                ends.append(value)
                continue
            size = 1 if name == "energy" else self.layers[-1][0].hidden
            carried = g("Unsqueeze", g.input(f"state.{name}", FLOAT, [BATCH, size]), [1])
            if empty:
                carried = g("Where", started, carried, empty)
            pooled[name] = g("Concat", carried, g("Unsqueeze", value, [1]), axis=1)
        count = g("Add", before, g("Unsqueeze", lengths, [1]))
        joined = _joined(g, pooled, count)
        logits = self.logits(joined, ends)
        self.give_states(self.layers, last)
        for name, value in _carried(g, pooled, joined).items():
            g.output(value, f"next.{name}", FLOAT, [BATCH, 1 if name == "energy" else self.layers[-1][0].hidden])
        g.output(count, "next.count", INT64, [BATCH, 1])
        return logits

    def given_states(self, layers: list[list[Recurrence]], of: str = "") -> list[dict[str, str]]:
        """For each layer {field: (1, B, H)}, as inputs of the graph; `of` stands before a layer's number."""
        g = self.g
        return [
            {
                field: g("Unsqueeze", g.input(f"state.{of}{number}.{field}", FLOAT, [BATCH, cell.hidden]), [0])
                for field in cell.fields
            }
            for number, (cell,) in enumerate(layers)
        ]

    def give_states(self, layers: list[list[Recurrence]], last: Sequence[Mapping[str, str]], of: str = "") -> None:
        for number, ((cell,), ends) in enumerate(zip(layers, last, strict=True)):
            for field in cell.fields:
                self.g.output(
                    self.g("Squeeze", ends[field], [0]), f"next.{of}{number}.{field}", FLOAT, [BATCH, cell.hidden]
                )

    # Language models

    def language(self, ids: str, lengths: str, tied: bool) -> None:
        g = self.g
        y, last = self.read(ids, lengths, self.given_states(self.layers))
        h = g("Transpose", y, perm=[1, 0, 2])
        if tied:
            if "project.weight" in self.tensors:
                h = self.linear(h, "project", bias=False)
            logits = g("Add", self.linear(h, "embed", bias=False), g.tensor(self.tensors["bias"], "bias"))
        else:
            logits = self.linear(h, "out")
        g.output(logits, "logits", FLOAT, [BATCH, TIME, rows_of(self.tensors["embed.weight"])])
        self.give_states(self.layers, last)


def rows_of(table: Array | Eight) -> int:
    return len(table.values if isinstance(table, Eight) else table)


# The recurrence


def recurrence(
    g: Graph,
    name: str,
    directions: Sequence[Recurrence],
    x: str,
    lengths: str,
    states: Mapping[str, str] | None,
    fast_int8: bool,
) -> tuple[str, dict[str, str]]:
    """x (T, R, D), lengths (R,) int32, states {field: (directions, R, H)} -> (Y (T, directions, R, H), the last states)."""
    first = directions[0]
    matrices = [
        _stacked([each.weights[which] for each in directions], first.cell) for which in ("weight_ih", "weight_hh")
    ]
    bias = np.concatenate(
        [_stacked([each.weights[which] for each in directions], first.cell) for which in ("bias_ih", "bias_hh")], axis=1
    )
    peepholes = ABSENT
    if "weight_pi" in first.weights:
        rows = [np.concatenate([each.weights[f"weight_p{gate}"] for gate in "iof"]) for each in directions]
        peepholes = g.tensor(np.stack(rows), f"{name}.P")
    eight = fast_int8 and first.cell == "lstm" and isinstance(matrices[0], Eight)
    given = [
        _columns(g, m, f"{name}.{n}") if eight else [g.tensor(m, f"{name}.{n}")]
        for n, m in zip("WR", matrices, strict=True)
    ]
    inputs = [x, given[0][0], given[1][0], g.tensor(bias, f"{name}.B"), lengths]
    inputs += [ABSENT if states is None else states[field] for field in first.fields]
    if first.cell == "lstm":
        inputs.append(peepholes)
    operator, domain = ("DynamicQuantizeLSTM", "com.microsoft") if eight else (first.cell.upper(), "")
    if eight:
        inputs += [*given[0][1:], *given[1][1:]]
    y, *last = g.several(operator, 1 + len(first.fields), *inputs, domain=domain, **_attributes(directions))
    return y, dict(zip(first.fields, last, strict=True))


def _attributes(directions: Sequence[Recurrence]) -> dict[str, Any]:
    first = directions[0]
    found: dict[str, Any] = {"hidden_size": first.hidden}
    if len(directions) == 2:
        found["direction"] = "bidirectional"
    if first.cell == "rnn":
        found["activations"] = [PHI[first.kind.partition("_")[2]]] * len(directions)
    if first.cell == "gru":
        found["linear_before_reset"] = int(first.kind == "gru_after")
    return found


def _stacked(parts: Sequence[Any], cell: str) -> Any:
    """(G*H, ...) of each direction -> (directions, G*H, ...), gates in ONNX's order."""
    if isinstance(parts[0], Eight):
        return Eight(*(_stacked([part[i] for part in parts], cell) for i in range(2)))
    blocks = [np.split(part, len(ORDER[cell])) for part in parts]
    return np.stack([np.concatenate([each[gate] for gate in ORDER[cell]]) for each in blocks])


def _columns(g: Graph, weight: Eight, name: str) -> list[str]:
    """As DynamicQuantizeLSTM wants it: (directions, K, 4H) in eight bits, its scales, its zero points."""
    values, scale = weight
    return [
        g.tensor(values.transpose(0, 2, 1), name),
        g.tensor(scale, f"{name}.scale"),
        g.tensor(np.zeros(scale.shape, np.int8), f"{name}.zero"),
    ]


# Segments and what is pooled over them (layers/segments.py, layers/pool.py)


def segments(g: Graph, ids: str, lengths: str, size: int) -> tuple[str, str, Callable[[str, float], str]]:
    """ids (B, T), lengths (B,) -> rows (R, S), their lengths (R,), and what brings a value (R, F) of rows back to
    their texts: (B, P, F), with `empty` for the segments that a text has not. S = min(T, size)."""
    steps = g.size(ids, 1)
    width = g("Min", steps, size)
    pieces = g("Div", g("Sub", g("Add", steps, width), 1), width)
    missing = g("Sub", g("Mul", pieces, width), steps)
    padded = g("Pad", ids, g("Concat", [0, 0, 0], g("Unsqueeze", missing, [0]), axis=0))
    start = g("Mul", g("Range", 0, pieces, 1), width)  # (P,)
    left = g("Sub", g("Unsqueeze", lengths, [1]), start)  # (B, P)
    kept = g("Or", g("Less", 0, left), g("Equal", start, 0))
    place = g("Squeeze", g("NonZero", g("Reshape", kept, [-1])), [0])  # (R,)
    cut = g("Reshape", padded, g("Concat", [-1], g("Unsqueeze", width, [0]), axis=0))
    inside = g("Reshape", g("Min", g("Max", left, 0), width), [-1])
    every = g("Unsqueeze", g.size(inside, 0), [0])

    def spread(value: str, empty: float) -> str:
        features = g("Slice", g("Shape", value), [1], [2])
        blank = g("ConstantOfShape", g("Concat", every, features, axis=0), value=filled(empty))
        whole = g("ScatterND", blank, g("Unsqueeze", place, [1]), value)
        return g("Reshape", whole, g("Concat", [-1], g("Unsqueeze", pieces, [0]), features, axis=0))

    return g("Gather", cut, place), g("Gather", inside, place), spread


def _joined(g: Graph, pooled: Mapping[str, str], count: str) -> list[str]:
    """(B, P, F) of each kind, (B, 1) steps -> (B, F) each."""
    parts = []
    if "context" in pooled:
        weights = g("Softmax", pooled["energy"], axis=1)
        parts.append(g("ReduceSum", g("Mul", weights, pooled["context"]), [1], keepdims=0))
    if "sum" in pooled:
        parts.append(g("Div", g("ReduceSum", pooled["sum"], [1], keepdims=0), g("Cast", count, to=FLOAT)))
    if "top" in pooled:
        parts.append(g("ReduceMax", pooled["top"], axes=[1], keepdims=0))
    return parts


def _carried(g: Graph, pooled: Mapping[str, str], joined: list[str]) -> dict[str, str]:
    """What the next piece needs of this one and all before it, (B, F) each."""
    found = {}
    if "context" in pooled:
        found["energy"] = g("ReduceLogSumExp", pooled["energy"], axes=[1], keepdims=0)
        found["context"] = joined[0]
    if "sum" in pooled:
        found["sum"] = g("ReduceSum", pooled["sum"], [1], keepdims=0)
    if "top" in pooled:
        found["top"] = joined[-1]
    return found


def _ends(g: Graph, pooled: dict[str, str], count: str, model: ModelConfig) -> list[str]:
    """The forward state of a text's last segment and, if there is one, the backward state of its first."""
    ends = pooled.pop("end")  # (B, P, F)
    last = g("Div", g("Sub", count, 1), model.segment)  # (B, 1)
    forward = g("Slice", g("GatherND", ends, last, batch_dims=1), [0], [model.hidden], [1])
    if not model.bidirectional:
        return [forward]
    backward = g("Slice", g("Gather", ends, 0, axis=1), [model.hidden], [2 * model.hidden], [1])
    return [forward, backward]
