"""The step downhill: which optimiser, how large a step, how the gradient is clipped.

The learning rate is a function of the step, not an object with a state: `rate(step, ...)` gives the
same number in a resumed run as in one left alone. The optimisers are torch's own; what they remember
is saved under the parameters' names.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from echoic.core.config import TrainConfig
from echoic.core.errors import ConfigError, show
from echoic.layers.embed import Embed
from echoic.layers.stack import Stack


def optimiser(network: nn.Module, config: TrainConfig, but: Collection[str] = ()) -> torch.optim.Optimizer:
    """The configured optimiser over the parameters of `network` that are to be trained, `but` those trained otherwise.

    Weight decay touches matrices only. A bias or a gain (one axis) sets where a unit stands, not how
    complex the function is (Goyal et al. 2017, section 5.3). An embedding gets a gradient only at the
    rows of a batch, but would be decayed at all rows in every step, so that rare words would fade
    between two sightings.

    Raises ConfigError if nothing is to be trained.
    """
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, Embed | nn.Embedding | nn.EmbeddingBag)}
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        raise ConfigError("the network has no parameter to train: every one of them is frozen")
    elsewhere = {id(p) for name, p in network.named_parameters() if name in but}
    trained = [p for p in trained if id(p) not in elsewhere]
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    plain = [p for p in trained if p.ndim <= 1 or id(p) in embeddings]
    parts = [(decayed, config.weight_decay), (plain, 0.0)]
    depth = {id(p): place for p, place in zip(network.parameters(), depths(network).values(), strict=True)}
    groups = [
        {"params": inside, "weight_decay": decay, "depth": place}
        for params, decay in parts
        for place in sorted(set(depth.values()))
        if (inside := [p for p in params if depth[id(p)] == place])
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)  # one pass over memory instead of about ten
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=config.lr, momentum=config.momentum)


def rate(step: int, total: int, config: TrainConfig, halvings: int = 0) -> float:
    """The learning rate of step `step` (from 0) of `total`.

    It rises in a straight line to `config.lr` over the share `config.warmup` of all steps. Then:
    constant: stays. onecycle: falls to almost 0 along half a cosine (Smith and Topin 2018; the form of
    Loshchilov and Hutter 2017, equation 5). plateau: `halvings` times halved, as validation decided.
    """
    warm = round(config.warmup * total)
    if step < warm:
        return config.lr * (step + 1) / warm
    match config.schedule:
        case "constant":
            return config.lr
        case "plateau":
            return config.lr * 0.5**halvings
        case "onecycle":
            done = min(1.0, (step - warm) / max(1, total - warm))
            return config.lr * 0.5 * (1.0 + math.cos(math.pi * done))


def depths(network: nn.Module) -> dict[str, int]:
    """{parameter: its layer, counted down from the output}: 0 is what stands above the recurrent layers, 1 the
    topmost of these, and an embedding table lies under the lowest."""
    place = dict.fromkeys((name for name, _ in network.named_parameters()), 0)
    deepest = 0
    for name, stack in network.named_modules():
        if isinstance(stack, Stack):
            deepest = max(deepest, stack.layers)
            for kind, each in (("cells", stack.directions), ("norms", 1)):
                for i, module in enumerate(getattr(stack, kind)):
                    inside = f"{name}.{kind}.{i}.".removeprefix(".")
                    place |= {inside + own: stack.layers - i // each for own, _ in module.named_parameters()}
    for name, module in network.named_modules():
        if isinstance(module, Embed):
            place[f"{name}.weight".removeprefix(".")] = deepest + 1
    return place


def set_rates(groups: Iterable[dict[str, Any]], rate: float, step: int, total: int, config: TrainConfig) -> None:
    """Gives each group the rate of its depth at this step, `rate` being the output's. One that is frozen still
    has the rate 0, and gets no gradient."""
    for group in groups:
        frozen = config.unfreeze > 0.0 and step < round(group["depth"] * config.unfreeze * total)
        group["lr"] = 0.0 if frozen else rate / config.layer_rate ** group["depth"]
        for parameter in group["params"]:
            parameter.requires_grad_(not frozen)


def clip(tensors: Iterable[Tensor], limit: float) -> float:
    """Scales all gradients by one number so that their joint 2-norm is at most `limit` (0: as they are).
    Returns the norm they had: inf or NaN if any of them was (Pascanu et al. 2013, algorithm 1)."""
    held = [t for t in tensors if t.grad is not None]
    norm = nn.utils.get_total_norm([t.grad for t in held if t.grad is not None])
    if limit > 0.0:
        nn.utils.clip_grads_with_norm_(held, limit, norm)
    return float(norm)


def memory(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """What the optimiser remembers, as {"parameter name/what": tensor}: momenta, squares, step counts."""
    out = {}
    for name, parameter in network.named_parameters():
        for what, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                out[f"{name}/{what}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return out


def remember(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives `optimizer` back what `memory` took from it. Raises ConfigError if it is another network's."""
    place = {id(p): i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    parameters = dict(network.named_parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, what = key.rpartition("/")
        if name not in parameters or id(parameters[name]) not in place:
            raise ConfigError(
                f"the checkpoint's optimiser knows a parameter {show(name)!r} that this network does not train"
            )
        state.setdefault(place[id(parameters[name])], {})[what] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
