"""The part of RESULTS.md about the native core's speed, from the records of kernels.py."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

from markdown import records
from markdown import table as markdown_table

TITLES = {
    "train": "A training step over full rows",
    "ragged": "A training step over the lengths of IMDb reviews, batches of neighbours in length",
    "bfloat16": "A training step with products in bfloat16 on both sides",
    "grid": "Small and odd shapes",
}
HEAD = "| cell | B, T, D, H | GFLOP/s | torch | of the peak | times torch's speed (lowest to highest) |"


def section(folder: Path) -> str:
    """Markdown, empty where nothing was recorded. folder: results/kernels."""
    found = {name: folder / f"{name}.json" for name in TITLES}
    parts = [table(name, json.loads(path.read_text(encoding="utf-8"))) for name, path in found.items() if path.exists()]
    for name, shown in (("door", door), ("end_to_end", end_to_end)):
        path = folder / f"{name}.json"
        if path.exists():
            parts.append(shown(json.loads(path.read_text(encoding="utf-8"))))
    parts += filter(None, [rounding(folder.parent / "accuracy")])
    return "\n\n".join(["## The native core", *parts]) + "\n" if parts else ""


def rounding(folder: Path) -> str:
    """What training in bfloat16 costs: the same seeds of IMDb both ways. folder: results/accuracy."""
    found = {name: [r for _, r in records(folder, f"imdb-{name}-*.json")] for name in ("default", "bfloat16")}
    seeds = {name: [record["seed"] for record in each] for name, each in found.items()}
    if not found["bfloat16"] or seeds["default"] != seeds["bfloat16"]:
        return ""

    def mean(name: str, path: str) -> float:
        return 100 * fmean(record["scores"][path]["accuracy"] for record in found[name])

    rows = [
        (
            shown,
            *(f"{mean(name, path):.2f}" for name in found),
            f"{mean('bfloat16', path) - mean('default', path):+.2f}",
        )
        for shown, path in (("network alone", "alone"), ("with n-grams", "default"))
    ]
    head = ("accuracy on imdb", "float32", "bfloat16", "difference")
    about = "`python benchmarks/accuracy.py imdb --variant bfloat16`, and without; test part, per cent, means of seeds "
    about += ", ".join(map(str, seeds["bfloat16"])) + "."
    return "\n\n".join(["### What products in bfloat16 cost", about, markdown_table(head, rows)])


def door(record: dict[str, Any]) -> str:
    about = (
        f"`{record['command']}`: {record['machine']['processor']}, {record['threads']} threads on all sides (one for a step), "
        f"{record['kernel']}, torch {record['versions']['torch']}, onnxruntime {record['onnxruntime']}, {record['time']}. "
        f"One text of 200 steps, or one step; NumPy in and out. Medians of {record['rounds']} rounds in turns."
    )
    head = ["| what | cell | H | microseconds | theirs | against | times its speed (lowest to highest) |"]
    head.append("| --- | --- | ---: | ---: | ---: | --- | ---: |")
    lines = [
        f"| {row['what']} | {row['cell']} | {row['shape'][3]} | {row['microseconds']:,.1f} | {row['their_microseconds']:,.1f} | "
        f"{row['against']} | {row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f}) |"
        for row in record["rows"]
        if "absent" not in row
    ]
    off = [
        f"{row['cell']} {row['shape'][3]}: {100 * row['error_drawn']['rms']:.2f} %"
        + (f", trained {100 * row['error_trained']['rms']:.2f} %" if "error_trained" in row else "")
        for row in record["rows"]
        if row["what"] == "int8"
    ]
    error = f"Eight bits: root mean square error of the output beside its size, drawn weights: {'; '.join(off)}."
    return "### Prediction through the NumPy door\n\n" + "\n\n".join([about, "\n".join([*head, *lines]), error])


def end_to_end(record: dict[str, Any]) -> str:
    about = (
        f"`{record['command']}`: {record['batches']} batches of the default recipe, {record['tokens']:,} tokens, "
        f"{record['threads']} threads, torch {record['versions']['torch']}"
        + "".join(f", {name} {number}" for name, number in record.get("keras", {}).items())
        + f", {record['time']}. Medians of {record['rounds']} rounds in turns (torch, packed: one round). "
        "Plain: without the adversarial step, as Keras."
    )
    speeds = [f"| {name} | {speed:,} |" for name, speed in record["tokens_per_second"].items()]
    ratios = [
        f"- {row['of']}: {row['ratio']:.2f} times the speed of {row['against']} ({row['lowest']:.2f} to {row['highest']:.2f})"
        for row in record["rows"]
    ]
    head = ["| training on IMDb | tokens/s |", "| --- | ---: |"]
    return "### Training on IMDb, end to end\n\n" + "\n\n".join([about, "\n".join([*head, *speeds]), "\n".join(ratios)])


def table(name: str, record: dict[str, Any]) -> str:
    machine = record["machine"]
    about = (
        f"`{record['command']}`: {machine['processor']}, {record['threads']} threads, float32, {record['kernel']}, "
        f"torch {record['versions']['torch']}, {record['time']}. Peak of fused multiply-adds in the same run: "
        f"{record['peak_gflops']:.0f} GFLOP/s. Medians of {record['rounds']} rounds in turns."
    )
    rows = record["rows"]
    if name == "grid":
        return f"### {TITLES[name]}\n\n{about}\n\n{summary(rows)}"
    lines = [HEAD, "| --- | --- | ---: | ---: | ---: | ---: |", *map(line, rows)]
    return f"### {TITLES[name]}\n\n{about}\n\n" + "\n".join(lines) + f"\n\n{summary(rows)}"


def line(row: dict[str, Any]) -> str:
    shape = ", ".join(str(size) if size else "IMDb" for size in row["shape"])
    times = f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"
    for other, name in (("against_packed", "a PackedSequence"), ("against_float32", "our own float32")):
        if other in row:
            times += f"; {row[other]:.2f} against {name}"
    numbers = f"{row['gflops']:.0f} | {row['torch_gflops']:.0f} | {100 * row['share_of_peak']:.0f} %"
    return f"| {row['cell']} | {shape} | {numbers} | {times} |"


def summary(rows: list[dict[str, Any]]) -> str:
    lines = []
    for what in dict.fromkeys(row["what"] for row in rows):
        for cell in dict.fromkeys(row["cell"] for row in rows):
            of = sorted(
                (row for row in rows if (row["what"], row["cell"]) == (what, cell)), key=lambda row: row["ratio"]
            )
            slower = sum(row["ratio"] < 0.95 for row in of)
            lines.append(
                f"- {what}, {cell}: median {median(row['ratio'] for row in of):.2f} times the other's speed over {len(of)} "
                f"shapes, lowest {of[0]['ratio']:.2f} (B, T, D, H = {of[0]['shape']}); {slower} below 0.95"
            )
    return "\n".join(lines)
