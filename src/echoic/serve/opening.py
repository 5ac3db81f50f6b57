"""A classifier's bundle -> the network that runs without torch, every tensor checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from echoic.core.config import Config, ModelConfig
from echoic.core.errors import BundleError, Unavailable, show
from echoic.export.weights import kind_of, recurrences, without_batch_norm, without_kernel
from echoic.kernels import native
from echoic.kernels.door import Layer
from echoic.kernels.plain import Array
from echoic.serve.network import MULTIPLIERS, Network, Ngrams, Pool

WEIGHTS = "model.safetensors"
WIDTH = {"last": 1, "mean": 1, "max": 1, "concat": 3, "attention": 1}
"""Size of the pooled vector, in units of a state's size."""

Shapes = dict[str, tuple[int, ...]]


class NeedsTorch(Unavailable):
    """A model that only torch runs; it is no fault of the bundle."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} runs in torch alone: pip install 'echoic[train]'")
        self.reason = reason


def network_of(
    config: Config, data: bytes, vocabulary: int, classes: int, *, threads: int = 1, int8: bool = False
) -> Network:
    """The bytes of `model.safetensors` -> Network. Raises NeedsTorch, or BundleError naming the tensor that is not
    as `config` says."""
    model = config.model
    if reason := without_kernel(model):
        raise NeedsTorch(reason)
    if (kind := kind_of(model)) not in native.KINDS:
        raise NeedsTorch(f"the cell {kind}")
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise BundleError(f"{WEIGHTS}: not tensors: {show(error, 120)}") from None
    shapes = _shapes(model, native.GATES[native.KINDS.index(kind)], tensors, vocabulary, classes)
    for name in sorted(shapes.keys() | tensors.keys()):
        _require_fit(name, tensors.get(name), shapes.get(name))
    layers = recurrences(model, without_batch_norm(model, tensors))
    return Network(
        tensors["embed.weight"],
        [Layer(kind, *(each.weights for each in both), threads=threads, int8=int8) for both in layers],
        _pool(model, tensors),
        (tensors["out.weight"], tensors["out.bias"]),
        tensors["scales"],
        model.segment,
        _ngrams(tensors),
    )


def _under(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def _pool(model: ModelConfig, tensors: Mapping[str, Array]) -> Pool:
    if model.pool != "attention":
        return Pool(model.pool, model.hidden)
    weights = _under(tensors, "pool.attention.")
    if model.attention == "dot":
        return Pool(model.pool, model.hidden, query=weights["query"])
    return Pool(model.pool, model.hidden, (weights["key.weight"], weights["key.bias"]), weights["energy.weight"][0])


def _ngrams(tensors: Mapping[str, Array]) -> Ngrams | None:
    path = _under(tensors, "ngrams.")
    return Ngrams(int(path["order"]), path["check"], path["weight"], path["bias"]) if path else None


def _shapes(model: ModelConfig, gates: int, tensors: Mapping[str, Array], vocabulary: int, classes: int) -> Shapes:
    """{name: shape} of every tensor that this network has. The embedding's width (word vectors may bring their own)
    and the n-gram table's size are the tensors' own."""
    width = np.shape(tensors.get("embed.weight", np.empty((0, model.embedding))))[-1:]
    state = model.hidden * (1 + model.bidirectional)
    shapes: Shapes = {"embed.weight": (vocabulary, *width)}
    for layer in range(model.layers):
        features = (state,) if layer else width
        if model.batch_norm:
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"stack.norms.{layer}.{name}": features for name in names}
        for direction in range(1 + model.bidirectional):
            prefix = f"stack.cells.{layer * (1 + model.bidirectional) + direction}."
            shapes |= {f"{prefix}{name}": shape for name, shape in _cell(model, gates, *features).items()}
    if model.pool == "attention":
        whole: Shapes = {"query": (state,)}
        additive: Shapes = {"key.weight": (state, state), "key.bias": (state,), "energy.weight": (1, state)}
        shapes |= {f"pool.attention.{n}": s for n, s in (whole if model.attention == "dot" else additive).items()}
    shapes |= {"out.weight": (classes, WIDTH[model.pool] * state), "out.bias": (classes,)}
    slots = np.shape(tensors.get("ngrams.check", np.empty(0)))[:1]
    if beside := any(name.startswith("ngrams.") for name in tensors):
        shapes |= {"ngrams.order": (), "ngrams.check": slots, "ngrams.weight": (*slots, classes)}
        shapes["ngrams.bias"] = (classes,)
    return shapes | {"scales": (1 + beside,)}


def _cell(model: ModelConfig, gates: int, features: int) -> Shapes:
    rows = gates * model.hidden
    peepholes = ("weight_pi", "weight_pf", "weight_po") if model.cell.options.get("peephole") else ()
    return {
        "weight_ih": (rows, features),
        "weight_hh": (rows, model.hidden),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        **dict.fromkeys(peepholes, (model.hidden,)),
    }


def _require_fit(name: str, tensor: Array | None, shape: tuple[int, ...] | None) -> None:
    """Raises BundleError unless `tensor` has this shape and the type of its name, and is finite."""
    if shape is None:
        raise _unfit(name, "the network that config.json describes has no such tensor")
    if tensor is None:
        raise _unfit(name, "missing")
    dtype = np.dtype({"ngrams.order": "int64", "ngrams.check": "int32"}.get(name, "float32"))
    if (tensor.shape, tensor.dtype) != (shape, dtype):
        wanted = f"the network that config.json describes {shape} {dtype}"
        raise _unfit(name, f"has {tensor.shape} {tensor.dtype}, {wanted}")
    if name == "ngrams.order" and not 1 <= int(tensor) <= len(MULTIPLIERS):
        raise _unfit(name, f"{int(tensor)}, wanted 1 to {len(MULTIPLIERS)}")
    if name == "ngrams.check" and not len(tensor):
        raise _unfit(name, "an n-gram table without a slot")
    if not np.isfinite(tensor).all():
        raise _unfit(name, "holds a number that is not finite")


def _unfit(name: str, what: Any) -> BundleError:
    return BundleError(f"{WEIGHTS}: {show(name)}: {what}")
