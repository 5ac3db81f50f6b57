"""Classification: each kind of label, each setting that shapes the loss, long texts, abstaining."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoic import pipeline
from echoic.core.config import WIDTH, Config
from echoic.core.errors import ConfigError, DataError
from echoic.core.types import UNKNOWN, Batch, Example
from echoic.evaluate.metrics import macro_f1
from echoic.layers.dropout import Noise
from echoic.layers.ngrams import NgramPath
from echoic.pipeline import Journey
from echoic.tasks import classify
from echoic.tasks.classify import Classify

QUIET = (
    "model.hidden=8",
    "model.embedding=8",
    "model.dropout_embedding=0",
    "model.dropout_output=0",
    "model.dropout_words=0",
    "text.min_count=1",
    "text.tokenizer=words",
    "train.updates=40",
    "train.batch_size=16",
    "train.lr=0.02",
    "train.average=0",
    "train.label_smoothing=0",
)
ALONE = (*QUIET, "model.ngrams=false")


def fit(
    train: Sequence[Example], valid: Sequence[Example], *settings: str, base: tuple[str, ...] = ALONE, **more: Any
) -> Journey:
    return pipeline.fit(train, valid, Config().override((*base, *settings)), **more)


def toy(
    rows: int, seed: int, labels: Sequence[Any] = ("no", "yes"), share: Sequence[float] | None = None, words: int = 5
) -> list[Example]:
    """`words` words of six, and one that tells the class."""
    draws = np.random.default_rng(seed)
    out = []
    for i in range(rows):
        which = int(draws.choice(len(labels), p=share))
        text = draws.choice([*"abcdef"], words).tolist()
        text.insert(int(draws.integers(words + 1)), f"tell{which}")
        out.append(Example(" ".join(text), labels[which], None, i + 1))
    return out


def probabilities(journey: Journey, texts: Sequence[str]) -> np.ndarray:
    return journey.model.task.probabilities(journey.model.outputs(texts))


# Kinds of label


@pytest.mark.parametrize("labels", [("no", "yes"), ("1", "2", "10"), tuple(f"class {i}" for i in range(12))])
def test_two_classes_and_many(labels: tuple[str, ...]) -> None:
    journey = fit(toy(200, 0, labels), toy(60, 1, labels), "train.updates=150")
    task = journey.model.task
    assert task.names == sorted(labels, key=lambda name: (len(name), name) if name.isdigit() else name)
    assert task.kind == "single"
    assert task.thresholds is None
    scores = pipeline.evaluate(journey.model, toy(60, 2, labels))
    assert scores["accuracy"] > 0.9
    record = journey.model.predict(["a b tell1 c"])[0]
    assert record.label == labels[1]
    assert record.labels is None
    assert record.confidence == max(record.probabilities.values()) == record.probabilities[labels[1]]
    assert sum(record.probabilities.values()) == pytest.approx(1, abs=1e-5)


SEVERAL = [("left",), ("right",), ("left", "right"), ()]


def test_several_labels_get_thresholds_which_decide() -> None:
    train, valid = toy(160, 0, SEVERAL), toy(80, 1, SEVERAL)
    journey = fit(train, valid, "task.several=true", "train.updates=80")
    model, task = journey.model, journey.model.task
    assert task.monitor == "micro_f1"
    assert task.thresholds.shape == (2,)
    answers = {tuple(r.labels) for r in model.predict(["a tell0 b", "a tell1 b", "a tell2 b", "a tell3 b"])}
    assert answers == set(SEVERAL)
    empty = model.predict(["a tell3 b"])[0]
    assert (empty.label, empty.labels) == (None, [])
    assert pipeline.evaluate(model, toy(60, 2, SEVERAL))["accuracy"] > 0.9

    p = probabilities(journey, ["a tell0 b"])[0]
    left = task.names.index("left")
    for cut, given in ((float(p[left]), True), (float(np.nextafter(p[left], 2)), False)):
        task.thresholds = np.full(2, cut)
        assert ("left" in model.predict(["a tell0 b"])[0].labels) is given


def test_the_thresholds_are_chosen_on_the_validation_part() -> None:
    """A label learned as rare and frequent in validation: the chosen threshold answers better than one half."""
    rare = toy(200, 0, [("often",), ("often", "rare")], (0.5, 0.5))
    rng = np.random.default_rng(3)
    rare = [
        e if e.target == ("often",) or rng.random() < 0.2 else Example(e.input, ("often",), None, e.row) for e in rare
    ]
    valid = toy(60, 1, [("often",), ("often", "rare")])
    journey = fit(rare, valid, "task.several=true")
    task, wanted = journey.model.task, journey.valid.targets > 0.5
    p = task.probabilities(journey.valid_outputs)
    chosen, half = (macro_f1(p >= cut, wanted, 2) for cut in (task.thresholds, 0.5))
    assert chosen >= half
    assert abs(task.thresholds[task.names.index("rare")] - 0.5) > 0.01


def test_soft_targets_move_the_probabilities() -> None:
    """The same texts judged 0.9 and 0.6: the answer follows the judgement, not the argmax."""
    found = {}
    for sure in (0.9, 0.6):
        judged = [{"no": sure, "yes": 1 - sure}, {"no": 1 - sure, "yes": sure}]
        journey = fit(toy(120, 0, judged), toy(60, 1, judged), "train.updates=80")
        assert journey.model.task.kind == "soft"
        found[sure] = probabilities(journey, ["a b tell1 c d e"])[0, 1]
    assert found == pytest.approx({0.9: 0.9, 0.6: 0.6}, abs=0.06)


def test_soft_targets_reach_the_ngram_path() -> None:
    judged = [{"no": 0.7, "yes": 0.3}, {"no": 0.3, "yes": 0.7}]
    journey = fit(toy(120, 0, judged), toy(60, 1, judged), base=QUIET)
    assert journey.model.network.ngrams is not None
    assert probabilities(journey, ["tell0", "tell1"])[:, 1] == pytest.approx([0.3, 0.7], abs=0.1)


def test_a_class_that_only_validation_has_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"row 7.*'new' was not in training"):
        fit(toy(20, 0), [*toy(6, 1), Example("a b", "new", None, 7)])


# The loss, by hand


def task_of(*settings: str, rows: Sequence[Example] | None = None) -> Classify:
    return Classify.fit(rows or toy(20, 0), Config().override((*ALONE, *settings)))


def batch_of(targets: Any) -> Batch:
    return Batch(np.zeros((len(targets), 1), np.int64), np.ones(len(targets), np.int64), np.array(targets))


LOGITS = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, 3.0]])


def log_softmax(row: Sequence[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_smoothed_cross_entropy(smoothing: float) -> None:
    task = task_of(f"train.label_smoothing={smoothing}")
    wanted = 0.0
    for row, target in zip(LOGITS.tolist(), (0, 1, 0), strict=True):
        spread = [smoothing / 2 + (1 - smoothing) * (c == target) for c in range(2)]
        wanted -= sum(s * p for s, p in zip(spread, log_softmax(row), strict=True))
    total, count = task.loss(LOGITS, batch_of([0, 1, 0]))
    assert (float(total), count) == (pytest.approx(wanted), 3)
    if not smoothing:
        assert float(total) == pytest.approx(
            float(torch.nn.functional.cross_entropy(LOGITS, torch.tensor([0, 1, 0]), reduction="sum"))
        )


def test_balanced_weights_make_classes_weigh_the_same() -> None:
    rows = toy(40, 0, share=(0.8, 0.2))
    task = task_of("train.class_weights=balanced", rows=rows)
    counts = np.bincount(task.labels.encode([e.target for e in rows]))
    np.testing.assert_allclose(task.weights * counts, np.full(2, 20), rtol=1e-5)
    total, _ = task.loss(LOGITS, batch_of([0, 1, 0]))
    losses = [-log_softmax(row)[c] for row, c in zip(LOGITS.tolist(), (0, 1, 0), strict=True)]
    assert float(total) == pytest.approx(
        sum(w * x for w, x in zip(task.weights[[0, 1, 0]], losses, strict=True)), rel=1e-5
    )


def test_the_loss_of_several_labels_is_binary_and_weighs_what_is_there() -> None:
    task = task_of("task.several=true", "train.label_smoothing=0.1", rows=toy(30, 0, SEVERAL))
    task.weights = np.array([3.0, 1.0], np.float32)
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    wanted = 0.0
    for row, given in zip(LOGITS.tolist(), targets.tolist(), strict=True):
        for c, (z, y) in enumerate(zip(row, given, strict=True)):
            p, smooth = 1 / (1 + math.exp(-z)), y * 0.9 + 0.05
            wanted -= (task.weights[c] if y else 1.0) * (smooth * math.log(p) + (1 - smooth) * math.log(1 - p))
    assert float(task.loss(LOGITS, batch_of(targets))[0]) == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_the_loss_is_that_of_finite_differences() -> None:
    for settings, targets in (
        (("train.label_smoothing=0.1",), [0, 1, 0]),
        ((), np.array([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]], np.float32)),
    ):
        task = task_of(*settings)
        logits = LOGITS.double().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda z, task=task, targets=targets: task.loss(z, batch_of(targets))[0], logits
        )


# Settings that change a training: what they are for


def descend(rows: Sequence[Example], *settings: str) -> tuple[Classify, Any, np.ndarray]:
    """The task, its network after 60 steps on all rows by the task's loss and nothing else, its logits (N, C)."""
    task = task_of(*settings, rows=rows)
    network, data = task.network(0), task.encode(rows)
    batch = task.collate(data, np.arange(len(rows)))
    inputs, lengths = torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths)
    optimizer = torch.optim.Adam(network.parameters(), 0.03)
    for _ in range(60):
        optimizer.zero_grad()
        total, count = task.loss(network(inputs, lengths), batch)
        (total / count).backward()
        optimizer.step()
    return task, network, network(inputs, lengths).detach().numpy().astype(np.float64)


