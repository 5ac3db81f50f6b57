"""`echoic explain`: why the model answers as it does, token by token."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.evaluate import open_model
from echoic.cli.options import Force, Reading, RunFolder, Talk, verb
from echoic.cli.output import listener, render, say, say_json
from echoic.cli.predict import counted, texts_of, whole
from echoic.core import durable
from echoic.core.errors import UsageError, show
from echoic.explain.record import METHODS

if TYPE_CHECKING:
    from echoic.model import Model


@verb
def explain(
    run: RunFolder,
    reading: Reading,
    talk: Talk,
    given: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The text to explain.")] = None,
    method: Annotated[
        str | None, typer.Option(metavar="METHOD", help=f"{', '.join(METHODS)}; the first unless named.")
    ] = None,
    why: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Explain this label instead of the one answered.")
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="A file of texts; - reads stdin.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a page, too.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a picture, too.")] = None,
    faithful: Annotated[
        bool, typer.Option("--faithful", help="Say instead which method is faithful on these texts.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random words of --faithful.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or another of torch's names.")] = None,
    force: Force = False,
) -> None:
    """Say why a model answers as it does: what each token is worth to the answer; or where a translator looked.

    A TEXT that begins with - comes after a `--`. With --json a file gives JSON lines.
    """
    _usable(given, input, method, faithful, html, png)
    if given is not None:
        whole(given, 1)
    for output in filter(None, (html, png)):
        durable.creatable(output, force, [input])
    model = open_model(run, device)
    texts: Iterable[str] = [given] if given is not None else texts_of(model, str(input), reading, talk.quiet)
    if faithful:
        _faithful(model, texts, seed, talk)
        return
    shown, asked = _shown(model, method, why)
    kept: list[Any] = []
    for number, text in enumerate(texts):
        found = model.explain([text], **asked)[0]
        if html is not None or png is not None:
            kept.append(found)
        if talk.json:
            say_json(found.document(), line=given is None)
            continue
        if number:
            say()
        render(shown.render(found))
    _write(shown, kept, html, png, talk.quiet)


def _usable(
    given: str | None, input: str | None, method: str | None, faithful: bool, html: Path | None, png: Path | None
) -> None:
    if (given is not None) == (input is not None):
        raise UsageError("want either a text or --input FILE, one of the two")
    if method not in (None, *METHODS):
        raise UsageError(f"--method {show(method)}: want one of {', '.join(METHODS)}")
    if faithful and (html or png):
        raise UsageError("--faithful measures all methods; --html and --png show one")


def _shown(model: Model, method: str | None, why: str | None) -> tuple[Any, dict[str, Any]]:
    """(the page that draws this model's explanations, what to ask it for)"""
    if not model.task.pairs:
        from echoic.explain import shown

        return shown, {"method": method or METHODS[0], "label": why}
    if method not in (None, "attention") or why is not None:
        raise UsageError("a translator shows where it looked: leave out --method and --why")
    from echoic.explain import alignment_shown

    return alignment_shown, {}


def _faithful(model: Model, texts: Iterable[str], seed: int, talk: Talk) -> None:
    from echoic.explain.faithful import measure
    from echoic.explain.terminal import render_faithfulness

    found = measure(model.task, model.network, counted(texts, talk.quiet), seed=seed)
    if talk.json:
        say_json(found.model_dump() | {"verdict": found.sentence()})
    else:
        render(render_faithfulness(found))


def _write(shown: Any, found: list[Any], html: Path | None, png: Path | None, quiet: bool) -> None:
    if html is not None:
        shown.write_page(html, found)
        listener(quiet)(f"the page: {show(html, 200)}")
    if png is not None:
        shown.write_png(png, found, listener(quiet))
        listener(quiet)(f"the picture: {show(png, 200)}")
