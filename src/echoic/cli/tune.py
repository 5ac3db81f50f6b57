"""`echoic tune`: a small search for better settings, on validation scores alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.options import DataFile, Reading, Settings, Talk, verb
from echoic.cli.output import listener, render, say, say_json, table
from echoic.core.config import Config
from echoic.core.errors import ConfigError, UsageError, show

if TYPE_CHECKING:
    from echoic.tuning import Range

WIDE = 10
"""A range of positive numbers whose ends differ by this factor is searched on a logarithmic scale."""


@verb
def tune(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the search; an old one goes on.")],
    reading: Reading,
    settings: Settings,
    talk: Talk,
    valid: Annotated[str | None, typer.Option(help="A file to validate on, instead of a share of DATA.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of an earlier call included.")] = 20,
    seconds: Annotated[float | None, typer.Option(min=0, help="Begin no trial after this long.")] = None,
    updates: Annotated[int, typer.Option(min=1, help="Gradient steps of a trial.")] = 600,
    search: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=LOW:HIGH|A,B,C", help="Search these settings instead of the usual; repeatable."),
    ] = None,
) -> None:
    """Search for better settings, and write the best as DIR/best.toml.

    Then: echoic train DATA --out RUN --config DIR/best.toml
    """
    from echoic import tuning

    config = settings.build(reading)
    space = dict(choice(each, config) for each in search) if search else tuning.usual(config.task.kind)
    found = tuning.tune(
        data,
        out,
        config,
        valid=valid,
        trials=trials,
        seconds=seconds,
        updates=updates,
        space=space,
        said=listener(talk.quiet),
    )
    if talk.json:
        say_json(found)
        return
    scored = sorted((t for t in found["trials"] if t["score"] is not None), key=lambda t: -t["score"])
    rows = [[f"{t['score']:.4f}", *(_short(t["settings"][key]) for key in space)] for t in scored[:10]]
    render(table({found["monitor"]: "right", **dict.fromkeys(space, "right")}, rows))
    say(f"\nthe best of {len(found['trials'])} is in {show(found['config'], 200)}")


def choice(asked: str, config: Config) -> tuple[str, Range | tuple[Any, ...]]:
    """`train.lr=0.001:0.01` -> a Range, `model.hidden=64,128` -> a tuple; every value must be a legal setting."""
    from echoic.tuning import Range

    key, equals, text = asked.partition("=")
    if not (key and equals and text):
        raise UsageError(f"--search {show(asked)!r} is not of the form section.key=LOW:HIGH or section.key=A,B,C")
    low, colon, high = text.partition(":")
    values = [_get(config.override([f"{key}={each}"]), key) for each in ([low, high] if colon else text.split(","))]
    if not colon:
        return key, tuple(values)
    if not all(isinstance(value, float) for value in values) or not values[0] < values[1]:
        raise ConfigError(
            f"--search {show(asked)!r}: a range has two ends, the lower first, of a setting that is a fraction; list others as A,B,C"
        )
    return key, Range(values[0], values[1], log=values[0] > 0 and values[1] / values[0] >= WIDE)


def _get(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
