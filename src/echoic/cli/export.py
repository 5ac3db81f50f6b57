"""`echoic export`: a model as one ONNX file that answers as the bundle does, or as a page that runs it in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.evaluate import open_model
from echoic.cli.options import Reading, RunFolder, Talk, verb
from echoic.cli.output import listener, say, say_json
from echoic.core import bundle, durable
from echoic.core.errors import CannotCreate, CheckFailed, UsageError, show

if TYPE_CHECKING:
    from echoic.core.types import Example
    from echoic.export.onnx import Exported
    from echoic.model import Model

MOST_LOST = 0.3
"""Points that eight bits may cost unless --max-drop says otherwise."""


@verb
def export(
    run: RunFolder,
    reading: Reading,
    talk: Talk,
    output: Annotated[Path | None, typer.Argument(metavar="OUT.onnx", help="The file to write.")] = None,
    web: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Instead: a page that runs a classifier in a browser.")
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With --web: the dist of onnxruntime-web, if not the one in node_modules."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Weights in eight bits: a quarter of the size.")] = False,
    states: Annotated[
        bool, typer.Option("--states", help="A classifier that is fed piece by piece: states in, states out.")
    ] = False,
    measure: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --int8: score before and after on these labelled rows.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help=f"With --measure: refuse to write if the score falls by more points; {MOST_LOST:g} if not given.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what was exported before.")] = False,
) -> None:
    """Write a model as an ONNX file, from token ids to probabilities, checked against the bundle.

    A language model gives logits and states; a translator is two files, OUT.encoder.onnx and OUT.step.onnx. Tokenizer and
    labels stay in the bundle, but --web takes them along.
    """
    _require_one(output, web, runtime, states)
    if measure is None:
        _refuse_unused(max_drop, reading)
    elif not int8:
        raise UsageError("--measure compares --int8 with float32; without --int8 the file is the bundle's equal")
    elif states:
        raise UsageError("--measure scores whole texts, and a --states file reads pieces: measure without --states")
    if max_drop is not None and not max_drop >= 0:  # nor NaN
        raise UsageError(f"--max-drop {max_drop}: want a number of points from 0 on")
    prepare = _file(output, force) if output is not None else _page(web or Path(), force, runtime)
    model = open_model(run)
    write = prepare(model)
    examples = None if measure is None else _labelled(model, measure, reading, talk)
    from echoic.export.onnx import export as exported

    made = exported(model.task, model.network, _digest(run), states=states, int8=int8)
    facts: dict[str, Any] = {
        "path": str(output or web),
        "bytes": _size(made),
        "weights": "int8" if int8 else "float32",
        "task": model.config.task.kind,
    }
    facts["checked"] = {"batches": made.batches, "largest_difference": made.difference}
    if int8:
        whole = exported(model.task, model.network, _digest(run), states=states)
        facts["share_of_float32"] = round(_size(made) / _size(whole), 4)
        facts["measured"] = None if examples is None else _measured(model, made.data, examples)
        if facts["measured"]:
            _require_kept(facts["measured"], MOST_LOST if max_drop is None else max_drop)
    facts |= {"files": [str(each) for each in write(made.files)]}
    say_json(facts) if talk.json else _tell(facts)


def _refuse_unused(max_drop: float | None, reading: Reading) -> None:
    """Raises UsageError for options that say something about --measure's rows, where there are none."""
    given = ["--no-header" if name == "header" else f"--{name.replace('_', '-')}" for name in reading.values()]
    if max_drop is not None:
        given.insert(0, "--max-drop")
    if given:
        raise UsageError(f"{', '.join(given)}: of use with --measure FILE alone, as no rows are read without it")


def _require_one(output: Path | None, web: Path | None, runtime: Path | None, states: bool) -> None:
    """Raises UsageError unless a file is asked for or a page, and of a page nothing that it cannot have."""
    if (output is None) == (web is None):
        raise UsageError("want OUT.onnx for a file, or --web DIR for a page: one of the two")
    if runtime is not None and web is None:
        raise UsageError("--runtime: of use with --web DIR alone, as a file brings no runtime")
    if states and web is not None:
        raise UsageError("--states: makes a file that reads pieces, and the page of --web reads whole texts")


def _size(made: Exported) -> int:
    return sum(map(len, made.files.values()))


Write = Callable[[dict[str, bytes]], list[Path]]
"""Takes what was exported; -> where it lies now."""


