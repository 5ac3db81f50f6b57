"""Fine-tuning on public sets: a language model on texts without labels, then a classifier from its weights.

    python benchmarks/finetune.py imdb --dev          # validation only, kept in results/finetune/<name>-dev.json
    python benchmarks/finetune.py imdb                # and the test part, scored once
    python benchmarks/finetune.py imdb-1000 trec chnsenticorp --seeds 0,1

| name                                     | begins from | the language model reads                          | labels       |
| ---------------------------------------- | ----------- | ------------------------------------------------- | ------------ |
| imdb                                     | nothing     | 75,000 reviews: train (less validation) and unsup | train        |
| imdb-1000                                | nothing     | the same, and is the same                         | 1,000 of it  |
| airline_tweets, rotten_tomatoes_mr, trec | base-en     | the training rows                                 | train        |
| chnsenticorp, smp2020_ewect, tnews       | base-zh     | the training rows                                 | train        |

A base is a distribution of its own: `pip install ./bases/echoic-base-en`. Of the 1,000 labels a tenth are validated on.

A set lies in the folder that ECHOIC_DATA names. Texts of the validation part and of the test part are left
out of what the language model reads, and counted. Both trainings go on where they stood in runs/finetune/; a
result that is in results/finetune/ is not made again. Both multiply bfloat16 where the processor can. `--language-set` and
`--set` change the recipe and are kept in the result. `--limit` reads so many texts and rows only, to see that everything runs: nothing is kept then.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accuracy import learning_parts, score_rows
from echoic import finetuning, pipeline, transplant
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.model import Model
from echoic.read.named import data_dir
from echoic.read.streams import new_texts
from echoic.train import virtual
from recipe import validated
from record import RESULTS, save
from sets import SETS, rows

Examples = Sequence[Example]


def unsup() -> Examples:
    return [Example(row["text"], row=i) for i, row in enumerate(rows(data_dir() / "imdb" / "unsup.csv.xz"), 1)]


def nothing_more() -> Examples:
    return []


@dataclass(frozen=True)
class Recipe:
    set: str
    texts: Callable[[], Examples]
    language: tuple[str, ...]
    settings: tuple[str, ...]
    budget: str
    labels: int = 0
    """How many rows are labelled, validation included; 0: all."""
    base: str = ""
    """The language model to begin from."""


HALF = "train.bfloat16=true"
ENGLISH = (
    "text.max_vocab=60000",
    "task.tied=true",
    "task.cutoffs=[2000,10000,30000]",
    "task.bptt=70",
    "model.hidden=1024",
    "model.embedding=300",
    "model.dropout_output=0.1",
    "train.batch_size=64",
    "train.lr=0.002",
    "train.average=0",
    "train.epochs=2",
)
NOISE = (
    "train.lr=0.002",
    "train.adversarial=2",
    "model.weight_drop=0.2",
    "model.dropout_words=0.1",
    "model.dropout_embedding=0.4",
)
ADAPT = ("model.dropout_output=0.1", "train.batch_size=32", "train.average=0", "train.epochs=3")
RECIPES = {
    "imdb": Recipe("imdb", unsup, ENGLISH, (*NOISE, "train.epochs=2"), "three hours of two cores"),
    "imdb-1000": Recipe(
        "imdb", unsup, ENGLISH, (*NOISE, "train.epochs=25"), "the language model of imdb, and half an hour", 1000
    ),
} | {
    name: Recipe(name, nothing_more, ADAPT, ("train.epochs=4",), "an hour of one core", base=base)
    for base, names in (
        ("base-en", ("airline_tweets", "rotten_tomatoes_mr", "trec")),
        ("base-zh", ("chnsenticorp", "smp2020_ewect", "tnews")),
    )
    for name in names
}


def parts_of(recipe: Recipe, seed: int, limit: int) -> tuple[dict[str, Examples], Examples]:
    """(train, valid, test; the texts without labels)"""
    found = SETS[recipe.set]()
    train, valid = learning_parts(found, Config(seed=seed))
    parts, texts = {"train": train, "valid": valid, "test": found["test"]}, recipe.texts()
    if limit:
        parts = {name: some(part, limit, seed) for name, part in parts.items()}
        texts = texts[:limit]
    return parts, texts


def some(part: Examples, count: int, seed: int) -> Examples:
    """`count` rows, of each class as many."""
    order = np.random.default_rng(seed).permutation(len(part))
    classes = sorted({str(e.target) for e in part})
    return [part[i] for name in classes for i in [i for i in order if part[i].target == name][: count // len(classes)]]


def fit(
    train: Examples, valid: Examples, config: Config, run: Path, said: Any, base: Model | None, beside: Examples = ()
) -> pipeline.Journey:
    """A journey that goes on where it stood."""
    run.mkdir(parents=True, exist_ok=True)
    shared = config.model_dump(mode="json", exclude={"threads", "device", "train", "seed"})
    return pipeline.fit(
        train, valid, config, run=run, resume=(run / "checkpoints").exists(), watch=pipeline.watcher(), said=said,
        fingerprint={"config": shared, "rows": [len(train), len(valid)]}, base=base,
        unlabelled=beside,
    )  # fmt: skip


def language_model(
    parts: dict[str, Examples],
    texts: Examples,
    base: Model | None,
    settings: Sequence[str],
    seed: int,
    run: Path,
    said: Any,
) -> tuple[Model, dict[str, Any]]:
    """The language model in `run`, and how it went; one that was trained is opened."""
    if not (run / "facts.json").exists():
        stated = Config().override(["task.kind=generate", f"seed={seed}", *settings])
        config = finetuning.language_settings(base, Config(seed=seed), stated)
        read = finetuning.reading_parts(texts, parts["train"], [*parts["valid"], *parts["test"]], config, said)
        journey = fit(read["train"], read["valid"], config, run, said, base)
        journey.model.save(run / "bundle")
        facts = {
            "settings": list(settings),
            "texts": len(read["train"]),
            "tokens": journey.train.tokens,
            "parameters": sum(p.numel() for p in journey.model.network.parameters()),
            "history": journey.fitted.history,
            "seconds": round(journey.fitted.seconds),
            "tokens_per_second": round(journey.fitted.tokens / max(journey.fitted.seconds, 1e-9)),
        }
        (run / "facts.json").write_text(json.dumps(facts))
    facts = json.loads((run / "facts.json").read_text())
    if facts["settings"] != list(settings):
        raise SystemExit(f"{run}: a language model with other settings stands there; take another --runs")
    return pipeline.load(run), facts


def one(name: str, seed: int, chosen: argparse.Namespace) -> None:
    recipe = RECIPES[name]
    said: list[str] = []

    def hear(note: str) -> None:
        said.append(note.replace(str(data_dir()), "ECHOIC_DATA"))
        print("  ", said[-1], flush=True)

    parts, texts = parts_of(recipe, seed, chosen.limit)
    settings = {
        "language": [HALF, *recipe.language, *chosen.language_set],
        "classifier": [HALF, *recipe.settings, *chosen.set],
    }
    runs = chosen.runs / (f"limit{chosen.limit}" if chosen.limit else "")
    start = pipeline.load(recipe.base) if recipe.base else None
    base, read = language_model(
        parts, texts, start, settings["language"], seed, runs / f"{recipe.set}-{seed}" / "language", hear
    )
    held, everything = [*parts["valid"], *parts["test"]], [*texts, *parts["train"]]
    if recipe.labels:
        parts |= {"train": some(parts["train"], recipe.labels * 9 // 10, seed)}
        parts |= {"valid": some(parts["valid"], recipe.labels // 10, seed)}
    config = transplant.settings(base, Config().override([f"seed={seed}", *settings["classifier"]]))
    beside: Examples = ()
    if virtual.wanted(config.train):
        beside = new_texts(everything, [*parts["train"], *parts["valid"], *held], hear)
    journey = fit(parts["train"], parts["valid"], config, runs / f"{name}-{seed}", hear, base, beside)
    journey.model.save(runs / f"{name}-{seed}" / "bundle")
    facts = {
        "set": name,
        "seed": seed,
        "settings": settings,
        "base": recipe.base,
        "budget": recipe.budget,
        "rows": {part: len(rows) for part, rows in parts.items()},
        "language_model": read,
    }
    conclude(journey, parts, facts, f"finetune/{name}-{seed}", chosen, said)


def conclude(
    journey: pipeline.Journey,
    parts: dict[str, Examples],
    facts: dict[str, Any],
    place: str,
    chosen: argparse.Namespace,
    said: list[str],
) -> None:
    """Scores a classifier that was trained, on the test part unless --dev, and keeps it all unless --limit."""
    facts |= {
        "seconds": round(journey.fitted.seconds),
        "epochs": journey.fitted.history,
        "best_epoch": journey.fitted.best_epoch,
        "parameters": sum(p.numel() for p in journey.model.network.parameters()),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "validation": validated(journey),
    }
    print(place, facts["validation"], flush=True)
    if not chosen.dev:
        facts |= score_rows(journey, parts["train"], parts["valid"], parts["test"], said.append)
        print({path: round(found["accuracy"], 4) for path, found in facts["scores"].items()}, flush=True)
    if not chosen.limit:
        print(save(place + "-dev" * chosen.dev, facts | {"notes": said}).name, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*RECIPES, "all"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--dev", action="store_true", help="validation only: the test part is not scored")
    parser.add_argument("--set", action="append", default=[], help="a setting of the classifier")
    parser.add_argument("--language-set", action="append", default=[], help="a setting of the language model")
    parser.add_argument("--limit", type=int, default=0, help="so many texts and rows only; nothing is kept")
    parser.add_argument("--runs", type=Path, default=Path("runs/finetune"), help="where trainings stand, to go on with")
    parser.add_argument("--again", action="store_true", help="make results anew that are there already")
    chosen = parser.parse_args()
    names = list(RECIPES) if "all" in chosen.names else chosen.names
    for seed in map(int, chosen.seeds.split(",")):
        for name in names:
            kept = RESULTS / "finetune" / f"{name}-{seed}{'-dev' if chosen.dev else ''}.json"
            if chosen.again or chosen.limit or not kept.exists():
                print(f"{name}, seed {seed}", flush=True)
                one(name, seed, chosen)


if __name__ == "__main__":
    main()
