"""A model as one ONNX file, a translator as two, checked before anybody can have it.

    made = export(model.task, model.network, digest)      made.data, and what the check found
    durable.write_file(path, made.data)

The graph is `networks.graph_of` (`translators.graphs_of`); what a file says of itself is `sealed.seal`. In eight bits the file is checked
twice: widened it must be the network with the rounded weights to 1e-5, and what ONNX Runtime's own node makes of
it must on average be near that (`NEAR`). What eight bits cost on real texts is for labelled rows to say (`outputs`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echoic.batch.buckets import plan
from echoic.core.errors import CheckFailed, UsageError
from echoic.decode.answers import probabilities
from echoic.export import parity, sealed
from echoic.export.networks import graph_of
from echoic.export.quantise import quantised, widened
from echoic.export.translators import graphs_of
from echoic.export.weights import without_batch_norm
from echoic.tasks.base import Dataset

NEAR = 0.05
"""How far the answers of the eight-bit LSTM node may be from the widened one's, on average: the total variation of
a distribution, whatever the number of its classes; of several labels the label that is farthest."""

TOKENS = 16_384
"""Tokens with padding in a batch of `outputs`; changes speed and memory, no answer."""


@dataclasses.dataclass(frozen=True)
class Exported:
    files: dict[str, bytes]
    """{"model"}, or of a translator {"encoder", "step"}"""
    difference: float
    """The largest between these bytes and the network, of `batches` random batches; in eight bits, what rounding
    weights and what meets them does to the answers."""
    batches: int

    @property
    def data(self) -> bytes:
        """The bytes of the one file."""
        (data,) = self.files.values()
        return data


def export(
    task: Any,
    network: torch.nn.Module,
    digest: str,
    *,
    states: bool = False,
    int8: bool = False,
    batches: int = parity.BATCHES,
    seed: int = 0,
) -> Exported:
    """The files' bytes, equal for equal arguments. `digest` names the bundle it is made from; `batches` and `seed`
    are the check's.

    Raises UsageError for what ONNX cannot express, CheckFailed where the file answers otherwise.
    """
    if task.config.task.options.get("cutoffs"):
        raise UsageError("task.cutoffs: an adaptive softmax is not exported; train with --set 'task.cutoffs=[]'")
    if states and (task.streams or task.pairs):
        raise UsageError(f"--states: a file of task.kind={task.config.task.kind} has its states without asking")
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    folded: Mapping[str, Any] = without_batch_norm(task.config.model, tensors)
    about = _about(task, digest, states, int8)
    classes, several = (0, False) if task.streams or task.pairs else (len(task.names), task.several)

    def made(weights: Mapping[str, Any], fast: bool) -> dict[str, bytes]:
        if task.pairs:
            graphs = graphs_of(task.config.model, task.options, weights, fast_int8=fast)
        else:
            graphs = {"model": graph_of(task.config, weights, classes, several=several, states=states, fast_int8=fast)}
        return {
            part: sealed.seal(graph, about | ({"part": part} if task.pairs else {})) for part, graph in graphs.items()
        }

    def difference(task: Any, network: torch.nn.Module, files: Mapping[str, bytes]) -> float:
        if task.pairs:
            return parity.difference_of_translators(task, network, files, batches=batches, seed=seed)
        return parity.largest_difference(task, network, files["model"], states=states, batches=batches, seed=seed)

    if not int8:
        files = made(folded, False)
        found = difference(task, network, files)
        parity.require(found)
        return Exported(files, found, batches)
    eight = quantised(folded, task.config.model.cell.kind)
    exact, fast = made(eight, False), made(eight, True)
    parity.require(difference(*_rebuilt(task, widened(eight)), exact))
    if fast != exact:
        _require_near(task, exact, fast, seed, several)
    return Exported(fast, difference(task, network, fast), batches)


def outputs(runtime: Any, data: Dataset, collate: Callable[[Dataset, NDArray[Any]], Any]) -> NDArray[Any]:
    """A classifier's logits (N, C) by the file, in the order of the data."""
    found: dict[int, NDArray[Any]] = {}
    for index in plan(data.lengths, 64, TOKENS):
        batch = collate(data, index)
        logits = runtime.run(["logits"], {"ids": batch.inputs, "lengths": batch.lengths})[0]
        found |= dict(zip(index.tolist(), logits, strict=True))
    return np.stack([found[i] for i in range(len(data))])


def _about(task: Any, digest: str, states: bool, int8: bool) -> dict[str, Any]:
    config = task.config
    about: dict[str, Any] = {"task": config.task.kind, "bundle": digest, "weights": "int8" if int8 else "float32"}
    about |= {"tokenizer": task.text.kind, "vocabulary": len(task.text.vocabulary), "states": states or task.streams}
    if task.pairs:
        own = {"tokenizer": task.written.kind, "vocabulary": len(task.written.vocabulary)}
        return about | {"states": True, "written": own, "ratio": task.ratio}
    if task.streams:
        return about
    thresholds = None if task.thresholds is None else [float(each) for each in task.thresholds]
    return about | {
        "labels": task.names,
        "several": task.several,
        "thresholds": thresholds,
        "segment": config.model.segment,
    }


def _rebuilt(task: Any, tensors: Mapping[str, NDArray[Any]]) -> tuple[Any, torch.nn.Module]:
    """The task and network of these tensors, in which batch norm is folded."""
    model = task.config.model.model_copy(update={"batch_norm": False})
    task = dataclasses.replace(task, config=task.config.model_copy(update={"model": model}))
    return task, task.restore({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})


def _require_near(task: Any, exact: Mapping[str, bytes], fast: Mapping[str, bytes], seed: int, several: bool) -> None:
    """Raises CheckFailed where the two answer unlike one another on random batches."""
    apart = []
    for first, second in zip(*(_answers(task, each, seed) for each in (exact, fast)), strict=True):
        each_apart = np.abs(probabilities(first, several) - probabilities(second, several))
        apart.append(each_apart.max(-1) if several else each_apart.sum(-1) / 2)
    average = float(np.concatenate(apart).mean())
    if not average <= NEAR:
        raise CheckFailed(
            f"eight bits change the probabilities by {average:.2f} on average (at most {NEAR}): nothing was written"
        )


def _answers(task: Any, files: Mapping[str, bytes], seed: int) -> Iterator[NDArray[Any]]:
    """The logits (N, ...) of six random batches."""
    runtimes = {part: sealed.session(data) for part, data in files.items()}
    for number, (ids, lengths) in enumerate(
        parity.ragged(len(task.text.vocabulary), task.config.model.segment, 6, seed, whole=False)
    ):
        if task.pairs:
            for _, answers in parity.written(task, runtimes, ids, lengths, seed + number):
                yield answers["logits"]
            continue
        given = {"ids": ids, "lengths": lengths, **parity.zeros(runtimes["model"], len(ids))}
        (logits,) = runtimes["model"].run(["logits"], given)
        # of a language model (B, T, V): what stands in the padding is no answer
        yield logits[np.arange(ids.shape[1]) < lengths[:, None]] if task.streams else logits
