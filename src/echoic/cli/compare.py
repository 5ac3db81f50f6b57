"""`echoic compare`: cells, directions, pooling and tokens on the same rows under the same budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echoic.cli.options import DataFile, Reading, Settings, Talk, verb
from echoic.cli.output import listener, render, say, say_json
from echoic.core.errors import show


@verb
def compare(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder; an old one goes on.")],
    reading: Reading,
    settings: Settings,
    talk: Talk,
    cells: Annotated[str, typer.Option(metavar="A,B,C", help="The cells; peephole is an LSTM's.")] = "rnn,lstm,gru",
    directions: Annotated[str, typer.Option(metavar="one,both", help="Read forwards, or both ways.")] = "both",
    pool: Annotated[str, typer.Option(metavar="A,B,C", help="last, mean, max, concat, attention.")] = "max",
    tokens: Annotated[str, typer.Option(metavar="A,B,C", help="words, chars, bpe, ...")] = "auto",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each, with seeds that follow --seed.")] = 3,
    updates: Annotated[
        int,
        typer.Option(
            min=1,
            help="Gradient steps of each training, rounded up to whole passes; six at least where texts are short.",
        ),
    ] = 600,
    test: Annotated[str | None, typer.Option(help="A file to score on, instead of a fifth of DATA.")] = None,
) -> None:
    """Train cells on the same rows under the same budget, and say which differences are real."""
    from echoic import compare as comparing
    from echoic.evaluate.comparison import render as drawn

    lists = [[each.strip() for each in given.split(",")] for given in (cells, directions, pool, tokens)]
    table = comparing.rows(*lists)
    found = comparing.compare(
        data,
        out,
        table,
        settings.build(reading),
        test=test,
        seeds=seeds,
        updates=updates,
        said=listener(talk.quiet),
    )
    if talk.json:
        say_json(found)
        return
    render(drawn(found))
    say(f"\nthe page: {show(out / comparing.PAGE, 200)}")