def test_class_weights_raise_the_rare_class() -> None:
    """One text with two labels, one of them in a fifth of the rows: balanced weights make them equal."""
    rows = [Example("a b c", "rare" if i % 5 == 0 else "often", None, i + 1) for i in range(40)]
    rare = {
        w: 1 / (1 + np.exp(-np.diff(descend(rows, f"train.class_weights={w}")[2])))[0, 0] for w in ("none", "balanced")
    }
    assert rare == pytest.approx({"none": 0.2, "balanced": 0.5}, abs=0.02)


def test_class_weights_reach_the_ngram_path() -> None:
    rows, valid = toy(100, 0, share=(0.85, 0.15)), toy(40, 1)
    plain, balanced = (
        fit(rows, valid, f"train.class_weights={w}", base=QUIET).model.network.ngrams for w in ("none", "balanced")
    )
    assert (balanced.bias - plain.bias).abs().max() > 0.01


def test_label_smoothing_makes_it_less_sure() -> None:
    """Its minimum is a margin of log((1 - s/2) / (s/2)) between two classes."""
    sure, smooth = (np.ptp(descend(toy(40, 0), f"train.label_smoothing={s}")[2], axis=1).mean() for s in (0, 0.4))
    assert smooth == pytest.approx(math.log(0.8 / 0.2), abs=0.1)
    assert sure > 3 * smooth


