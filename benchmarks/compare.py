"""Which cell? `echoic compare` on 2,000 training rows of imdb, three seeds, written into results/compare.imdb.json.

    python benchmarks/compare.py              51 trainings, and goes on where it was stopped; an hour and a half of one core
    python benchmarks/compare.py --full       every training row, two passes, one seed; into results/compare.imdb-full.json
    python benchmarks/compare.py --trial      5 updates and one seed of each: does it run?

RNN, LSTM, peephole LSTM and GRU, one way and both, max pooling and attention; a mean of embeddings; TF-IDF. Scored on 5,000 rows of
the test part, the same for all.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from echoic.compare import compare, rows
from echoic.core.config import Config
from echoic.core.types import Example
from record import save
from sets import SETS


class Size(NamedTuple):
    rows: int | None
    """To train and validate on; None: all."""
    tested: int
    updates: int
    seeds: int


SIZES = {"imdb": Size(2000, 5000, 400, 3), "imdb-full": Size(None, 5000, 700, 1), "trial": Size(200, 200, 5, 1)}
SETTINGS = ("train.adversarial=0",)


def drawn(examples: Sequence[Example], count: int | None) -> list[Example]:
    order = np.random.default_rng(0).permutation(len(examples))[:count]
    return [examples[i] for i in sorted(order)]


def write(path: Path, examples: Sequence[Example]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        out.writerows((example.input, example.target) for example in examples)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    for name in ("full", "trial"):
        which.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/compare"), help="where the pieces are kept")
    chosen = parser.parse_args()
    name = "trial" if chosen.trial else "imdb-full" if chosen.full else "imdb"
    size, work = SIZES[name], chosen.work / name
    work.mkdir(parents=True, exist_ok=True)
    parts = SETS["imdb"]()
    train = write(work / "train.csv", drawn(parts["train"], size.rows))
    test = write(work / "test.csv", drawn(parts["test"], size.tested))
    table = rows(["rnn", "lstm", "peephole", "gru"], ["one", "both"], ["max", "attention"], ["words"])
    found = compare(
        train,
        work / "out",
        table,
        Config().override([*SETTINGS, f"threads={chosen.threads}"]),
        test=test,
        seeds=size.seeds,
        updates=size.updates,
        said=lambda line: print(line, flush=True),
    )
    facts = {key: found[key] for key in ("rows", "updates", "seeds", "table", "differences")}
    save(f"compare.{name}", {"settings": list(SETTINGS), **facts})


if __name__ == "__main__":
    main()
