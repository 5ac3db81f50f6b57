"""`echoic inspect`: every gate and state while a text is read, where the gradient goes, what words mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.evaluate import open_model
from echoic.cli.options import Force, Reading, RunFolder, Talk, verb
from echoic.cli.output import listener, render, say_json
from echoic.cli.predict import texts_of, whole
from echoic.core import durable
from echoic.core.errors import UsageError, show

if TYPE_CHECKING:
    from echoic.model import Model

NO_WORDS = ("", "", "")


@verb
def inspect(
    run: RunFolder,
    reading: Reading,
    talk: Talk,
    given: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The text to read.")] = None,
    begin: Annotated[int, typer.Option("--from", metavar="TOKEN", min=1, help="The first token shown.")] = 1,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="Say where in this file the cells do the same.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page, to be looked into.")] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write where the gradient goes as a picture.")
    ] = None,
    neighbours: Annotated[
        list[str] | None, typer.Option("--neighbours", metavar="WORD", help="The words nearest to it; repeatable.")
    ] = None,
    analogy: Annotated[
        tuple[str, str, str], typer.Option("--analogy", metavar="A B C", help="A is to B as C is to which word?")
    ] = NO_WORDS,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or another of torch's names.")] = None,
    force: Force = False,
) -> None:
    """Look inside a model: what its gates and cells do while it reads a text, or what its words mean.

    A TEXT that begins with - comes after a `--`.
    """
    words = bool(neighbours) or analogy != NO_WORDS
    if (given is not None) == words:
        raise UsageError("want either a text, or --neighbours WORD, or --analogy A B C")
    if words and (data or html or png):
        raise UsageError("--data, --html and --png belong to a text")
    if given is not None:
        whole(given, 1)
    for output in filter(None, (html, png)):
        durable.creatable(output, force, [data])
    model = open_model(run, device)
    if given is None:
        _words(model, neighbours or [], analogy, talk)
    else:
        _text(model, given, begin - 1, data, reading, html, png, talk)


def _text(
    model: Model,
    text: str,
    first: int,
    data: str | None,
    reading: Reading,
    html: Path | None,
    png: Path | None,
    talk: Talk,
) -> None:
    from echoic.explain.alike import alike
    from echoic.explain.flow import flows
    from echoic.explain.flow_shown import write_png
    from echoic.explain.inside import inside
    from echoic.explain.inside_page import write_page
    from echoic.explain.inside_terminal import render as drawn

    network: Any = model.network
    found = inside(model.task, network, text, first)
    going = flows(model.task, network, text, clip=model.config.train.clip)
    places: list[Any] = []
    notes: list[str] = []
    if data is not None:
        places, notes = alike(model.task, network, found, list(texts_of(model, data, reading, talk.quiet)))
    if html is not None:
        write_page(html, found, going, places, notes)
        listener(talk.quiet)(f"the page: {show(html, 200)}")
    if png is not None:
        write_png(png, going)
        listener(talk.quiet)(f"the picture: {show(png, 200)}")
    if talk.json:
        document = found.document() | {"gradient": [flow.document() for flow in going]}
        if data is not None:
            document["alike"] = [each.document() for each in places]
        document["notes"] = [*found.notes, *notes]
        say_json(document, line=True)
    else:
        render(drawn(found, going, notes))


def _words(model: Model, asked: list[str], analogy: tuple[str, str, str], talk: Talk) -> None:
    from echoic.explain.inside_terminal import render_words
    from echoic.explain.words import tables

    known, notes = tables(model)
    found = {f"near {show(word)}": {when: each.neighbours(word) for when, each in known.items()} for word in asked}
    if analogy != NO_WORDS:
        a, b, c = map(show, analogy)
        question = f"{a} is to {b} as {c} is to"
        found[question] = {when: each.analogy(*analogy) for when, each in known.items()}
    if talk.json:
        answers = [
            {"question": question, **{when: [near._asdict() for near in near_by] for when, near_by in each.items()}}
            for question, each in found.items()
        ]
        say_json({"words": answers, "notes": notes})
    else:
        render(render_words(found, notes))
