"""A file is ours, whole, one file and of this format, or it is refused before a runtime reads it."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from echoic.core.bundle import canonical
from echoic.core.errors import BundleError, InputMissing
from echoic.export import sealed
from echoic.export.onnx import export
from echoic.model import Model
from export.models import classifier, language, translator


@pytest.fixture(scope="module")
def data() -> bytes:
    model = classifier(ngrams=2)
    return export(model.task, model.network, "a digest", batches=2).data


def parsed(data: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(data)


def forged(data: bytes, change: Callable[[onnx.ModelProto], object]) -> bytes:
    """The file with its graph changed and its digest made true again."""
    model = parsed(data)
    about = json.loads(model.metadata_props.pop().value)
    change(model)
    return sealed.seal(model.SerializeToString(deterministic=True), about)


def test_what_a_file_says_of_itself(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    found = sealed.read(tmp_path / "m.onnx")
    assert found.data == data
    assert found.about["format"] == 1
    assert found.about["labels"] == ["class 0", "class 1", "class 2"]
    assert found.about["bundle"] == "a digest"
    assert (found.about["task"], found.about["weights"], found.about["segment"]) == ("classify", "float32", 8)
    assert json.loads(parsed(data).metadata_props[0].value) == found.about


def opposite(model: Model) -> Model:
    """Two classes' n-gram weights as fitting leaves them."""
    weight = model.network.ngrams.weight  # type: ignore[union-attr]
    weight[:, 0] = -weight[:, 1]
    return model


def test_every_operator_that_is_let_in_is_written(data: bytes) -> None:
    files = [data]
    for model in (
        classifier("model.pool=attention", "model.cell.kind=gru", "model.layers=2"),
        classifier("model.pool=concat", "model.cell.kind=rnn", "task.several=true"),
        opposite(classifier(classes=2, ngrams=1)),
        language("task.tied=true"),
    ):
        files += [export(model.task, model.network, "d", int8=int8, batches=1).data for int8 in (False, True)]
    model = translator("task.copying=true")
    files += export(model.task, model.network, "d", batches=1).files.values()
    model = classifier("model.bidirectional=false")
    files.append(export(model.task, model.network, "d", states=True, batches=1).data)
    used = {(node.domain, node.op_type) for each in files for node in parsed(each).graph.node}
    assert used == {(domain, name) for domain, names in sealed.OPERATORS.items() for name in names}


def test_a_flipped_bit_or_a_missing_end_is_refused(data: bytes) -> None:
    draws = random.Random(0)
    places = [*range(40), *range(len(data) - 600, len(data)), *draws.sample(range(len(data)), 400)]
    for place in places:
        wrong = bytearray(data)
        wrong[place] ^= 1 << draws.randrange(8)
        with pytest.raises(BundleError):
            sealed.check(bytes(wrong), "m.onnx")
    for size in [*range(30), *draws.sample(range(len(data)), 200), len(data) - 1]:
        with pytest.raises(BundleError):
            sealed.check(data[:size], "m.onnx")
    for more in (b"\0", data, b"r\x00"):
        with pytest.raises(BundleError):
            sealed.check(data + more, "m.onnx")


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")


def outside_in_an_attribute(model: onnx.ModelProto) -> None:
    node = next(each for each in model.graph.node if each.op_type == "ConstantOfShape")
    node.attribute[0].t.data_location = TensorProto.EXTERNAL


def location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "ReadFile"


