"""Tokens a second of training on IMDb: the default recipe, against the same network in torch.

    python benchmarks/end_to_end.py

The same batches (a sample spread over an epoch's buckets), the same layers, dropout, clipping, average and
adversarial step on both sides, in turns. Theirs is what one writes in torch: `nn.Embedding`, `nn.LSTM`, fused
AdamW. `nn.LSTM` runs over padded rows (fast, but its backward direction begins on padding) and over a
PackedSequence (right, and slower, so in two rounds only); ours is right. Tokens are counted without
padding, once a step. Networks are made beforehand, as an epoch has 400 batches and these are twelve.

Where TensorFlow is installed, Keras is measured too: Embedding with and without mask_zero, Bidirectional(LSTM),
GlobalMaxPooling1D, AdamW with clipping and an average, `train_on_batch`. A long text's segments are rows of their own
there; word dropout, label smoothing and the adversarial step it has not, so it stands beside our own training without
the last. Nothing else may run.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from echoic.batch.buckets import plan
from echoic.core.config import Config
from echoic.core.types import PAD, UNKNOWN
from echoic.layers.segments import largest, split
from echoic.tasks.classify import Classify
from echoic.train import loop
from echoic.train.progress import Silent
from record import save
from sets import SETS

SLOW = ("torch, packed",)
"""Measured once, after a round that warms up."""


class Theirs(nn.Module):
    """The default classifier's recurrent network, in torch's own modules."""

    def __init__(self, vocabulary: int, config: Config, packed: bool) -> None:
        super().__init__()
        self.model, self.packed = config.model, packed
        self.embed = nn.Embedding(vocabulary, self.model.embedding, padding_idx=PAD)
        self.lstm = nn.LSTM(self.model.embedding, self.model.hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * self.model.hidden, 2)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        texts, model = len(ids), self.model
        ids, lengths, owner = split(ids, lengths, model.segment)
        ids = ids.masked_fill((torch.rand(ids.shape) < model.dropout_words) & (ids != PAD), UNKNOWN)
        x = nn.functional.dropout(self.embed(ids), model.dropout_embedding)
        if self.packed:
            rows = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            y, _ = pad_packed_sequence(self.lstm(rows)[0], batch_first=True, total_length=x.shape[1])
        else:
            y, _ = self.lstm(x)
        padding = torch.arange(y.shape[1]) >= lengths[:, None]
        top = y.masked_fill(padding[:, :, None], -torch.inf).max(1).values
        return self.out(nn.functional.dropout(largest(top, owner, texts), model.dropout_output))  # type: ignore[no-any-return]


def train_theirs(network: Theirs, batches: list[Any], config: Config) -> None:
    settings, table = config.train, network.embed.weight
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.lr or 0.002, weight_decay=settings.weight_decay, fused=True
    )
    average = [p.detach().clone() for p in network.parameters()]
    for batch in batches:
        ids, lengths, targets = (torch.from_numpy(each) for each in (batch.inputs, batch.lengths, batch.targets))

        def backward(ids: Tensor = ids, lengths: Tensor = lengths, targets: Tensor = targets) -> None:
            loss = nn.functional.cross_entropy(network(ids, lengths), targets, label_smoothing=settings.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]

        optimizer.zero_grad()
        backward()
        if settings.adversarial:
            with torch.no_grad():
                assert table.grad is not None
                kept = table.detach().clone()
                length = settings.adversarial * table.norm(dim=1).mean()
                table.add_(table.grad * (length / table.grad.norm()))
            backward()
            with torch.no_grad():
                table.copy_(kept)
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 1 - settings.average)


def train_ours(network: nn.Module, task: Classify, data: Any, rows: list[np.ndarray], config: Config) -> None:
    learner = replace(task, config=config)
    loop.fit(
        network,
        lambda network, batch, noise: learner.learn(network, batch, noise, {}),
        plan=lambda epoch: rows,
        collate=lambda index, epoch, step: task.collate(data, index),
        score=lambda network: {"loss": 0.0, "accuracy": 0.0},
        config=config.train,
        monitor="accuracy",
        seed=0,
        run=None,
        watch=Silent(),
        fingerprint={},
    )


def keras_side(config: Config, batches: list[Any], vocabulary: int, masked: bool) -> Callable[[], None]:
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import keras

    model, train = config.model, config.train
    network = keras.Sequential(
        [
            keras.layers.Embedding(vocabulary, model.embedding, mask_zero=masked),
            keras.layers.Dropout(model.dropout_embedding),
            keras.layers.Bidirectional(keras.layers.LSTM(model.hidden, return_sequences=True)),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dropout(model.dropout_output),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(
        train.lr or 0.002, train.weight_decay, global_clipnorm=train.clip, use_ema=True, ema_momentum=train.average
    )
    network.compile(optimizer, loss)
    rows = []
    for batch in batches:
        ids, _, owner = split(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths), model.segment)
        rows.append((ids.numpy(), batch.targets[owner.numpy()]))

    def run() -> None:
        for ids, targets in rows:
            network.train_on_batch(ids, targets)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=12)
    options = parser.parse_args()
    config = Config().override(["model.ngrams=false", "train.epochs=1"])
    task = Classify.fit(SETS["imdb"]()["train"], config)
    data = task.encode(SETS["imdb"]()["train"])
    every = plan(data.lengths, config.train.batch_size, config.train.batch_tokens, seed=0)
    rows = every[:: len(every) // options.batches][: options.batches]
    batches = [task.collate(data, index) for index in rows]
    tokens = int(sum(batch.lengths.sum() for batch in batches))
    vocabulary = len(task.text.vocabulary)

    def side(settings: list[str], packed: bool | None) -> Callable[[], None]:
        chosen = config.override(settings)
        if packed is None:
            return partial(train_ours, replace(task, config=chosen).network(0), task, data, rows, chosen)
        return partial(train_theirs, Theirs(vocabulary, chosen, packed), batches, chosen)

    sides = {
        "echoic": side([], None),
        "echoic, bfloat16": side(["train.bfloat16=true"], None),
        "torch, padded": side([], False),
        "torch, packed": side([], True),
        "echoic, plain": side(["train.adversarial=0"], None),
        "torch, padded, plain": side(["train.adversarial=0"], False),
    }
    if find_spec("tensorflow") is not None:
        sides["keras"] = keras_side(config, batches, vocabulary, masked=False)
        sides["keras, masked"] = keras_side(config, batches, vocabulary, masked=True)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(options.rounds + 1):
        for name, run in sides.items():
            if name in SLOW and round_ not in (0, 1):
                continue
            start = time.perf_counter()
            run()
            if round_:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
                print(name, round(tokens / seconds[name][-1]), "tokens/s", flush=True)

    def times_as_fast(name: str, other: str) -> dict[str, Any]:
        ratios = [b / a for a, b in zip(seconds[name], seconds[other], strict=False)]
        shown = {key: round(value, 3) for key, value in (("ratio", median(ratios)), ("lowest", min(ratios)), ("highest", max(ratios)))}  # fmt: skip
        return {"of": name, "against": other, **shown}

    facts: dict[str, Any] = {"batches": len(batches), "tokens": tokens, "threads": torch.get_num_threads()}
    facts["tokens_per_second"] = {name: round(tokens / median(times)) for name, times in seconds.items()}
    pairs = [("echoic", "torch, padded"), ("echoic", "torch, packed"), ("echoic, bfloat16", "torch, padded")]
    pairs += [("echoic, bfloat16", "echoic"), ("echoic, plain", "torch, padded, plain")]
    pairs += [("echoic, plain", name) for name in sides if name.startswith("keras")]
    if find_spec("tensorflow") is not None:
        facts["keras"] = {name: version(name) for name in ("keras", "tensorflow-cpu")}
    save("kernels/end_to_end", {**facts, "rounds": options.rounds, "rows": [times_as_fast(*each) for each in pairs]})


if __name__ == "__main__":
    main()
