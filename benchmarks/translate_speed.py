"""The translator of benchmarks/translate.py beside the same model of torch.nn, its beam batched: training and search.

    python benchmarks/translate.py multi30k-de-en --dev       # the model that both are
    python benchmarks/translate_speed.py [--bfloat16]

The search is `echoic predict`'s, without torch, and beside it the same search over the network in torch. Both sides have
the same weights: before the clock runs, their loss on a batch and their best hypotheses are compared. With --bfloat16
products are rounded on both sides, torch's by its autocast, in training and in the search. Medians, by turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from echoic import pipeline
from echoic.batch import buckets
from echoic.core.config import Config
from echoic.core.types import EMPTY, PAD, UNKNOWN
from echoic.kernels.door import Products
from echoic.layers.dropout import Noise
from echoic.layers.seq2seq import parted
from echoic.serve.interpreter import open_interpreter
from pair_sets import multi30k
from record import save
from translate import examples, label


class Torch(nn.Module):
    """`Seq2Seq` with dot attention, joint vocabulary and tied output, as it is written with torch.nn: packed
    encoder, dense decoder, dropout where torch.nn has it."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__()
        size, hidden = config.model.embedding, config.model.hidden
        self.embed = nn.Embedding(vocabulary, size, padding_idx=PAD)
        self.encoder = nn.LSTM(size, hidden, bidirectional=True, batch_first=True)
        self.below = nn.LSTM(size, hidden, batch_first=True)
        self.above = nn.LSTM(3 * hidden, hidden, batch_first=True)
        self.key = nn.Linear(2 * hidden, hidden, bias=False)
        self.start = nn.Linear(2 * hidden, 4 * hidden)
        self.join = nn.Linear(3 * hidden, size)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.drop = nn.Dropout(0.3)

    def take_over(self, ours: dict[str, Tensor]) -> None:
        """The weights of a `Seq2Seq`: the gates stand in torch's order."""
        state = {"embed.weight": ours["embed.weight"], "key.weight": ours["attention.key.weight"], "bias": ours["bias"]}
        state |= {name: ours[name] for name in ours if name.startswith(("start.", "join."))}
        for name, place, end in (("encoder", 0, ""), ("encoder", 1, "_reverse"), ("below", 0, ""), ("above", 0, "")):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                state[f"{name}.{kind}_l0{end}"] = ours[f"stack.{name}.cells.{place}.{kind}"]
        self.load_state_dict(state)

    def read(self, sources: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        packed = pack_padded_sequence(self.drop(self.embed(sources)), lengths, batch_first=True, enforce_sorted=False)
        out, (h, _) = self.encoder(packed)
        keys, _ = pad_packed_sequence(out, batch_first=True)
        start = torch.tanh(self.start(torch.cat([h[0], h[1]], 1))).chunk(4, 1)
        valid = torch.arange(keys.shape[1]) < lengths[:, None]
        return keys, self.key(keys), valid, [each[None].contiguous() for each in start]

    def step(
        self, ids: Tensor, memory: tuple[Tensor, Tensor, Tensor], state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """ids (B, U) -> what each next token is told by (B, U, E), and the state."""
        keys, projected, valid = memory
        h, below = self.below(self.drop(self.embed(ids)), (state[0], state[1]))
        scores = torch.bmm(h, projected.mT) / h.shape[2] ** 0.5
        context = torch.bmm(scores.masked_fill(~valid[:, None], -torch.inf).softmax(2), keys)
        s, above = self.above(self.drop(torch.cat([h, context], 2)), (state[2], state[3]))
        return torch.tanh(self.join(self.drop(torch.cat([s, context], 2)))), [*below, *above]

    def loss(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        sources, sizes, said, wanted, predicted = parted(inputs, lengths)
        *memory, state = self.read(sources, sizes)
        told, _ = self.step(said, (memory[0], memory[1], memory[2]), state)
        real = torch.arange(said.shape[1]) < predicted[:, None]
        logits = F.linear(told[real], self.embed.weight, self.bias)
        return F.cross_entropy(logits, wanted[real], label_smoothing=0.1)

    @torch.inference_mode()
    def search(self, sources: Tensor, lengths: Tensor, beam: int, most: int) -> Tensor:
        """The usual batched beam: B x beam rows in every step, until every source has `beam` that ended. -> (B, beam, U)
        ids, the best first."""
        rows = len(sources)
        *memory, state = self.read(sources, lengths)
        keys, projected, valid = (each.repeat_interleave(beam, 0) for each in memory)
        state = [each.repeat_interleave(beam, 1) for each in state]
        ids = torch.full((rows * beam, 1), EMPTY)
        score = torch.full((rows, beam), -torch.inf)
        score[:, 0] = 0.0
        ended = torch.zeros(rows, beam, dtype=torch.bool)
        for _ in range(most):
            told, state = self.step(ids[:, -1:], (keys, projected, valid), state)
            log_p = F.linear(told[:, 0], self.embed.weight, self.bias).log_softmax(1).view(rows, beam, -1)
            log_p[:, :, [PAD, UNKNOWN]] = -torch.inf
            log_p[ended] = -torch.inf
            log_p[:, :, EMPTY].masked_fill_(ended, 0.0)
            total = (score[:, :, None] + log_p).flatten(1)
            score, place = total.topk(beam, 1)
            origin, token = place // log_p.shape[2], place % log_p.shape[2]
            ended = ended.gather(1, origin) | (token == EMPTY)
            at = (origin + beam * torch.arange(rows)[:, None]).flatten()
            ids = torch.cat([ids[at], token.flatten()[:, None]], 1)
            state = [each[:, at] for each in state]
            if ended.all():
                break
        return ids.view(rows, beam, -1)


def by_turns(rounds: int, **works: Callable[[], Any]) -> dict[str, float]:
    """The median seconds of each, after one round that warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bfloat16", action="store_true", help="products of bfloat16 on both sides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=512, help="sentences of a search")
    parser.add_argument("--runs", type=Path, default=Path("runs/translate"))
    asked = parser.parse_args()
    run = asked.runs / label("multi30k-de-en", 0, [], 0) / "bundle"
    if not run.exists():
        raise SystemExit(
            f"{run}: train multi30k-de-en first; an untrained model ends nowhere, so its beam says nothing"
        )
    model = pipeline.load(run)
    config = model.config.override(["model.variational=0", f"train.bfloat16={str(asked.bfloat16).lower()}"])
    task, network = replace(model.task, config=config), model.network
    for stack in (network.stack.below, network.stack.above, network.stack.encoder):
        stack.variational = 0.0
    parts = multi30k("de", "en")
    data = task.encode(examples(parts["train"][: 64 * 40]))
    batches = [task.collate(data, index) for index in buckets.plan(data.lengths, 64, 4096, seed=0, epoch=0)][:30]
    other = Torch(config, len(task.text.vocabulary))
    other.take_over(network.state_dict())
    optimisers = {net: torch.optim.AdamW(net.parameters(), lr=1e-9, fused=True) for net in (network, other)}
    rounded = torch.autocast("cpu", torch.bfloat16) if asked.bfloat16 else nullcontext()

    def ours(batch: Any, noise: Noise | None) -> Tensor:
        total, count = task.learn(network, batch, noise, {})
        return total / count

    def theirs(batch: Any) -> Tensor:
        with rounded:
            return other.loss(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))

    def train(net: nn.Module, loss: Callable[[Any], Tensor]) -> None:
        net.train()
        for batch in batches:
            net.zero_grad()
            loss(batch).backward()
            optimisers[net].step()

    texts = [source for source, _ in parts["valid"]][: asked.texts]
    rows = task.text.encode(texts)

    def their_beam() -> list[list[int]]:
        found: list[list[int]] = [[] for _ in rows]
        other.eval()
        for index in buckets.plan(np.array([len(row) for row in rows]), 64, 1 << 16):
            part = [torch.from_numpy(rows[i].astype(np.int64)) for i in index]
            sizes = torch.tensor([len(each) for each in part])
            most = int(np.ceil(task.ratio * (int(sizes.max()) + 5)))
            with rounded:
                ids = other.search(nn.utils.rnn.pad_sequence(part, batch_first=True), sizes, 5, most)
            for i, each in zip(index.tolist(), ids[:, 0].tolist(), strict=True):
                found[i] = [token for token in each if token not in (PAD, EMPTY)]
        return found

    products: Products = "bfloat16" if asked.bfloat16 else ""
    interpreter = open_interpreter(run, threads=torch.get_num_threads(), products=products)

    def our_beam() -> list[str]:
        return [record.translation for record in interpreter.predict(texts, length_penalty=0.0)]

    def our_beam_in_torch() -> list[str]:
        network.eval()
        return [record.translation for record in task.generate(network, texts, length_penalty=0.0)]

    for net in (network, other):
        net.eval()
    losses = [float(each) for each in (ours(batches[0], None), theirs(batches[0]))]
    same = sum(a == task.written.decode(b) for a, b in zip(our_beam(), their_beam(), strict=True))
    if abs(losses[0] - losses[1]) > 1e-2 or same < 0.9 * len(texts):
        raise SystemExit(f"not the same model: losses {losses}, {same} of {len(texts)} best hypotheses are equal")
    training = by_turns(
        asked.rounds,
        echoic=lambda: train(network, lambda batch: ours(batch, Noise(0, 0))),
        torch=lambda: train(other, theirs),
    )
    beam = by_turns(
        asked.rounds, **{"echoic": our_beam, "echoic, its network in torch": our_beam_in_torch, "torch": their_beam}
    )
    tokens = sum(int(batch.lengths.sum()) for batch in batches)
    facts = {
        "threads": torch.get_num_threads(),
        "rounds": asked.rounds,
        "losses": losses,
        "equal_best_hypotheses": [same, len(texts)],
        "training_tokens_per_second": {name: tokens / each for name, each in training.items()},
        "beam5_sentences_per_second": {name: len(texts) / each for name, each in beam.items()},
        "times": {"training": training["torch"] / training["echoic"], "beam": beam["torch"] / beam["echoic"]},
    }
    path = save(f"translate/speed{'-bfloat16' * asked.bfloat16}", facts)
    print(f"{path.name}: {facts}", flush=True)


if __name__ == "__main__":
    main()
