"""Options that several verbs share, each written down once, and how they become a Config.

A verb is a function whose parameters are options; a parameter that is one of the groups below
(`Talk`, `Reading`, `Settings`) stands for all the options of that group. A flag changes the same
settings as `--set`, over what `--config` says: defaults < --config < --set < flags.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from echoic.core.config import Config, DataConfig, check
from echoic.core.errors import UsageError

if TYPE_CHECKING:
    from echoic.kernels.door import Products

Option, Argument = typer.Option, typer.Argument

DataFile = Annotated[
    str, Argument(metavar="DATA", help="csv, tsv, jsonl, parquet or txt, plain or compressed; - reads stdin.")
]
Force = Annotated[bool, Option("--force", help="Replace files that are there already.")]
RunFolder = Annotated[str, Argument(metavar="RUN", help="A run folder, or a bundle.")]


@dataclass(frozen=True)
class Talk:
    """What is printed."""

    json: Annotated[bool, Option("--json", help="One JSON document on stdout.")] = False
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False


@dataclass(frozen=True)
class Reading:
    """How a file is read: the `data` section of the configuration."""

    text: Annotated[str | None, Option(help="The text column, by name or number from 1.")] = None
    label: Annotated[str | None, Option(help="The label column, by name or number from 1.")] = None
    group: Annotated[str | None, Option(help="Rows of one group never stand on both sides of a split.")] = None
    soft_labels: Annotated[str | None, Option(metavar="A,B,C", help="Columns of probabilities, one a class.")] = None
    no_header: Annotated[bool, Option("--no-header", help="The first row is data; columns go by number.")] = False
    encoding: Annotated[str | None, Option(help="The file's encoding, if not UTF-8.")] = None
    on_bad_bytes: Annotated[str | None, Option(metavar="refuse|replace", help="Bytes that the encoding forbids.")] = (
        None
    )
    max_bytes: Annotated[int | None, Option(help="Refuse a file that expands past this many bytes.")] = None
    max_field: Annotated[int | None, Option(help="Refuse a field longer than this many characters.")] = None
    min_class_count: Annotated[int | None, Option(help="Refuse a class with fewer rows than this.")] = None
    skip_bad: Annotated[bool, Option("--skip-bad", help="Drop rows with too few or too many fields.")] = False
    drop_unlabelled: Annotated[bool, Option("--drop-unlabelled", help="Drop rows without a label.")] = False

    def values(self) -> dict[str, Any]:
        """The `data` settings that were given."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in every.items() if value is not None and value is not False}
        if given.pop("no_header", False):
            given["header"] = False
        if "soft_labels" in given:
            given["soft_labels"] = tuple(given["soft_labels"].split(","))
        return given

    def over(self, data: DataConfig) -> DataConfig:
        """`data` with the given options in their places; a named label takes the place of soft labels."""
        hard = {"soft_labels": ()} if self.label else {}
        return check(DataConfig, data.model_dump() | hard | self.values(), "the options")


@dataclass(frozen=True)
class Precision:
    """How exactly the network multiplies."""

    int8: Annotated[bool, Option("--int8", help="Weights of eight bits: one text sooner, and a little otherwise.")] = (
        False
    )
    bfloat16: Annotated[
        bool, Option("--bfloat16", help="Products of bfloat16, where the processor can; with AMX many texts sooner.")
    ] = False

    @property
    def products(self) -> Products:
        """Raises UsageError for both."""
        if self.int8 and self.bfloat16:
            raise UsageError("--int8 and --bfloat16: one of them")
        return "int8" if self.int8 else "bfloat16" if self.bfloat16 else ""


@dataclass(frozen=True)
class Settings:
    """How something is trained."""

    config: Annotated[Path | None, Option(help="A TOML file of settings.")] = None
    set: Annotated[list[str] | None, Option(metavar="SECTION.KEY=VALUE", help="Change one setting; repeatable.")] = None
    task: Annotated[str | None, Option(help="What is learned; `echoic tasks` lists the choices.")] = None
    several: Annotated[bool, Option("--several", help="A text may have several labels, or none.")] = False
    seed: Annotated[int | None, Option(help="The seed of every random choice.")] = None
    device: Annotated[str | None, Option(help="cpu, cuda, or another of torch's names.")] = None

    def given(self, reading: Reading) -> bool:
        """Whether any setting at all was named."""
        return self != Settings() or bool(reading.values())

    def build(self, reading: Reading, base: Config | None = None) -> Config:
        """The configuration that the options ask for, over `base` or the defaults."""
        config = Config.load(self.config) if self.config else base or Config()
        config = config.override(self.set or [])
        values = config.stated()
        values["data"] = values.get("data", {}) | reading.values()
        task = {name: value for name, value in (("kind", self.task), ("several", self.several or None)) if value}
        values["task"] = values.get("task", {}) | task
        values |= {name: value for name in ("seed", "device") if (value := getattr(self, name)) is not None}
        return Config.parse(values, "the options")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with every group among its parameters spread into its options, as typer wants it."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    groups = {name: hints[name] for name in parameters if is_dataclass(hints[name])}

    def spread(**given: Any) -> None:
        gathered = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        function(**given, **gathered)

    flat: dict[str, inspect.Parameter] = {}
    for name, parameter in parameters.items():
        if name in groups:
            inner = get_type_hints(groups[name], include_extras=True)
            for field in fields(groups[name]):
                flat[field.name] = inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=inner[field.name]
                )
        else:
            flat[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
    for group in groups.values():
        for field in fields(group):
            _option(flat[field.name].annotation).rich_help_panel = group.__doc__.rstrip(".").partition(":")[0]
    spread.__name__, spread.__doc__, spread.__module__ = function.__name__, function.__doc__, function.__module__
    spread.__signature__ = inspect.Signature(list(flat.values()))  # type: ignore[attr-defined]
    spread.__annotations__ = {name: parameter.annotation for name, parameter in flat.items()}
    return spread


def _option(annotation: Any) -> Any:
    """typer's own description of an option, out of its Annotated type."""
    return annotation.__metadata__[0]
