"""From tokens to text: broken characters wait, spaces stand where they belong, stop strings end it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from echoic.core.config import TextConfig
from echoic.core.types import EMPTY, PAD, UNKNOWN
from echoic.decode.sampling import How, Step
from echoic.decode.writer import Writer
from echoic.prepare.text import TextPreparer

TEXT = "The cat sat on the mat.\nNaïve 你好 😀 the end"
GREEDY = How(temperature=0)


def preparer(kind: str) -> TextPreparer:
    return TextPreparer.fit([TEXT] * 2, TextConfig(tokenizer=kind, lowercase=False, min_count=1, max_vocab=300))


def dictates(ids: np.ndarray, vocabulary: int) -> Step:
    """A step that says `ids` one after another, whatever it is given."""

    def step(given: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        place = 0 if state is None else state + 1
        logits = np.zeros((len(given), vocabulary))
        logits[:, ids[place] if place < len(ids) else EMPTY] = 9.0
        return logits, place

    return step


def writer(kind: str, prompt: str, **how: Any) -> tuple[Writer, int]:
    """One that goes on with the rest of TEXT, and how many tokens that is."""
    fitted = preparer(kind)
    whole, front = fitted.encode([TEXT])[0], fitted.encode([prompt])[0]
    rest = whole[len(front) :]
    assert (whole[: len(front)] == front).all()
    return Writer(dictates(rest, len(fitted.vocabulary)), fitted.decode, front, GREEDY, **how), len(rest)


@pytest.mark.parametrize("kind", ["codepoints", "bytes", "bpe", "words", "spaced"])
def test_prompt_and_continuation_are_one_text(kind: str) -> None:
    fitted = preparer(kind)
    for prompt in ("The cat", "The cat sat on the mat.\nNaïve", TEXT[:-4]):
        one, tokens = writer(kind, prompt)
        one.write(tokens)
        read = fitted.decode(fitted.encode([prompt])[0])
        assert read + one.texts[0] == fitted.decode(fitted.encode([TEXT])[0])
        assert not one.done


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_a_character_appears_when_it_is_whole(kind: str) -> None:
    one, tokens = writer(kind, "The cat sat on the mat.")
    pieces = list(one.stream(tokens))
    assert "".join(pieces) == "\nNaïve 你好 😀 the end"
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_text_that_ends_is_done() -> None:
    one, tokens = writer("codepoints", "The cat")
    one.write(tokens + 50)
    assert one.done
    assert one.texts == [TEXT[7:]]


@pytest.mark.parametrize("stop", [["mat"], ["zzz", "mat"], ["matt", "mat."], ["m"]])
def test_a_stop_string_ends_it_and_is_not_shown(stop: list[str]) -> None:
    one, tokens = writer("codepoints", "The cat", stop=stop)
    pieces = list(one.stream(tokens))
    assert "".join(pieces) == one.texts[0] == " sat on the "
    assert one.done


def test_what_might_become_a_stop_string_is_shown_in_the_end() -> None:
    one, _ = writer("codepoints", "The cat", stop=["sat on a"])
    assert [piece for piece in one.stream(6) if piece] == [" ", "sat o"]


def test_an_empty_stop_string_stops_nothing() -> None:
    one, tokens = writer("codepoints", "The cat", stop=["", "mat"])
    one.write(tokens)
    assert one.texts[0] == " sat on the "


def test_a_sure_model_is_not_surprised() -> None:
    one, tokens = writer("codepoints", "The cat")
    one.write(tokens)
    (found,) = one.perplexities
    assert found == pytest.approx((np.exp(9) + len(preparer("codepoints").vocabulary) - 1) / np.exp(9))


def remembers(vocabulary: int, seed: int) -> Step:
    """Logits drawn for every pair of the last token and the one before; its state is a list of tuples, as networks' are."""
    table = np.random.default_rng(seed).normal(0, 2, (vocabulary, vocabulary, vocabulary))

    def step(given: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        before = np.zeros(len(given), np.int64) if state is None else state[0][0]
        for now in given.T:
            logits, before = table[before, now], now
        return logits, [(before,)]

    return step


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_search_finds_the_likeliest_of_all_texts(seed: int, ends: bool) -> None:
    """By trying every text of up to three tokens: one that ends pays for its end, one that is cut does not."""
    fitted, length = preparer("codepoints"), 3
    size = 8
    never = (PAD, UNKNOWN) if ends else (PAD, UNKNOWN, EMPTY)
    step, prompt = remembers(size, seed), np.array([EMPTY, 4])

    def nats(tokens: tuple[int, ...]) -> float:
        total, (logits, state) = 0.0, step(prompt[None], None)
        for token in tokens:
            total -= float(logits[0, token] - np.log(np.exp(logits[0]).sum()))
            logits, state = step(np.array([[token]]), state)
        return total

    known = [token for token in range(size) if token not in (PAD, UNKNOWN, EMPTY)]
    whole = [*product(known, repeat=length)]
    if ends:
        whole += [(*start, EMPTY) for n in range(length) for start in product(known, repeat=n)]
    ranked = min(whole, key=lambda tokens: nats(tokens) / ((5 + len(tokens) + (EMPTY not in tokens)) / 6))
    one = Writer(step, fitted.decode, prompt, How(forbidden=never))
    one.search(length, 600)
    assert one.texts == [fitted.decode([token for token in ranked if token != EMPTY])]
    assert one.samples[0].nats == pytest.approx(nats(ranked))
    assert one.done == (EMPTY in ranked)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_takes_the_likeliest_token_each_time(seed: int) -> None:
    fitted = preparer("codepoints")
    ways = [Writer(remembers(12, seed), fitted.decode, np.array([EMPTY, 4]), How(0, forbidden=(0, 1, 2))) for _ in "ab"]
    ways[0].search(20, 1)
    ways[1].write(20)
    assert ways[0].texts == ways[1].texts
    assert ways[0].perplexities == pytest.approx(ways[1].perplexities)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-310, 1e-5])
def test_a_temperature_near_nothing_is_greedy(temperature: float) -> None:
    fitted = preparer("codepoints")
    hows = How(temperature, forbidden=(0, 1, 2)), How(0, forbidden=(0, 1, 2))
    ways = [Writer(remembers(12, 3), fitted.decode, np.array([EMPTY, 4]), how) for how in hows]
    for way in ways:
        way.write(20)
    assert ways[0].texts == ways[1].texts
