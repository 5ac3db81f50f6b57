"""A text in pieces: the answer of the whole, whatever the pieces, and a state that does not grow."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoic.core import registry
from echoic.core.config import TextConfig
from echoic.core.errors import DataError, UsageError
from echoic.prepare.text import TextPreparer
from echoic.serve.predictor import Predictor, open_predictor
from serve.bundles import WORDS, make, saved, texts

ONE_WAY = "model.bidirectional=false"
POOLS = [("last",), ("mean",), ("max",), ("concat",), ("attention", "additive"), ("attention", "dot")]


def predictor_of(place: Path, *how: str) -> Predictor:
    return open_predictor(saved(make(ONE_WAY, *how), place / "b"))


def pieces(text: str, seed: int) -> list[str]:
    """`text` cut at drawn places, some of them twice."""
    cuts = sorted(np.random.default_rng(seed).integers(0, len(text) + 1, len(text) // 5 + 1).tolist())
    return [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("pool", POOLS, ids="-".join)
def test_pieces_are_answered_as_the_whole(pool: tuple[str, ...], cell: str, layers: int, tmp_path: Path) -> None:
    how = (f"model.pool={pool[0]}", *(f"model.attention={each}" for each in pool[1:]))
    predictor = predictor_of(tmp_path, *how, f"model.cell.kind={cell}", f"model.layers={layers}")
    for seed, text in enumerate(texts(6, longest=50)):
        stream, so_far = predictor.stream(), ""
        for piece in pieces(text, seed):
            stream.feed(piece)
            so_far += piece
            if len(so_far) % 3 == 0:  # asking changes nothing
                wanted = predictor.predict([so_far])[0]
                assert stream.answer().probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
        found, wanted = stream.answer(), predictor.predict([text])[0]
        assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
        assert (found.label, found.text) == (wanted.label, "")
        assert stream.answer(min_confidence=1.0).label is None


@pytest.mark.parametrize("cut", [0, 7])
def test_what_is_cut_is_not_read(cut: int, tmp_path: Path) -> None:
    predictor = predictor_of(tmp_path, f"text.max_tokens={cut}")
    text = "good bad not " * 20
    stream = predictor.stream()
    for word in text.split(" "):
        stream.feed(word + " ")
    assert stream.answer().probabilities == pytest.approx(predictor.predict([text])[0].probabilities, abs=1e-5)
    assert stream.tokens == (cut or 60)


def test_the_state_does_not_grow(tmp_path: Path) -> None:
    predictor = predictor_of(tmp_path)
    stream = predictor.stream()
    sizes = []
    for _ in range(60):
        stream.feed("good bad not a film, it's <b>very</b> 好 " * 5)
        states = sum(each.nbytes for layer in stream._states or [] for state in layer for each in state)
        kept = sum(each.nbytes for each in stream._kept.values())
        sizes.append((states, kept, len(stream._tail), len(stream._rest), len(stream._slots)))
    assert len(set(sizes)) == 1


def test_a_model_that_reads_both_ways_has_no_stream(tmp_path: Path) -> None:
    predictor = open_predictor(saved(make(), tmp_path / "b"))
    with pytest.raises(UsageError, match="one way"):
        predictor.stream()


def test_what_is_no_text(tmp_path: Path) -> None:
    stream = predictor_of(tmp_path).stream()
    with pytest.raises(DataError, match="lone surrogate"):
        stream.feed("\udc00")


# What is settled

TOKENIZERS = [name for name in registry.names("tokenizer") if name != "zh_words"]
ALPHABET = st.text(st.sampled_from([*"ab<>=/ \t\n'’.9İΣ\u200d\u0301\u0085\u3000好😀🇫br", *"  "]), max_size=30)


@pytest.fixture(scope="module")
def fitted() -> dict[str, TextPreparer]:
    corpus = [" ".join(WORDS) * 3, "a b ab ba <br /> 好 aa bb"] * 3
    return {
        name: TextPreparer.fit(corpus, TextConfig(tokenizer=name, min_count=1, max_vocab=400)) for name in TOKENIZERS
    }


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=ALPHABET, after=ALPHABET)
def test_what_is_settled_stays(fitted: dict[str, TextPreparer], name: str, before: str, after: str) -> None:
    parts_as_whole(fitted[name], before, after)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "text", ["a<br /> b", "a <br\n/>b <b", 'x <a href="a b"> y < z <p class=c >.', "<b it's </ b> <p", "a  b\n\n b ' a"]
)
def test_a_text_is_settled_at_every_place(fitted: dict[str, TextPreparer], name: str, text: str) -> None:
    for place in range(len(text) + 1):
        parts_as_whole(fitted[name], text[:place], text[place:])


def parts_as_whole(preparer: TextPreparer, before: str, after: str) -> None:
    """The tokens of what `before` settles, and of the rest behind one character of it, are those of the whole."""
    tokenizer = preparer.tokenizer
    k = tokenizer.settled(before)
    assert 0 <= k <= len(before)
    whole = list(tokenizer.encode([before + after])[0])
    left = list(tokenizer.encode([before[:k]])[0])
    ids, spans = tokenizer.encode_with_offsets((before + after)[max(0, k - 1) :])
    right = [i for i, (start, _) in zip(ids, spans, strict=True) if start >= min(k, 1)]
    assert whole == left + right


def test_words_are_settled_soon(fitted: dict[str, TextPreparer]) -> None:
    """All but the last word, although a `<` stands there."""
    for name in ("words", "bpe", "chars", "bytes"):
        text = "I <3 this film, a < b, <b>it</b> is good"
        assert fitted[name].tokenizer.settled(text) >= len("I <3 this film, a < b, <b>it</b> is"), name
