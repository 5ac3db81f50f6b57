"""`echoic data`: the public data sets that benchmarks use, by name."""

from __future__ import annotations

from typing import Annotated

import typer

from echoic.cli.options import Talk, verb
from echoic.cli.output import say_json


@verb
def data(
    talk: Talk, name: Annotated[str | None, typer.Argument(help="A data set; without it, all are listed.")] = None
) -> None:
    """List the public data sets, or fetch one and say where it lies."""
    say_json({})
