"""One text's latency by each way out: torch, ONNX Runtime and the predictor, in float32 and in eight bits.

    python benchmarks/export.py              # lstm and gru, hidden 128, 256 and 512: some minutes on an idle machine
    python benchmarks/export.py --rounds 2 --hidden 16    # whether it runs

A whole classifier each time, from 200 ids to logits: embedding, one recurrent layer in both directions, the
maximum over the steps, a linear layer; untrained, without the n-gram path, batch 1, one thread on all sides. All sides have the same weights and run in turns; a row holds the median
of the rounds in milliseconds, and how the eight-bit logits differ from torch's (their root mean square over
torch's). `bytes` are the file's. Nothing else may run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echoic.core.config import Config
from echoic.core.types import Example
from echoic.export.onnx import export
from echoic.export.sealed import session
from echoic.model import Model
from echoic.serve.predictor import open_predictor
from echoic.tasks.classify import Classify
from kernels import in_turns
from record import save

CELLS, HIDDEN, STEPS, WORDS, PAUSE = ("lstm", "gru"), (128, 256, 512), 200, 2000, 0.02
Array = NDArray[Any]


def untrained(cell: str, hidden: int) -> Model:
    """The default classifier of this size, over WORDS words."""
    settings = (f"model.cell.kind={cell}", f"model.hidden={hidden}", f"model.embedding={hidden}", "text.min_count=1")
    config = Config().override((*settings, "model.ngrams=false"))
    words = [f"w{i}" for i in range(WORDS)]
    examples = [Example(" ".join(words), "a"), Example("w1", "a"), Example("w2", "b"), Example("w3", "b")]
    task = Classify.fit(examples, config, lambda _: None)
    network = task.network(0).eval()
    with torch.no_grad():
        network.embed.weight.normal_(generator=torch.Generator().manual_seed(0))
    network.join(None, np.ones(1))
    return Model(config, task, network)


def by_predictor(model: Model, int8: bool) -> Callable[[Array], Array]:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "bundle")
        network = open_predictor(Path(folder) / "bundle", products="int8" if int8 else "").network
    return lambda ids: network.logits(list(ids))


def by_runtime(model: Model, int8: bool) -> tuple[Callable[[Array], Array], int]:
    data = export(model.task, model.network, "", int8=int8).data
    runtime, lengths = session(data), np.array([STEPS])
    return lambda ids: np.asarray(runtime.run(["logits"], {"ids": ids, "lengths": lengths})[0]), len(data)


def by_torch(model: Model) -> Callable[[Array], Array]:
    lengths = torch.tensor([STEPS])

    def run(ids: Array) -> Array:
        with torch.inference_mode():
            return np.asarray(model.network(torch.from_numpy(ids), lengths).numpy())

    return run


def rows(cell: str, hidden: int, rounds: int) -> list[dict[str, Any]]:
    model = untrained(cell, hidden)
    ids = np.random.default_rng(0).integers(3, WORDS, (1, STEPS))
    (whole, size), (eight, small) = by_runtime(model, False), by_runtime(model, True)
    ways = {"torch": by_torch(model), "onnxruntime": whole, "onnxruntime int8": eight}
    ways |= {"predictor": by_predictor(model, False), "predictor int8": by_predictor(model, True)}
    want = ways["torch"](ids)
    answers = {name: way(ids) for name, way in ways.items()}
    for name in ("onnxruntime", "predictor"):
        if np.abs(answers[name] - want).max() > 1e-4:
            raise SystemExit(f"{name} answers otherwise than torch: nothing is to be compared")
    times = in_turns([lambda way=way: way(ids) for way in ways.values()], rounds, PAUSE)
    found = []
    for (name, answer), each in zip(answers.items(), times, strict=True):
        off = float(np.sqrt(np.square(answer - want).mean() / np.square(want).mean()))
        row = {"cell": cell, "hidden": hidden, "way": name, "milliseconds": round(1000 * float(median(each)), 3)}
        row |= {"rms": round(off, 5)} | ({"bytes": small if "int8" in name else size} if "runtime" in name else {})
        print(row, flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hidden", type=int, nargs="+", default=list(HIDDEN))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for cell in CELLS for hidden in options.hidden for row in rows(cell, hidden, options.rounds)]
    if tuple(options.hidden) == HIDDEN:
        save("export", {"steps": STEPS, "rounds": options.rounds, "onnxruntime": version("onnxruntime"), "rows": found})


if __name__ == "__main__":
    main()
