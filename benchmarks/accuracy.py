"""The accuracy table: one training a (set, variant, seed), its test part scored once, at the end.

    python benchmarks/accuracy.py imdb --seeds 0,1,2                      # the default classifier
    python benchmarks/accuracy.py imdb --variant vectors --seeds 0,1,2    # with pretrained vectors, of characters for Chinese
    python benchmarks/accuracy.py all

Validation always comes from the training part. The two paths of the classifier are trained apart, so
one training gives three rows: `alone` (the recurrent network, bit for bit what model.ngrams=false
trains: tests/tasks/test_classify.py), `ngrams` (the n-gram path alone) and `default` (both). Beside
them the frozen baseline on the same rows. Each result is kept in results/accuracy/ with the rows it
got right, so that paired intervals can be computed later; a result that is there is not made again. The
model stays in runs/accuracy/, for benchmarks/int8.py and explain.py.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from echoic import pipeline
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.evaluate.metrics import classification, correct, decide
from echoic.facts.classify import tfidf
from echoic.model import fingerprints, map_batches
from echoic.read.named import data_dir
from echoic.read.split import split
from record import RESULTS, save
from sets import SETS

GLOVE, TENCENT = "glove_100d_50k/glove.100d.50k.txt.xz", "tencent_zh_chars_200d/tencent.chars.200d.txt.xz"
CHINESE = ("chnsenticorp", "smp2020_ewect", "tnews")
VARIANTS: dict[str, Callable[[str], list[str]]] = {
    "default": lambda _: [],
    "bfloat16": lambda _: ["train.bfloat16=true"],
    "attention": lambda _: ["model.pool=attention"],  # for explain.py
    "vectors": lambda name: [f'text.vectors="{data_dir() / (TENCENT if name in CHINESE else GLOVE)}"'],
}
KEPT = ("examples", "accuracy", "macro_f1", "loss", "ece")


def bits(right: np.ndarray) -> str:
    """Which rows were right, as hexadecimal: `np.unpackbits` of its bytes, cut to the number of rows."""
    return np.packbits(right).tobytes().hex()


def short(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: scores[name] for name in KEPT if name in scores}


def learning_parts(parts: dict[str, list[Example]], config: Config) -> tuple[list[Example], list[Example]]:
    """(training part, validation part): the set's own, or split from its training part."""
    train, valid = parts["train"], parts.get("valid")
    if valid is None:
        first, second = split(train, config.data.valid_fraction, config.seed)
        train, valid = [train[i] for i in first], [train[i] for i in second]
    return train, valid


def one(name: str, variant: str, seed: int, settings: list[str]) -> None:
    parts = SETS[name]()
    config = Config().override([f"seed={seed}", *VARIANTS[variant](name), *settings])
    (train, valid), test = learning_parts(parts, config), parts["test"]
    said: list[str] = []

    def hear(note: str) -> None:
        said.append(note.replace(str(data_dir()), "ECHOIC_DATA"))
        print("  ", said[-1], flush=True)

    started = time.perf_counter()
    journey = pipeline.fit(train, valid, config, said=hear, watch=pipeline.watcher())
    seconds = {**journey.seconds, "fit": round(time.perf_counter() - started, 1)}
    facts = {
        "set": name,
        "variant": variant,
        "seed": seed,
        "settings": settings,
        "rows": {"train": len(train), "valid": len(valid), "test": len(test)},
        "seconds": seconds,
        "epochs": len(journey.fitted.history),
        "best_epoch": journey.fitted.best_epoch,
        "parameters": sum(p.numel() for p in journey.model.network.parameters()),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "notes": said,
        **score_rows(journey, train, valid, test, hear),
    }
    path = save(f"accuracy/{name}-{variant}-{seed}", facts)
    journey.model.save(Path("runs/accuracy") / f"{name}-{variant}-{seed}")
    print(path.relative_to(Path.cwd()), {k: round(v["accuracy"], 4) for k, v in facts["scores"].items()}, flush=True)


def score_rows(
    journey: pipeline.Journey, train: list[Example], valid: list[Example], test: list[Example], said: Any
) -> dict[str, Any]:
    """`scores`: {"alone": ..., "ngrams": ..., "default": ..., "tfidf_lr": ...} on the test rows, with the
    rows right, the same without the rows trained or validated on (`seen`), and the validation scores."""
    model, task = journey.model, journey.model.task
    baseline = tfidf(task, {"train": train, "valid": valid}, said)
    seen = np.isin(fingerprints([e.input for e in test]), fingerprints([e.input for e in (*train, *valid)]))
    answers: dict[str, dict[str, np.ndarray]] = {}
    for part, rows in (("valid", valid), ("test", test)):
        data = task.encode(rows)
        paths = map_batches(model.network.paths, data, task, model.config)
        scales = model.network.scales.numpy()
        found = {"alone": task.probabilities(paths[0] * scales[0])}
        if len(paths) == 2:
            found["ngrams"] = task.probabilities(paths[1])
            found["default"] = task.probabilities(paths[0] * scales[0] + paths[1] * scales[1])
        found["tfidf_lr"] = baseline.predict_proba([e.input for e in rows])
        answers[part] = found | {"targets": data.targets}
    out: dict[str, Any] = {}
    targets = answers["test"].pop("targets")
    for path, p in answers["test"].items():
        scores = classification(p, targets, task.names, kind=task.kind)
        right = correct(decide(p, kind=task.kind), targets, kind=task.kind)
        v = classification(answers["valid"][path], answers["valid"]["targets"], task.names, kind=task.kind)
        out[path] = {
            **short(scores),
            "valid_accuracy": v["accuracy"],
            "valid_macro_f1": v["macro_f1"],
            "right": bits(right),
        }
        out[path]["answers"] = p.argmax(1).tolist() if len(p) <= 10_000 else None
        if seen.any():
            kept = np.flatnonzero(~seen)
            out[path]["unseen"] = short(classification(p[kept], targets[kept], task.names, kind=task.kind))
    small = len(test) <= 10_000
    return {"scores": out, "seen": bits(seen), "targets": targets.tolist() if small else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=[*SETS, "all"])
    parser.add_argument("--variant", choices=VARIANTS, default="default")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--set", action="append", default=[], help="a setting other than the default; kept in the result"
    )
    parser.add_argument("--again", action="store_true", help="make results anew that are there already")
    chosen = parser.parse_args()
    names = list(SETS) if "all" in chosen.sets else chosen.sets
    for seed in map(int, chosen.seeds.split(",")):
        for name in names:
            if chosen.again or not (RESULTS / "accuracy" / f"{name}-{chosen.variant}-{seed}.json").exists():
                print(f"{name}, {chosen.variant}, seed {seed}", flush=True)
                one(name, chosen.variant, seed, chosen.set)


if __name__ == "__main__":
    main()
