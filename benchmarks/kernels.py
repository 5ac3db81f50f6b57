"""The native kernels against torch.nn: one run, both sides in turns, median of the ratios.

    python benchmarks/kernels.py train       # a training step over full rows
    python benchmarks/kernels.py ragged      # the same over the lengths of IMDb reviews, in buckets
    python benchmarks/kernels.py grid        # small and odd shapes, forward and training
    python benchmarks/kernels.py bfloat16    # a training step under autocast, beside our own float32
    python benchmarks/kernels.py all

Both sides run through the same door (`echoic.nn` and `torch.nn`), in float32, with the same weights and
as many threads, and both make the input's gradient. Operations are counted over valid tokens,
2 N G H (D + H) forward and twice that backward, for N tokens and G gates. The share of the peak is of
fused multiply-adds from registers (fma_peak.cpp), measured in the same run. Nothing else may run.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import echoic.nn
from record import save
from sets import examples

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
TRAIN = [(16, 100, 128, 128), (64, 200, 128, 128), (32, 500, 128, 128), (16, 200, 128, 256), (64, 100, 128, 256),
         (64, 500, 256, 256), (16, 100, 256, 512), (32, 200, 256, 512), (64, 200, 256, 512)]  # fmt: skip
"""(B, T, D, H)"""
GRID = [
    (b, t, h, h) for h in (32, 128, 512, 1024) for b in (1, 8, 32, 128) for t in (1, 32, 200) if b * t * h * h < 4e9
]
Call = Callable[[], None]


def peak(threads: int) -> float:
    """GFLOP/s"""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fma_peak"
        source = Path(__file__).parent / "fma_peak.cpp"
        subprocess.run(["g++", "-O3", "-march=native", "-pthread", str(source), "-o", str(program)], check=True)
        return float(subprocess.run([str(program), str(threads)], check=True, capture_output=True).stdout)


def pair(cell: str, features: int, hidden: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(torch's module, ours with the same weights)"""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, cell)(features, hidden, batch_first=True)
    ours = getattr(echoic.nn, cell)(features, hidden, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def step(module: torch.nn.Module, x: Tensor, dy: Tensor, call: Callable[[torch.nn.Module, Tensor], Tensor]) -> Call:
    def run() -> None:
        module.zero_grad()
        x.grad = None
        call(module, x).backward(dy)

    return run


def in_turns(calls: list[Call], rounds: int, pause: float = 0.0) -> list[list[float]]:
    """Seconds of each call in each round, after one to warm up; short calls are repeated to 2 ms. In `pause`
    seconds before its turn, and one more call, the others' idle threads go to sleep."""
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, int(2e-3 / max(1e-7, time.perf_counter() - start))))
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for i, call in enumerate(calls):
            if pause:
                time.sleep(pause)
                call()
            start = time.perf_counter()
            for _ in range(repeats[i]):
                call()
            seconds[i].append((time.perf_counter() - start) / repeats[i])
    return seconds


def row(
    what: str, cell: str, shape: list[int], operations: float, times: list[list[float]], top: float
) -> dict[str, Any]:
    """times: torch's forms, then ours. The ratio is against the faster of torch's in each round."""
    theirs, ours = np.min(times[:-1], axis=0), np.array(times[-1])
    ratios = theirs / ours
    rate = operations / float(median(ours)) / 1e9
    out = {"what": what, "cell": cell, "shape": shape, "ratio": round(float(median(ratios)), 3)}
    out |= {"lowest": round(float(ratios.min()), 3), "highest": round(float(ratios.max()), 3)}
    out |= {"gflops": round(rate, 1), "torch_gflops": round(operations / float(median(theirs)) / 1e9, 1)}
    out |= {"share_of_peak": round(rate / top, 3), "milliseconds": round(float(median(ours)) * 1e3, 4)}
    if len(times) > 2:
        out["against_packed"] = round(float(median(np.array(times[1]) / ours)), 3)
    print(out, flush=True)
    return out


def one_after_another(calls: list[Call]) -> None:
    for call in calls:
        call()


def dense(module: torch.nn.Module, x: Tensor) -> Tensor:
    return module(x)[0]