def test_word_dropout_teaches_the_unknown_word() -> None:
    """Without it nothing ever moves the row of <unk>, as training texts have no unknown word."""
    rows = {}
    for rate in (0.0, 0.3):
        journey = fit(toy(60, 0), toy(30, 1), f"model.dropout_words={rate}")
        first = journey.model.task.network(0).embed.weight[UNKNOWN]
        rows[rate] = (journey.model.network.embed.weight[UNKNOWN] - first).abs().max()
    assert rows[0.0] == 0 < rows[0.3]


@pytest.mark.parametrize("kind", ["swap", "delete"])
def test_augmentation_changes_training_texts_and_no_others(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    right = Classify.collate
    monkeypatch.setattr(
        Classify, "collate", lambda self, data, index: seen.append(data.rows) or right(self, data, index)
    )
    train, valid = toy(30, 0), toy(10, 1)
    journey = fit(train, valid, f"train.augment={kind}", "train.augment_rate=0.5", "train.epochs=1")
    original = {tuple(row) for row in journey.model.task.encode(train).rows}
    scored = {tuple(row) for row in journey.model.task.encode(valid).rows}
    changed = [row for rows in seen for row in map(tuple, rows) if row not in original | scored]
    assert changed
    lengths = {len(row) for row in changed}
    assert lengths == {6} if kind == "swap" else min(lengths) < 6
    if kind == "swap":
        bags = {tuple(sorted(row)) for row in original}
        assert {tuple(sorted(row)) for row in changed} <= bags
    probed = journey.model.outputs([e.input for e in valid])
    assert np.array_equal(probed, journey.model.outputs([e.input for e in valid]))


# From a file, with groups


def test_a_grouped_split_end_to_end(tmp_path: Path) -> None:
    """Each author's rows share a word that tells the class; a split that parted authors would look too good."""
    lines = ["text,label,author"]
    for i in range(80):
        lines.append(f"author{i % 16} wrote thing{i},{'yes' if i % 16 % 2 else 'no'},author{i % 16}")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    config = Config().override((*QUIET, "data.group=author", "data.valid_fraction=0.25", "train.updates=10"))
    parts, _ = pipeline.read_parts(tmp_path / "data.csv", None, config)
    train, valid = ({e.group for e in parts[name]} for name in ("train", "valid"))
    assert not train & valid
    assert len(train | valid) == 16
    assert {e.target for e in parts["valid"]} == {"no", "yes"}
    found = pipeline.train(tmp_path / "data.csv", tmp_path / "run", config)
    assert found["data"]["rows"] == {"train": len(parts["train"]), "valid": len(parts["valid"])}


# Answers


def test_it_abstains_below_the_confidence_asked_for() -> None:
    journey = fit(toy(100, 0), toy(60, 1), "train.updates=15")
    texts = ["a tell0 b c", "a b c d", "tell1"]
    records = journey.model.predict(texts)
    assert all(record.label is not None for record in records)
    for at in sorted(record.confidence for record in records):
        asked = journey.model.predict(texts, min_confidence=at)
        assert [r.label is None for r in asked] == [r.confidence < at for r in records]
        assert [r.probabilities for r in asked] == [r.probabilities for r in records]
    assert all(r.label is None for r in journey.model.predict(texts, min_confidence=1.1))


def test_an_abstaining_several_gives_only_labels_it_is_sure_of() -> None:
    journey = fit(toy(160, 0, SEVERAL), toy(80, 1, SEVERAL), "task.several=true", "train.updates=80")
    record = journey.model.predict(["a tell2 b"])[0]
    low, high = sorted(record.probabilities, key=record.probabilities.__getitem__)
    between = (record.probabilities[low] + record.probabilities[high]) / 2
    if between > record.probabilities[low]:
        assert journey.model.predict(["a tell2 b"], min_confidence=between)[0].labels == [high]


def test_a_long_text_is_read_to_its_last_word() -> None:
    """A decisive word at token 2,000, in the fourth segment of 512, for the network alone."""
    assert Config().model.segment == 512
    task, network, _ = descend(toy(80, 0, words=100))
    filler = np.random.default_rng(0).choice([*"abcdef"], 2400).tolist()
    texts = [" ".join([*filler[:1999], word, *filler[2000:]]) for word in ("tell0", "tell1")]
    batch = task.collate(task.encode([Example(text) for text in texts]), np.arange(2))
    assert batch.lengths.tolist() == [2400, 2400]
    with torch.no_grad():
        outputs = network(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths)).numpy()
    no, yes = task.probabilities(outputs)[:, task.names.index("yes")]
    assert yes > no + 0.2


