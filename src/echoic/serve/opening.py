"""A bundle -> the network that runs without torch, every tensor checked before it is used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from echoic.core import bundle
from echoic.core.config import WIDTH, Config, ModelConfig
from echoic.core.errors import BundleError, EchoicError, Unavailable, show
from echoic.core.hashing import MULTIPLIERS
from echoic.export.weights import kind_of, recurrences, without_batch_norm, without_kernel
from echoic.kernels import native
from echoic.kernels.door import Layer, Products
from echoic.kernels.linear import Linear
from echoic.kernels.plain import Array
from echoic.serve.network import LanguageNetwork, Network, Ngrams, Pool
from echoic.serve.seq2seq import Attention, TranslatorNetwork

WEIGHTS = "model.safetensors"

KNOWN = 8 << 20
"""Bytes: of a vocabulary so small, letters as a rule, what each token adds to the gates is kept."""

Shapes = dict[str, tuple[int, ...]]


class NeedsTorch(Unavailable):
    """A model that only torch runs; it is no fault of the bundle."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} runs in torch alone: pip install 'echoic[train]'")
        self.reason = reason


@contextmanager
def opened_at(path: str | Path) -> Iterator[tuple[bundle.Bundle, Config]]:
    """The bundle at `path` (`bundle.find`), and its configuration. Raises BundleError if a bit is wrong;
    what goes wrong inside the `with` is a BundleError too."""
    opened = bundle.read(bundle.find(path), "bundle")
    for name in ("config.json", WEIGHTS):
        if name not in opened.files:
            raise BundleError(f"{show(opened.path / name, 300)}: missing")
    try:
        config = Config.parse(opened.json("config.json"), show(opened.path / "config.json", 300))
        yield opened, config
    except BundleError as error:
        raise BundleError(f"{show(opened.path, 300)}: {error}") from None
    except EchoicError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:  # files that echoic did not write
        what = show(f"{type(error).__name__}: {error}", 200)
        raise BundleError(f"{show(opened.path, 300)}: not a model that this release can open ({what})") from None


def network_of(
    config: Config, data: bytes, vocabulary: int, classes: int, *, threads: int = 1, products: Products = ""
) -> Network:
    """The bytes of a classifier's `model.safetensors` -> Network. Raises NeedsTorch, or BundleError naming the tensor
    that is not as `config` says."""
    model, kind = config.model, _kind(config.model)
    tensors = _tensors(data)
    _require_shapes(tensors, _shapes(model, kind, tensors, vocabulary, classes))
    return Network(
        tensors["embed.weight"],
        _layers(model, kind, without_batch_norm(model, tensors), threads, products),
        _pool(model, tensors),
        (tensors["out.weight"], tensors["out.bias"]),
        tensors["scales"],
        model.segment,
        _ngrams(tensors),
    )


def language_network_of(
    config: Config, data: bytes, vocabulary: int, *, threads: int = 1, products: Products = ""
) -> LanguageNetwork:
    """The same of a language model."""
    model = config.model.model_copy(update={"bidirectional": False})  # what reads from the end writes nothing
    kind, options = _kind(model), config.task.options
    tensors = {name: each for name, each in _tensors(data).items() if not name.startswith("behind.")}
    tied = bool(options.get("tied"))
    cuts = [cut for cut in options.get("cutoffs", ()) if cut < vocabulary]
    width = np.shape(tensors.get("embed.weight", np.empty((0, model.embedding))))[-1:]
    told = model.embedding if tied else model.hidden
    shapes: Shapes = {"embed.weight": (vocabulary, *width), **_recurrent(model, kind, width)}
    if tied:
        shapes |= {"bias": (vocabulary,)}
        if model.hidden != model.embedding:
            shapes["project.weight"] = (model.embedding, model.hidden)
    else:
        shapes |= {"out.weight": (vocabulary, model.hidden), "out.bias": (vocabulary,)}
    if cuts:
        shapes |= {"clusters.weight": (len(cuts), told), "clusters.bias": (len(cuts),)}
    _require_shapes(tensors, shapes)
    out = (tensors["embed.weight"], tensors["bias"]) if tied else (tensors["out.weight"], tensors["out.bias"])
    clusters = (tensors["clusters.weight"], tensors["clusters.bias"]) if cuts else None
    embedding = tensors["embed.weight"]
    small = vocabulary * native.GATES[native.KINDS.index(kind)] * model.hidden * embedding.itemsize <= KNOWN
    layers = _layers(model, kind, without_batch_norm(model, tensors), threads, products, embedding if small else None)
    return LanguageNetwork(embedding, layers, tensors.get("project.weight"), out, cuts, clusters)


