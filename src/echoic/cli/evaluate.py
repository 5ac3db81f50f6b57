"""`echoic evaluate`: a model's scores on a labelled file, with the simple baselines beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echoic.cli.options import DataFile, Force, Reading, RunFolder, Talk, verb
from echoic.cli.output import listener, render, say, say_json
from echoic.core import durable
from echoic.core.errors import UsageError

if TYPE_CHECKING:
    from echoic.model import Model


@verb
def evaluate(
    run: RunFolder,
    data: DataFile,
    reading: Reading,
    talk: Talk,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or another of torch's names.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores as a page, too.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the drawings as a picture, too.")] = None,
    force: Force = False,
    dynamic: Annotated[
        float, typer.Option(metavar="RATE", help="A language model: also while it learns from FILE as it reads.")
    ] = 0.0,
    cache: Annotated[
        int, typer.Option(metavar="TOKENS", help="A language model: also while it remembers so many tokens.")
    ] = 0,
) -> None:
    """Score a model on labelled rows, on text or on pairs, beside the simple thing."""
    from echoic import facts
    from echoic.evaluate.report import ReportFacts, write_report

    for output in filter(None, (html, png)):
        durable.creatable(output, force, [data])
    model = open_model(run, device)
    account = facts.of(model.config.task.kind)
    if png is not None and model.config.task.kind != "classify":
        raise UsageError("--png draws a classifier's scores; this model has a page: --html FILE")
    if (dynamic or cache) and not model.task.streams:
        raise UsageError(f"--dynamic, --cache: for a language model; this model does {model.config.task.kind}")
    examples = account.read_rows(data, model, reading.over, listener(talk.quiet))
    scores = account.evaluate(model, examples)
    if dynamic or cache:
        from echoic import remembering

        how = remembering.Remembering(rate=dynamic, cache=cache)
        scores["remembering"] = {"rate": dynamic, "cache": cache, **remembering.score(model, examples, how)}
    found = account.score_facts(model, scores, Path(data).name, "given")
    if html is not None:
        write_report(html, found)
    if png is not None and isinstance(found, ReportFacts):
        from echoic.evaluate.png import write_png

        write_png(png, found, listener(talk.quiet))
    if talk.json:
        say_json(scores)
        return
    render(found.table())
    if more := scores.get("remembering"):
        say(
            f"\nlearning at {dynamic:g}, remembering {cache:,} tokens: perplexity {more['perplexity']:.2f}, "
            f"{more['bits_per_character']:.3f} bits a character; not to be set beside static scores"
        )
    for number, line in enumerate(account.remarks(scores)):
        say(line if number else f"\n{line}")


def open_model(run: str, device: str | None = None) -> Model:
    """The model in a run folder or bundle, on the CPU unless another `device` is named."""
    from echoic import model

    return model.load(run, device or "cpu")
