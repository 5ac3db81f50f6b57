"""Translation on public pairs: one training a (set, seed), its test part scored once, at the end.

    python benchmarks/translate.py multi30k-de-en                    # BLEU on test2016
    python benchmarks/translate.py multi30k-en-de --dev              # the validation part only: to choose settings by
    python benchmarks/translate.py tatoeba-en-zh tatoeba-en-zh-plain # with attention and without
    python benchmarks/translate.py multi30k-de-en --dev --rows 400 --set train.epochs=2      # does it run at all

A set lies in the folder that ECHOIC_DATA names; sets and recipes: pair_sets.py. `--set` changes a recipe and is kept in
the result, under another name. A training that was killed goes on where it stood, in runs/translate/; a result that is
in results/translate/ is not made again.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

from echoic import pipeline
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.evaluate.translation import translation
from echoic.facts import translate
from pair_sets import SETS, Pairs
from record import RESULTS, save


def examples(pairs: Pairs) -> list[Example]:
    return [Example(a, b, None, i) for i, (a, b) in enumerate(pairs, 1)]


def one(name: str, seed: int, settings: list[str], asked: argparse.Namespace) -> None:
    chosen = SETS[name]
    config = Config().override(["task.kind=translate", f"seed={seed}", *chosen.settings, *settings])
    pairs = {part: found[: asked.rows or None] for part, found in chosen.parts().items()}
    parts = {part: examples(found) for part, found in pairs.items()}
    said: list[str] = []

    def hear(note: str) -> None:
        said.append(note)
        print("  ", note, flush=True)

    run = asked.runs / label(name, seed, settings, asked.rows)
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
            "rows": asked.rows,
            "config": config.model_dump(mode="json", exclude={"threads", "device", "train", "seed"}),
        },
    )
    journey.model.baseline = translate.fit_baseline(journey, parts, hear)
    journey.model.save(run / "bundle")
    part = "valid" if asked.dev else "test"
    started = time.perf_counter()
    scores = translate.evaluate(journey.model, parts[part])
    seconds = time.perf_counter() - started
    wanted = [target for _, target in pairs[part]]
    for other, answers in chosen.beside(pairs, part).items():
        scores["baselines"][other] = translation(answers, wanted)
    facts: dict[str, Any] = {
        "set": name,
        "seed": seed,
        "settings": [*chosen.settings, *settings],
        "budget": chosen.budget,
        "asked": settings,
        "part": part,
        "first_rows": asked.rows,
        "rows": {each: len(rows) for each, rows in parts.items()},
        "seconds": {"train": round(journey.fitted.seconds, 1), part: round(seconds, 1)},
        "tokens_per_second": round(journey.fitted.tokens / max(journey.fitted.seconds, 1e-9)),
        "epochs": len(journey.fitted.history),
        "best_epoch": journey.fitted.best_epoch,
        "history": journey.fitted.history,
        "parameters": sum(p.numel() for p in journey.model.network.parameters()),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "kernels": journey.model.network.stack.kernels(training=True),
        "notes": said,
        "shown": chosen.shown,
        "scores": scores,
    }
    path = save(f"translate/{label(name, seed, settings, asked.rows, asked.dev)}", facts)
    told = {key: round(scores[key], 3) for key in chosen.shown}
    beside = {other: round(found[chosen.shown[0]], 3) for other, found in scores["baselines"].items()}
    spent = facts["seconds"]["train"]
    print(
        f"{path.name}: {part}: {told}, {chosen.shown[0]} of {beside}, {spent:,.0f} s ({chosen.budget} planned)",
        flush=True,
    )


def label(name: str, seed: int, settings: list[str], rows: int, dev: bool = False) -> str:
    """What a result is called: other settings, fewer rows or another part are another result."""
    more = [each.replace("=", "_").replace("/", "_") for each in sorted(settings)]
    more += [f"rows{rows}"] * bool(rows) + ["dev"] * dev
    return "-".join([name, str(seed), *more])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=[*SETS, "all"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], help="a setting other than the recipe's")
    parser.add_argument("--dev", action="store_true", help="score the validation part, and never the test part")
    parser.add_argument("--rows", type=int, default=0, help="only the first rows of each part, to try the script")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/translate"), help="where trainings stand, to go on with"
    )
    parser.add_argument("--again", action="store_true", help="make results anew that are there already")
    asked = parser.parse_args()
    names = list(SETS) if "all" in asked.sets else asked.sets
    for seed in map(int, asked.seeds.split(",")):
        for name in names:
            kept = RESULTS / "translate" / f"{label(name, seed, asked.set, asked.rows, asked.dev)}.json"
            if asked.again or not kept.exists():
                print(f"{name}, seed {seed}", flush=True)
                one(name, seed, asked.set, asked)


if __name__ == "__main__":
    main()
