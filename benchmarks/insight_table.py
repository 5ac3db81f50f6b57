"""The part of RESULTS.md about seeing inside: what cells can learn, whether explanations are complete and faithful."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
        f"- Integrated gradients are complete within 1 % on {round(whole['within'] * whole['texts'])} of {whole['texts']} "
        f"texts (median {whole['median']:.2%}, worst {whole['worst']:.2%}); points of the path: "
        + _quantiles(record["points"])
        + ".",
        f"- {faithful['verdict']} How far the probability falls without the words it names (AOPC), on {faithful['texts']} "
        "texts: "
        + ", ".join(
            f"{m} {f['aopc']:.3f} ({f['times_random']:.0f} times random)" for m, f in faithful["methods"].items()
        )
        + f"; random words {faithful['random']:.3f}.",
        "- Cost in predictions of the same text: " + ", ".join(f"{m} {c:g}" for m, c in record["cost"].items()) + ".",
        _captum(captum),
    ]
    told = f"{about(record)} {model['cell']} of {model['hidden']}, pooled by {model['pool']}."
    return "\n\n".join([f"### Explanations ({name})", told, "\n".join(lines)])


def _quantiles(counts: dict[str, int]) -> str:
    """counts: how many texts needed so many points."""
    needed = np.repeat(np.array(list(counts), int), list(counts.values()))
    middle, most = np.quantile(needed, (0.5, 0.9), method="inverted_cdf")
    return f"{middle} for half of the texts, {most} for nine in ten, {needed.max()} at most"


def _captum(found: Record) -> str:
    if not found["installed"]:
        return "- captum was not installed."
    return (
        f"- The largest difference of a token's score to captum's, at the same even points of the path, on "
        f"{found['texts']} texts: {found['largest_difference']:.2g}."
    )
