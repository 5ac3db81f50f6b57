"""Eight bits: what they weigh, how near they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import pytest
import torch

from echoic.core import bundle
from echoic.core.errors import CheckFailed
from echoic.export import networks, onnx, parity, sealed
from echoic.export.onnx import export
from echoic.export.quantise import quantised, widened
from echoic.export.weights import without_batch_norm
from echoic.kernels.plain import Eight
from echoic.model import Model
from export.models import classifier, language, numpy_tensors, path_of, translator


@pytest.mark.parametrize("cell_name", ["lstm", "gru"])
@pytest.mark.parametrize("classes", [2, 3])
def test_eight_bits_are_near_the_weights(cell_name: str, classes: int) -> None:
    model = classifier(f"model.cell.kind={cell_name}", classes=classes, ngrams=2)
    tensors = without_batch_norm(model.config.model, numpy_tensors(model))
    if classes == 2:
        tensors["ngrams.weight"][:, 0] = -tensors["ngrams.weight"][:, 1]
    eight = quantised(tensors, cell_name)
    large = {name for name, each in eight.items() if isinstance(each, Eight)}
    assert large == {
        "embed.weight", "out.weight", "ngrams.weight",
        *(f"stack.cells.{i}.weight_{which}" for i in range(2) for which in ("ih", "hh")),
    }  # fmt: skip
    assert len(eight["ngrams.weight"].values) == (1 if classes == 2 else 3)
    for name, wide in widened(eight).items():
        assert wide.dtype == tensors[name].dtype
        step = np.abs(tensors[name]).max() / (64 if cell_name == "lstm" else 127)
        assert np.abs(wide - tensors[name]).max(initial=0) <= step / 2 * 1.001, name
    most = max(np.abs(eight[f"stack.cells.0.weight_{which}"].values).max() for which in ("ih", "hh"))
    assert most == (64 if cell_name == "lstm" else 127)


@pytest.mark.parametrize(
    "make",
    [
        lambda: classifier("model.cell.kind=gru", "model.batch_norm=true", "model.layers=2", ngrams=2),
        lambda: classifier("model.cell.kind=lstm", "model.cell.peephole=true", classes=2, ngrams=2),
        lambda: classifier("model.cell.kind=rnn", "model.pool=attention"),
        lambda: language("task.tied=true"),
        lambda: language("model.cell.kind=gru"),
        lambda: translator("task.vocabulary=separate"),
        lambda: translator("model.cell.kind=gru", "task.attention=additive"),
    ],
)
def test_the_file_is_the_rounded_network(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Model = make()
    found: list[float] = []
    monkeypatch.setattr(parity, "require", found.append)
    made = export(model.task, model.network, "d", int8=True, batches=20)
    assert len(found) == 1
    assert found[0] <= 1e-5
    for data in made.files.values():
        assert sealed.check(data, "m")["weights"] == "int8"
        nodes = {node.op_type for node in onnx_format.load_model_from_string(data).graph.node}
        assert ("DynamicQuantizeLSTM" in nodes) == (model.config.model.cell.kind == "lstm")


@pytest.mark.parametrize("cell_name", ["lstm", "gru"])
@pytest.mark.parametrize("make", [classifier, language])
def test_what_is_told_is_the_files_own_distance_from_the_unrounded_network(make: Any, cell_name: str) -> None:
    model: Model = make(f"model.cell.kind={cell_name}")
    made = export(model.task, model.network, "d", int8=True)
    again = parity.largest_difference(model.task, model.network, made.data, states=False)
    assert made.difference == again
    assert 1e-4 < made.difference < 0.2


def plant(fault: str, patch: pytest.MonkeyPatch) -> None:
    """In ONNX Runtime's own node, and nowhere else."""
    usual = networks.Graph.several

    def several(self: Any, name: str, count: int, *inputs: Any, **more: Any) -> Any:
        given = list(inputs)
        if name == "DynamicQuantizeLSTM":
            if fault == "peepholes":
                given[7] = ""
            if fault == "gates":
                given[1], given[2] = given[2], given[1]
            if fault == "scales":
                given[8], given[10] = given[10], given[8]
        return usual(self, name, count, *given, **more)

    patch.setattr(networks.Graph, "several", several)


