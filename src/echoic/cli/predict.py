"""`echoic predict`: texts in, answers out; or a file of any size in, a file out."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from echoic.cli.evaluate import open_model
from echoic.cli.options import Precision, Reading, RunFolder, Talk, cores, verb
from echoic.cli.output import hint, listener, say, say_json, to_json
from echoic.core import durable
from echoic.core.errors import DataError, UsageError, show

if TYPE_CHECKING:
    from echoic.kernels.door import Products
    from echoic.model import Model
    from echoic.serve.interpreter import Interpreter
    from echoic.serve.predictor import Predictor

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")

Each = TypeVar("Each")


@verb
def predict(
    run: RunFolder,
    reading: Reading,
    talk: Talk,
    precision: Precision,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to answer.")] = None,
    input: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="A file of texts; - reads stdin.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where the answers go: .jsonl, .csv or .tsv.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    min_confidence: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Below this probability the model abstains.")
    ] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="A translator keeps this many hypotheses; 1: greedy.")] = None,
    n_best: Annotated[int | None, typer.Option(min=1, help="A translator gives this many answers.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads; a translator takes one a core, others one.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or another of torch's names.")] = None,
) -> None:
    """Ask a model: one answer for every text.

    A TEXT that begins with - comes after a `--`. With --json a file gives JSON lines.
    """
    _usable(texts, input, output)
    if output is not None:
        durable.creatable(output, force, [input])
    for number, text in enumerate(texts or [], 1):
        whole(text, number)
    model = open_answering(run, device, listener(talk.quiet), precision.products, threads)
    options = _options(model, {"min_confidence": min_confidence}, {"beam_size": beam, "n_best": n_best})
    if input is None:
        _show([record_dict(r) for r in _heard(model.predict(texts or [], **options), talk.quiet)], talk.json)
        return
    texts_in = texts_of(model, input, reading, talk.quiet)
    records = (record_dict(r) for r in _heard(model.predict_stream(texts_in, **options), talk.quiet))
    if output is None:
        for record in records:
            _show_one(record, talk.json)
        return
    translates = model.config.task.kind == "translate"
    separator = model.config.task.options.get("separator", "|")
    count = write(output, counted(records, talk.quiet), separator, ("unseen",) * translates)
    if talk.json:
        say_json({"output": show(output, 4096), "predictions": count})
    elif not talk.quiet:
        hint(f"{count:,} answers in {show(output, 200)}")


def open_answering(
    run: str, device: str | None, said: Callable[[str], None], products: Products = "", threads: int | None = None
) -> Predictor | Interpreter | Model:
    """What answers: the predictor or the interpreter, which start without torch, or where they cannot, or another
    device than the CPU is named, the model in torch. threads: None is every core for a translator, one for others.
    Raises UsageError for `products` in torch."""
    from echoic.serve.opening import NeedsTorch, opened_at

    if device in (None, "cpu"):
        try:
            with opened_at(run) as (opened, config):
                predictor: Predictor | Interpreter
                if config.task.kind == "translate":
                    from echoic.serve.interpreter import interpreter_of

                    predictor = interpreter_of(opened, config, threads=threads or cores(), products=products)
                else:
                    from echoic.serve.predictor import predictor_of

                    predictor = predictor_of(opened, config, threads=threads or 1, products=products)
        except NeedsTorch as why:
            if products:
                raise UsageError(f"--{products}: {why.reason} runs in torch alone, in float32") from None
            said(f"{why.reason} runs in torch alone, so torch answers")
        else:
            kernel, why_numpy = predictor.kernel
            if kernel == "numpy":
                said(f"NumPy computes the recurrence, slowly: {why_numpy}")
            return predictor
    if products:
        raise UsageError(f"--{products} is for the CPU, not for --device {show(device)}")
    return open_model(run, device)


def _options(
    model: Predictor | Interpreter | Model, decided: Mapping[str, Any], translated: Mapping[str, Any]
) -> dict[str, Any]:
    """What was asked for. Raises UsageError for an option of another kind of task."""
    kind = model.config.task.kind
    fits, other = (translated, decided) if kind == "translate" else (decided, translated)
    if wrong := next((name for name, value in other.items() if value is not None), None):
        raise UsageError(f"a model for {kind} knows no --{wrong.removesuffix('_size').replace('_', '-')}")
    return {name: value for name, value in fits.items() if value is not None}


def _heard(records: Iterable[Each], quiet: bool) -> Iterator[Each]:
    """The records as they pass; where a translator guesses, as its training held no such characters, it is said."""
    for number, record in enumerate(records, 1):
        if not quiet and (unseen := getattr(record, "unseen", None)):
            hint(f"text {number}: a guess, as no training source held {show(unseen, 40)!r}")
        yield record


def texts_of(model: Predictor | Interpreter | Model, source: str, reading: Reading, quiet: bool) -> Iterator[str]:
    """The texts of a file, one after another, from the column that the model was trained on unless another is named."""
    from echoic.read.columns import Columns
    from echoic.read.tables import stream_texts

    trained = model.config.data
    own = {"text": None, "label": None, "soft_labels": (), "group": None, "skip_bad": False}  # each row has an answer
    data = reading.over(trained.model_copy(update=own))
    like = Columns(trained.text) if trained.text else None
    return (example.input for example in stream_texts(source, data, said=listener(quiet), like=like))


def record_dict(record: BaseModel) -> dict[str, Any]:
    """An answer as every door prints it; a field that its kind of task does not use is left out."""
    return record.model_dump(exclude_defaults=True)


def _usable(texts: list[str] | None, input: str | None, output: Path | None) -> None:
    if bool(texts) == (input is not None):
        raise UsageError("want either texts or --input FILE, one of the two")
    if output is None:
        return
    if input is None:
        raise UsageError("--output goes with --input FILE; the answers to texts go to stdout")
    if output.suffix.lower() not in (*DELIMITERS, *LINES):
        raise UsageError(f"--output {show(output, 200)}: want a name that ends in .jsonl, .csv or .tsv")


def whole(text: str, number: int) -> None:
    """Raises DataError for an argument that was no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"text {number}: {show(text)} holds bytes that are not UTF-8; put it into a file and name its --encoding"
        ) from None


