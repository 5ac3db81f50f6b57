"""Writing on, one character at a time: without torch, and by the loop that everybody writes in torch.

    python benchmarks/generate.py                      # hidden 512, one layer, 65 characters: a minute, nothing else running
    python benchmarks/generate.py --tokens 50 --rounds 2     # whether it runs

Both sides have the same untrained weights, one sample and one thread, and draw from the softmax at temperature 1.
torch's loop: embedding, nn.LSTM (GRU) or its cell, a linear layer, softmax, multinomial, in inference mode; the faster
of the two counts. Ours is
`Author.writer` as `echoic generate --stream` uses it, text included. By turns; a row holds the medians in microseconds a token.
"""

from __future__ import annotations

import argparse
import string
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from echoic.core.config import Config
from echoic.core.types import Example
from echoic.model import Model
from echoic.serve.author import open_author
from echoic.tasks.generate import Generate
from kernels import in_turns
from record import save

PAUSE = 0.02


def untrained(cell: str, hidden: int) -> Model:
    settings = ("task.kind=generate", f"model.cell.kind={cell}", f"model.hidden={hidden}", f"model.embedding={hidden}")
    config = Config().override((*settings, "model.layers=1", "text.min_count=1"))
    task = Generate.fit([Example(string.printable[:62])], config, lambda _: None)
    return Model(config, task, task.network(0).eval())


def loops(model: Model) -> dict[str, Callable[[int], None]]:
    """nn.LSTM (GRU) over one step at a time, and nn.LSTMCell (GRUCell): which is faster depends on torch's kernels."""
    network, sizes = model.network, (model.config.model.embedding, model.config.model.hidden)
    kind = model.config.model.cell.kind
    layer = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](*sizes, batch_first=True)
    cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind](*sizes)
    state = network.stack.cells[0].state_dict()
    layer.load_state_dict({f"{name}_l0": tensor for name, tensor in state.items()})
    cell.load_state_dict(state)

    def by_layer(x: Tensor, before: Any) -> tuple[Tensor, Any]:
        y, after = layer(x[:, None], before)
        return y[:, -1], after

    def by_cell(x: Tensor, before: Any) -> tuple[Tensor, Any]:
        after = cell(x, before)
        return after[0] if kind == "lstm" else after, after

    def write(step: Callable[[Tensor, Any], tuple[Tensor, Any]], tokens: int) -> None:
        token, before = torch.tensor([2]), None
        with torch.inference_mode():
            for _ in range(tokens):
                h, before = step(network.embed.weight[token], before)
                p = (h @ network.out.weight.T + network.out.bias).softmax(1)
                token = torch.multinomial(p, 1)[:, 0]

    return {"torch, layer": partial(write, by_layer), "torch, cell": partial(write, by_cell)}


def ours(model: Model, int8: bool) -> tuple[Callable[[int], None], str]:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "b")
        author = open_author(Path(folder) / "b", products="int8" if int8 else "")

    def write(tokens: int) -> None:
        for _ in author.writer("").stream(tokens):
            pass

    return write, author.kernel[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hidden", type=int, default=512)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for cell in ("lstm", "gru"):
        model = untrained(cell, given.hidden)
        (whole, kernel), (eight, _) = ours(model, False), ours(model, True)
        ways = {**loops(model), "echoic": whole, "echoic int8": eight}
        times = in_turns([lambda way=way: way(given.tokens) for way in ways.values()], given.rounds, PAUSE)
        each = {name: 1e6 * float(median(found)) / given.tokens for name, found in zip(ways, times, strict=True)}
        for name, microseconds in each.items():
            ratio = min(each["torch, layer"], each["torch, cell"]) / microseconds
            row = {"cell": cell, "way": name, "microseconds": round(microseconds, 1), "times torch": round(ratio, 2)}
            rows.append(row)
            print(row, flush=True)
    if (given.hidden, given.tokens) == (512, 500):
        save(
            "generate",
            {"hidden": given.hidden, "tokens": given.tokens, "rounds": given.rounds, "kernel": kernel, "rows": rows},
        )


if __name__ == "__main__":
    main()
