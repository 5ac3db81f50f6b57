"""Every setting, in one place. A field's description is its `--set` help and its line in the docs.

`Config.load(path)` reads TOML, `config.save(path)` writes it back with every default filled in,
`config.override(["model.cell.kind=gru"])` is `--set`. Unknown keys are refused with the nearest
name. Options that belong to one cell or one task (`model.cell.peephole`, `task.several`) are
declared in that cell's or task's own file, as a model named `Options`, and checked when it is built.
A task whose defaults are others than those below says so in a TOML file beside its own
(`tasks/generate.toml`); they hold for every setting that nobody named.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from echoic.core import registry
from echoic.core.errors import ConfigError, InputMissing, NotPermitted, nearest, show

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A part of the configuration: unknown keys refused, values checked, never changed in place."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_text_for_numbers(cls, value: Any, info: Any) -> Any:
        """TOML has types: a quoted "64" is a mistake worth naming, not a number; nor is True a 1."""
        kind = cls.model_fields[info.field_name].annotation if info.field_name in cls.model_fields else None
        if kind in (int, float) and isinstance(value, (str, bool)):
            raise ValueError(f"should be a number, not {value!r}")
        return value


class Chosen(Section):
    """A choice by registered name, with the options its own file declares."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class TaskConfig(Chosen):
    kind: str = Field("classify", description="what is learned; `echoic tasks` lists the choices")

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        return _registered("task", value)


class CellConfig(Chosen):
    kind: str = Field("lstm", description="the recurrence; `echoic cells` lists the choices and their options")

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        return _registered("cell", value)


def _registered(kind: str, value: str) -> str:
    if value not in registry.names(kind):
        raise ValueError(f"there is no {kind} named {show(value)!r}{nearest(value, registry.names(kind))}")
    return value


