"""A translator as two ONNX files: one reads the source once, the other writes a token of every hypothesis a call.

    encoder   ids (B, S), lengths (B,) -> keys (B, S, K), projected (B, S, A), next.*
    step      ids (N,), owner (N,), lengths, keys, projected, state.* -> logits (N, V), attention (N, S), next.*

`owner` says which of the B sources each of N hypotheses belongs to. Every `next.NAME` is the following call's `state.NAME`,
the encoder's the first step's. `projected` is there where the attention has a form of the keys that is not the keys;
without attention there is `last` (B, K) in the place of keys; with copying the step wants the `sources` (B, S) too, and
answers in log probabilities. The equations are those of `layers/seq2seq.py`; first and last token are `<empty>`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from echoic.core.config import ModelConfig
from echoic.export.graph import ABSENT, FLOAT, INT64, Graph
from echoic.export.networks import BATCH, NOTHING, Network, rows_of
from echoic.export.weights import Tensors, recurrences

SOURCES, STEPS = "sources", "source_time"


def graphs_of(model: ModelConfig, options: Any, tensors: Tensors, *, fast_int8: bool = True) -> dict[str, bytes]:
    """{"encoder", "step": the ModelProto, without metadata}; `options` are the task's (`tasks/translate.py`)."""
    parts = _Encoder(Graph(), model, tensors, fast_int8, options), _Step(Graph(), model, tensors, fast_int8, options)
    for part in parts:
        part.build()
    return {"encoder": parts[0].g.model("encoder"), "step": parts[1].g.model("step")}


class _Part(Network):
    def __init__(self, g: Graph, model: ModelConfig, tensors: Tensors, fast_int8: bool, options: Any) -> None:
        super().__init__(g, model, tensors, recurrences(model, tensors, "stack.encoder"), fast_int8)
        self.options = options
        self.decoder = {name: recurrences(model, tensors, f"stack.{name}") for name in ("below", "above")}
        self.keys = self.layers[-1][0].hidden * len(self.layers[-1])
        """K"""

    @property
    def projected(self) -> int:
        """A; 0 where the keys serve as they are."""
        key = self.tensors.get("attention.key.weight")
        return 0 if key is None else rows_of(key)


class _Encoder(_Part):
    def build(self) -> None:
        g = self.g
        ids, lengths = g.input("ids", INT64, [SOURCES, STEPS]), g.input("lengths", INT64, [SOURCES])
        y, ends = self.read(ids, lengths)
        last = g("Reshape", g("Transpose", ends[-1]["h"], perm=[1, 0, 2]), [0, -1])
        start, place = g("Tanh", self.linear(last, "start")), 0
        for name, layers in self.decoder.items():
            for number, (cell,) in enumerate(layers):
                for field in cell.fields:
                    vector = g("Slice", start, [place], [place + cell.hidden], [1])
                    g.output(vector, f"next.{name}.{number}.{field}", FLOAT, [SOURCES, cell.hidden])
                    place += cell.hidden
        if self.options.input_feeding:
            g.output(g("Mul", last, 0.0), "next.context", FLOAT, [SOURCES, self.keys])
        if self.options.attention == "none":
            g.output(last, "last", FLOAT, [SOURCES, self.keys])
            return
        keys = g("Transpose", y, perm=[1, 0, 2])
        if self.projected:
            own = self.linear(keys, "attention.key", bias="attention.key.bias" in self.tensors)
            g.output(own, "projected", FLOAT, [SOURCES, STEPS, self.projected])
        g.output(keys, "keys", FLOAT, [SOURCES, STEPS, self.keys])


class _Step(_Part):
    def build(self) -> None:
        g, feeding = self.g, self.options.input_feeding
        ids, self.owner = g.input("ids", INT64, [BATCH]), g.input("owner", INT64, [BATCH])
        states = {name: self.given_states(layers, f"{name}.") for name, layers in self.decoder.items()}
        table = "embed.weight" if "written.weight" not in self.tensors else "written.weight"
        x = self.embed(g("Unsqueeze", ids, [0]), table)
        if feeding:
            before = g.input("state.context", FLOAT, [BATCH, self.keys])
            x = g("Concat", x, g("Unsqueeze", before, [0]), axis=2)
        h, below = self.stacked("below", self.decoder["below"], x, ABSENT, states["below"])
        context, weights = self.attend(g("Squeeze", h, [0]))
        joined = g("Concat", h, g("Unsqueeze", context, [0]), axis=2)
        s, above = self.stacked("above", self.decoder["above"], joined, ABSENT, states["above"])
        told = g("Concat", g("Squeeze", s, [0]), context, axis=1)
        output = "out.weight" if "out.weight" in self.tensors else table
        logits = g(
            "Add",
            self.linear(g("Tanh", self.linear(told, "join")), output.removesuffix(".weight"), bias=False),
            g.tensor(self.tensors["bias"], "bias"),
        )
        if self.options.copying:
            logits = self.mixed(logits, told, weights)
        g.output(logits, "logits", FLOAT, [BATCH, rows_of(self.tensors[output])])
        for name, last in (("below", below), ("above", above)):
            self.give_states(self.decoder[name], last, f"{name}.")
        if weights:
            g.output(weights, "attention", FLOAT, [BATCH, STEPS])
        if feeding:
            g.output(context, "next.context", FLOAT, [BATCH, self.keys])

    def mine(self, name: str, kind: int, *shape: str | int) -> str:
        """An input of each source -> of each hypothesis."""
        return self.g("Gather", self.g.input(name, kind, [SOURCES, *shape]), self.owner)

    def attend(self, query: str) -> tuple[str, str]:
        """(N, H) -> contexts (N, K), weights (N, S); ABSENT where there are none."""
        g = self.g
        if self.options.attention == "none":
            return self.mine("last", FLOAT, self.keys), ABSENT
        lengths, keys = self.mine("lengths", INT64), self.mine("keys", FLOAT, STEPS, self.keys)
        own = self.mine("projected", FLOAT, STEPS, self.projected) if self.projected else keys
        if self.options.attention == "additive":
            asked = g("Unsqueeze", self.linear(query, "attention.query", bias=False), [1])
            scores = self.linear(g("Tanh", g("Add", own, asked)), "attention.energy", bias=False)
        else:
            scores = g("MatMul", own, g("Mul", g("Unsqueeze", query, [2]), 1 / math.sqrt(self.model.hidden)))
        valid = g("Less", g("Range", 0, g.size(keys, 1), 1), g("Unsqueeze", lengths, [1]))
        weights = g("Softmax", g("Where", valid, g("Squeeze", scores, [2]), NOTHING), axis=1)
        return g("Squeeze", g("MatMul", g("Unsqueeze", weights, [1]), keys), [1]), weights

    def mixed(self, logits: str, told: str, weights: str) -> str:
        """The log probabilities of writing or copying."""
        g = self.g
        written, chosen = g("Softmax", logits, axis=1), g("Sigmoid", self.linear(told, "copy"))
        nothing = g("Mul", written, 0.0)
        copied = g("ScatterElements", nothing, self.mine("sources", INT64, STEPS), weights, axis=1, reduction="add")
        p = g("Add", copied, g("Mul", chosen, g("Sub", written, copied)))
        return g("Log", g("Max", p, float(np.finfo(np.float32).tiny)))
