"""Explanations, measured on a trained run: are they complete, are they faithful, what do they cost?

    python benchmarks/explain.py RUN imdb                    # 500 texts of the test part
    python benchmarks/explain.py RUN chnsenticorp --texts 200 --name chnsenticorp-attention

Kept in results/explain/<name>.json:
  completeness  of integrated gradients: the share of texts within 1 %, the middle and the worst
  points        how many texts needed how many points of the path
  faithful      AOPC of each method beside random words, on the first --faithful texts
  captum        the largest difference of a token's score to captum's, at the same points; or that it is absent
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
from echoic.explain.attribute import TOLERANCE, integrated_gradients
from echoic.explain.faithful import SHARES, measure
from echoic.explain.reading import Reading
from echoic.explain.record import METHODS
from echoic.model import Model
from record import RESULTS, save
from sets import SETS

COMPARED, TIMED = 50, 30
"""Texts that captum explains too, and texts that are timed."""


def complete(model: Model, texts: list[str]) -> dict[str, Any]:
    errors, points, seconds = [], Counter[int](), time.perf_counter()
    for number, text in enumerate(texts, 1):
        found = model.explain([text])[0]
        errors.append(found.completeness)
        points[found.points] += 1
        if number % 50 == 0:
            print(f"  {number} texts, {np.mean(np.array(errors) <= TOLERANCE):.1%} within 1 %", flush=True)
    return {
        "completeness": {
            "texts": len(texts),
            "within": float(np.mean(np.array(errors) <= TOLERANCE)),
            "median": float(np.median(errors)),
            "worst": float(np.max(errors)),
        },
        "points": {str(count): points[count] for count in sorted(points)},
        "seconds_a_text": round((time.perf_counter() - seconds) / len(texts), 3),
    }


def against_captum(model: Model, texts: list[str]) -> dict[str, Any]:
    if find_spec("captum") is None:
        return {"installed": False}
    from captum.attr import IntegratedGradients

    worst = 0.0
    for text in texts:
        reading = Reading(model.network, model.task.text.encode([text])[0])
        score = reading.score(int(reading.logits.argmax()))
        own = integrated_gradients(score, reading.embedded)
        other = IntegratedGradients(score).attribute(
            reading.embedded[None], n_steps=own.points, method="gausslegendre", internal_batch_size=16
        )
        worst = max(worst, float(np.abs(other[0].sum(1).detach().numpy() - own.scores).max()))
    return {"installed": True, "texts": len(texts), "largest_difference": worst}


def cost(model: Model, texts: list[str], methods: list[str]) -> dict[str, float]:
    """{method: seconds over those of a prediction of the same text, the median}; each is timed in turn, the first
    of each counts, so that other work on the machine does not."""

    ratios = []
    for text in texts:
        alone = seconds(partial(model.predict, [text]))
        ratios.append([seconds(partial(model.explain, [text], method)) / alone for method in methods])
    return {method: round(float(ratio), 2) for method, ratio in zip(methods, np.median(ratios, 0), strict=True)}


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
    parser.add_argument("--name", help="of the record, if not the set's")
    chosen = parser.parse_args()
    sys.argv[1:] = [Path(each).name if each == chosen.run else each for each in sys.argv[1:]]
    model = load(chosen.run)
    every = [example.input for example in SETS[chosen.set]()[chosen.part]]
    draws = np.random.default_rng(chosen.seed).permutation(len(every))[: chosen.texts]
    texts = [every[i] for i in draws]
    methods = [m for m in METHODS if m != "attention" or model.network.pool.attention is not None]
    config = model.config.model
    facts: dict[str, Any] = {
        "set": chosen.set,
        "part": chosen.part,
        "model": {"cell": config.cell.kind, "bidirectional": config.bidirectional, "pool": config.pool}
        | {"hidden": config.hidden, "ngrams": config.ngrams, "tokenizer": model.task.text.kind},
        "trained": {key: model.about[key] for key in ("seed", "echoic", "torch") if key in model.about},
        "threads": torch.get_num_threads(),
        "tokens": {"median": float(np.median([len(row) for row in model.task.text.encode(texts)]))},
        **complete(model, texts),
        "captum": against_captum(model, texts[:COMPARED]),
        "cost": cost(model, texts[:TIMED], methods),
    }
    found = measure(model.task, model.network, texts[: chosen.faithful], methods, chosen.seed)
    facts["faithful"] = {"shares": SHARES, **found.model_dump(), "verdict": found.sentence()}
    path = save(f"explain/{chosen.name or chosen.set}", facts)
    print(path.relative_to(RESULTS.parent), facts["completeness"], facts["cost"], found.sentence(), flush=True)


if __name__ == "__main__":
    main()
