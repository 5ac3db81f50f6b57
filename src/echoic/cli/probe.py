"""`echoic probe`: problems with a known outcome, given to each cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echoic.cli.options import Talk, verb
from echoic.cli.output import listener, render, say, say_json, table


@verb
def probe(
    talk: Talk,
    cells: Annotated[str, typer.Option(metavar="A,B,C", help="The cells; peephole is an LSTM's.")] = (
        "rnn,lstm,peephole,gru"
    ),
    problems: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="adding, copy, parity, recall, digits; all if not given.")
    ] = None,
    hidden: Annotated[int, typer.Option(min=1, max=65_536, help="Units of each cell.")] = 64,
    updates: Annotated[
        int | None, typer.Option(min=1, help="Most gradient steps of each, instead of each problem's own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of every random choice.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep each outcome; the same command goes on.")
    ] = None,
) -> None:
    """Give each cell problems whose outcome is known: adding, copy, parity, recall, digits."""
    from echoic import probe as probing

    found = probing.probe(
        [each.strip() for each in cells.split(",")],
        None if problems is None else [each.strip() for each in problems.split(",")],
        hidden=hidden,
        updates=updates,
        seed=seed,
        out=out,
        said=listener(talk.quiet),
    )
    if talk.json:
        say_json({"hidden": hidden, "seed": seed, "outcomes": [vars(each) for each in found]})
        return
    heads, body = probing.rows(found)
    render(table({head: "left" if i < 2 else "right" for i, head in enumerate(heads)}, body))
    say("\n+ solved   ! unlike what is known of this cell")
