"""`echoic train`: a labelled file in, a run folder with a measured model out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.check import refuse
from echoic.cli.options import DataFile, Reading, Settings, Talk, verb
from echoic.cli.output import render, say, say_json, table
from echoic.core import registry
from echoic.core.config import Config, describe
from echoic.core.errors import UsageError, show

if TYPE_CHECKING:
    from echoic.distilling import Teacher


def _list_settings(wanted: bool) -> None:
    if wanted:
        rows = [[key, str(default), text] for key, (default, text) in describe().items()]
        render(table({"setting": "left", "default": "left", "what it does": "left"}, rows))
        for task in registry.names("task"):
            if others := registry.flat_defaults("task", task):
                listed = ", ".join(f"{key}={value}" for key, value in others.items())
                say(f"\nwith --task {task} these defaults are others: {listed}")
        raise typer.Exit


@verb
def train(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to make.")],
    reading: Reading,
    settings: Settings,
    talk: Talk,
    valid: Annotated[str | None, typer.Option(help="A file to validate on, instead of a share of DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that stands in RUN.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start over where a run stands already.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse data with a leak or an error in it.")] = False,
    teacher: Annotated[
        str | None, typer.Option(metavar="RUN", help="Distil: learn this classifier's answers, not DATA's labels.")
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Texts without labels: for a --teacher to answer, or for train.virtual and train.entropy.",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="With --teacher: above 1 softens its answers.", show_default="2")
    ] = None,
    list_settings: Annotated[
        bool,
        typer.Option("--settings", callback=_list_settings, is_eager=True, help="List everything --set can change."),
    ] = False,
) -> None:
    """Train a model on DATA, and measure it against the simple thing: TF-IDF, or n-grams for text.

    Leaves RUN/bundle (the model), RUN/report.html, RUN/metrics.jsonl and RUN/config.toml.
    """
    from echoic import pipeline
    from echoic.train.progress import watcher

    config = configuration(settings, reading, out, resume)
    if strict:
        _refuse_leaks(data, valid, config or Config.load(out / "config.toml"))
    watch = watcher(talk.quiet)
    summary = pipeline.train(
        data,
        out,
        config,
        valid=valid,
        resume=resume,
        force=force,
        watch=watch,
        said=watch.note,
        command=command_line(),
        teacher=_teacher(teacher, unlabelled, temperature),
        unlabelled=None if teacher else unlabelled,
    )
    say_trained(summary, out, talk)


def _teacher(path: str | None, unlabelled: str | None, temperature: float | None) -> Teacher | None:
    if path is None:
        if temperature is not None:
            raise UsageError("--temperature is for a --teacher")
        return None
    from echoic.distilling import Teacher
    from echoic.model import load

    return Teacher(load(path), unlabelled, 2.0 if temperature is None else temperature)


def say_trained(summary: dict[str, Any], out: Path, talk: Talk) -> None:
    """What a training made, and what can be done with it."""
    facts = summary.pop("facts")
    if talk.json:
        say_json(summary)
        return
    render(facts.table())
    run = shlex.quote(show(out, 4096))
    say(f"\nmodel   {show(summary['run'], 4096)}\nreport  {show(summary['report'], 4096)}")
    ask = f"generate {run} --prompt TEXT" if summary["task"] == "generate" else f'predict {run} "a text"'
    say(f"next    echoic {ask}     echoic evaluate {run} TEST_FILE")


def configuration(settings: Settings, reading: Reading, out: Path, resume: bool) -> Config | None:
    """What to train by. A resumed run keeps its own settings, with those named now over them, so that
    the pipeline can say which one differs; None: all its own."""
    stated = out / "config.toml"
    if resume and stated.is_file():
        return settings.build(reading, Config.load(stated)) if settings.given(reading) else None
    return settings.build(reading)


def _refuse_leaks(data: str, valid: str | None, config: Config) -> None:
    """Reads and checks the data before anything is made or trained."""
    from echoic import pipeline
    from echoic.read.check import check_parts

    if "-" in (data, valid):
        raise UsageError("--strict reads the data twice, which stdin does not allow; give a file")
    refuse(check_parts(pipeline.read_parts(data, valid, config)[0]))


def command_line() -> str:
    """This command, to be kept in the bundle; bytes that are no UTF-8 are escaped."""
    return show(shlex.join(["echoic", *sys.argv[1:]]), 4096)
