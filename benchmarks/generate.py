"""Writing on, one character at a time: without torch, and by the loop that everybody writes in torch.

    python benchmarks/generate.py                      # hidden 512, one layer, 65 characters: a minute, nothing else running
    python benchmarks/generate.py --tokens 50 --rounds 2     # whether it runs

Both sides have the same untrained weights, one sample and one thread, and draw from the softmax at temperature 1.
torch's loop: nn.Embedding, nn.LSTM or nn.GRU with its state, nn.Linear, softmax, multinomial, in inference mode. Ours is
`Author.writer` as `echoic generate --stream` uses it, text included. By turns; a row holds the medians in microseconds a token.
"""

from __future__ import annotations

import argparse
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

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


def loop(model: Model) -> Callable[[int], None]:
    network = model.network
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[model.config.model.cell.kind]
    layer = kind(model.config.model.embedding, model.config.model.hidden, batch_first=True)
    state = network.stack.cells[0].state_dict()
    layer.load_state_dict({f"{name}_l0": tensor for name, tensor in state.items()})

    def write(tokens: int) -> None:
        token, before = torch.tensor([[2]]), None
        with torch.inference_mode():
            for _ in range(tokens):
                y, before = layer(network.embed.weight[token], before)
                p = (y[:, -1] @ network.out.weight.T + network.out.bias).softmax(1)
                token = torch.multinomial(p, 1)

    return write


def ours(model: Model, int8: bool) -> tuple[Callable[[int], None], str]:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "b")
        author = open_author(Path(folder) / "b", int8=int8)

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
        ways = {"torch": loop(model), "echoic": whole, "echoic int8": eight}
        times = in_turns([lambda way=way: way(given.tokens) for way in ways.values()], given.rounds, PAUSE)
        each = {name: 1e6 * float(median(found)) / given.tokens for name, found in zip(ways, times, strict=True)}
        for name, microseconds in each.items():
            ratio = round(each["torch"] / microseconds, 2)
            rows.append({"cell": cell, "way": name, "microseconds": round(microseconds, 1), "times torch": ratio})
            print(rows[-1], flush=True)
    if (given.hidden, given.tokens) == (512, 500):
        save(
            "generate",
            {"hidden": given.hidden, "tokens": given.tokens, "rounds": given.rounds, "kernel": kernel, "rows": rows},
        )


if __name__ == "__main__":
    main()