def test_what_max_tokens_cuts_is_said_and_changes_the_answer() -> None:
    said: list[str] = []
    long = [Example(f"{'a b ' * 5}{e.input}", e.target, None, e.row) for e in toy(40, 0)]
    journey = fit(long + toy(40, 3), toy(20, 1), "text.max_tokens=8", said=said.append)
    told = [line for line in said if "cut" in line]
    assert len(told) == 1
    assert "40 training texts were cut to 8 tokens; 320 tokens are not read" in told[0]
    a, b = probabilities(journey, [f"{'a ' * 8}tell0", f"{'a ' * 8}tell1"])
    assert np.array_equal(a, b)
    said.clear()
    fit(toy(40, 0), toy(20, 1), said=said.append)
    assert not [line for line in said if "cut" in line]


def test_an_empty_text_is_answered() -> None:
    record = fit(toy(60, 0), toy(30, 1)).model.predict(["", "   "])
    assert record[0].probabilities == record[1].probabilities
    assert record[0].label in ("no", "yes")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="several"):
        task_of("task.sevral=true")


def test_noise_is_drawn_in_a_fixed_order() -> None:
    task = task_of("model.dropout_embedding=0.5", "model.dropout_output=0.5", "model.dropout_words=0.5")
    network = task.network(0)
    inputs = torch.randint(3, 8, (4, 6)), torch.full((4,), 6)
    assert torch.equal(network(*inputs, Noise(1, 2)), network(*inputs, Noise(1, 2)))
    assert not torch.equal(network(*inputs, Noise(1, 2)), network(*inputs, Noise(1, 3)))


