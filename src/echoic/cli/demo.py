"""`echoic demo`: the whole journey on real reviews that come with the package.

10,662 sentences of film reviews (Pang and Lee, "Seeing stars", ACL 2005), split by the SHA-1 of the
text, so that the split depends on nothing else: a remainder mod 10 of 0 is the test part, 1 the
validation part, the others are trained on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echoic.cli.options import Reading, Settings, Talk, verb
from echoic.cli.output import hint, render, say, say_json
from echoic.core import durable
from echoic.core.bundle import MANIFEST
from echoic.core.types import Example

if TYPE_CHECKING:
    from echoic.model import Model

REVIEWS = "rotten_tomatoes_mr.csv.xz"
NAMES = {"0": "negative", "1": "positive"}
TWO = ("this is a good film", "this is not a good film")
"""They differ by a "not": whoever only counts words finds them alike."""


@verb
def demo(
    settings: Settings,
    talk: Talk,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the data and the run go.")] = Path(
        "runs/demo"
    ),
    force: Annotated[bool, typer.Option("--force", help="Train anew where a model stands already.")] = False,
) -> None:
    """Train on shipped film reviews, score the result, and ask it two sentences."""
    from echoic import pipeline
    from echoic.facts.classify import score_facts

    run = out / "run"
    parts = split(reviews())
    model = _model(out, run, parts, settings, force, talk.quiet)
    scores = pipeline.evaluate(model, [Example(text, label) for label, text in parts["test"]])
    answers = model.predict(list(TWO))
    if talk.json:
        say_json(
            {"run": str(run), "test": scores, "predictions": [a.model_dump(exclude_defaults=True) for a in answers]}
        )
        return
    render(score_facts(model, scores, REVIEWS, "test").table())
    say()
    for text, answer in zip(TWO, answers, strict=True):
        say(f"{text!r:28} {answer.label}  ({answer.confidence:.0%} sure)")
    say(f'\nask it yourself: echoic predict {shlex.quote(str(run))} "a text"')
    say(f"the full report: {run / 'report.html'}")


def _model(
    out: Path, run: Path, parts: dict[str, list[tuple[str, str]]], settings: Settings, force: bool, quiet: bool
) -> Model:
    """The model of `run`: opened if it is there, else trained, going on where a stopped run stood."""
    from echoic import model, pipeline
    from echoic.train.progress import watcher

    if (run / "bundle" / MANIFEST).is_file() and not force:
        if not quiet:
            hint(f"using the model in {run}; --force trains it anew")
        return model.load(run)
    files = {f"{name}.csv": _csv(rows) for name, rows in parts.items()}
    durable.write_folder(out / "reviews", files)
    watch = watcher(quiet)
    pipeline.train(
        out / "reviews" / "train.csv",
        run,
        settings.build(Reading()),
        valid=out / "reviews" / "valid.csv",
        resume=(run / "config.toml").is_file() and not force,
        force=force,
        watch=watch,
        said=watch.note,
    )
    return model.load(run)


def reviews() -> Iterator[tuple[str, str]]:
    """(label, text) of every shipped review."""
    packed = resources.files("echoic").joinpath("data", REVIEWS).read_bytes()
    for row in csv.DictReader(io.StringIO(lzma.decompress(packed).decode(), newline="")):
        yield NAMES[row["label"]], row["text"]


def split(rows: Iterator[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The rows as train, valid and test, by the text alone; equal texts never stand on both sides."""
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "valid": [], "test": []}
    for label, text in rows:
        remainder = int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16) % 10
        parts[{0: "test", 1: "valid"}.get(remainder, "train")].append((label, text))
    return parts


def _csv(rows: list[tuple[str, str]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([("label", "text"), *rows])
    return file.getvalue().encode()
