"""What every language model must beat: an n-gram model with interpolated Kneser-Ney smoothing. Frozen.

    p_k(w | c) = (max(n_k(c w) - D_k, 0) + D_k t_k(c) p_(k-1)(w | c')) / n_k(c)        p_0 = 1 / V

c: the k - 1 tokens before, c' the same without the first; n_K counts, n_k below K counts the distinct
tokens seen before c w; n_k(c) their sum over w, t_k(c) how many w followed c; D_k = n1 / (n1 + 2 n2), n1 and
n2 the k-grams of count 1 and 2. Kneser and Ney 1995, in the form of Chen and Goodman 1999, eq. 24.

The same tokens as the network's, the order as high as 6 where V^K fits 62 bits (4 for 40,000 words).
It reads the last MOST tokens of the training part. NumPy only; nothing is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from echoic.batch.streams import unscored
from echoic.core.errors import BundleError
from echoic.core.types import PAD

ORDER, MOST = 6, 5_000_000
FILE = "ngrams.safetensors"


class Level(NamedTuple):
    """The k-grams: a gram is a number whose digits to base V are its tokens, the last one lowest."""

    codes: np.ndarray
    """(N,) int64, rising."""
    counts: np.ndarray
    """(N,) int64."""
    contexts: np.ndarray
    """(M,) int64, rising: the codes without their last token."""
    totals: np.ndarray
    """(M,) sum of the counts of a context."""
    types: np.ndarray
    """(M,) tokens that followed it."""
    discount: float


@dataclass(frozen=True)
class NgramModel:
    vocabulary: int
    levels: list[Level]
    """Of the 1-grams, the 2-grams, ..."""

    @classmethod
    def fit(cls, stream: np.ndarray, vocabulary: int) -> NgramModel:
        """stream (N,) token ids, N >= 2, of which the first is not predicted."""
        order = max(k for k in range(1, ORDER + 1) if k == 1 or vocabulary**k < 1 << 62)
        grams = _codes(stream[-MOST - 1 :], order, vocabulary)[1:]
        codes, counts = np.unique(grams, return_counts=True)
        levels = [_level(codes, counts, vocabulary)]
        for k in range(order - 1, 0, -1):
            codes, counts = np.unique(codes % vocabulary**k, return_counts=True)
            levels.insert(0, _level(codes, counts, vocabulary))
        return cls(vocabulary, levels)

    @property
    def order(self) -> int:
        return len(self.levels)

    def nats(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Scored rows of ids (`streams.scoring_rows`) -> (P,) the sum of -log p of what each is scored on."""
        out = np.zeros(len(rows))
        for i, row in enumerate(rows):
            first = 1 + int(unscored(row[None])[0])
            if first < len(row):
                out[i] = -np.log(self.probabilities(_codes(row, self.order, self.vocabulary)[first:])).sum()
        return out

    def probabilities(self, grams: np.ndarray) -> np.ndarray:
        """(N,) codes of K tokens each -> (N,) p of the last token of each after the others."""
        p = np.full(len(grams), 1.0 / self.vocabulary)
        for k, level in enumerate(self.levels, 1):
            code = grams % self.vocabulary**k
            n = _found(level.codes, level.counts, code)
            context = code // self.vocabulary
            total, types = (_found(level.contexts, what, context) for what in (level.totals, level.types))
            own = (np.maximum(n - level.discount, 0.0) + level.discount * types * p) / np.maximum(total, 1)
            p = np.where(total > 0, own, p)
        return p

    def files(self) -> dict[str, bytes]:
        from safetensors.numpy import save

        arrays = {"vocabulary": np.array(self.vocabulary)}
        for k, level in enumerate(self.levels, 1):
            arrays |= {f"codes{k}": level.codes, f"counts{k}": level.counts}
        return {FILE: save(arrays)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> NgramModel:
        """What `files` gave. Raises BundleError for anything else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(files[FILE])
            vocabulary = int(arrays["vocabulary"])
            orders = range(1, 1 + sum(name.startswith("codes") for name in arrays))
            return cls(vocabulary, [_level(arrays[f"codes{k}"], arrays[f"counts{k}"], vocabulary) for k in orders])
        except (KeyError, ValueError, TypeError, ZeroDivisionError, IndexError, SafetensorError) as error:
            raise BundleError(f"{FILE}: not n-grams that echoic wrote ({type(error).__name__})") from None


def _codes(ids: np.ndarray, order: int, vocabulary: int) -> np.ndarray:
    """(N,) ids -> (N,) codes of the `order` tokens that end at each place; PAD stands before the first."""
    padded = np.concatenate([np.full(order - 1, PAD, np.int64), ids.astype(np.int64)])
    code = np.zeros(len(ids), np.int64)
    for k in range(order):
        code = code * vocabulary + padded[k : k + len(ids)]
    return code


def _level(codes: np.ndarray, counts: np.ndarray, vocabulary: int) -> Level:
    contexts, starts = np.unique(codes // vocabulary, return_index=True)
    ones, twos = int((counts == 1).sum()), int((counts == 2).sum())
    discount = ones / (ones + 2 * twos) if ones else 0.5
    totals = np.add.reduceat(counts, starts)
    return Level(codes, counts, contexts, totals, np.diff(starts, append=len(codes)), min(discount, 0.99))


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where there is none."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
