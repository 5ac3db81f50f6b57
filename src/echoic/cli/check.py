"""`echoic check`: what is wrong with a file before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.options import DataFile, Reading, Settings, Talk, verb
from echoic.cli.output import listener, render, say, say_json, table
from echoic.core.errors import CheckFailed, show
from echoic.core.types import Example

if TYPE_CHECKING:
    from echoic.read.check import Finding

CLASSES_SHOWN = 20


@verb
def check(
    data: DataFile,
    reading: Reading,
    settings: Settings,
    talk: Talk,
    valid: Annotated[str | None, typer.Option(help="The file that is validated on.")] = None,
    test: Annotated[str | None, typer.Option(help="The file that is scored at the end.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a leak or an error.")] = False,
) -> None:
    """Look for leaks, duplicates, conflicting labels and odd texts in DATA.

    Rows of one text in two files are leaks; within a file they are duplicates.
    """
    from echoic.read.check import Finding, check_parts, too_few
    from echoic.read.labels import separator
    from echoic.read.pairs import read_pairs
    from echoic.read.streams import read_running_text
    from echoic.read.tables import read_table

    config = settings.build(reading)
    kind = config.task.kind
    between = separator(config.task.options) if kind == "classify" else None
    notes: list[str] = []
    parts: dict[str, list[Example]] = {}
    like = None
    for name, path in {"train": data, "valid": valid, "test": test}.items():
        if path is not None:
            match kind:
                case "translate":
                    found = read_pairs(path, config.data, said=notes.append, like=like)
                case "generate":
                    found = read_running_text(path, config.data, said=notes.append)
                case _:
                    found = read_table(path, config.data, said=notes.append, label_separator=between, like=like)
            parts[name], like = found.examples, like or found.chosen
    if kind != "classify":  # its targets are no classes
        parts = {name: [replace(e, target=None) for e in part] for name, part in parts.items()}
    findings = check_parts(parts)
    if kind == "classify" and (few := too_few(parts["train"], config.data.min_class_count)):
        rest = [each for each in findings if each.code != "LABEL003"]
        findings = [Finding("LABEL003", "error", few, len(parts["train"])), *rest]
    sizes = {name: describe_part(part) for name, part in parts.items()}
    if talk.json:
        stated = [{k: getattr(f, k) for k in ("code", "level", "message", "count", "rows")} for f in findings]
        say_json({"parts": sizes, "notes": notes, "findings": stated})
    else:
        for note in notes:
            listener(talk.quiet)(note)
        _show(sizes, findings)
    if strict:
        refuse(findings)


def refuse(findings: Sequence[Finding]) -> None:
    """What --strict means: a leak, or anything that the checks call an error, is a no."""
    for each in findings:
        if each.level == "error" or (each.level == "warning" and each.code.startswith("LEAK")):
            raise CheckFailed(f"{each.code}: {each.message} (--strict)")


def describe_part(examples: Sequence[Example]) -> dict[str, Any]:
    """Rows, lengths in characters, and rows a class, the most frequent first."""
    from echoic.read.keys import classes_of

    lengths = sorted(len(str(e.input)) for e in examples)
    return {
        "rows": len(examples),
        "characters": {"median": lengths[len(lengths) // 2], "longest": lengths[-1]},
        "classes": dict(Counter(name for e in examples for name in classes_of(e.target)).most_common()),
    }


def _show(sizes: Mapping[str, Mapping[str, Any]], findings: Sequence[Finding]) -> None:
    for name, part in sizes.items():
        lengths = part["characters"]
        say(
            f"{name}: {part['rows']:,} rows; texts of {lengths['median']:,} characters in the middle, {lengths['longest']:,} at most"
        )
        classes = list(part["classes"].items())
        if not classes:
            continue
        rest = f", and {len(classes) - CLASSES_SHOWN:,} more" if len(classes) > CLASSES_SHOWN else ""
        say(
            f"  {len(classes):,} classes: "
            + ", ".join(f"{show(c, 30)} {n:,}" for c, n in classes[:CLASSES_SHOWN])
            + rest
        )
    if not findings:
        say("nothing found")
        return
    rows = [[f.code, f.level, f.message] for f in findings]
    render(table({"code": "left", "level": "left", "finding": "left"}, rows))
