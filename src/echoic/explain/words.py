"""What a model's embeddings hold words to be: nearest neighbours, and analogies.

    neighbours   the words w with the largest cos(v_w, v_word)
    analogy      a is to b as c is to the word w with the largest cos(v_w, b - a + c), a, b, c left out; the
                 vectors of length 1                          Mikolov, Yih and Zweig 2013 (NAACL), "3CosAdd"

A table that began as a vectors file is shown as it was in the file, too: training a classifier moves words that
speak for one class together, and `great` leaves `good`'s side for `superb`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from echoic.core.errors import EchoicError, UsageError, nearest, show
from echoic.core.types import SPECIALS
from echoic.prepare.vectors import load_vectors

BEST = 10


class Near(NamedTuple):
    word: str
    cosine: float


class Table:
    """Unit vectors of a vocabulary; the special tokens are no words."""

    def __init__(self, vocabulary: Sequence[str], matrix: np.ndarray, known: np.ndarray | None = None) -> None:
        """matrix (V, D); known (V,) False where a row means nothing."""
        self.vocabulary = vocabulary
        length = np.linalg.norm(matrix, axis=1, keepdims=True)
        self.unit = matrix / np.maximum(length, 1e-12)
        self.known = (length[:, 0] > 0) & (True if known is None else known)
        self.known[: len(SPECIALS)] = False

    def id_of(self, word: str) -> int:
        """Raises UsageError for a word that is not in the vocabulary."""
        for form in (word, word.lower()):
            if form in self.vocabulary[len(SPECIALS) :]:
                return self.vocabulary.index(form)
        close = nearest(word, self.vocabulary[len(SPECIALS) :])
        hint = close if "did you mean" in close else ""
        raise UsageError(f"{show(word)!r} is not among the model's {len(self.vocabulary):,} tokens{hint}")

    def neighbours(self, word: str, most: int = BEST) -> list[Near]:
        place = self.id_of(word)
        return self._best(self.unit[place], [place], most) if self.known[place] else []

    def analogy(self, a: str, b: str, c: str, most: int = BEST) -> list[Near]:
        places = [self.id_of(word) for word in (a, b, c)]
        if not self.known[places].all():
            return []
        first, second, third = self.unit[places]
        return self._best(second - first + third, places, most)

    def _best(self, vector: np.ndarray, left_out: Sequence[int], most: int) -> list[Near]:
        cosines = self.unit @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        cosines[~self.known] = -np.inf
        cosines[list(left_out)] = -np.inf
        best = np.argsort(-cosines, kind="stable")[:most]
        return [Near(self.vocabulary[i], round(float(cosines[i]), 4)) for i in best if np.isfinite(cosines[i])]


def tables(model: Any) -> tuple[dict[str, Table], list[str]]:
    """({"after training": ..., and, if it began as a file that is still there, "before training": ...}, notes)"""
    vocabulary = model.task.text.vocabulary
    found = {"after training": Table(vocabulary, model.network.embed.weight.detach().float().cpu().numpy())}
    path = model.config.text.vectors
    if not path:
        return found, ["the embeddings began as noise, so there is nothing to show of before the training"]
    try:
        before = load_vectors(path, vocabulary)
    except EchoicError as error:
        return found, [f"how the words stood before the training cannot be shown: {error}"]
    return {"before training": Table(vocabulary, before.matrix, before.found), **found}, []
