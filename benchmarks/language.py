"""Language models on public texts: one training a (set, seed), its test part scored once, at the end.

    python benchmarks/language.py tinyshakespeare                 # nats a character
    python benchmarks/language.py ptb --seeds 0,1                 # perplexity of words
    python benchmarks/language.py enwik8                          # bits a character
    python benchmarks/language.py chinese_poetry                  # perplexity of characters, and the form of what it writes

A set lies in the folder that ECHOIC_DATA names. Its recipe is in SETS below, with products of bfloat16 where the processor
has them; `--set` changes it and is kept in the result. A training that was killed goes on where it stood, in runs/language/; a result that
is in results/language/ is not made again. Static evaluation: nothing is learned from the test part, no cache.

tinyshakespeare has two parts only: its last 10 % choose the epoch and are the test as well, as everybody
does there, so its figure flatters. PTB's `<unk>` is read as the word UNK, the line end as a word: 10,000
words. enwik8 is read byte by byte, 90, 5 and 5 million.

chinese_poetry: the Tang poems of 4 or 8 verses of which all have 5 or all 7 characters. A twentieth each, by a hash, to
validate and to test on; a poem that shares a verse with one of an earlier part (test, validation) is left out. 5,400
characters are known, so that the 5-grams beside the network can be counted. 500 poems are written from nothing at
temperature 1: the share whose verses all have 5 or all 7 characters, and the share of their verses that were trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echoic import pipeline
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.facts import generate
from echoic.model import Model
from echoic.read.named import data_dir
from record import RESULTS, save

Parts = dict[str, list[str]]
"""{"train", "valid", "test": texts}"""


HALF = "train.bfloat16=true"


@dataclass(frozen=True)
class Set:
    parts: Callable[[], Parts]
    settings: tuple[str, ...]
    shown: tuple[str, ...]
    """The scores that are quoted."""
    budget: str
    more: Callable[[Model, Parts], dict[str, Any]] = lambda _, __: {}
    """What is measured besides the scores."""


def packed(folder: str, name: str) -> bytes:
    """A file that was packed with xz, or the file as it was fetched."""
    path = data_dir() / folder / name
    return path.with_suffix("").read_bytes() if not path.exists() else lzma.open(path, "rb").read()


def tinyshakespeare() -> Parts:
    text = packed("tinyshakespeare", "input.txt.xz").decode()
    place = int(0.9 * len(text))
    return {"train": [text[:place]], "valid": [text[place:]], "test": [text[place:]]}


def ptb() -> Parts:
    return {
        part: [packed("ptb", f"ptb.{part}.txt.xz").decode().replace("<unk>", "UNK")]
        for part in ("train", "valid", "test")
    }


def enwik8() -> Parts:
    text = packed("enwik8", "enwik8.xz").decode("latin-1")  # a code point a byte
    return {"train": [text[:90_000_000]], "valid": [text[90_000_000:95_000_000]], "test": [text[95_000_000:]]}


def verses(poem: str) -> list[str]:
    return [verse for verse in re.split("[，。？！；、\\s]", poem) if verse]


def regular(poem: str) -> bool:
    return {len(verse) for verse in verses(poem)} in ({5}, {7})


def chinese_poetry() -> Parts:
    rows = packed("chinese_poetry", "tang_shi.jsonl.xz").decode().splitlines()
    poems = dict.fromkeys("\n".join(json.loads(row)["lines"]) for row in rows)
    drawn = {poem: hashlib.sha256(poem.encode()).digest() for poem in poems if regular(poem)}
    parts: Parts = {"test": [], "valid": [], "train": []}
    for poem, draw in sorted(drawn.items(), key=lambda each: each[1]):
        if len(verses(poem)) in (4, 8):
            parts["test" if draw[-1] < 13 else "valid" if draw[-1] < 26 else "train"].append(poem)
    seen: set[str] = set()
    for part, each in parts.items():
        parts[part] = [poem for poem in each if not seen.intersection(verses(poem))]
        seen.update(verse for poem in each for verse in verses(poem))
    return parts


def written(model: Model, parts: Parts) -> dict[str, Any]:
    """500 poems from nothing: their form, and how many of their verses were trained on."""
    learned = {verse for poem in parts["train"] for verse in verses(poem)}
    found = model.generate("", samples=500, temperature=1.0, seed=0, length=200)
    assert found.continuations is not None
    lines = [verse for poem in found.continuations for verse in verses(poem)]
    return {
        "poems": len(found.continuations),
        "regular": sum(map(regular, found.continuations)) / len(found.continuations),
        "of 4 or 8 verses": sum(len(verses(p)) in (4, 8) for p in found.continuations) / len(found.continuations),
        "verses": len(lines),
        "copied": sum(line in learned for line in lines) / max(1, len(lines)),
        "first": found.continuations[:5],
    }


SETS = {
    "tinyshakespeare": Set(
        tinyshakespeare,
        (
            "model.layers=2",
            "model.dropout_layers=0.3",
            "model.dropout_output=0.3",
            "model.weight_drop=0.2",
            "train.batch_size=36",
            "train.lr=0.003",
            "train.epochs=16",
        ),
        ("nats_per_character", "bits_per_character"),
        "45 minutes of two cores",
    ),
    "ptb": Set(
        ptb,
        (
            "text.tokenizer=spaced",
            "text.min_count=1",
            "task.tied=true",
            "task.bptt=70",
            "task.dropout_types=0.1",
            "task.ar=2.0",
            "task.tar=1.0",
            "model.layers=2",
            "model.hidden=650",
            "model.embedding=400",
            "model.dropout_embedding=0.4",
            "model.dropout_layers=0.3",
            "model.dropout_output=0.4",
            "model.weight_drop=0.3",
            "train.batch_size=24",
            "train.lr=0.003",
            "train.epochs=18",
        ),
        ("perplexity",),
        "two hours of two cores",
    ),
    "enwik8": Set(
        enwik8,
        (
            "model.hidden=640",
            "model.dropout_embedding=0",
            "model.dropout_output=0.1",
            "train.batch_size=96",
            "train.batch_tokens=20000",
            "task.bptt=160",
            "train.epochs=1",
            "train.lr=0.003",
        ),
        ("bits_per_character",),
        "two hours of two cores",
    ),
    "chinese_poetry": Set(
        chinese_poetry,
        (
            "text.max_vocab=5400",
            "text.min_count=1",
            "task.tied=true",
            "task.cutoffs=[1500]",
            "task.bptt=100",
            "model.hidden=512",
            "model.layers=2",
            "model.embedding=256",
            "model.dropout_embedding=0.2",
            "model.dropout_layers=0.3",
            "model.dropout_output=0.3",
            "model.weight_drop=0.2",
            "train.batch_size=48",
            "train.lr=0.003",
            "train.epochs=10",
        ),
        ("perplexity",),
        "an hour of one core",
        written,
    ),
}


def one(name: str, seed: int, settings: list[str], runs: Path) -> None:
    chosen = SETS[name]
    settings = [HALF, *chosen.settings, *settings]
    config = Config().override(["task.kind=generate", f"seed={seed}", *settings])
    texts = chosen.parts()
    parts = {part: [Example(text, row=i) for i, text in enumerate(each, 1)] for part, each in texts.items()}
    said: list[str] = []

    def hear(note: str) -> None:
        said.append(note)
        print("  ", note, flush=True)

    run = runs / f"{name}-{seed}"
    run.parent.mkdir(parents=True, exist_ok=True)
    journey = pipeline.fit(
        parts["train"],
        parts["valid"],
        config,
        run=run,
        resume=(run / "checkpoints").exists(),
        watch=pipeline.watcher(),
        said=hear,
        fingerprint={
            "set": name,
            "config": config.model_dump(mode="json", exclude={"threads", "device", "train", "seed"}),
        },
    )
    journey.model.baseline = generate.fit_baseline(journey, parts, hear)
    journey.model.save(run / "bundle")
    started = time.perf_counter()
    scores = generate.evaluate(journey.model, parts["test"])
    facts: dict[str, Any] = {
        "set": name,
        "seed": seed,
        "settings": settings,
        "budget": chosen.budget,
        "characters": {part: sum(map(len, each)) for part, each in texts.items()},
        "seconds": {"train": round(journey.fitted.seconds, 1), "test": round(time.perf_counter() - started, 1)},
        "tokens_per_second": round(journey.fitted.tokens / max(journey.fitted.seconds, 1e-9)),
        "epochs": len(journey.fitted.history),
        "best_epoch": journey.fitted.best_epoch,
        "history": journey.fitted.history,
        "parameters": sum(p.numel() for p in journey.model.network.parameters()),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "kernels": journey.model.network.stack.kernels(training=True),
        "notes": said,
        "scores": scores,
        "more": chosen.more(journey.model, texts),
    }
    path = save(f"language/{name}-{seed}", facts)
    told = {key: round(scores[key], 4) for key in chosen.shown}
    beside = {key: round(scores["baselines"]["ngram"][key], 4) for key in chosen.shown}
    print(
        f"{path.name}: {told}, n-grams {beside}, {facts['seconds']['train']:,.0f} s ({chosen.budget} planned)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=[*SETS, "all"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument(
        "--set", action="append", default=[], help="a setting other than the recipe's; kept in the result"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/language"), help="where trainings stand, to go on with")
    parser.add_argument("--again", action="store_true", help="make results anew that are there already")
    chosen = parser.parse_args()
    names = list(SETS) if "all" in chosen.sets else chosen.sets
    for seed in map(int, chosen.seeds.split(",")):
        for name in names:
            if chosen.again or not (RESULTS / "language" / f"{name}-{seed}.json").exists():
                print(f"{name}, seed {seed}", flush=True)
                one(name, seed, chosen.set, chosen.runs)


if __name__ == "__main__":
    main()