def train(top: float, rounds: int) -> Iterator[dict[str, Any]]:
    for cell in GATES:
        for batch, steps, features, hidden in TRAIN:
            x = torch.randn(batch, steps, features, requires_grad=True)
            dy = torch.randn(batch, steps, hidden)
            calls = [step(module, x, dy, dense) for module in pair(cell, features, hidden)]
            operations = 6.0 * batch * steps * GATES[cell] * hidden * (features + hidden)
            yield row("train", cell, [batch, steps, features, hidden], operations, in_turns(calls, rounds), top)


def bfloat16(top: float, rounds: int) -> Iterator[dict[str, Any]]:
    """Both sides under torch's own switch, and beside them our own float32."""

    def rounded(module: torch.nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return dense(module, x)

    for cell in GATES:
        for batch, steps, features, hidden in (shape for shape in TRAIN if shape[3] >= 256):
            x = torch.randn(batch, steps, features, requires_grad=True)
            dy = torch.randn(batch, steps, hidden)
            theirs, ours = pair(cell, features, hidden)
            calls = [step(ours, x, dy, dense), step(theirs, x, dy, rounded), step(ours, x, dy, rounded)]
            operations = 6.0 * batch * steps * GATES[cell] * hidden * (features + hidden)
            float32, *times = in_turns(calls, rounds)
            found = row("bfloat16", cell, [batch, steps, features, hidden], operations, times, top)
            yield found | {"against_float32": round(float(median(np.array(float32) / np.array(times[-1]))), 3)}


def buckets(batch: int, longest: int) -> list[Tensor]:
    """Lengths of IMDb reviews in words, cut at `longest`, as batches of neighbours in length: a few spread over the set."""
    lengths = sorted(min(longest, len(e.input.split())) for e in examples("imdb", "train"))
    every = [lengths[i : i + batch] for i in range(0, len(lengths) - batch, batch)]
    order = np.random.default_rng(0)
    return [torch.tensor(order.permutation(rows)) for rows in every[:: max(1, len(every) // 4)]]


def ragged(top: float, rounds: int) -> Iterator[dict[str, Any]]:
    def packed(module: torch.nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = module(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]

    for cell in GATES:
        for batch, features, hidden in ((32, 128, 128), (64, 128, 128), (64, 128, 256), (64, 256, 512)):
            theirs, ours = pair(cell, features, hidden)
            forms: list[list[Call]] = [[], [], []]
            tokens = 0
            for lengths in buckets(batch, 500):
                x = torch.randn(batch, int(lengths.max()), features, requires_grad=True)
                dy = torch.randn(batch, int(lengths.max()), hidden)
                tokens += int(lengths.sum())
                forms[0].append(step(theirs, x, dy, dense))
                forms[1].append(step(theirs, x, dy, lambda m, x, n=lengths: packed(m, x, n)))
                forms[2].append(step(ours, x, dy, lambda m, x, n=lengths: m(x, lengths=n)[0]))
            calls = [partial(one_after_another, form) for form in forms]
            operations = 6.0 * tokens * GATES[cell] * hidden * (features + hidden)
            yield row("ragged", cell, [batch, 0, features, hidden], operations, in_turns(calls, rounds), top)


def grid(top: float, rounds: int) -> Iterator[dict[str, Any]]:
    for cell in GATES:
        for batch, steps, features, hidden in GRID:
            x = torch.randn(batch, steps, features)
            modules = pair(cell, features, hidden)
            operations = 2.0 * batch * steps * GATES[cell] * hidden * (features + hidden)

            def forward(module: torch.nn.Module, x: Tensor = x) -> Call:
                def run() -> None:
                    with torch.no_grad():
                        module(x)

                return run

            shape = [batch, steps, features, hidden]
            yield row("forward", cell, shape, operations, in_turns([forward(m) for m in modules], rounds), top)
            dy, leaf = torch.randn(batch, steps, hidden), x.clone().requires_grad_()
            calls = [step(module, leaf, dy, dense) for module in modules]
            yield row("training", cell, shape, 3 * operations, in_turns(calls, rounds), top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"train": train, "ragged": ragged, "grid": grid, "bfloat16": bfloat16}
    parser.add_argument("what", choices=[*parts, "all"])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for name in parts if options.what == "all" else [options.what]:
        top = peak(torch.get_num_threads())
        rows = list(parts[name](top, options.rounds))
        kernels = echoic.nn.LSTM(4, 4).kernels()[0]
        facts = {"peak_gflops": top, "threads": torch.get_num_threads(), "kernel": kernels, "rounds": options.rounds}
        save(f"kernels/{name}", {**facts, "rows": rows})


if __name__ == "__main__":
    main()
