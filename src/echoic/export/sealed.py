"""An ONNX file that echoic wrote, and the proof that it is one: read before any runtime sees it.

    sealed = read("model.onnx")      BundleError for a damaged, foreign or newer file, or one with outside data
    sealed.about                     {"format", "task", "labels", "bundle": digest, "inputs", ...}
    sealed.data                      the bytes for `onnxruntime.InferenceSession`

A file is the graph and behind it one more field of the same message, a metadata entry named "echoic" whose
canonical JSON says what the file is and holds the SHA-256 of the graph and of what is said. A flipped bit
or a missing end is refused by that. A forger can recompute a digest, so the graph is looked through as
well, by a reader of protobuf's wire format that knows the few fields we write: no data in other files
(a runtime would open whatever path they name), no subgraphs, no operator that we do not use.

Neither onnx nor torch is needed here, so that a predictor need not have them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echoic.core import durable
from echoic.core.bundle import canonical
from echoic.core.errors import BundleError, InputMissing, show

FORMAT = 1
KEY = "echoic"

OPERATORS = {
    "": {
        "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Gather", "GatherND", "GRU", "Less",
        "Log", "LSTM", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pad", "Range",
        "ReduceLogSumExp", "ReduceMax", "ReduceSum", "Reshape", "RNN", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Slice",
        "Softmax", "Squeeze", "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where",
    },
    "com.microsoft": {"DynamicQuantizeLSTM"},
}  # fmt: skip
"""All that `graph.Graph` lets into a file, by domain."""

# Numbers of fields in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto.
MODEL = {"ir_version": 1, "producer_name": 2, "graph": 7, "opset_import": 8, "metadata_props": 14}
GRAPH = {"node": 1, "name": 2, "initializer": 5, "input": 11, "output": 12}
NODE = {"input": 1, "output": 2, "name": 3, "op_type": 4, "attribute": 5, "domain": 7}
ATTRIBUTE = {"name": 1, "f": 2, "i": 3, "s": 4, "t": 5, "floats": 7, "ints": 8, "strings": 9, "type": 20}
TENSOR = {"dims": 1, "data_type": 2, "name": 8, "raw_data": 9}
"""`external_data` (13) and `data_location` (14) are not among them."""

NUMBERS = {"ir_version", "f", "i", "floats", "ints", "type", "dims", "data_type"}
"""Of these fields, those that may hold a number; every other one is a text or a message."""


@dataclass(frozen=True)
class Sealed:
    about: dict[str, Any]
    data: bytes


def seal(graph: bytes, about: dict[str, Any]) -> bytes:
    """A ModelProto without metadata, as bytes -> the file."""
    about = {**about, "format": FORMAT}
    return graph + _end({**about, "sha256": _digest(graph, about)})


def _end(about: dict[str, Any]) -> bytes:
    return _field(MODEL["metadata_props"], _field(1, KEY.encode()) + _field(2, canonical(about)))


def _digest(graph: bytes, about: dict[str, Any]) -> str:
    return durable.sha256(graph + canonical({name: value for name, value in about.items() if name != "sha256"}))


def read(path: str | Path) -> Sealed:
    """The file at `path`. Raises InputMissing, or BundleError saying what is wrong with it."""
    path = Path(path)
    if not path.exists():
        raise InputMissing(f"{show(path, 300)}: no such file")
    if not path.is_file():
        raise BundleError(f"{show(path, 300)}: is no file")
    data = path.read_bytes()
    return Sealed(check(data, show(path, 300)), data)


def session(data: bytes, threads: int = 1) -> Any:
    """An `onnxruntime.InferenceSession` of a checked file, on the CPU; it reads no other file."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def check(data: bytes, where: str) -> dict[str, Any]:
    """What the file says of itself, once all of it is found to be ours. Raises BundleError."""
    foreign = f"{where}: not an ONNX file that echoic wrote, or damaged"
    try:
        start, text = _entry(data)
        about = dict(json.loads(text))
        version = about["format"]
        ours = version == FORMAT and _end(about) == data[start:] and _digest(data[:start], about) == about["sha256"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise BundleError(foreign) from None
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(
            f"{where}: written in format {show(version, 20)}, this release reads up to {FORMAT}; install a newer echoic"
        )
    if not ours:
        raise BundleError(foreign)
    try:
        _look_through(data[:start])
    except (ValueError, IndexError) as error:
        raise BundleError(f"{where}: {error}") from None
    return about


def _entry(data: bytes) -> tuple[int, bytes]:
    """Where the last field of the model begins, and the text under our key in it."""
    start, number, value = deque(_fields(memoryview(data)), maxlen=1).pop()
    if not isinstance(value, memoryview):
        raise ValueError("no such entry")
    pairs = {inner: bytes(found) for _, inner, found in _fields(value) if isinstance(found, memoryview)}
    if number != MODEL["metadata_props"] or pairs[1] != KEY.encode():
        raise ValueError("no such entry")
    return start, pairs[2]


def _look_through(graph: bytes) -> None:
    """Raises ValueError for anything that we do not write."""
    for number, value in _known(memoryview(graph), MODEL, "model"):
        if number == MODEL["graph"]:
            for field, inner in _known(value, GRAPH, "graph"):
                if field == GRAPH["initializer"]:
                    _tensor(inner)
                elif field == GRAPH["node"]:
                    _node(inner)


def _node(data: Any) -> None:
    operator = domain = ""
    for number, value in _known(data, NODE, "node"):
        if number == NODE["op_type"]:
            operator = bytes(value).decode()
        elif number == NODE["domain"]:
            domain = bytes(value).decode()
        elif number == NODE["attribute"]:
            for field, inner in _known(value, ATTRIBUTE, "attribute"):
                if field == ATTRIBUTE["t"]:
                    _tensor(inner)
    if operator not in OPERATORS.get(domain, ()):
        raise ValueError(f"holds the operator {show(f'{domain} {operator}'.strip())!r}, which echoic does not write")


def _tensor(data: Any) -> None:
    for _, number, _ in _fields(data):
        if number in (13, 14):
            raise ValueError("holds a tensor whose data are in another file; a model is one file")
    for _ in _known(data, TENSOR, "tensor"):
        pass


def _known(data: Any, names: dict[str, int], what: str) -> Iterator[tuple[int, Any]]:
    """The fields of a message, each of which must be one that we write, and a text or message where we write one."""
    known = {number: name for name, number in names.items()}
    for _, number, value in _fields(data):
        if number not in known:
            raise ValueError(f"holds a {what} with field {number}, which echoic does not write")
        if isinstance(value, int) and known[number] not in NUMBERS:
            raise ValueError(f"damaged: a number where a {what} has its {known[number]}")
        yield number, value


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(where it begins, number, value) of each field of a message in protobuf's wire format; a value is a number
    (of wire type 1 or 5: its bits), or the bytes of a text, message or packed list (wire type 2). Raises ValueError or IndexError where it is none."""
    place = 0
    while place < len(data):
        start = place
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield start, tag >> 3, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in (1, 5):
            size = {1: 8, 5: 4}[kind]
        else:
            raise ValueError("damaged: a wire type that echoic does not write")
        if place + size > len(data):
            raise ValueError("damaged: a field goes beyond the end")
        content = data[place : place + size]
        yield start, tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("damaged: a number without an end")


def _field(number: int, content: bytes) -> bytes:
    return _encoded(number << 3 | 2) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
