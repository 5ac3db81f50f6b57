"""Explanations, measured on a trained run: are they complete, are they faithful, what do they cost?

    python benchmarks/explain.py RUN imdb                    # 500 texts of the test part
    python benchmarks/explain.py RUN chnsenticorp --texts 200 --name chnsenticorp-attention

What is measured of each text is kept in --work, and the same command goes on where it was stopped.

Kept in results/explain/<name>.json:
  completeness  of integrated gradients: the share of texts within 1 %, the middle and the worst
  points        how many texts needed how many points of the path
  faithful      AOPC of each method beside random words, on the first --faithful texts
  captum        the largest difference of a token's score to captum's, at the same even points of the path; or that it is absent
  cost          of each method, in predictions of the same text (the median over some texts)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echoic import load
from echoic.explain.attribute import EVEN, TOLERANCE, integrated_gradients
from echoic.explain.faithful import SHARES, falls, methods_of, summary
from echoic.explain.reading import Reading
from echoic.ledger import Ledger
from echoic.model import Model
from echoic.transplant import digest
from record import RESULTS, save
from sets import SETS

COMPARED, TIMED = 50, 30
"""Texts that captum explains too, and texts that are timed."""


def each(kept: Ledger, what: str, texts: list[str], measured: Callable[[int, str], Any]) -> list[Any]:
    """What `measured` says of every text; what `kept` has is not measured again."""
    for number, text in enumerate(texts):
        if f"{what} {number}" not in kept.pieces:
            kept.keep(f"{what} {number}", measured(number, text))
            if (number + 1) % 50 == 0:
                print(f"  {what}: {number + 1} texts", flush=True)
    return [kept.pieces[f"{what} {number}"] for number in range(len(texts))]


def explained(model: Model, text: str) -> tuple[float, int, float]:
    """completeness, points, seconds"""
    began = time.perf_counter()
    found = model.explain([text])[0]
    return found.completeness, found.points, time.perf_counter() - began


def complete(found: list[Any]) -> dict[str, Any]:
    errors, points = np.array([error for error, _, _ in found]), Counter(count for _, count, _ in found)
    return {
        "completeness": {
            "texts": len(errors),
            "within": float(np.mean(errors <= TOLERANCE)),
            "median": float(np.median(errors)),
            "worst": float(np.max(errors)),
        },
        "points": {str(count): points[count] for count in sorted(points)},
        "seconds_a_text": round(float(np.mean([seconds for _, _, seconds in found])), 3),
    }


def from_captum(model: Model, text: str) -> float:
    """The largest difference of a token's score to captum's, at even points of the path, which are all that captum has,
    be they enough or not."""
    from captum.attr import IntegratedGradients

    reading = Reading(model.network, model.task.text.encode([text])[0])
    score = reading.score(int(reading.logits.argmax()))
    own = integrated_gradients(score, reading.embedded, most=EVEN)
    other = IntegratedGradients(score).attribute(
        reading.embedded[None], n_steps=own.points, method="gausslegendre", internal_batch_size=16
    )
    return float(np.abs(other[0].sum(1).detach().numpy() - own.scores).max())


def against_captum(found: list[float]) -> dict[str, Any]:
    return {"installed": True, "texts": len(found), "largest_difference": max(found)}


def cost(model: Model, text: str, methods: list[str]) -> list[float]:
    """Of each method, its seconds over those of a prediction of the same text; each is timed in turn, the first
    of each counts, so that other work on the machine does not."""
    alone = seconds(partial(model.predict, [text]))
    return [seconds(partial(model.explain, [text], method)) / alone for method in methods]


def seconds(run: Callable[[], Any]) -> float:
    """Of processors, the least of three."""
    found = []
    for _ in range(3):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder or a bundle that was trained on the set's training part")
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--part", default="test")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--faithful", type=int, default=200, help="texts whose words are deleted")
    parser.add_argument("--seed", type=int, default=0, help="draws the texts, and the random words")
    parser.add_argument("--work", type=Path, default=Path("build/explain"), help="where the pieces are kept")
    parser.add_argument("--name", help="of the record, if not the set's")
    chosen = parser.parse_args()
    sys.argv[1:] = [Path(word).name if word == chosen.run else word for word in sys.argv[1:]]
    model, name = load(chosen.run), chosen.name or chosen.set
    every = [example.input for example in SETS[chosen.set]()[chosen.part]]
    draws = np.random.default_rng(chosen.seed).permutation(len(every))[: chosen.texts]
    texts = [every[i] for i in draws]
    methods, config = methods_of(model.network), model.config.model
    chosen.work.mkdir(parents=True, exist_ok=True)
    about = {"model": digest(model), "set": chosen.set, "part": chosen.part, "seed": chosen.seed}
    kept = Ledger.open(chosen.work / f"{name}.json", about, print)
    captum = {"installed": False}
    if find_spec("captum") is not None:
        captum = against_captum(each(kept, "captum", texts[:COMPARED], lambda _, text: from_captum(model, text)))
    costs = each(kept, "cost", texts[:TIMED], lambda _, text: cost(model, text, methods))
    facts: dict[str, Any] = {
        "set": chosen.set,
        "part": chosen.part,
        "model": {"cell": config.cell.kind, "bidirectional": config.bidirectional, "pool": config.pool}
        | {"hidden": config.hidden, "ngrams": config.ngrams, "tokenizer": model.task.text.kind},
        "trained": {key: model.about[key] for key in ("seed", "echoic", "torch") if key in model.about},
        "threads": torch.get_num_threads(),
        "tokens": {"median": float(np.median([len(row) for row in model.task.text.encode(texts)]))},
        **complete(each(kept, "explained", texts, lambda _, text: explained(model, text))),
        "captum": captum,
        "cost": {m: round(float(ratio), 2) for m, ratio in zip(methods, np.median(costs, 0), strict=True)},
    }
    fell = each(
        kept,
        "faithful",
        texts[: chosen.faithful],
        lambda number, text: falls(
            model.task, model.network, model.task.text.encode([text])[0], methods, (chosen.seed, number)
        ),
    )
    found = summary(np.array(fell), methods, chosen.seed)
    facts["faithful"] = {"shares": SHARES, **found.model_dump(), "verdict": found.sentence()}
    path = save(f"explain/{name}", facts)
    print(path.relative_to(RESULTS.parent), facts["completeness"], facts["cost"], found.sentence(), flush=True)


if __name__ == "__main__":
    main()
