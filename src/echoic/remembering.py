"""A language model scored on a text that it learns from, or remembers, as it reads.

    dynamic evaluation    theta <- theta - r g + d (theta_0 - theta) after every segment, g the gradient of its mean loss
                          Krause et al. 2018, "Dynamic evaluation of neural sequence models", section 4, by plain SGD
    neural cache          p(w) = (1 - s) p_net(w) + s sum_{i: x_(i+1) = w} softmax_i(f h_t . h_i), i over the last N places
                          Grave, Joulin and Usunier 2017, "Improving neural language models with a continuous cache", eq. 2 to 4

What stands in a segment is scored before it is learned from or kept, so nothing is seen before it is predicted. Such
scores are not to be set beside static ones, which keep the network as training left it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echoic.core.errors import UsageError
from echoic.core.types import UNKNOWN, Example
from echoic.decode.prompts import from_the_beginning
from echoic.evaluate.language import language
from echoic.model import Model


@dataclass(frozen=True)
class Remembering:
    """How. Raises UsageError for a number that makes no sense."""

    rate: float = 0.0
    """r; 0: the weights stay."""
    decay: float = 0.0
    """d, how far the weights go back each time."""
    cache: int = 0
    """N places; 0: none."""
    share: float = 0.1
    """s, and f below: Grave et al.'s for PTB."""
    sharpness: float = 0.3
    segment: int = 0
    """Tokens that are scored together; 0: `task.bptt`."""

    def __post_init__(self) -> None:
        for name, right in {
            "rate": 0 <= self.rate < np.inf, "decay": 0 <= self.decay <= 1, "cache": self.cache >= 0,
            "share": 0 < self.share < 1, "sharpness": 0 <= self.sharpness < np.inf, "segment": self.segment >= 0,
        }.items():  # fmt: skip
            if not right:
                raise UsageError(f"{name} {getattr(self, name)}: makes no sense here")
        if not self.rate and not self.cache:
            raise UsageError("neither a rate to learn at nor a cache: that is what `evaluate` does without them")


def score(model: Model, examples: Sequence[Example], how: Remembering) -> dict[str, Any]:
    """The scores of `evaluate` (perplexity, bits a character, loss) of these texts, read one after another. The model
    is not changed. Raises UsageError for one that is no language model."""
    if not model.task.streams:
        raise UsageError(f"this model does {model.config.task.kind}; only a language model remembers what it reads")
    reader = _Reader(model, how)
    texts = [from_the_beginning(row) for row in model.task.text.encode([e.input for e in examples])]
    rows = [(reader.read(text), len(text) - 1, int((text[1:] == UNKNOWN).sum())) for text in texts]
    nats, tokens, unknown = np.array(rows, np.float64).reshape(-1, 3).T
    return language(nats, tokens, np.array([float(len(e.input)) for e in examples]), unknown)


class _Reader:
    def __init__(self, model: Model, how: Remembering) -> None:
        self.how, self.size = how, how.segment or model.task.options.bptt
        self.network: Any = copy.deepcopy(model.network) if how.rate else model.network
        self.first = [p.detach().clone() for p in self.network.parameters()]
        width = model.config.model.hidden
        self.kept, self.after = torch.zeros(0, width), torch.zeros(0, dtype=torch.int64)

    def read(self, text: np.ndarray) -> float:
        """Nats of the tokens (1 + T,) after the first."""
        ids = torch.from_numpy(text.astype(np.int64)).to(next(self.network.parameters()).device)
        total, state = 0.0, None
        for start in range(0, len(ids) - 1, self.size):
            inputs, wanted = ids[start : start + self.size][: len(ids) - 1 - start], ids[start + 1 :][: self.size]
            with torch.set_grad_enabled(self.how.rate > 0):
                h, state = self.network.read(inputs[None], None, state, None)
                nats = self.network.nats(h[0], wanted)
            total += float(self._mixed(nats.detach(), h[0].detach(), wanted).double().sum())
            if self.how.rate:
                self._learn(nats.mean())
                state = [type(each)(*(field.detach() for field in each)) for each in state]
        return total

    def _learn(self, loss: Tensor) -> None:
        parameters: list[Tensor] = list(self.network.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for p, g, first in zip(parameters, gradients, self.first, strict=True):
                p.lerp_(first, self.how.decay)
                if g is not None:
                    p.sub_(g, alpha=self.how.rate)

    def _mixed(self, nats: Tensor, h: Tensor, wanted: Tensor) -> Tensor:
        """(T,) nats with what the cache says; a place sees those before it, in this segment too."""
        if not self.how.cache:
            return nats
        held = len(self.kept)
        keys, tokens = torch.cat([self.kept.to(h), h]), torch.cat([self.after.to(wanted), wanted])
        place, now = torch.arange(len(keys), device=h.device), held + torch.arange(len(h), device=h.device)[:, None]
        seen = (place < now) & (place >= now - self.how.cache)
        scores = (self.how.sharpness * h @ keys.T).masked_fill(~seen, -torch.inf)
        said = torch.where(seen, scores.softmax(1), 0.0) * (tokens == wanted[:, None])
        self.kept, self.after = keys[-self.how.cache :], tokens[-self.how.cache :]
        p = nats.neg().exp()
        return torch.where(seen.any(1), -((1 - self.how.share) * p + self.how.share * said.sum(1)).log(), nats)
