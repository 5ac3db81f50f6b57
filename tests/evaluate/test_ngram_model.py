"""The n-gram model against a plain account of its equations, and that it is a probability."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from echoic.batch.streams import scoring_rows
from echoic.core.errors import BundleError
from echoic.core.types import EMPTY, PAD
from echoic.evaluate import ngram_model
from echoic.evaluate.ngram_model import FILE, NgramModel, _codes

V = 9


def stream(tokens: int, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    ids = [EMPTY, 3]
    for _ in range(tokens):
        ids.append(int(3 + (ids[-1] * 2 + draws.integers(0, 3)) % 6))
    return np.array(ids, np.int32)


def plain(ids: list[int], order: int) -> list[dict[tuple[int, ...], int]]:
    """Counts of the k-grams, k = 1 .. order, as the page says: below the highest, of distinct tokens in front."""
    padded = [PAD] * (order - 1) + ids
    top = Counter(tuple(padded[i : i + order]) for i in range(1, len(ids)))
    levels = [dict(top)]
    for _ in range(order - 1):
        levels.insert(0, dict(Counter(gram[1:] for gram in levels[0])))
    return levels


def probability(levels: list[dict[tuple[int, ...], int]], context: tuple[int, ...], word: int) -> float:
    p = 1 / V
    for k, counts in enumerate(levels, 1):
        c = context[len(context) - k + 1 :]
        inside = {gram: n for gram, n in counts.items() if gram[:-1] == c}
        if not inside:
            continue
        ones, twos = (list(counts.values()).count(n) for n in (1, 2))
        d = min(ones / (ones + 2 * twos), 0.99) if ones else 0.5
        p = (max(inside.get((*c, word), 0) - d, 0) + d * len(inside) * p) / sum(inside.values())
    return p


def test_it_is_what_its_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_model, "ORDER", 3)
    ids = stream(120)
    model, levels = NgramModel.fit(ids, V), plain(ids.tolist(), 3)
    assert model.order == 3
    for context in ((3, 4), (5, 8), (EMPTY, 3), (PAD, EMPTY), (1, 1)):
        codes = np.array([_codes(np.array([*context, w]), 3, V)[-1] for w in range(V)])
        wanted = [probability(levels, context, w) for w in range(V)]
        np.testing.assert_allclose(model.probabilities(codes), wanted, rtol=1e-12)
        assert sum(wanted) == pytest.approx(1.0)


def test_it_learns_what_follows_what_and_beats_chance() -> None:
    model = NgramModel.fit(stream(3000), V)
    rows = scoring_rows(stream(2500, 1))
    tokens = 2501
    assert len(rows) == 3
    assert np.log(3) < model.nats(rows).sum() / tokens < 1.45
    assert model.nats([np.array([EMPTY])]).tolist() == [0.0]


def test_rows_of_a_text_cost_what_the_text_costs() -> None:
    """An n-gram looks back so little that the context in front of a row is all of it."""
    model = NgramModel.fit(stream(3000), V)
    text = stream(2500, 1)
    whole = -np.log(model.probabilities(_codes(text, model.order, V)[1:])).sum()
    assert model.nats(scoring_rows(text)).sum() == pytest.approx(whole)


def test_a_large_vocabulary_has_a_lower_order() -> None:
    orders = {size: NgramModel.fit(stream(50), size).order for size in (V, 10_000, 50_000, 10_000_000)}
    assert orders == {V: 6, 10_000: 4, 50_000: 3, 10_000_000: 2}


def test_the_bundle_gives_it_back(tmp_path: Path) -> None:
    model = NgramModel.fit(stream(300), V)
    again = NgramModel.from_files(model.files())
    rows = scoring_rows(stream(400, 2))
    assert again.nats(rows).tolist() == model.nats(rows).tolist()
    assert again.files() == model.files()
    for broken in (b"", b"x" * 40, model.files()[FILE][:-9]):
        with pytest.raises(BundleError, match="n-grams"):
            NgramModel.from_files({FILE: broken})


def test_counts_are_distinct_tokens_below_the_highest_order() -> None:
    defaults: dict[int, int] = defaultdict(int)
    for gram in {tuple(pair) for pair in np.stack([stream(300)[:-1], stream(300)[1:]], 1)[1:].tolist()}:
        defaults[gram[1]] += 1
    lowest = NgramModel.fit(stream(300), V).levels[0]
    found = dict(zip(lowest.codes.tolist(), lowest.counts.tolist(), strict=True))
    assert {k: v for k, v in found.items() if k != 3} == {k: v for k, v in defaults.items() if k != 3}
