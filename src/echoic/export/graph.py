"""A graph of ONNX, written as one writes arithmetic.

    g = Graph()
    x = g("Add", a, b)                     one node; the answer is the name of its output
    y, h, _ = g.several("LSTM", 3, ...)    several outputs
    g.tensor(array_or_eight)               a stored array; eight bits are widened by nodes that a runtime folds

Inputs are names of values, or numbers: whole ones become int64, others float32, lists of them vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from echoic.core.errors import UsageError
from echoic.export.sealed import OPERATORS
from echoic.kernels.plain import Eight

OPSET, IR_VERSION = 17, 9
"""Of 2022: every runtime that is still in use reads them."""

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32

LARGEST = 2**31 - 2**20
"""Bytes of stored arrays: a message of protobuf ends before 2 GiB."""

ABSENT = ""
"""An optional input that is not given."""


class Graph:
    """Nodes in the order they are asked for; what is stored under one name, or without one is equal, is stored once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored: dict[str, Any] = {}
        self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, kind: int, shape: Sequence[str | int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, value: str, name: str, kind: int, shape: Sequence[str | int]) -> None:
        """`value` leaves the graph under `name`."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == value else each for each in names]
        self.outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def __call__(self, operator: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        return self.several(operator, 1, *inputs, domain=domain, **attributes)[0]

    def several(self, operator: str, count: int, *inputs: Any, domain: str = "", **attributes: Any) -> list[str]:
        """One node with `count` outputs."""
        assert operator in OPERATORS[domain], operator
        name = f"{operator}_{len(self.nodes)}"
        outputs = [name] if count == 1 else [f"{name}.{i}" for i in range(count)]
        given = [each if isinstance(each, str) else self.tensor(each) for each in inputs]
        self.nodes.append(helper.make_node(operator, given, outputs, name=name, domain=domain, **attributes))
        return outputs

    def tensor(self, value: Any, name: str = "") -> str:
        """A stored array. An Eight is stored in eight bits and widened: scale times whole numbers."""
        if isinstance(value, Eight):
            wide = self("Cast", self.tensor(value.values, name), to=FLOAT)
            return self("Mul", wide, self.tensor(value.scale[..., None], f"{name}.scale"))
        array = np.asarray(value, order="C")
        if not isinstance(value, np.ndarray):
            array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        if not name:
            key = array.dtype.str, array.shape, array.tobytes()
            name = self.constants.setdefault(key, f"constant.{len(self.constants)}")
        if name not in self.stored:
            self.stored[name] = numpy_helper.from_array(array, name)
        return name

    def size(self, value: str, axis: int) -> str:
        """A scalar: how long `value` is along `axis`."""
        return self("Gather", self("Shape", value), axis)

    def model(self, name: str) -> bytes:
        """The ModelProto's bytes, the same for the same graph. Raises UsageError where one file cannot hold it."""
        size = sum(len(each.raw_data) for each in self.stored.values())
        if size > LARGEST:
            raise UsageError(
                f"{size:,} bytes of weights: an ONNX file of one piece holds at most {LARGEST:,}; try --int8"
            )
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, list(self.stored.values()))
        domains = [("", OPSET)] + [("com.microsoft", 1)] * any(node.domain for node in self.nodes)
        model: ModelProto = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*each) for each in domains], ir_version=IR_VERSION
        )
        model.producer_name = "echoic"
        return bytes(model.SerializeToString(deterministic=True))


def filled(value: float) -> TensorProto:
    """What ConstantOfShape repeats."""
    return numpy_helper.from_array(np.array([value], np.float32))
