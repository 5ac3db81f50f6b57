"""A new model that begins where a language model ended: its structure, its tokenizer, its weights.

    settings(base, config)         the configuration, with the base's structure
    text(base, texts, config)      the base's tokenizer, with the new tokens of these texts
    weights(network, base)         the base's vectors and recurrent layers; new tokens get the mean vector

What the new network has and the base has not, such as a classifier's output, stays as it was drawn.
Howard and Ruder 2018, "Universal language model fine-tuning for text classification" (arXiv:1801.06146),
section 3.3; the mean for new words is their programme's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from echoic.core import bundle, durable
from echoic.core.config import Config, over
from echoic.core.errors import ConfigError, DataError, UsageError, show
from echoic.core.types import PAD, SPECIALS, UNKNOWN
from echoic.model import Model
from echoic.prepare.text import TextPreparer

RECIPE = Path(__file__).with_name("finetune.toml")
STRUCTURE = ("cell", "hidden", "layers", "embedding", "bidirectional", "layer_norm", "batch_norm")
LOOKED_AT = 2000
"""Texts by which a foreign base is told."""
FOREIGN = 0.5
"""Share of unknown tokens from which on a base is of another language."""
SPELLED = 0.9
"""Tokens a byte from which on a tokenizer of pieces only spells."""


def recipe(stage: str) -> dict[str, Any]:
    """The defaults of "classify", "language" or "adapt" in finetune.toml, as nested mappings."""
    found: dict[str, Any] = tomllib.loads(RECIPE.read_text(encoding="utf-8"))[stage]
    return found


def settings(base: Model, config: Config) -> Config:
    """`config` with the recipe's defaults and the base's structure, which is kept even if nobody named it.

    Raises UsageError if the base is no language model, ConfigError for a setting that contradicts it.
    """
    if not base.task.streams:
        raise UsageError(f"the base does {base.config.task.kind}: fine-tuning begins from a language model")
    if config.text.vectors is not None:
        raise ConfigError("text.vectors: the base has vectors of its own; leave it out")
    language = config.task.kind == base.config.task.kind
    values = base.config.model_dump(mode="json", exclude_none=True)
    kept = {
        "text": {"tokenizer": base.task.text.kind, "lowercase": base.config.text.lowercase},
        "model": {key: values["model"][key] for key in STRUCTURE},
        **({"task": base.task.options.model_dump(mode="json", include={"tied", "cutoffs"})} if language else {}),
    }
    _refuse_another(config.stated(), kept)
    if not language:
        return config.with_defaults(over(kept, recipe("classify")))
    own = {"task": values["task"], "model": values["model"]}
    return config.with_defaults(over(over(kept, own), over(recipe("adapt"), recipe("language"))))


def _refuse_another(stated: Mapping[str, Any], kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ConfigError for a stated setting that the base has otherwise."""
    for section, inner in kept.items():
        for key, value in inner.items():
            named = stated.get(section, {}).get(key, value)
            whole = {**value, **named} if isinstance(value, dict) and isinstance(named, dict) else named
            if whole != value and (key, named) != ("tokenizer", "auto"):
                told = "its tokenizer is kept" if section == "text" else "its structure is kept"
                raise ConfigError(
                    f"{section}.{key} = {show(named)}: the base has {show(value)}, and {told}; leave it out"
                )


def text(base: Model, texts: Sequence[str], config: Config, said: Callable[[str], None]) -> TextPreparer:
    """The base's tokenizer, grown by the tokens of `texts`. Raises DataError if it is of another language."""
    own: TextPreparer = base.task.text
    if (what := _foreign(own, texts)) is not None:
        raise DataError(f"{what}: the base is of another language; take another, or train without one")
    return own.extended(texts, config.text, said)


def _foreign(own: TextPreparer, texts: Sequence[str]) -> str | None:
    """Why a tokenizer is not made for these texts, or None."""
    some = texts[:: max(1, len(texts) // LOOKED_AT)]
    ids = own.encode(some)
    tokens = sum(map(len, ids))
    unknown = sum(int((row == UNKNOWN).sum()) for row in ids) / max(1, tokens)
    if unknown > FOREIGN:
        return f"{unknown:.0%} of the tokens are unknown to the base"
    letters = sum(len(each.encode()) for each in some)
    if own.kind in ("bpe", "unigram") and tokens > SPELLED * letters:
        return f"the base's {own.kind} has pieces for almost none of these texts, and spells them byte by byte"
    return None


@torch.no_grad()
def weights(network: nn.Module, base: Model) -> dict[str, str]:
    """Fills `network` with what it has in common with the base: the embedding and the recurrent layers, of another
    language model everything. Rows of new tokens (a vocabulary grows at its end) get the mean row; an adaptive
    softmax that gains a cluster with them keeps what was drawn for it.

    Returns where they came from, for the bundle and for a run that is resumed."""
    same, both = type(network) is type(base.network), base.config.model.bidirectional
    given = base.network.state_dict()
    for name, own in network.state_dict().items():
        source = name if same else name.replace("stack.cells.1.", "behind.cells.0.") if both else name
        if source in given and (same or name.startswith(("embed.", "stack."))):
            _fill(name, own, given[source], len(base.task.text.vocabulary))
    if not same:
        network.state_dict()["embed.weight"][PAD] = 0.0  # which the output of tied weights has moved
    return {"base": digest(base)}


def _fill(name: str, own: Tensor, given: Tensor, vocabulary: int) -> None:
    known = len(given) if given.dim() else 0
    if own.shape[1:] != given.shape[1:] or (given.dim() and len(own) < known):
        raise ConfigError(f"{name}: the base has {tuple(given.shape)}, the new network {tuple(own.shape)}")
    if own.dim() == 0:
        own.copy_(given)
        return
    own[:known] = given.to(own)
    if len(own) > known == vocabulary:
        own[known:] = given[len(SPECIALS) :].mean(0).to(own)


def digest(base: Model) -> str:
    """SHA-256 of what decides a model's answers, whatever folder it stands in."""
    files = {name: durable.sha256(data) for name, data in base.files().items()}
    return durable.sha256(bundle.canonical(files))
