"""`echoic data`: public data sets by name: what they are, and where they lie."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from echoic.cli.options import Talk, verb
from echoic.cli.output import listener, render, say, say_json, table
from echoic.core.errors import show


@verb
def data(
    talk: Talk, name: Annotated[str | None, typer.Argument(help="A data set; without it, all are listed.")] = None
) -> None:
    """List the public data sets; or fetch one, and print the file's path."""
    from echoic.read.named import NAMED, data_dir, fetch

    if name is not None:
        path = fetch(name, said=listener(talk.quiet))
        say_json({"name": name, "path": str(path), **asdict(NAMED[name])}) if talk.json else say(show(path, 4096))
    elif talk.json:
        say_json({"folder": str(data_dir()), "sets": {each: asdict(entry) for each, entry in NAMED.items()}})
    else:
        rows = [
            [each, "shipped" if entry.shipped else "fetched" if entry.sha256 else "by hand", entry.licence, entry.about]
            for each, entry in NAMED.items()
        ]
        render(table({"name": "left", "how": "left", "licence": "left", "what it is": "left"}, rows))
