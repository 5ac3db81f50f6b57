"""Which method tells the truth about a model: delete the words it points at, and see whether the answer moves.

    fall(k)  = p(text) - p(text without its k top tokens)          p: probability of the label answered
    AOPC     = mean of fall(k) over k = 1, 5, 10 and 20 % of the tokens, one at least; mean over the texts

Area over the perturbation curve: Samek et al. 2017, eq. 12; the shares of DeYoung et al. 2020 ("ERASER"),
"comprehensiveness", without their half. Deleted tokens are gone, and the text closes over them. The same with
tokens drawn at random is what any ranking must beat: a method is called faithful where the 95 % interval of the paired
difference (bootstrap over texts) lies above zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from echoic.core.errors import DataError
from echoic.core.types import EMPTY, pad
from echoic.evaluate.intervals import paired_bootstrap
from echoic.explain.classifier import attribute
from echoic.explain.reading import Reading, require_classifier
from echoic.explain.record import METHODS
from echoic.explain.trace import moves
from echoic.tasks.classify import ClassifierNetwork, Classify

SHARES = (0.01, 0.05, 0.1, 0.2)
DRAWS = 5
"""Random rankings of each text."""
FEW = 20
"""With fewer texts an interval says nothing."""

Answer = Callable[[list[np.ndarray]], np.ndarray]
"""Texts as ids -> (N,) the number whose fall is measured."""


class Deleted(BaseModel):
    aopc: float
    times_random: float | None = Field(description="none where random deletions move nothing")
    low: float = Field(description="of the interval of the difference to random")
    high: float
    faithful: bool


class Faithfulness(BaseModel):
    texts: int
    random: float = Field(description="AOPC of tokens drawn at random")
    methods: dict[str, Deleted]
    best: str | None = Field(description="the faithful method with the largest AOPC")

    def sentence(self) -> str:
        if self.texts < FEW:
            return f"{self.texts} texts are too few to say which method is faithful: give {FEW} or more."
        bad = [name for name, found in self.methods.items() if not found.faithful]
        if self.best is None:
            return "No method is faithful here: its top words move the answer no more than random ones."
        said = f"The most faithful method on these texts is {self.best}."
        return said + (f" No better than random words: {', '.join(bad)}." if bad else "")

    def verdict(self) -> str:
        """Of each method, with its figure."""
        said = []
        for name, found in self.methods.items():
            trust = "is faithful" if found.faithful else "is not faithful, and not to be trusted"
            times = "" if found.times_random is None else f", {found.times_random:.1f} times as far as random ones"
            said.append(
                f"{name} {trust}: deleting its top words takes {100 * found.aopc:.1f} points from the answer{times}"
            )
        return f"On {self.texts} texts, {'; '.join(said)}."


def without(ids: np.ndarray, ranking: np.ndarray) -> list[np.ndarray]:
    """The text without the first tokens of `ranking`, for each of SHARES; one without a token is `<empty>`."""
    out = []
    for share in SHARES:
        kept = np.delete(ids, ranking[: max(1, round(share * len(ids)))])
        out.append(kept if len(kept) else np.array([EMPTY], ids.dtype))
    return out


def aopc(answer: Answer, ids: np.ndarray, rankings: Sequence[np.ndarray]) -> np.ndarray:
    """For each ranking of a text's tokens, the first to be deleted first, how far `answer` falls, (len(rankings),)."""
    shorter = [row for ranking in rankings for row in without(ids, ranking)]
    found = answer([ids, *shorter])
    return np.asarray(found[0] - found[1:].reshape(len(rankings), len(SHARES)).mean(1))


def measure(
    task: Classify,
    network: Any,
    texts: Iterable[str],
    methods: Sequence[str] | None = None,
    seed: int = 0,
) -> Faithfulness:
    """AOPC of each method (all that this model has) on these texts, beside random deletions.

    Raises DataError without a text, UsageError where it is no classifier."""
    require_classifier(task)
    methods = methods_of(network) if methods is None else methods
    rows = [
        falls(task, network, task.text.encode([text])[0], methods, (seed, number)) for number, text in enumerate(texts)
    ]
    if not rows:
        raise DataError("no text to delete words from")
    return summary(np.array(rows), methods, seed)


def methods_of(network: Any) -> list[str]:
    """Those that this classifier has."""
    return [m for m in METHODS if m != "attention" or network.pool.attention is not None]


def falls(task: Classify, network: Any, ids: np.ndarray, methods: Sequence[str], seed: tuple[int, int]) -> list[float]:
    """(M + 1,): AOPC of each method on one text (T,) and, last, of random deletions."""
    reading = Reading(network, ids)
    column = int(reading.logits.argmax())
    draws = np.random.default_rng(seed)
    rankings = [_ranking(task, reading, column, method) for method in methods]
    rankings += [draws.permutation(len(ids)) for _ in range(DRAWS)]
    found = aopc(_answer(task, network, column), ids, rankings)
    return [*found[: len(methods)].tolist(), float(found[len(methods) :].mean())]


def summary(falls: np.ndarray, methods: Sequence[str], seed: int = 0) -> Faithfulness:
    """falls (N, M + 1): of each text, those of the methods and, last, of random deletions."""
    random = falls[:, -1]
    found = {}
    for fall, method in zip(falls.T, methods, strict=False):
        pair = paired_bootstrap(lambda answers, _: float(answers.mean()), fall, random, random, seed=seed)
        low, high = pair.low, pair.high
        times = float(fall.mean() / random.mean()) if random.mean() > 0 else None
        faithful = len(falls) >= FEW and low > 0
        found[method] = Deleted(aopc=float(fall.mean()), times_random=times, low=low, high=high, faithful=faithful)
    true = [name for name, each in found.items() if each.faithful]
    best = max(true, key=lambda name: found[name].aopc, default=None)
    return Faithfulness(texts=len(falls), random=float(random.mean()), methods=found, best=best)


def _ranking(task: Classify, reading: Reading, column: int, method: str) -> np.ndarray:
    if method == "trace":
        scores = moves(reading, task.probabilities, column)[0]
    else:
        scores = attribute(reading, column, method).scores
    return np.argsort(-scores, kind="stable")


def _answer(task: Classify, network: ClassifierNetwork, column: int) -> Answer:
    def of(rows: list[np.ndarray]) -> np.ndarray:
        inputs, lengths = (torch.from_numpy(x).to(network.out.weight.device) for x in pad(rows))
        with torch.inference_mode():
            logits = network(inputs, lengths)
        return task.probabilities(logits.double().cpu().numpy())[:, column]

    return of