def translator_network_of(
    config: Config, data: bytes, sources: int, targets: int | None, *, products: Products = ""
) -> TranslatorNetwork:
    """The same of a translator, whose calls take one thread each; `targets`: the size of the target's own vocabulary, if it has one."""
    model, kind, options = config.model, _kind(config.model), config.task.options
    tensors, attends = _tensors(data), options.get("attention", "dot")
    target = "embed.weight" if targets is None else "written.weight"
    _require_shapes(tensors, _translators(config, kind, sources, targets))
    tensors, of_keys = without_batch_norm(model, tensors), {}
    for name in ("stack.above.cells.0.weight_ih", "join.weight"):  # [h; context] -> ...
        tensors[name], of_keys[name] = np.split(tensors[name], [model.hidden], 1)
    encoder, below, above = (
        _layers(model, kind, tensors, 1, products, stack=f"stack.{name}") for name in ("encoder", "below", "above")
    )
    w = _under(tensors, "attention.")
    half: Products = "bfloat16" if products == "bfloat16" else ""

    def linear(name: str) -> Linear:
        return Linear(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), products=half)

    gates, told = (Linear(each, products=half) for each in of_keys.values())

    attention = None
    if attends == "additive":
        attention = Attention(linear("attention.key"), linear("attention.query"), w["energy.weight"][0])
    elif attends == "dot":
        attention = Attention(linear("attention.key") if w else None)
    return TranslatorNetwork(
        tensors["embed.weight"],
        tensors[target],
        encoder,
        below,
        above,
        gates,
        attention,
        linear("start"),
        linear("join"),
        told,
        Linear(tensors[target if options.get("tied", True) else "out.weight"], tensors["bias"], products=half),
        linear("copy") if options.get("copying") else None,
        bool(options.get("input_feeding")),
    )


def _translators(config: Config, kind: str, sources: int, targets: int | None) -> Shapes:
    """{name: shape} of a translator's tensors (layers/seq2seq.py)."""
    model, options = config.model, config.task.options
    size, hidden, keys = model.embedding, model.hidden, model.hidden * (1 + model.bidirectional)
    words, fed = sources if targets is None else targets, keys if options.get("input_feeding") else 0
    one = model.model_copy(update={"bidirectional": False})
    memory = 1 + native.has_memory(native.KINDS.index(kind))
    shapes: Shapes = {"embed.weight": (sources, size), "bias": (words,)}
    if targets is not None:
        shapes["written.weight"] = (targets, size)
    shapes |= _recurrent(model, kind, (size,), "stack.encoder")
    shapes |= _recurrent(one.model_copy(update={"layers": 1}), kind, (size + fed,), "stack.below")
    shapes |= _recurrent(one, kind, (hidden + keys,), "stack.above")
    shapes |= {"start.weight": (hidden * memory * (1 + model.layers), keys), "join.weight": (size, hidden + keys)}
    shapes |= {"start.bias": shapes["start.weight"][:1], "join.bias": (size,)}
    match options.get("attention", "dot"):
        case "additive":
            shapes |= {"attention.key.weight": (keys, keys), "attention.key.bias": (keys,)}
            shapes |= {"attention.query.weight": (keys, hidden), "attention.energy.weight": (1, keys)}
        case "dot" if keys != hidden:
            shapes["attention.key.weight"] = (hidden, keys)
    if not options.get("tied", True):
        shapes["out.weight"] = (words, size)
    if options.get("copying"):
        shapes |= {"copy.weight": (1, hidden + keys), "copy.bias": (1,)}
    return shapes


def _kind(model: ModelConfig) -> str:
    """One of `native.KINDS`. Raises NeedsTorch."""
    if reason := without_kernel(model):
        raise NeedsTorch(reason)
    if (kind := kind_of(model)) not in native.KINDS:
        raise NeedsTorch(f"the cell {kind}")
    return kind


def _tensors(data: bytes) -> dict[str, Array]:
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise BundleError(f"{WEIGHTS}: not tensors: {show(error, 120)}") from None
    return {name: t.astype(np.float32) if t.dtype == np.float16 else t for name, t in tensors.items()}


def _require_shapes(tensors: Mapping[str, Array], shapes: Shapes) -> None:
    for name in sorted(shapes.keys() | tensors.keys()):
        _require_fit(name, tensors.get(name), shapes.get(name))


def _layers(
    model: ModelConfig,
    kind: str,
    tensors: Mapping[str, Array],
    threads: int,
    products: Products,
    known: Array | None = None,
    stack: str = "stack",
) -> list[Layer]:
    """tensors: `without_batch_norm`. known: what the first layer reads."""
    folded = recurrences(model, tensors, stack)
    with warnings.catch_warnings():  # `kernel` says it
        warnings.filterwarnings("ignore", "NumPy computes this layer", RuntimeWarning)
        return [
            Layer(
                kind,
                *(each.weights for each in both),
                threads=threads,
                products=products,
                known=None if place else known,
            )
            for place, both in enumerate(folded)
        ]


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


def _shapes(model: ModelConfig, kind: str, tensors: Mapping[str, Array], vocabulary: int, classes: int) -> Shapes:
    """{name: shape} of every tensor that this network has. The embedding's width (word vectors may bring their own)
    and the n-gram table's size are the tensors' own."""
    width = np.shape(tensors.get("embed.weight", np.empty((0, model.embedding))))[-1:]
    state = model.hidden * (1 + model.bidirectional)
    shapes: Shapes = {"embed.weight": (vocabulary, *width), **_recurrent(model, kind, width)}
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


def _recurrent(model: ModelConfig, kind: str, width: tuple[int, ...], stack: str = "stack") -> Shapes:
    """Those of the layers and the norms before them."""
    gates, directions = native.GATES[native.KINDS.index(kind)], 1 + model.bidirectional
    shapes: Shapes = {}
    for layer in range(model.layers):
        features = (model.hidden * directions,) if layer else width
        if model.batch_norm:
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{stack}.norms.{layer}.{name}": features for name in names}
        for place in range(layer * directions, (layer + 1) * directions):
            cell = _cell(model, gates, *features)
            shapes |= {f"{stack}.cells.{place}.{name}": shape for name, shape in cell.items()}
    return shapes


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