# The network


def test_the_ngram_path_joins_on_the_networks_device() -> None:
    network = task_of().network(0).to("meta")
    network.join(NgramPath(16, 2, 2), np.ones(2))
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    network.join(None, np.ones(1))
    assert network.ngrams is None


@pytest.mark.parametrize("direction", ["true", "false"])
@pytest.mark.parametrize("pool", [*(f"model.pool={kind}" for kind in WIDTH), "model.attention=dot"])
def test_a_long_text_runs_in_slices_that_change_no_answer(
    pool: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of 1 to 70 tokens, the longer ones in segments of 8: rows two at a time, or all at once."""
    kind = [pool] if "pool" in pool else ["model.pool=attention", pool]
    network = task_of(*kind, "model.segment=8", f"model.bidirectional={direction}").network(0)
    lengths = torch.tensor([70, 1, 8, 9, 33])
    inputs = torch.randint(3, 8, (5, 70), generator=torch.Generator().manual_seed(0))
    inputs = inputs.masked_fill(torch.arange(70) >= lengths[:, None], 0)
    rows: list[int] = []
    network.stack.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    with torch.inference_mode():
        whole = network(inputs, lengths)
        assert rows == [18]
        for size, most in ((16, 2), (31, 3), (1, 1)):
            rows.clear()
            monkeypatch.setattr(classify, "SLICE_TOKENS", size)
            torch.testing.assert_close(network(inputs, lengths), whole, atol=1e-6, rtol=0)
            assert max(rows) == most
            assert sum(rows) == 18
        rows.clear()
        network(inputs, lengths, Noise(0, 0))
        assert rows == [18]


# without a recurrence


def test_without_layers_the_embedded_tokens_are_pooled() -> None:
    journey = fit(toy(80, 0), toy(30, 1), "model.layers=0", "model.pool=mean")
    model, network = journey.model, journey.model.network
    assert journey.fitted.best_score > 0.9
    names = {name for name, _ in network.named_parameters()}
    assert names == {"embed.weight", "out.weight", "out.bias"}
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        wanted = network.out(network.embed.weight[ids].mean(1)) * network.scales[0]
        torch.testing.assert_close(network(ids, torch.tensor([3])), wanted)
    assert model.predict(["a tell1 b"])[0].label == "yes"


def test_a_language_model_has_layers() -> None:
    config = Config().override(["task.kind=generate", "model.layers=0"])
    with pytest.raises(ConfigError, match=r"model\.layers = 0"):
        pipeline.fit([Example("a b c d " * 50)], [Example("a b c d")], config)