class DataConfig(Section):
    text: str | None = Field(
        None, description="the text column, by name or number from 1; found by looking if not given"
    )
    label: str | None = Field(
        None, description="the label column, by name or number from 1; found by looking if not given"
    )
    soft_labels: tuple[str, ...] = Field(
        (), description="columns of probabilities, one a class, instead of a label column"
    )
    group: str | None = Field(
        None, description="rows of one group (author, product) never stand on both sides of a split"
    )
    header: bool | None = Field(
        None, description="whether the first row names the columns; found by looking if not given"
    )
    encoding: str = Field("utf-8", description="the file's encoding; never guessed")
    on_bad_bytes: Literal["refuse", "replace"] = Field(
        "refuse", description="what to do with bytes the encoding does not allow"
    )
    skip_bad: bool = Field(False, description="drop rows with too few or too many fields, and count them")
    drop_unlabelled: bool = Field(False, description="drop rows without a label, and count them")
    max_bytes: Annotated[int, Field(ge=1)] = Field(
        1 << 30, description="refuse a file that expands past this many bytes"
    )
    max_field: Annotated[int, Field(ge=1, le=1 << 40)] = Field(
        10_000_000, description="refuse a field longer than this many characters"
    )
    valid_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1, description="share of the training rows held out to validate, drawn per class"
    )
    min_class_count: Annotated[int, Field(ge=1)] = Field(2, description="refuse a class with fewer rows than this")

    @field_validator("text", "label", "group", mode="before")
    @classmethod
    def _by_number(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value


class TextConfig(Section):
    tokenizer: str = Field(
        "auto",
        description="words, spaced, chars, codepoints, bytes, bpe, unigram, zh_words, or auto: chosen by looking at the text, and said",
    )
    lowercase: bool = Field(True, description="fold case before the vocabulary is built")
    max_vocab: Annotated[int, Field(ge=4, le=10_000_000)] = Field(
        50_000, description="largest vocabulary; rarer tokens become <unk>"
    )
    min_count: Annotated[int, Field(ge=1)] = Field(2, description="a token seen fewer times in training becomes <unk>")
    max_tokens: Annotated[int, Field(ge=0)] = Field(
        0, description="cut texts after this many tokens and report how many; 0 reads all"
    )
    vectors: str | None = Field(
        None, description="a file of word vectors: GloVe, word2vec (text or binary) or fastText"
    )
    vectors_trained: bool = Field(True, description="go on training the loaded vectors")

    @field_validator("tokenizer")
    @classmethod
    def _known(cls, value: str) -> str:
        return value if value == "auto" else _registered("tokenizer", value)


WIDTH = {"last": 1, "mean": 1, "max": 1, "concat": 3, "attention": 1}
"""The ways of pooling, and the size of what each makes, in units of a state's size."""


class ModelConfig(Section):
    cell: CellConfig = CellConfig()
    hidden: Annotated[int, Field(ge=1, le=65_536)] = Field(128, description="units of the hidden state, each direction")
    layers: Annotated[int, Field(ge=0, le=64)] = Field(
        1, description="recurrent layers, one on another; 0: no recurrence, the embedded tokens are pooled as they are"
    )
    bidirectional: bool = Field(True, description="read the text both ways")
    embedding: Annotated[int, Field(ge=1, le=65_536)] = Field(
        128, description="numbers that stand for a token; the vectors' own size if a file is given"
    )
    pool: Literal["last", "mean", "max", "concat", "attention"] = Field(
        "max", description="how the states become one vector (concat: last, mean and max)"
    )
    attention: Literal["additive", "dot"] = Field("additive", description="how pool=attention scores a state")
    segment: Annotated[int, Field(ge=8)] = Field(
        512, description="a longer text is read in segments of this many tokens and pooled over all"
    )
    dropout_words: Rate = Field(0.1, description="share of tokens read as <unk> while training")
    dropout_embedding: Rate = Field(0.5, description="dropout on embedded tokens")
    dropout_layers: Rate = Field(0.2, description="dropout between recurrent layers")
    dropout_output: Rate = Field(0.5, description="dropout on the pooled vector")
    variational: Rate = Field(
        0.0, description="recurrent dropout, one mask on h for all steps (Gal and Ghahramani 2016)"
    )
    candidate: Rate = Field(0.0, description="recurrent dropout on the candidate (Semeniuta et al. 2016)")
    zoneout: Rate = Field(0.0, description="share of units that keep their old state at a step (Krueger et al. 2017)")
    weight_drop: Rate = Field(0.0, description="dropout on the recurrent weights (Merity et al. 2018)")
    layer_norm: bool = Field(False, description="layer normalisation inside the recurrence (Ba et al. 2016)")
    batch_norm: bool = Field(
        False, description="batch normalisation of each recurrent layer's input, over the valid steps"
    )
    ngrams: bool = Field(True, description="an n-gram path beside the recurrent network")
    ngram_order: Annotated[int, Field(ge=1, le=8)] = Field(
        3, description="longest n-grams tried for that path, in tokens; validation picks from 2 up to it"
    )
    ngram_size: Annotated[int, Field(ge=4, le=28)] = Field(
        23, description="at most 2 to this power numbers (slots x classes) in its hash table"
    )


class TrainConfig(Section):
    updates: Annotated[int, Field(ge=1)] = Field(
        1200,
        description="steps of the optimiser to plan for, rounded up to whole passes over the training rows; at least six passes where they read no more than 25 million tokens",
    )
    epochs: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0, description="passes over the training rows; 0: as many as `updates` says"
    )
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(64, description="rows of a batch, at most")
    batch_tokens: Annotated[int, Field(ge=1)] = Field(
        32_768, description="tokens of a batch with its padding, at most (a longer text stands alone)"
    )
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = Field("adamw", description="the optimiser")
    lr: Annotated[float, Field(ge=0.0, le=1000.0)] = Field(
        0.0,
        description="the highest learning rate; 0: 0.002, and with more than two classes, one a text, that times the root of half their number",
    )
    momentum: Rate = Field(0.9, description="momentum of sgd and rmsprop; beta1 of adam and adamw")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.01, description="weight decay")
    clip: Annotated[float, Field(ge=0.0)] = Field(1.0, description="largest norm of the gradient; 0 does not clip")
    schedule: Literal["constant", "onecycle", "plateau"] = Field(
        "onecycle", description="how the learning rate moves after the warm-up"
    )
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.25, description="share of all steps in which the rate rises"
    )
    plateau_patience: Annotated[int, Field(ge=0)] = Field(
        1, description="epochs without gain before schedule=plateau halves the rate"
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        0,
        description="stop after this many epochs without a better validation score; 0 goes through the whole schedule and keeps the best",
    )
    layer_rate: Annotated[float, Field(ge=1.0, le=1000.0)] = Field(
        1.0,
        description="discriminative rates: each layer learns this many times as slowly as the one above it (Howard and Ruder 2018); 1: all alike",
    )
    unfreeze: Rate = Field(
        0.0,
        description="gradual unfreezing: the share of all steps after which the next layer down begins to learn, the output first (Howard and Ruder 2018); 0: all from the first step",
    )
    average: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.99, description="decay of the running average of weights that is validated and kept; 0 keeps the last weights"
    )
    label_smoothing: Rate = Field(
        0.1, description="share of the target spread over all classes; soft labels stay as they are"
    )
    adversarial: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.5,
        description="adversarial training (Miyato et al. 2017): how far words are moved against the loss, in lengths of a word's vector; every batch is then learned from twice, and takes twice as long; vectors that are not trained are not moved; 0 leaves it out",
    )
    virtual: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0,
        description="virtual adversarial training (Miyato et al. 2017): how far words are moved, in lengths of a word's vector, to where an answer changes most; it should not; learned from a batch more a step, of training texts and of texts without labels; 0 leaves it out",
    )
    entropy: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0,
        description="weight of the entropy of the answers to that batch, which is made small (Grandvalet and Bengio 2004); 0 leaves it out",
    )
    bfloat16: bool = Field(
        False,
        description="multiply bfloat16 in the network while training, where the processor can: faster, and each product less exact; sums, weights and states stay float32",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: a row counts by the inverse of its class's frequency (with several labels in the recurrent path only)",
    )
    augment: Literal["none", "swap", "delete"] = Field(
        "none", description="light text augmentation: swap neighbouring tokens, or delete some"
    )
    augment_rate: Rate = Field(0.1, description="share of tokens that the augmentation touches")
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = Field(
        60.0, description="save a checkpoint when this long has passed, besides each epoch's end; 0 saves every step"
    )
    checkpoints: Annotated[int, Field(ge=2)] = Field(2, description="checkpoints kept")


