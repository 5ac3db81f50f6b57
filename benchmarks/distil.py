"""Distilling on public sets: a small network learns what a fine-tuned one answers; the test part is scored once.

    python benchmarks/finetune.py imdb        # the teacher, kept in runs/finetune/imdb-0/bundle
    python benchmarks/distil.py imdb          # the student, on the training rows and the reviews without labels

Multiply-adds of a token are those of its recurrence, 4 H (D + H) a layer and direction. A training that was killed goes on in
runs/distil/; `--set` changes the recipe and is kept in the result, `--dev` scores the validation part alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echoic import pipeline
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.distilling import Teacher
from echoic.layers.stack import Stack
from finetune import HALF, RECIPES, conclude, fit, parts_of
from record import RESULTS

STUDENT = (HALF, "model.hidden=80", "model.embedding=96", "train.epochs=4")


def multiply_adds(stack: Stack) -> int:
    """Of the recurrence of one token."""
    return sum(p.numel() for name, p in stack.named_parameters() if ".weight_ih" in name or ".weight_hh" in name)


def written(texts: Sequence[Example], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["text"])
        out.writerows([text.input] for text in texts)
    return path


def one(name: str, seed: int, chosen: argparse.Namespace) -> None:
    said: list[str] = []

    def hear(note: str) -> None:
        said.append(note)
        print("  ", note, flush=True)

    parts, texts = parts_of(RECIPES[name], seed, chosen.limit)
    model = pipeline.load(chosen.teachers / f"{name}-{seed}")
    run = chosen.runs / f"{name}-{seed}"
    teacher = Teacher(model, written(texts, run / "unlabelled.csv") if texts else None, chosen.temperature)
    settings = [*STUDENT, *chosen.set]
    config = Config().override([f"seed={seed}", *settings])
    taught = teacher.teach(parts, config, hear)
    journey = fit(taught, parts["valid"], config, run, hear, None)
    journey.model.save(run / "bundle")
    costs = [multiply_adds(network.stack) for network in (journey.model.network, model.network)]
    facts: dict[str, Any] = {
        "set": name,
        "seed": seed,
        "settings": settings,
        "temperature": chosen.temperature,
        "texts": len(taught),
        "multiply_adds": dict(zip(("student", "teacher"), costs, strict=True)),
    }
    conclude(journey, parts, facts, f"distil/{name}-{seed}", chosen, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=RECIPES)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--dev", action="store_true", help="validation only: the test part is not scored")
    parser.add_argument("--set", action="append", default=[], help="a setting of the student")
    parser.add_argument("--limit", type=int, default=0, help="so many texts and rows only; nothing is kept")
    parser.add_argument("--teachers", type=Path, default=Path("runs/finetune"), help="where finetune.py left them")
    parser.add_argument("--runs", type=Path, default=Path("runs/distil"), help="where trainings stand, to go on with")
    parser.add_argument("--again", action="store_true", help="make results anew that are there already")
    chosen = parser.parse_args()
    for seed in map(int, chosen.seeds.split(",")):
        for name in chosen.names:
            kept = RESULTS / "distil" / f"{name}-{seed}{'-dev' if chosen.dev else ''}.json"
            if chosen.again or chosen.limit or not kept.exists():
                one(name, seed, chosen)


if __name__ == "__main__":
    main()
