"""The predictor beside torch: a cold start, and texts a second.

    python benchmarks/predict.py RUN FILE [--texts 2000] [--starts 7] [--save NAME]

A cold start is a new process that ends with the answer to one text; beside it `python -c "import torch"`, the
two by turns, in seconds on the clock and in seconds of the processor, which a busy machine stretches less. Throughput is that of the first texts of FILE, by the predictor and by Model.predict on torch, by
turns and each on one thread. The median is what counts.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import record

ONE = "a warm and funny film, although nobody in it is warm or funny"


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def by_turns(times: int, **actions: Callable[[], Any]) -> dict[str, list[float]]:
    """Seconds of each action, one after the other, `times` times; a first round warms the caches and is not kept."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(times + 1):
        for name, action in actions.items():
            taken = seconds(action)
            if turn:
                found[name].append(round(taken, 4))
    return found


def processor_seconds(found: list[float], *arguments: str) -> Callable[[], Any]:
    """A process, whose seconds of the processor are added to `found`."""

    def start() -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 4))

    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("file")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--save", metavar="NAME", help="keep the figures as results/predict/NAME.json")
    given = parser.parse_args()
    programme = ("-c", "from echoic.cli.main import run; run()", "predict", given.run, ONE)
    used: dict[str, list[float]] = {"predict": [], "import_torch": []}
    starts = by_turns(
        given.starts,
        predict=processor_seconds(used["predict"], *programme),
        import_torch=processor_seconds(used["import_torch"], "-c", "import torch"),
    )
    used = {name: each[1:] for name, each in used.items()}

    import torch

    from echoic import load
    from echoic.core.config import DataConfig
    from echoic.read.tables import stream_texts
    from echoic.serve.predictor import open_predictor

    torch.set_num_threads(1)
    texts = [each.input for each in islice(stream_texts(given.file, DataConfig()), given.texts)]
    predictor, model = open_predictor(given.run), load(given.run)
    pace = by_turns(3, predictor=lambda: predictor.predict(texts), torch=lambda: model.predict(texts))
    one = by_turns(50, predictor=lambda: predictor.predict(texts[:1]), torch=lambda: model.predict(texts[:1]))
    apart = max(
        abs(a.probabilities[name] - b.probabilities[name])
        for a, b in zip(predictor.predict(texts), model.predict(texts), strict=True)
        for name in a.probabilities
    )
    median = {name: {key: statistics.median(each) for key, each in found.items()} for name, found in
              {"starts": starts, "used": used, "pace": pace, "one": one}.items()}  # fmt: skip
    facts = {
        "kernel": predictor.kernel[0],
        "texts": len(texts),
        "tokens": sum(map(len, predictor.text.encode(texts))),
        "cold_start_seconds": starts,
        "cold_start_processor_seconds": used,
        "cold_start_share_of_import_torch": {
            "clock": round(median["starts"]["predict"] / median["starts"]["import_torch"], 3),
            "processor": round(median["used"]["predict"] / median["used"]["import_torch"], 3),
        },
        "texts_a_second": {name: round(len(texts) / each, 1) for name, each in median["pace"].items()},
        "milliseconds_for_the_first_text": {name: round(1e3 * each, 3) for name, each in median["one"].items()},
        "largest_difference_of_a_probability": apart,
    }
    if given.save:
        print(record.save(f"predict/{given.save}", facts))
    print(record.text(facts))


if __name__ == "__main__":
    main()
