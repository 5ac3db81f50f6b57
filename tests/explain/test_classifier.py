"""Explanations of classifiers: complete, exact where they can be, and sound on any text."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoic.core import registry
from echoic.core.config import WIDTH
from echoic.core.errors import DataError, UsageError
from echoic.core.types import EMPTY, UNKNOWN, pad
from echoic.explain import classifier, reading, trace
from echoic.explain.attribute import EVEN, error, integrated_gradients
from echoic.explain.classifier import attribute
from echoic.explain.reading import Reading
from echoic.explain.record import METHODS, Explanation
from echoic.layers.segments import split
from echoic.model import Model
from explain.toys import NASTY, toy, trained, untrained

TEXT = "a b tell1 c d e f a b c d tell0 e"
SHORT = "model.segment=8"
BOTH = ("true", "false")


def bidirectional(value: str) -> str:
    return f"model.bidirectional={value}"


NETWORKS = [
    *[(f"model.cell.kind={cell}", bidirectional(way)) for cell in registry.names("cell") for way in BOTH],
    *[(f"model.pool={pool}", bidirectional(way)) for pool in WIDTH for way in BOTH],
    ("model.pool=attention", "model.attention=dot"),
    ("model.ngrams=false",),
    ("model.layers=2", "model.batch_norm=true"),
]
"""Each cell and each pooling, read one way and both."""


def methods(model: Model) -> list[str]:
    return [m for m in METHODS if m != "attention" or model.network.pool.attention is not None]


def logits(model: Model, rows: list[Any]) -> np.ndarray:
    inputs, lengths = pad([np.asarray(row) for row in rows])
    with torch.no_grad():
        return model.network(torch.from_numpy(inputs), torch.from_numpy(lengths)).double().numpy()


def ids_of(model: Model, text: str) -> np.ndarray:
    return model.task.text.encode([text])[0].astype(np.int64)


def scores(found: Explanation) -> np.ndarray:
    return np.array([token.score for token in found.tokens])


@pytest.mark.parametrize("network", NETWORKS, ids=" ".join)
def test_integrated_gradients_are_complete(network: tuple[str, ...]) -> None:
    """Against a difference that is computed here, from the network's parts."""
    model = trained(*network, SHORT)
    for text in (TEXT, *(e.input for e in toy(3, 5))):
        found = model.explain([text])[0]
        ids = torch.from_numpy(ids_of(model, text))[None]
        column, full = model.task.names.index(found.label), torch.tensor([ids.shape[1]])
        net = model.network
        with torch.no_grad():
            nothing = net.scales[0] * net.recurrent(torch.zeros(1, ids.shape[1], 6), full)[0, column]
            if net.ngrams is not None:
                nothing = nothing + net.scales[1] * net.ngrams.bias[column]
            d = float(net(ids, full)[0, column] - nothing)
        assert found.difference == pytest.approx(d, abs=1e-4)
        assert abs(scores(found).sum() - d) / max(abs(d), 0.05) <= 0.0101
        assert found.completeness <= 0.01
        assert found.points <= 1024
        assert found.label == model.predict([text])[0].label
        assert found.probability == pytest.approx(model.predict([text])[0].confidence, abs=1e-5)


