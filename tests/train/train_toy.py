"""A training job small enough to be killed hundreds of times: an LSTM that tells which of two token
families a row holds more of. A fifth of the labels is wrong, so that scores go up and down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from echoic.core.config import TrainConfig
from echoic.core.types import Batch, pad
from echoic.layers.dropout import Noise, dropout
from echoic.train.loop import Fitted, fit
from echoic.train.progress import Silent

ROWS, HELD_OUT, VOCABULARY, BATCH = 24, 16, 20, 4


def data(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    draw = np.random.default_rng(seed)
    rows = [draw.integers(3, VOCABULARY, size=draw.integers(2, 9)) for _ in range(ROWS + HELD_OUT)]
    labels = np.array([int((row % 2).mean() > 0.5) for row in rows])
    return rows, np.where(draw.random(len(rows)) < 0.2, 1 - labels, labels)


class Toy(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(VOCABULARY, 8)
            self.lstm = nn.LSTM(8, 8, batch_first=True)
            self.norm = nn.BatchNorm1d(8)
            self.out = nn.Linear(8, 2)

    def forward(self, batch: Batch, noise: Noise | None = None) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            dropout(self.embed(torch.from_numpy(batch.inputs)), 0.3, noise),
            torch.from_numpy(batch.lengths),
            batch_first=True,
            enforce_sorted=False,
        )
        _, (h, _) = self.lstm(packed)
        return self.out(dropout(self.norm(h[0]), 0.3, noise))


class Job:
    """Everything `fit` is handed; `calls` counts batches and scores, so that a test can act at one of them."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.rows, self.labels = data(seed)
        self.network = Toy(seed)
        self.scored: list[dict[str, float]] = []

    def batch(self, index: np.ndarray) -> Batch:
        inputs, lengths = pad([self.rows[i] for i in index])
        return Batch(inputs, lengths, self.labels[index])

    def plan(self, epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng([self.seed, epoch]).permutation(ROWS)
        return [order[i : i + BATCH] for i in range(0, ROWS, BATCH)]

    def collate(self, index: np.ndarray, epoch: int, step: int) -> Batch:
        return self.batch(index)

    def loss(self, network: nn.Module, batch: Batch, noise: Noise | None) -> tuple[Tensor, int]:
        assert batch.targets is not None
        outputs = network(batch, noise)
        return nn.functional.cross_entropy(outputs, torch.from_numpy(batch.targets), reduction="sum"), len(
            batch.targets
        )

    def score(self, network: nn.Module) -> dict[str, float]:
        held_out = self.batch(np.arange(ROWS, ROWS + HELD_OUT))
        right = network(held_out).argmax(1).numpy() == held_out.targets
        total, count = self.loss(network, held_out, None)
        self.scored.append({"loss": float(total) / count, "accuracy": float(right.mean())})
        return self.scored[-1]

    def fit(self, config: TrainConfig, run: Path | None = None, **other: Any) -> Fitted:
        keywords = {
            "monitor": "accuracy",
            "seed": self.seed,
            "watch": Silent(),
            "fingerprint": {"data": f"toy {self.seed}"},
        }
        return fit(self.network, self.loss, self.plan, self.collate, self.score, config, run=run, **(keywords | other))


EVERY_STEP = TrainConfig(epochs=4, lr=0.05, average=0.9, checkpoint_seconds=0.0, patience=0)


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}
