"""`echoic finetune`: a classifier that begins from a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echoic.cli.options import Reading, Settings, Talk, verb
from echoic.cli.train import command_line, configuration, say_trained
from echoic.core.config import Config
from echoic.core.errors import UsageError


@verb
def finetune(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="[BASE] DATA", help="A language model's run folder or bundle, and a labelled file."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to make.")],
    reading: Reading,
    settings: Settings,
    talk: Talk,
    unlabelled: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Texts without labels, one a row or line: BASE reads them first."),
    ] = None,
    language: Annotated[
        Path | None,
        typer.Option("--language-config", metavar="FILE", help="A TOML file of settings for that reading."),
    ] = None,
    valid: Annotated[str | None, typer.Option(help="A file to validate on, instead of a share of DATA.")] = None,
    test: Annotated[
        str | None, typer.Option(help="A test file, whose texts are kept out of the unlabelled ones; it is not scored.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that stands in RUN.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start over where a run stands already.")] = False,
) -> None:
    """Train a classifier on DATA from a language model's weights: it needs fewer labels.

    Without BASE, a language model is trained on the --unlabelled texts first. It stands in RUN/language.
    """
    from echoic import finetuning
    from echoic.train.progress import watcher

    if len(sources) > 2:
        raise UsageError(f"wants [BASE] DATA, got {len(sources)} paths")
    *base, data = sources
    watch = watcher(talk.quiet)
    summary = finetuning.finetune(
        data,
        out,
        configuration(settings, reading, out, resume),
        base=base[0] if base else None,
        unlabelled=unlabelled,
        language=Config.load(language) if language else None,
        valid=valid,
        test=test,
        resume=resume,
        force=force,
        watch=watch,
        said=watch.note,
        command=command_line(),
    )
    say_trained(summary, out, talk)