def _show(records: list[dict[str, Any]], json: bool) -> None:
    if json:
        say_json({"predictions": records})
    for record in [] if json else records:
        _show_one(record, json=False)


def _show_one(record: dict[str, Any], json: bool) -> None:
    say(to_json(record, line=True) if json else _readable(record))


def _readable(record: Mapping[str, Any]) -> str:
    """`pos   0.93   the text`, with anybody's text made safe for a terminal. Of a translator its answers come first, whole,
    a line each."""
    source = show(record.get("text", ""), 200)
    if "translation" in record:
        answers = record.get("translations", [record["translation"]])
        lines = [
            f"{show(answer, len(answer))}\t{score:.3f}"
            for answer, score in zip(answers, record.get("scores", [record["score"]]), strict=True)
        ]
        return "\n".join([f"{lines[0]}\t{source}", *lines[1:]])
    cells = [_cell(value) for key, value in record.items() if key != "text" and not isinstance(value, Mapping)]
    return "\t".join([*cells, source])


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.3f}"
        case list():
            return show("|".join(map(str, value)), 200) or "-"
    return show(value, 200)


@contextmanager
def aside(path: Path) -> Iterator[IO[str]]:
    """A file that appears under its name when it is complete, or not at all."""
    place = path.with_name(f".{path.name.encode()[:100].decode(errors='ignore')}.{os.getpid()}.tmp")
    try:
        try:
            with open(place, "w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(place, path)
        finally:
            place.unlink(missing_ok=True)
    except OSError as error:
        if error.filename not in (None, str(place)) or not isinstance(error.errno, int):
            raise
        raise durable.translate(error, path) from error


def write(path: Path, records: Iterable[dict[str, Any]], separator: str = "|", columns: Sequence[str] = ()) -> int:
    """Writes the answers in the format that the name asks for; in a table `separator` stands between
    several labels, as in the training file, and `columns` are there even if the first answer has no such field. Returns
    how many."""
    count = 0
    with aside(path) as file:
        put = (
            _table_writer(file, DELIMITERS[path.suffix.lower()], separator, columns)
            if path.suffix.lower() in DELIMITERS
            else _line_writer(file)
        )
        for record in records:
            put(record)
            count += 1
    return count


def _line_writer(file: IO[str]) -> Callable[[dict[str, Any]], Any]:
    return lambda record: file.write(to_json(record, line=True) + "\n")


def _table_writer(
    file: IO[str], delimiter: str, separator: str, always: Sequence[str]
) -> Callable[[dict[str, Any]], Any]:
    """Rows under the first answer's columns and `always`; a mapping becomes a column for each of its keys."""
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    quoting = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    columns: list[str] = []

    def line(cells: Sequence[Any]) -> None:
        bare = any("\r" in cell for cell in cells if isinstance(cell, str))  # which Python 3.11 leaves unquoted
        (quoting if bare else writer).writerow(cells)

    def put(record: dict[str, Any]) -> None:
        flat = _flat(record, separator)
        if not columns:
            columns.extend(dict.fromkeys([*flat, *always]))
            line(columns)
        line([flat.get(column, "") for column in columns])

    return put


def _flat(record: Mapping[str, Any], separator: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in record.items():
        if key in ("translations", "scores"):
            out |= {f"{key[:-1]}_{place}": each for place, each in enumerate(value[1:], 2)}
        elif isinstance(value, Mapping):
            out |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            out[key] = separator.join(map(str, value)) if isinstance(value, list) else "" if value is None else value
    return out


def counted(records: Iterable[Each], quiet: bool) -> Iterator[Each]:
    """The records as they pass, with their number and pace on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield from records
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:,} answers"),
        TextColumn("{task.speed:,.0f} a second"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        yield from progress.track(records)