class Config(Section):
    """The whole of a run's settings."""

    task: TaskConfig = TaskConfig()
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="the one seed of every random choice")
    device: str = Field("cpu", description="cpu, cuda, or another of torch's device names")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="threads to compute with; 0 takes what torch finds")

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "config") -> Config:
        """Values (nested mappings) -> Config; what they leave out is the task's default. Raises
        ConfigError naming the key as a JSON pointer."""
        given = check(cls, values, source)
        return given.with_defaults({}, source)

    def with_defaults(self, defaults: Mapping[str, Any], source: str = "config") -> Config:
        """The same, with `defaults` over the task's own where nobody named a setting; they count as unnamed still."""
        beneath = over(defaults, registry.defaults("task", self.task.kind))
        config = check(type(self), over(self.stated(), beneath), source)
        _unstate(config, self)
        return config

    def stated(self) -> dict[str, Any]:
        """The settings that somebody named, as nested mappings; the others are defaults."""
        return self.model_dump(mode="json", exclude_none=True, exclude_unset=True)

    @classmethod
    def load(cls, path: str | Path) -> Config:
        where = show(path, 300)
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise InputMissing(f"{where}: no such file") from None
        except PermissionError:
            raise NotPermitted(f"{where}: no permission to read it") from None
        except IsADirectoryError:
            raise ConfigError(f"{where}: is a directory, want a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: not TOML: {error}") from None
        return cls.parse(values, where)

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_toml(), encoding="utf-8")

    def to_toml(self) -> str:
        """TOML with every default filled in; an absent value (None) has no line, as TOML has no null."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def override(self, settings: Iterable[str]) -> Config:
        """`["train.lr=0.001", "model.cell.kind=gru"]` -> a new Config. A value is read as TOML, else as text."""
        values, whole = self.stated(), self.model_dump(mode="json", exclude_none=True)
        for setting in settings:
            key, equals, raw = setting.partition("=")
            if not equals or not key.strip():
                raise ConfigError(f"--set {show(setting)!r} is not of the form section.key=value")
            *path, last = key.strip().split(".")
            place, usual = values, whole
            for part in path:
                place, usual = place.setdefault(part, {}), usual.get(part, {})
                if not (isinstance(place, dict) and isinstance(usual, dict)):
                    raise ConfigError(f"--set {show(setting)!r}: {show(part)!r} is a value, not a section")
            place[last] = _value(raw.strip())
        return type(self).parse(values, "--set")


def over(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` with `values` over them, section by section."""
    sections = {key: over(values.get(key, {}), inner) for key, inner in defaults.items() if isinstance(inner, Mapping)}
    return {**defaults, **values, **sections}


def _unstate(config: BaseModel, given: BaseModel) -> None:
    """What `given` does not state is a default in `config` too, although it was filled in."""
    config.model_fields_set.intersection_update(given.model_fields_set)
    for name in config.model_fields_set:
        inner, before = getattr(config, name), getattr(given, name)
        if isinstance(inner, BaseModel):
            _unstate(inner, before)


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


_Model = TypeVar("_Model", bound=BaseModel)


def check(model: type[_Model], values: Mapping[str, Any], source: str) -> _Model:
    """`values` as a `model`, or a ConfigError in one line: where, what, and the nearest known key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "/" + "/".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            what = f"unknown key {show(first['loc'][-1])!r}{nearest(str(first['loc'][-1]), _keys(model, first['loc'][:-1]))}"
        else:
            what = f"{first['msg'].removeprefix('Value error, ')} (got {show(first['input'])!r})"
        raise ConfigError(f"{source}: {pointer}: {what}") from None


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def describe(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, tuple[Any, str]]:
    """{"train.lr": (default, description)} of every field, for `--help` and the docs."""
    out: dict[str, tuple[Any, str]] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            out |= describe(inner, f"{prefix}{name}.")
        else:
            choices = f" [{', '.join(get_args(inner))}]" if get_origin(inner) is Literal else ""
            out[prefix + name] = (field.get_default(call_default_factory=True), (field.description or "") + choices)
    return out