def test_what_layer_norm_leaves_incomplete_is_reported_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a state passes through zero its norm turns round within a hair of the path, which even points step over."""
    model = trained("model.layer_norm=true", "model.pool=mean", SHORT)
    found = model.explain([TEXT])[0]
    assert found.points > EVEN
    assert found.completeness <= 0.01
    few = partial(integrated_gradients, most=EVEN)
    monkeypatch.setattr(classifier, "integrated_gradients", few)
    found = model.explain([TEXT])[0]
    assert found.points == EVEN
    assert found.completeness == pytest.approx(error(scores(found).sum(), found.difference))
    assert found.completeness > 0.01
    assert "miss what they should add up to" in found.notes[0]


@pytest.mark.parametrize("network", NETWORKS, ids=" ".join)
def test_the_trace_is_the_answer_to_each_prefix(network: tuple[str, ...]) -> None:
    model = trained(*network, SHORT)
    ids = ids_of(model, TEXT)
    wanted = model.task.probabilities(logits(model, [ids[: i + 1] for i in range(len(ids))]))
    found = model.explain([TEXT], "trace")[0]
    assert found.beliefs is not None
    for label, beliefs in found.beliefs.items():
        np.testing.assert_allclose(beliefs, wanted[:, model.task.names.index(label)], atol=1e-5)
    column = model.task.names.index(found.label)
    empty = model.task.probabilities(logits(model, [[EMPTY]]))[0, column]
    np.testing.assert_allclose(scores(found), np.diff(wanted[:, column], prepend=empty), atol=1e-5)
    lead = wanted.argmax(1)
    assert [t.token for t in found.turns or []] == (np.flatnonzero(np.diff(lead)) + 1).tolist()


@pytest.mark.parametrize(
    "network", [("model.pool=concat",), ("model.pool=attention", bidirectional("false"))], ids=" ".join
)
def test_occlusion_is_the_logit_with_the_token_unknown(network: tuple[str, ...]) -> None:
    model = trained(*network, SHORT)
    ids = ids_of(model, TEXT)
    hidden = [np.where(np.arange(len(ids)) == i, UNKNOWN, ids) for i in range(len(ids))]
    z = logits(model, [ids, *hidden])
    found = model.explain([TEXT], "occlusion")[0]
    column = model.task.names.index(found.label)
    np.testing.assert_allclose(scores(found), z[0, column] - z[1:, column], atol=1e-4)


def test_gradient_x_input_is_that_of_the_whole_network() -> None:
    """By finite differences of the embedding, in float64."""
    model = trained("model.pool=mean", "model.ngrams=false")
    wide = trained("model.pool=mean", "model.ngrams=false").network
    ids = ids_of(model, TEXT)
    before = Reading(wide, ids)
    column = int(before.logits.argmax())
    try:
        wide.double()
        read = Reading(wide, ids)
        score, x = read.score(column), read.embedded
        up, down = ((x * (1 + sign * 1e-6 * torch.eye(len(ids), dtype=torch.float64)[:, :, None])) for sign in (1, -1))
        wanted = (score(up) - score(down)).detach().numpy() / 2e-6
        np.testing.assert_allclose(attribute(read, column, "gradient-x-input").scores, wanted, atol=1e-6)
    finally:
        wide.float()


def test_what_tells_the_class_is_found_by_every_method() -> None:
    model = trained("model.pool=mean")
    for method in methods(model):
        found = model.explain(["a b c tell1 d e"], method)[0]
        assert found.label == "yes"
        assert max(found.tokens, key=lambda token: token.score).text == "tell1", method


def test_attention_sums_to_one_whatever_the_padding() -> None:
    model = trained("model.pool=attention", SHORT)
    net = model.network
    rows = [ids_of(model, text) for text in (TEXT, "a tell1 b", "c")]
    alone = [scores(model.explain([text], "attention")[0]) for text in (TEXT, "a tell1 b", "c")]
    for weights in alone:
        assert weights.sum() == pytest.approx(1, abs=1e-6)
        assert (weights > 0).all()
    inputs, lengths = (torch.from_numpy(x) for x in pad(rows))
    for more in (0, 1, 30):
        padded = torch.nn.functional.pad(inputs, (0, more), value=0)
        parts, part_lengths, owner = split(padded, lengths, 8)
        with torch.no_grad():
            weights = net.pool.weights(net.states(parts, part_lengths), part_lengths, owner, len(rows))
        for i, wanted in enumerate(alone):
            whole = weights[owner == i].flatten().numpy()
            np.testing.assert_allclose(whole[: len(wanted)], wanted, atol=1e-6)
            assert not whole[len(wanted) :].any()


def test_several_labels_and_a_label_that_was_not_answered() -> None:
    labels = (("left",), ("right",), ("left", "right"), ())
    model = trained("task.several=true", labels=labels)
    found = model.explain(["a tell2 b"])[0]
    assert found.label in ("left", "right")
    other = model.explain(["a tell2 b"], label="left")[0]
    assert other.label == "left"
    assert other.probability == pytest.approx(model.predict(["a tell2 b"])[0].probabilities["left"], abs=1e-5)
    assert other.completeness <= 0.01
    nothing = model.explain(["a tell3 b"])[0]
    assert model.predict(["a tell3 b"])[0].label is None
    assert nothing.label in ("left", "right"), "the most probable one is explained where none is given"


def test_what_explain_refuses() -> None:
    model = untrained()
    with pytest.raises(UsageError, match=r"pooling is max.*integrated-gradients"):
        model.explain(["a"], "attention")
    with pytest.raises(UsageError, match="did you mean 'occlusion'"):
        model.explain(["a"], "oclusion")
    with pytest.raises(UsageError, match="label maybe"):
        model.explain(["a"], label="maybe")
    with pytest.raises(DataError, match="lone surrogate"):
        model.explain(["a\udc9f"])
    with pytest.raises(UsageError, match="a list"):
        model.explain("a")


# Any text


@pytest.mark.parametrize("text", ["", "x", "好", "👍🏽", "e\u0301", "\u0301", " \n", NASTY, "<br/>"])
@pytest.mark.parametrize("kind", ["words", "chars", "bytes"])
def test_strange_texts(kind: str, text: str) -> None:
    model = untrained(f"text.tokenizer={kind}", "text.max_vocab=1000", "model.pool=attention")
    for method in METHODS:
        found = model.explain([text], method)[0]
        assert found.text == text
        assert np.isfinite(scores(found)).all()
        if not text.strip():
            assert kind == "bytes" or [(t.text, t.start, t.end) for t in found.tokens] == [("", 0, 0)]


@pytest.mark.parametrize("kind", registry.names("tokenizer"))
@pytest.mark.parametrize("lowercase", BOTH)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    text=st.one_of(st.text(max_size=40), st.lists(st.sampled_from([NASTY, "İ", "ß", "Å", "A\u030a", "ﬁ"])).map("".join))
)
def test_offsets_are_places_in_the_text_as_it_was_given(kind: str, lowercase: str, text: str) -> None:
    """Composed or decomposed, in capitals or not: a place is one of the given text, and its token encodes to the same."""
    model = untrained(f"text.tokenizer={kind}", f"text.lowercase={lowercase}", "text.max_vocab=2000")
    found = model.explain([text], "gradient-x-input")[0]
    ids = ids_of(model, text)
    assert len(found.tokens) == len(ids)
    before = 0
    for token, number in zip(found.tokens, ids.tolist(), strict=True):
        assert token.text == text[token.start : token.end]
        assert before <= token.start or kind in ("bytes", "bpe", "unigram")
        before = token.start
        if kind in ("words", "chars") and number != EMPTY:
            assert model.task.text.encode([token.text])[0].tolist() in ([number], [EMPTY])


def test_a_text_of_20000_tokens_takes_bounded_time() -> None:
    """Were each token hidden by itself in the whole text, or each prefix read anew, it would be 200 million steps."""
    text = " ".join(["the", "film", "was", "good", "bad"] * 4000)
    for network in ((), (bidirectional("false"), "model.pool=attention")):
        model = untrained(*network, "model.hidden=2", "model.embedding=2")
        for method in methods(model):
            start = time.process_time()
            found = model.explain([text], method)[0]
            assert time.process_time() - start < 60, method
            assert len(found.tokens) == 20_000
            assert np.isfinite(scores(found)).all()
            assert (found.window > 1) == (method == "occlusion" or (method == "trace" and not network))


def test_a_segment_that_stays_as_it_is_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(SHORT)
    ids = ids_of(model, " ".join([TEXT] * 3))
    read = Reading(model.network, ids)
    seen: list[int] = []
    rows = model.network.rows
    monkeypatch.setattr(model.network, "rows", lambda x, n: [seen.append(len(x)), rows(x, n)][1])
    attribute(read, 0, "occlusion")
    assert sum(seen) == len(ids)


@pytest.mark.parametrize("most", [1, 4, 5])
def test_windows_of_a_long_text(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_PREFIXES", most)
    monkeypatch.setattr(classifier, "MOST_HIDDEN", most)
    monkeypatch.setattr(reading, "BATCH_TOKENS", 20)
    model = trained(SHORT)
    ids = ids_of(model, TEXT)
    found = model.explain([TEXT], "trace")[0]
    size = -(-len(ids) // most)
    assert found.window == size
    ends = [min(len(ids), i // size * size + size) for i in range(len(ids))]
    p = model.task.probabilities(logits(model, [ids[:end] for end in ends]))
    np.testing.assert_allclose(found.beliefs[found.label], p[:, model.task.names.index(found.label)], atol=1e-5)
    empty = model.task.probabilities(logits(model, [[EMPTY]]))[0, model.task.names.index(found.label)]
    assert scores(found).sum() == pytest.approx(found.probability - empty, abs=1e-5)
    assert model.explain([TEXT], "occlusion")[0].window == size


def test_what_was_not_read_is_said() -> None:
    model = untrained("text.max_tokens=4")
    found = model.explain(["the film was good and bad"], "occlusion")[0]
    assert len(found.tokens) == 4
    assert "first 4 tokens" in found.notes[0]


def test_the_estimator_explains() -> None:
    from echoic import SequenceClassifier

    rows = toy(40, 0)
    model = SequenceClassifier(
        hidden_size=4, embedding_size=4, epochs=1, tokenizer="words", settings={"text.min_count": 1}
    ).fit([e.input for e in rows], [e.target for e in rows])
    found = model.explain(["a tell1 b", ""], method="occlusion", label="yes")
    assert [len(each.tokens) for each in found] == [3, 1]
    assert {each.label for each in found} == {"yes"}


def test_embedded_tokens_give_the_bits_that_ids_give() -> None:
    model = trained("model.pool=concat", SHORT)
    ids = torch.from_numpy(ids_of(model, TEXT))[None]
    full = torch.tensor([ids.shape[1]])
    with torch.no_grad():
        assert torch.equal(model.network.recurrent(model.network.embed(ids), full), model.network.recurrent(ids, full))


def test_the_score_is_also_had_in_float64_and_no_table_is_copied() -> None:
    model = trained("model.pool=attention", SHORT)
    reading = Reading(model.network, ids_of(model, TEXT))
    score = reading.score(0)
    narrow, wide = score(reading.embedded[None]), score(reading.embedded[None].double())
    assert (narrow.dtype, wide.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(narrow.double(), wide, atol=1e-5, rtol=1e-5)
    assert reading.wide.embed is model.network.embed
    assert reading.wide.ngrams is model.network.ngrams
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