@pytest.mark.parametrize("fault", ["gates", "peepholes", "scales"])
@pytest.mark.parametrize("looked", [False, True])
def test_a_wrong_eight_bit_node_is_caught(fault: str, looked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("model.cell.peephole=true", "model.embedding=5", "model.bidirectional=false")
    model = classifier(*given, looked=looked)
    with torch.no_grad():
        model.network.stack.cells[0].weight_hh.mul_(3)
        for name in ("weight_pi", "weight_pf", "weight_po"):
            getattr(model.network.stack.cells[0], name).fill_(4.0)
        model.network.out.weight.mul_(4)
    export(model.task, model.network, "d", int8=True)
    plant(fault, monkeypatch)
    with pytest.raises(CheckFailed, match="eight bits change the probabilities"):
        export(model.task, model.network, "d", int8=True)


def test_a_wrong_eight_bit_node_is_caught_among_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Averaged over a vocabulary no difference is large: the probabilities of a step sum to 1."""
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 60)))
    model = language("model.embedding=5", texts=[letters, letters[::-1]])
    assert len(model.task.text.vocabulary) > 40
    with torch.no_grad():
        model.network.stack.cells[0].weight_hh.mul_(3)
    export(model.task, model.network, "d", int8=True)
    plant("scales", monkeypatch)
    with pytest.raises(CheckFailed, match="eight bits change the probabilities"):
        export(model.task, model.network, "d", int8=True)


def test_an_lstm_in_eight_bits_sees_the_other_texts_of_its_batch_and_no_padding_of_its_own() -> None:
    """docs/export.md says both: ONNX Runtime's node has one scale for all that meets the weights."""
    model = classifier("model.hidden=32", "model.embedding=32")
    runtime = sealed.session(export(model.task, model.network, "d", int8=True).data)

    def first(ids: list[list[int]], lengths: list[int]) -> Any:
        return runtime.run(["probabilities"], {"ids": np.array(ids), "lengths": np.array(lengths)})[0][0]

    alone = first([[3, 4, 5]], [3])
    assert np.abs(first([[3, 4, 5, 9, 9]], [3]) - alone).max() < 1e-6
    assert 1e-6 < np.abs(first([[3, 4, 5, 0, 0], [1, 2, 6, 7, 8]], [3, 5]) - alone).max() < 0.1


@pytest.mark.parametrize(("classes", "slots"), [(2, 1 << 17), (5, 1 << 17)])
def test_a_file_of_a_usual_size_is_a_third_at_most(classes: int, slots: int) -> None:
    """An n-gram table larger than all the rest."""
    model = classifier("model.hidden=64", "model.embedding=64", classes=classes)
    path = path_of(len(model.task.text.vocabulary), classes, 2, slots)
    if classes == 2:
        path.weight[:, 0] = -path.weight[:, 1]
    model.network.join(path, np.array([1.0, 1.0]))
    sizes = [len(export(model.task, model.network, "d", int8=int8, batches=2).data) for int8 in (False, True)]
    assert sizes[1] <= 0.3 * sizes[0], sizes


# The door


def saved(model: Model, path: Path) -> bundle.Bundle:
    model.save(path)
    return bundle.read(path, "bundle")


def test_a_sealed_file_is_opened_without_torch_or_onnx() -> None:
    code = "import sys, echoic.export.sealed; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_near_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    monkeypatch.setattr(onnx, "NEAR", 0.0)
    with pytest.raises(CheckFailed, match="nothing was written"):
        export(model.task, model.network, "d", int8=True)
