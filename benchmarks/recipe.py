"""Where the defaults come from: settings tried on validation alone. No test part is read here.

    python benchmarks/recipe.py imdb --try model.ngrams=false --try model.ngrams=false,train.lr=1e-3

Each `--try` is a list of settings, trained once for each seed; the results stand side by side in
results/recipe/<set>.json, and those that are there are not made again. On a few thousand rows a
difference of a point is noise: look at the loss too, and at more than one set.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from accuracy import learning_parts
from echoic import pipeline
from echoic.core.config import Config
from echoic.evaluate.metrics import classification
from echoic.model import map_batches
from record import RESULTS, save
from sets import SETS


def attempt(name: str, settings: list[str], seed: int) -> dict[str, Any]:
    """Validation scores of the recurrent network alone, the n-gram path alone, and both."""
    config = Config().override([f"seed={seed}", *settings])
    parts = {part: rows for part, rows in SETS[name]().items() if part in ("train", "valid")}
    train, valid = learning_parts(parts, config)
    started = time.perf_counter()
    journey = pipeline.fit(train, valid, config, watch=pipeline.watcher())
    scores = validated(journey)
    history = [{key: round(value, 4) for key, value in epoch.items()} for epoch in journey.fitted.history]
    out = {"settings": settings, "seed": seed, "rows": len(valid), "scores": scores, "epochs": history}
    return out | {"seconds": round(time.perf_counter() - started)}


def validated(journey: pipeline.Journey) -> dict[str, dict[str, float]]:
    """Validation scores of each path of a classifier."""
    model, task = journey.model, journey.model.task
    paths = map_batches(model.network.paths, journey.valid, task, model.config)
    scales = model.network.scales.numpy()
    logits = {"alone": paths[0] * scales[0]}
    if len(paths) > 1:
        logits |= {"ngrams": paths[1] * scales[1], "both": paths[0] * scales[0] + paths[1] * scales[1]}
    scores = {}
    for path, each in logits.items():
        found = classification(task.probabilities(each), journey.valid.targets, task.names, kind=task.kind)
        scores[path] = {key: round(found[key], 4) for key in ("accuracy", "macro_f1", "loss")}
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--try", action="append", default=[], dest="tries", help="settings, parted by commas")
    parser.add_argument("--seeds", default="0")
    chosen = parser.parse_args()
    path = RESULTS / "recipe" / f"{chosen.set}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["attempts"] if path.exists() else []
    for settings in [each.split(",") if each else [] for each in chosen.tries or [""]]:
        for seed in map(int, chosen.seeds.split(",")):
            if not any(a["settings"] == settings and a["seed"] == seed for a in done):
                done.append(attempt(chosen.set, settings, seed))
                save(f"recipe/{chosen.set}", {"attempts": done})
                print(settings, seed, done[-1]["scores"], flush=True)


if __name__ == "__main__":
    main()