def foreign_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "ai.onnx.ml"


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d")


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(numpy_helper.from_array(np.zeros(1), "z"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (outside, "another file"),
        (outside_in_an_attribute, "another file"),
        (location_alone, "another file"),
        (subgraph, "does not write"),
        (foreign_operator, "'ReadFile', which echoic does not write"),
        (foreign_domain, "does not write"),
        (function, "model with field 25"),
        (sparse, "graph with field 15"),
    ],
)
def test_a_forged_file_is_refused(data: bytes, change: Callable[[onnx.ModelProto], object], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        sealed.check(forged(data, change), "m.onnx")


def test_a_forged_file_without_a_forgery_passes(data: bytes) -> None:
    assert sealed.check(forged(data, lambda model: None), "m.onnx")["bundle"] == "a digest"


def test_a_newer_and_a_foreign_file_are_refused(data: bytes) -> None:
    model = parsed(data)
    about = json.loads(model.metadata_props.pop().value)
    graph = model.SerializeToString(deterministic=True)
    later = canonical({**about, "format": 2})
    entry = sealed._field(1, b"echoic") + sealed._field(2, later)
    with pytest.raises(BundleError, match="format 2, this release reads up to 1; install a newer"):
        sealed.check(graph + sealed._field(14, entry), "m.onnx")
    for foreign in (graph, b"", b"\x08\x09", b"PK\x03\x04", os.urandom(500), hashlib.sha256(b"").digest()):
        with pytest.raises(BundleError, match="not an ONNX file that echoic wrote"):
            sealed.check(foreign, "m.onnx")


def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    draws = random.Random(1)
    for _ in range(3000):
        noise = bytes(draws.choice((0x08, 0x0A, 0x12, 0x3A, 0x72, 0xFF, 0x00, draws.randrange(256))) for _ in range(40))
        with pytest.raises(BundleError):
            sealed.check(noise, "m.onnx")
        with pytest.raises(BundleError):  # behind a true digest
            sealed.check(sealed.seal(b"\x3a" + sealed._encoded(len(noise)) + noise + b"\xff", {}), "m.onnx")


@pytest.mark.parametrize(
    "said",
    [
        "NaN", "-Infinity", "1e999", '"\\ud800"', '{"\\udfff": 1}', "9" * 5000,
        *("[" * depth + "]" * depth for depth in (100, 100_000)),
    ],
)  # fmt: skip
def test_what_no_canonical_json_holds_is_refused(data: bytes, said: str) -> None:
    graph = parsed(data)
    graph.metadata_props.pop()
    text = f'{{"format": 1, "sha256": "0", "more": {said}}}'
    entry = sealed._field(1, b"echoic") + sealed._field(2, text.encode())
    with pytest.raises(BundleError, match="not an ONNX file that echoic wrote"):
        sealed.check(graph.SerializeToString() + sealed._field(14, entry), "m.onnx")


def test_json_of_any_depth_raises_nothing_else() -> None:
    """Of one depth, which hangs on the interpreter, json reads what it cannot write."""
    for depth in range(800, 1000):
        text = f'{{"format": 1, "sha256": "0", "more": {"[" * depth + "]" * depth}}}'
        entry = sealed._field(1, b"echoic") + sealed._field(2, text.encode())
        with pytest.raises(BundleError, match="not an ONNX file that echoic wrote"):
            sealed.check(sealed._field(14, entry), "m.onnx")


def number(field: int, value: int) -> bytes:
    return sealed._encoded(field << 3) + sealed._encoded(value)


def fixed(field: int, content: bytes) -> bytes:
    return sealed._encoded(field << 3 | {8: 1, 4: 5}[len(content)]) + content


ADD = sealed._field(4, b"Add")


@pytest.mark.parametrize(
    "graph",
    [
        *(sealed._field(1, number(field, huge)) for field in (1, 2, 3, 4, 5, 7) for huge in (3, 1 << 62)),
        sealed._field(1, fixed(4, b"GatherND")),
        sealed._field(1, fixed(4, b"LSTM")),
        sealed._field(1, ADD + fixed(7, b"\0" * 4)),
        sealed._field(1, ADD + sealed._field(5, number(5, 1 << 62))),
        sealed._field(1, ADD + sealed._field(5, fixed(4, b"\0" * 8))),
        sealed._field(5, number(9, 1 << 62)),
        number(5, 1 << 62),
        fixed(1, b"\x22\x06Softma"),
        fixed(2, b"name"),
    ],
)
def test_a_number_where_a_text_or_message_should_be_is_refused(graph: bytes) -> None:
    with pytest.raises(BundleError, match="damaged: a number where a"):
        sealed.check(sealed.seal(sealed._field(7, graph), {}), "m.onnx")


def test_a_number_in_the_place_of_the_graph_is_refused() -> None:
    for graph in (number(7, 1 << 62), fixed(7, b"graph of"), fixed(7, b"\0" * 4)):
        with pytest.raises(BundleError, match="a number where a model has its graph"):
            sealed.check(sealed.seal(graph, {}), "m.onnx")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="no such file"):
        sealed.read(tmp_path / "absent.onnx")
    with pytest.raises(BundleError, match="is no file"):
        sealed.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(BundleError, match="is no file"):
        sealed.read(tmp_path / "pipe.onnx")