def _file(output: Path, force: bool) -> Callable[[Model], Write]:
    """What writes the file of a model, or a translator's two. Refuses, before any work, a place where it could not go."""
    _creatable(output, force)

    def prepare(model: Model) -> Write:
        parts = ("encoder", "step") if model.task.pairs else ("model",)
        places = {part: output.with_suffix(f".{part}.onnx") if model.task.pairs else output for part in parts}
        for place in places.values():
            _creatable(place, force)

        def write(files: dict[str, bytes]) -> list[Path]:
            for part, data in files.items():
                durable.write_file(places[part], data)
            return list(places.values())

        return write

    return prepare


def _page(web: Path, force: bool, runtime: Path | None) -> Callable[[Model], Write]:
    """What writes the page of a model. Refuses a place where it could not go, and where no runtime is; of a model
    raises UsageError if the page cannot show it."""
    from echoic.export import web as pages
    from echoic.serve import page

    _creatable_folder(web, force, pages.written_here)
    files = pages.runtime(runtime or pages.USUAL)

    def prepare(model: Model) -> Write:
        kind = model.config.task.kind
        if kind != "classify":
            raise UsageError(f"--web: the page shows a classifier's answers, and this model does {kind}")
        text = pages.tokenizer(model.task.text)

        def write(made: dict[str, bytes]) -> list[Path]:
            pages.write(web, page.HTML, text, model.config.model.cell.kind, made["model"], files)
            return [web]

        return write

    return prepare


def _creatable(output: Path, force: bool) -> None:
    """Refuses, before any work, a place where the file could not go."""
    if output.suffix != ".onnx":
        raise UsageError(f"{show(output, 200)}: want a name that ends in .onnx")
    durable.creatable(output, force)


def _creatable_folder(web: Path, force: bool, ours: Callable[[Path], bool]) -> None:
    """Refuses, before any work, a place where the folder could not go. What `ours` does not know is never replaced."""
    durable.beside(web)
    if not web.exists() or (web.is_dir() and not any(web.iterdir())):
        return
    if not ours(web):
        raise CannotCreate(f"{show(web, 200)}: exists, and is not just what --web wrote; choose another name")
    if not force:
        raise CannotCreate(f"{show(web, 200)}: exists already; --force replaces it")


def _digest(run: str) -> str:
    """What the bundle's manifest says of all of it."""
    return str(json.loads((bundle.find(run) / bundle.MANIFEST).read_bytes())["sha256"])


def _labelled(model: Model, file: str, reading: Reading, talk: Talk) -> Sequence[Example]:
    """The rows to measure on."""
    from echoic.facts import classify

    if model.task.streams or model.task.pairs:
        raise UsageError("--measure wants a classifier; only labels are scored by it")
    examples = classify.read_rows(file, model, reading.over, listener(talk.quiet))
    model.task.labels.encode([e.target for e in examples], [e.row for e in examples])  # a label that it does not know
    return examples


def _measured(model: Model, data: bytes, examples: Sequence[Example]) -> dict[str, Any]:
    """The score by the bundle and by the file on labelled rows."""
    from echoic.export.onnx import outputs
    from echoic.export.sealed import session
    from echoic.facts import MEASURES

    task = model.task
    found = task.encode(examples)
    scores = [
        float(task.metrics(logits, found.targets, MEASURES)[task.monitor])
        for logits in (model.outputs([e.input for e in examples]), outputs(session(data), found, task.collate))
    ]
    return {"rows": len(found), "score": task.monitor, "before": scores[0], "after": scores[1]}


def _require_kept(measured: dict[str, Any], most: float) -> None:
    lost = 100 * (measured["before"] - measured["after"])
    if lost > most:
        raise CheckFailed(
            f"eight bits cost {lost:.2f} points of {measured['score']} ({100 * measured['before']:.2f} to "
            f"{100 * measured['after']:.2f} % of {measured['rows']:,} rows), more than --max-drop {most:g}: nothing was written"
        )


def _tell(facts: dict[str, Any]) -> None:
    checked = facts["checked"]
    say(f"{' and '.join(show(each, 200) for each in facts['files'])}: {facts['bytes']:,} bytes, {facts['weights']}")
    if "share_of_float32" in facts:
        say(f"{facts['share_of_float32']:.2f} of the float32 file's size")
    if measured := facts.get("measured"):
        before, after = 100 * measured["before"], 100 * measured["after"]
        say(f"{measured['score']} on {measured['rows']:,} rows: {before:.2f} % before, {after:.2f} % after")
    elif facts["weights"] == "int8" and facts["task"] == "classify":
        say("not measured: --measure FILE says what eight bits cost")
    say(f"checked on {checked['batches']} random batches: at most {checked['largest_difference']:.1e} from the bundle")
