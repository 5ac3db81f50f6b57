"""`echoic evaluate`: a model's scores on a labelled file, with the simple baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.options import DataFile, Reading, RunFolder, Talk, verb
from echoic.cli.output import listener, render, say, say_json
from echoic.core.errors import UsageError, show

if TYPE_CHECKING:
    from echoic.evaluate.report import ReportFacts
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
) -> None:
    """Score a model on labelled rows, on text or on pairs, beside the simple thing."""
    model = open_model(run, device)
    if model.task.streams:
        _evaluate_running_text(model, data, reading, talk, html, png)
        return
    if model.task.pairs:
        _evaluate_pairs(model, data, reading, talk, html, png)
        return
    from echoic import pipeline
    from echoic.evaluate.png import write_png
    from echoic.evaluate.report import render_table, write_report
    from echoic.read.tables import read_table

    options = model.config.task.options
    separator = options.get("separator", "|") if options.get("several") else None
    columns = reading.over(model.config.data.model_copy(update={"group": None}))  # it splits, and nothing is split here
    table = read_table(data, columns, said=listener(talk.quiet), label_separator=separator)
    scores = pipeline.evaluate(model, table.examples)
    facts = score_facts(model, scores, Path(data).name, "given")
    if html is not None:
        write_report(html, facts)
    if png is not None:
        write_png(png, facts, listener(talk.quiet))
    if talk.json:
        say_json(scores)
        return
    render(render_table(facts))
    if seen := scores.get("seen_in_training"):
        say(f"\n{seen:,} of these rows were used in training or validation; {_unseen(scores)}")


def _evaluate_running_text(
    model: Model, data: str, reading: Reading, talk: Talk, html: Path | None, png: Path | None
) -> None:
    from echoic import language_facts
    from echoic.evaluate.report import write_report
    from echoic.read.streams import read_running_text

    if png is not None:
        raise UsageError("--png draws a classifier's scores; a language model has a page: --html FILE")
    table = read_running_text(data, reading.over(model.config.data), said=listener(talk.quiet))
    scores = language_facts.evaluate(model, table.examples)
    facts = language_facts.score_facts(model, scores, Path(data).name, "given")
    if html is not None:
        write_report(html, facts)
    if talk.json:
        say_json(scores)
        return
    render(facts.table())
    if (share := scores.get("seen_share", 0.0)) > 0.01:
        say(f"\n{share:.0%} of the characters stand in lines that were used in training or validation")


def _evaluate_pairs(model: Model, data: str, reading: Reading, talk: Talk, html: Path | None, png: Path | None) -> None:
    from echoic import translate_facts
    from echoic.evaluate.report import write_report
    from echoic.read.columns import Columns
    from echoic.read.pairs import read_pairs

    if png is not None:
        raise UsageError("--png draws a classifier's scores; a translator has a page: --html FILE")
    trained = model.config.data
    columns = reading.over(trained.model_copy(update={"text": None, "label": None, "group": None}))
    like = Columns(trained.text, trained.label) if trained.text else None
    table = read_pairs(data, columns, said=listener(talk.quiet), like=like)
    scores = translate_facts.evaluate(model, table.examples)
    facts = translate_facts.score_facts(model, scores, Path(data).name, "given")
    if html is not None:
        write_report(html, facts)
    if talk.json:
        say_json(scores)
        return
    render(facts.table())
    say(f"\n{scores['signatures']['bleu']}")
    if seen := scores.get("seen_in_training"):
        rest = (
            f"; on the other {scores['unseen']['examples']:,} BLEU is {scores['unseen']['bleu']:.1f}"
            if "unseen" in scores
            else ""
        )
        say(f"{seen:,} of these sources were used in training or validation{rest}")


def open_model(run: str, device: str | None = None) -> Model:
    """The model in a run folder or bundle, on the CPU unless another `device` is named."""
    from echoic import model

    return model.load(run, device or "cpu")


def score_facts(model: Model, scores: Mapping[str, Any], title: str, part: str) -> ReportFacts:
    """What `evaluate` found, in the form that the report's table is drawn from."""
    from echoic.evaluate.intervals import Paired
    from echoic.evaluate.report import ReportFacts

    baselines = scores.get("baselines", {})
    return ReportFacts(
        title=show(title),
        names=model.task.names,
        kind=model.task.kind,
        part=part,
        scores={"model": scores, **{name: baselines[name] for name in ("tfidf_lr", "majority") if name in baselines}},
        difference=Paired(**scores["difference"]) if "difference" in scores else None,
    )


def _unseen(scores: Mapping[str, Any]) -> str:
    if "unseen" not in scores:
        return "there are no others, so this says nothing about new texts"
    return f"on the other {scores['unseen']['examples']:,} the accuracy is {100 * scores['unseen']['accuracy']:.1f} %"
