"""Translation on public pairs: one training a (set, seed), its test part scored once, at the end.

    python benchmarks/translate.py multi30k-de-en                    # BLEU on test2016
    python benchmarks/translate.py multi30k-en-de --dev              # the validation part only: to choose settings by
    python benchmarks/translate.py tatoeba-en-zh --set task.attention=none
    python benchmarks/translate.py multi30k-de-en --dev --rows 400 --set train.epochs=2      # does it run at all
    python benchmarks/translate.py speed                             # beside the same model of torch.nn

A set lies in the folder that ECHOIC_DATA names. Its recipe is in SETS below, `--set` changes it and is
kept in the result, under another name. A training that was killed goes on where it stood, in
runs/translate/; a result that is in results/translate/ is not made again.

multi30k: raw sentences, train, val and test2016 of task 1. tatoeba: train, valid and test by a hash of the
English sentence; rows of an earlier part that share either side with a later one are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from echoic.core.types import EMPTY, PAD, UNKNOWN, Example
from echoic.facts import translate
from echoic.layers.dropout import Noise
from echoic.layers.seq2seq import parted
from echoic.read.keys import text_key
from echoic.read.named import data_dir
from record import RESULTS, save

Pairs = list[tuple[str, str]]
SHOWN = ("bleu", "bleu_lc", "chrf")


@dataclass(frozen=True)
class Set:
    parts: Callable[[], dict[str, Pairs]]
    """{"train", "valid", "test": (source, target)}"""
    settings: tuple[str, ...]
    budget: str


def lines(folder: str, name: str) -> list[str]:
    return (
        lzma.open(data_dir() / folder / name, "rt", encoding="utf-8", newline="").read().removesuffix("\n").split("\n")
    )


def multi30k(source: str, target: str) -> dict[str, Pairs]:
    files = {"train": "train", "valid": "val", "test": "test2016"}
    sides = {p: [lines("multi30k", f"{f}.{side}.txt.xz") for side in (source, target)] for p, f in files.items()}
    return {part: list(zip(*both, strict=True)) for part, both in sides.items()}


def tatoeba(swap: bool) -> dict[str, Pairs]:
    parts: dict[str, Pairs] = {"test": [], "valid": [], "train": []}
    rows = [(line.split("\t")[0], line.split("\t")[1]) for line in lines("tatoeba_en_zh", "cmn.tsv.xz")]
    for english, chinese in dict.fromkeys(rows):
        draw = hashlib.sha256(text_key(english)).digest()[0]
        part = "test" if draw < 13 else "valid" if draw < 26 else "train"  # a twentieth each
        parts[part].append((english, chinese))
    seen: set[bytes] = set()
    for part, pairs in parts.items():
        parts[part] = [p for p in pairs if not {text_key(side) for side in p} & seen]
        seen |= {text_key(side) for p in parts[part] for side in p}
    return {part: [(b, a) if swap else (a, b) for a, b in pairs] for part, pairs in parts.items()}


MULTI30K = ("text.max_vocab=8000", "model.hidden=384", "model.embedding=256", "train.epochs=18")
TATOEBA = ("text.max_vocab=6000", "model.hidden=384", "model.embedding=256", "train.epochs=18")
SETS = {
    "multi30k-de-en": Set(lambda: multi30k("de", "en"), MULTI30K, "40 minutes of two cores"),
    "multi30k-en-de": Set(lambda: multi30k("en", "de"), MULTI30K, "40 minutes of two cores"),
    "tatoeba-en-zh": Set(lambda: tatoeba(False), TATOEBA, "30 minutes of two cores"),
    "tatoeba-zh-en": Set(lambda: tatoeba(True), TATOEBA, "30 minutes of two cores"),
}


def examples(pairs: Pairs, rows: int) -> list[Example]:
    return [Example(a, b, None, i) for i, (a, b) in enumerate(pairs[: rows or None], 1)]


def one(name: str, seed: int, settings: list[str], asked: argparse.Namespace) -> None:
    chosen = SETS[name]
    config = Config().override(["task.kind=translate", f"seed={seed}", *chosen.settings, *settings])
    parts = {part: examples(pairs, asked.rows) for part, pairs in chosen.parts().items()}
    said: list[str] = []

    def hear(note: str) -> None:
        said.append(note)
        print("  ", note, flush=True)

    run = asked.runs / label(name, seed, settings, asked.rows)
    run.parent.mkdir(parents=True, exist_ok=True)
    journey = pipeline.fit(
        parts["train"],
        parts["valid"],
        config,
        run=run,
        resume=(run / "checkpoints").exists(),
        watch=pipeline.watcher(),
        said=hear,
        fingerprint={
            "set": name,
            "rows": asked.rows,
            "config": config.model_dump(mode="json", exclude={"threads", "device", "train", "seed"}),
        },
    )
    journey.model.baseline = translate.fit_baseline(journey, parts, hear)
    journey.model.save(run / "bundle")
    part = "valid" if asked.dev else "test"
    started = time.perf_counter()
    scores = translate.evaluate(journey.model, parts[part])
    seconds = time.perf_counter() - started
    facts: dict[str, Any] = {
        "set": name,
        "seed": seed,
        "settings": [*chosen.settings, *settings],
        "budget": chosen.budget,
        "part": part,
        "rows": {each: len(rows) for each, rows in parts.items()},
        "seconds": {"train": round(journey.fitted.seconds, 1), part: round(seconds, 1)},
        "tokens_per_second": round(journey.fitted.tokens / max(journey.fitted.seconds, 1e-9)),
        "epochs": len(journey.fitted.history),
        "best_epoch": journey.fitted.best_epoch,
        "history": journey.fitted.history,
        "parameters": sum(p.numel() for p in journey.model.network.parameters()),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "kernels": journey.model.network.stack.kernels(training=True),
        "notes": said,
        "scores": scores,
    }
    path = save(f"translate/{label(name, seed, settings, asked.rows, asked.dev)}", facts)
    told = {key: round(scores[key], 2) for key in SHOWN}
    beside = {other: round(found["bleu"], 2) for other, found in scores["baselines"].items()}
    spent = facts["seconds"]["train"]
    print(f"{path.name}: {part}: {told}, BLEU of {beside}, {spent:,.0f} s ({chosen.budget} planned)", flush=True)


def label(name: str, seed: int, settings: list[str], rows: int, dev: bool = False) -> str:
    """What a result is called: other settings, fewer rows or another part are another result."""
    more = [each.replace("=", "_").replace("/", "_") for each in sorted(settings)]
    more += [f"rows{rows}"] * bool(rows) + ["dev"] * dev
    return "-".join([name, str(seed), *more])


# The same model of torch.nn


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
        """The usual batched beam: B x beam rows in every step, until all have ended. -> (B, beam, U) ids."""
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
            stay = torch.full_like(log_p, -torch.inf)
            stay[:, :, EMPTY] = 0.0
            total = (score[:, :, None] + torch.where(ended[:, :, None], stay, log_p)).flatten(1)
            score, place = total.topk(beam, 1)
            origin, token = place // log_p.shape[2], place % log_p.shape[2]
            ended = ended.gather(1, origin) | (token == EMPTY)
            at = (origin + beam * torch.arange(rows)[:, None]).flatten()
            ids = torch.cat([ids[at], token.flatten()[:, None]], 1)
            state = [each[:, at] for each in state]
            if ended.all():
                break
        return ids.view(rows, beam, -1)


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """The fastest of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def speed(asked: argparse.Namespace) -> None:
    """Tokens a second in training, sentences a second of a beam of five, on multi30k; both have the same weights."""
    run = asked.runs / label("multi30k-de-en", 0, asked.set, asked.rows) / "bundle"
    if not run.exists():
        raise SystemExit(
            f"{run}: train multi30k-de-en first; an untrained model ends nowhere, so its beam says nothing"
        )
    model = pipeline.load(run)
    config = model.config.override(["model.variational=0"])
    task, network = replace(model.task, config=config), model.network
    network.stack.below.variational = network.stack.above.variational = network.stack.encoder.variational = 0.0
    parts = multi30k("de", "en")
    data = task.encode(examples(parts["train"], 64 * 40))
    batches = [task.collate(data, index) for index in buckets.plan(data.lengths, 64, 4096, seed=0, epoch=0)][:30]
    other = Torch(config, len(task.text.vocabulary))
    other.take_over(network.state_dict())
    optimisers = {net: torch.optim.AdamW(net.parameters(), lr=1e-9, fused=True) for net in (network, other)}

    def train(net: nn.Module, loss: Callable[[Any], Tensor]) -> None:
        for batch in batches:
            net.zero_grad()
            loss(batch).backward()
            optimisers[net].step()

    def ours(batch: Any) -> Tensor:
        total, count = task.learn(network, batch, Noise(0, 0), {})
        return total / count

    def theirs(batch: Any) -> Tensor:
        return other.loss(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))

    tokens = sum(int(batch.lengths.sum()) for batch in batches)
    network.train()
    training = {"echoic": tokens / seconds_of(lambda: train(network, ours), 3)}
    training["torch.nn"] = tokens / seconds_of(lambda: train(other, theirs), 3)
    network.eval()
    other.eval()
    texts = [source for source, _ in parts["valid"]][: asked.rows or 512]
    rows = task.text.encode(texts)

    def their_beam() -> None:
        for index in buckets.plan(np.array([len(row) for row in rows]), 64, 1 << 16):
            part = [torch.from_numpy(rows[i].astype(np.int64)) for i in index]
            sizes = torch.tensor([len(each) for each in part])
            most = int(np.ceil(task.ratio * (int(sizes.max()) + 5)))
            other.search(nn.utils.rnn.pad_sequence(part, batch_first=True), sizes, 5, most)

    beam = {"echoic": len(texts) / seconds_of(lambda: task.generate(network, texts), 1)}
    beam["torch.nn"] = len(texts) / seconds_of(their_beam, 1)
    facts = {
        "threads": torch.get_num_threads(),
        "training_tokens_per_second": training,
        "beam5_sentences_per_second": beam,
        "times": {"training": training["echoic"] / training["torch.nn"], "beam": beam["echoic"] / beam["torch.nn"]},
    }
    path = save("translate/speed", facts)
    print(f"{path.name}: {facts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=[*SETS, "all", "speed"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], help="a setting other than the recipe's")
    parser.add_argument("--dev", action="store_true", help="score the validation part, and never the test part")
    parser.add_argument("--rows", type=int, default=0, help="only the first rows of each part, to try the script")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/translate"), help="where trainings stand, to go on with"
    )
    parser.add_argument("--again", action="store_true", help="make results anew that are there already")
    asked = parser.parse_args()
    names = list(SETS) if "all" in asked.sets else asked.sets
    for seed in map(int, asked.seeds.split(",")):
        for name in names:
            if name == "speed":
                speed(asked)
            elif (
                asked.again
                or not (RESULTS / "translate" / f"{label(name, seed, asked.set, asked.rows, asked.dev)}.json").exists()
            ):
                print(f"{name}, seed {seed}", flush=True)
                one(name, seed, asked.set, asked)


if __name__ == "__main__":
    main()
