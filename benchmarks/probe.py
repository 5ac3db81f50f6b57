"""Is the cell right? Every problem of `echoic probe` by every cell, written into results/probe.json.

    python benchmarks/probe.py            about a quarter of an hour of one core; goes on where it was stopped
    python benchmarks/probe.py --show     the table of what is there

What has to come out: LSTM and GRU add at T = 200 (mean squared error under 0.01) where the RNN does not; parity is
answered at six times the length trained on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from echoic.probe import Outcome, probe, rows
from record import RESULTS, save

CELLS = ("rnn", "lstm", "peephole", "gru")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, help="at most so many of each, for a trial")
    parser.add_argument("--show", action="store_true")
    chosen = parser.parse_args()
    name = "probe" if chosen.updates is None else "probe.trial"
    place = RESULTS / f"{name}.json"
    kept = RESULTS / f"{name}.pieces.json"  # outcomes as they come; removed when all are there
    if chosen.show:
        found = [Outcome(**each) for each in json.loads(place.read_text(encoding="utf-8"))["outcomes"]]
    else:
        found = probe(
            CELLS, updates=chosen.updates, seed=chosen.seed, out=kept, said=lambda line: print(line, flush=True)
        )
        save(name, {"hidden": 64, "seed": chosen.seed, "outcomes": [asdict(each) for each in found]})
        kept.unlink()
    heads, body = rows(found)
    for line in [heads, *body]:
        print("  ".join(f"{cell:>12}" for cell in line))


if __name__ == "__main__":
    main()
