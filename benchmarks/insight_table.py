"""The part of RESULTS.md about seeing inside: what cells can learn, whether explanations are complete and faithful."""

from __future__ import annotations

from pathlib import Path

from echoic.probe import Outcome
from echoic.probe import rows as outcomes
from markdown import Record, about, records, table


def section(folder: Path) -> str:
    """Markdown, empty where nothing was recorded. folder: results/."""
    parts = [*of_cells(folder), *(explained(name, record) for name, record in records(folder / "explain"))]
    return "\n\n".join(["## Seeing inside", *parts]) + "\n" if parts else ""


def of_cells(folder: Path) -> list[str]:
    """The tables of what cells can do, which docs/inside.md shows too."""
    return [
        *(compared(record) for _, record in records(folder, "compare.imdb*.json")),
        *(probed(record) for _, record in records(folder, "probe.json")),
    ]


def probed(record: Record) -> str:
    head, rows = outcomes([Outcome(**each) for each in record["outcomes"]])
    note = "+ is solved; ! is otherwise than this kind of cell is known for."
    told = f"{about(record)} {record['hidden']} units, seed {record['seed']}. {note}"
    return "\n\n".join(["### What a cell can learn (`echoic probe`)", told, table(head, rows)])


def compared(record: Record) -> str:
    lines = []
    for line in record["table"]:
        beaten = sum(pair["real"] for pair in record["differences"] if pair["better"] == line["name"])
        lines.append(
            (
                line["name"],
                f"**{100 * line['accuracy']:.1f}** [{100 * line['low']:.1f}, {100 * line['high']:.1f}]",
                str(beaten),
                *(
                    "" if line[key] is None else f"{line[key]:,.0f}"
                    for key in ("parameters", "seconds", "tokens_per_second", "texts_per_second", "peak_memory_mib")
                ),
            )
        )
    rows = record["rows"]
    told = (
        f"{about(record)} {rows['train']:,} rows to train on, {rows['test']:,} to score, "
        f"{record['seeds']} seed{'s' * (record['seeds'] > 1)}, {record['updates']} updates and up to whole passes. "
        "Really better: over so many others, by a paired test corrected for all pairs."
    )
    head = ("cell", "accuracy [95 %]", "really better than", "parameters", "seconds", "tokens a second, training", "texts a second", "MiB")  # fmt: skip
    return "\n\n".join([f"### Which cell (`echoic compare`, IMDb, {rows['train']:,} rows)", told, table(head, lines)])


def explained(name: str, record: Record) -> str:
    whole, faithful, captum = record["completeness"], record["faithful"], record["captum"]
    model = record["model"]
    lines = [
        f"- Integrated gradients are complete within 1 % on {whole['within']:.1%} of {whole['texts']} texts "
        f"(median {whole['median']:.2%}, worst {whole['worst']:.2%}); points of the path: "
        + ", ".join(f"{points} for {texts} texts" for points, texts in record["points"].items())
        + ".",
        f"- {faithful['verdict']}",
        "- Cost in predictions of the same text: " + ", ".join(f"{m} {c:g}" for m, c in record["cost"].items()) + ".",
        _captum(captum),
    ]
    told = f"{about(record)} {model['cell']} of {model['hidden']}, pooled by {model['pool']}."
    return "\n\n".join([f"### Explanations ({name})", told, "\n".join(lines)])


def _captum(found: Record) -> str:
    if not found["installed"]:
        return "- captum was not installed."
    if not found["texts"]:
        return "- captum's even points completed no text, so that its scores were not compared."
    return (
        f"- The largest difference of a token's score to captum's, on {found['texts']} texts that its even points "
        f"complete: {found['largest_difference']:.2g}."
    )
