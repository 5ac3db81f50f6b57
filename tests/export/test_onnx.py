"""The ONNX file answers as the bundle does, for each kind of model; a wrong graph is never handed out."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from echoic.core.errors import CheckFailed, UsageError
from echoic.core.types import EMPTY, PAD, UNKNOWN, Example
from echoic.export import graph, networks, ngrams, parity, sealed
from echoic.export.onnx import export, outputs
from echoic.model import Model
from export.models import CELLS, cell, classifier, language, translator

BOTH = [(), ("model.bidirectional=false",)]
POOLS = ["last", "mean", "max", "concat", "attention", "attention model.attention=dot"]

CLASSIFIERS = {
    **{f"{c} {b}": functools.partial(classifier, *cell(c), *b) for c in CELLS for b in BOTH},
    **{f"{p} {b}": functools.partial(classifier, *f"model.pool={p}".split(), *b) for p in POOLS for b in BOTH},
    **{f"{o}-grams": functools.partial(classifier, ngrams=o) for o in (1, 2, 3, 8)},
    "many classes": functools.partial(classifier, classes=5, ngrams=2),
    "several labels": functools.partial(classifier, "task.several=true", ngrams=2),
    "several labels found by looking": functools.partial(classifier, looked=True),
    "stacked": functools.partial(classifier, "model.layers=3", "model.pool=concat"),
    "batch norm": functools.partial(classifier, "model.layers=2", "model.batch_norm=true", "model.cell.kind=gru"),
    "batch norm one way": functools.partial(classifier, "model.batch_norm=true", "model.bidirectional=false"),
    "short segments": functools.partial(classifier, "model.segment=8", "model.pool=attention", ngrams=3),
    "long segments": functools.partial(classifier, "model.segment=100000"),
}
PIECEWISE = {
    **{f"states: {c}": functools.partial(classifier, *cell(c), *BOTH[1]) for c in CELLS},
    **{f"states: {p}": functools.partial(classifier, *f"model.pool={p}".split(), *BOTH[1]) for p in POOLS},
    "states: stacked": functools.partial(classifier, "model.layers=2", "model.batch_norm=true", *BOTH[1]),
}
LANGUAGE = {
    **{f"language: {c}": functools.partial(language, *cell(c)) for c in CELLS},
    "language: tied": functools.partial(language, "task.tied=true"),
    "language: tied, same size": functools.partial(language, "task.tied=true", "model.embedding=5"),
    "language: stacked": functools.partial(language, "model.layers=3", "model.batch_norm=true"),
    "language: both ways": functools.partial(language, "model.bidirectional=true"),
}
TRANSLATORS = {
    **{f"translator: {c} {b}": functools.partial(translator, *cell(c), *b) for c in CELLS for b in BOTH},
    **{
        f"translator: {o}": functools.partial(translator, *o.split())
        for o in (
            "task.attention=additive",
            "task.attention=none",
            "task.attention=none task.input_feeding=true model.variational=0",
            "task.attention=additive task.input_feeding=true model.variational=0",
            "task.copying=true",
            "task.vocabulary=separate",
            "task.vocabulary=separate task.tied=false model.layers=2",
            "model.layers=3 model.batch_norm=true model.bidirectional=false",
        )
    },
}
KINDS = CLASSIFIERS | PIECEWISE | LANGUAGE | TRANSLATORS


def agree(name: str, batches: int) -> Iterable[bytes]:
    model, states = KINDS[name](), name in PIECEWISE
    made = export(model.task, model.network, "digest", states=states, seed=7, batches=batches)
    assert (made.batches, made.difference <= 1e-5) == (batches, True)
    return made.files.values()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_model_answers_alike(name: str) -> None:
    for data in agree(name, 20):
        onnx.checker.check_model(data, full_check=True)


@pytest.mark.deep
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_model_answers_alike_500_times(name: str) -> None:
    agree(name, 500)


@pytest.mark.parametrize("name", ["3-grams", "states: concat", "language: tied", "translator: task.copying=true"])
@pytest.mark.parametrize("int8", [False, True])
def test_exported_twice_the_same_bytes(name: str, int8: bool) -> None:
    made = [
        export(model.task, model.network, "digest", states=name in PIECEWISE, int8=int8).files
        for model in (KINDS[name](), KINDS[name]())
    ]
    assert made[0] == made[1]


# Asked by hand, without the page that checks


def test_a_text_alone_and_among_others_and_with_more_padding() -> None:
    model = classifier("model.pool=concat", ngrams=2)
    runtime = sealed.session(export(model.task, model.network, "digest").data)
    texts = ["", "good", "a bad film , ? never seen", "a good story of words " * 9]
    want = model.task.probabilities(model.outputs(texts))
    for i, text in enumerate(texts):
        ids = model.task.text.encode([text])[0][None].astype(np.int64)
        lengths = np.array([ids.shape[1]])
        for spare in (0, 1, 30):
            given = {"ids": np.pad(ids, ((0, 0), (0, spare))), "lengths": lengths}
            got = runtime.run(["probabilities"], given)[0][0]
            assert np.abs(got - want[i]).max() < 1e-5
            assert got.sum() == pytest.approx(1)


def test_outputs_are_in_the_order_of_the_data() -> None:
    model = classifier(ngrams=2)
    texts = ["a bad film " * n for n in (30, 1, 12, 2)] * 40
    data = model.task.encode([Example(text) for text in texts])
    runtime = sealed.session(export(model.task, model.network, "digest").data)
    assert np.abs(outputs(runtime, data, model.task.collate) - model.outputs(texts)).max() < 1e-4


def run_pieces(runtime: Any, ids: np.ndarray, cuts: list[int]) -> np.ndarray:
    """One row of ids, cut at these places -> its probabilities. `state.0.*` begin anew at each whole segment."""
    names = [each.name for each in runtime.get_outputs()]
    states = parity.zeros(runtime, 1)
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        if start % 8 == 0:
            fresh = parity.zeros(runtime, 1)
            states |= {name: fresh[name] for name in states if name.split(".")[1].isdigit()}
        answers = runtime.run(names, {"ids": ids[None, start:end], "lengths": np.array([end - start]), **states})
        states = parity.after(names, answers)
    return np.asarray(answers[names.index("probabilities")][0])


@pytest.mark.parametrize("pool", POOLS)
def test_pieces_of_many_segments_answer_as_the_whole(pool: str) -> None:
    model = classifier(*f"model.pool={pool}".split(), "model.bidirectional=false", "model.layers=2")
    runtime = sealed.session(export(model.task, model.network, "digest", states=True).data)
    ids = np.random.default_rng(0).integers(1, 9, 29)
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(ids[None]), torch.tensor([29])).numpy()
    want = model.task.probabilities(logits)[0]
    for cuts in ([8, 16, 24], [3, 8, 11, 16, 17, 24, 28], [*range(1, 29)]):
        assert np.abs(run_pieces(runtime, ids, cuts) - want).max() < 1e-5


def test_a_language_model_steps_as_it_reads() -> None:
    model = language("model.layers=2")
    runtime = sealed.session(export(model.task, model.network, "digest").data)
    names = [each.name for each in runtime.get_outputs()]
    ids = np.random.default_rng(0).integers(1, 9, (2, 12))
    whole = runtime.run(["logits"], {"ids": ids, "lengths": np.array([12, 12]), **parity.zeros(runtime, 2)})[0]
    states = parity.zeros(runtime, 2)
    for t in range(12):
        answers = runtime.run(names, {"ids": ids[:, t : t + 1], "lengths": np.array([1, 1]), **states})
        states = parity.after(names, answers)
        assert np.abs(answers[names.index("logits")][:, 0] - whole[:, t]).max() < 1e-5


def greedy(encoder: Any, step: Any, ids: np.ndarray, most: int) -> list[int]:
    """What a program of another language does: the source (S,) -> the tokens of its translation."""
    names = [[each.name for each in runtime.get_outputs()] for runtime in (encoder, step)]
    fixed = {"owner": np.zeros(1, np.int64), "lengths": np.array([len(ids)])}
    answers = encoder.run(names[0], {"ids": ids[None].astype(np.int64), "lengths": fixed["lengths"]})
    fixed |= {n: a for n, a in zip(names[0], answers, strict=True) if not n.startswith("next.")}
    states, token, out = parity.after(names[0], answers), EMPTY, []
    while len(out) < most:
        answers = step.run(names[1], {"ids": np.array([token]), **fixed, **states})
        logits = answers[names[1].index("logits")][0]
        logits[[PAD, UNKNOWN]] = -np.inf
        token = int(logits.argmax())
        if token == EMPTY:
            break
        out.append(token)
        states = parity.after(names[1], answers)
    return out


@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_a_translator_writes_what_the_bundle_writes(attention: str) -> None:
    model = translator(f"task.attention={attention}")
    files = export(model.task, model.network, "digest").files
    encoder, step = (sealed.session(files[part]) for part in ("encoder", "step"))
    for text in ("a good story", "bad", "words of a plot ?"):
        ids = model.task.text.encode([text])[0]
        told = greedy(encoder, step, ids, 9)
        want = model.predict([text], beam_size=1, max_ratio=9 / len(ids))[0]
        assert model.task.written.decode(told) == want.translation


def test_a_translators_files_say_which_they_are() -> None:
    model = translator("task.vocabulary=separate")
    files = export(model.task, model.network, "digest").files
    about = {part: sealed.check(data, part) for part, data in files.items()}
    assert {part: each["part"] for part, each in about.items()} == {"encoder": "encoder", "step": "step"}
    assert about["step"]["written"]["vocabulary"] == len(model.task.written.vocabulary)


@pytest.mark.parametrize("name", ["stack.above.cells.0.weight_hh", "start.weight", "attention.key.weight", "bias"])
def test_the_check_of_a_translator_sees_one_number_changed(name: str) -> None:
    model = translator()
    files = export(model.task, model.network, "digest").files
    model.network.state_dict()[name].view(-1)[-1] += 0.05
    assert parity.difference_of_translators(model.task, model.network, files) > 1e-5


def test_the_check_sees_one_number_changed() -> None:
    model = classifier(ngrams=2)
    data = export(model.task, model.network, "digest").data
    for name in ("out.weight", "embed.weight", "stack.cells.1.weight_hh", "ngrams.bias", "scales"):
        tensor = model.network.state_dict()[name]
        before = tensor.clone()
        tensor.view(-1)[-1] += 0.01
        assert parity.largest_difference(model.task, model.network, data, states=False) > 1e-5, name
        tensor.copy_(before)


def test_a_number_that_is_none_is_no_agreement() -> None:
    one, none = np.ones((1, 1), np.float32), np.full((1, 1), np.nan, np.float32)
    assert parity.apart(one, one) == 0
    assert parity.apart(none, one) == parity.apart(one, none) == parity.apart(none, none) == np.inf
    assert parity.apart(one, np.ones(1)) == np.inf
    with pytest.raises(CheckFailed):
        parity.require(np.nan)


# Planted faults


def wrong_order(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(networks.ORDER, "lstm", (0, 1, 2, 3))


def wrong_gru_order(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(networks.ORDER, "gru", (0, 1, 2))


def changed_call(operator: str, change: Any) -> Any:
    """Every node of this operator with its inputs or attributes changed."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        usual = networks.Graph.several

        def several(self: Any, name: str, count: int, *inputs: Any, **more: Any) -> Any:
            if name == operator:
                inputs, more = change(list(inputs), dict(more))
            return usual(self, name, count, *inputs, **more)

        patch.setattr(networks.Graph, "several", several)

    return plant


def without(place: int) -> Any:
    return lambda inputs, more: ([*inputs[:place], "", *inputs[place + 1 :]], more)


FAULTS: dict[str, tuple[str, Any]] = {
    "gates in torch's order": ("kind=lstm ()", wrong_order),
    "a GRU's gates in torch's order": ("kind=gru ()", wrong_gru_order),
    "no lengths": ("kind=lstm ()", changed_call("LSTM", without(4))),
    "no peepholes": ("kind=lstm peephole=true ()", changed_call("LSTM", without(7))),
    "the other reset": ("kind=gru ()", changed_call("GRU", lambda i, m: (i, m | {"linear_before_reset": 0}))),
    "another function": ("kind=rnn ()", changed_call("RNN", lambda i, m: (i, m | {"activations": ["Relu"] * 2}))),
    "no initial state": ("states: kind=lstm", changed_call("LSTM", without(5))),
    "no memory from before": ("language: kind=lstm", changed_call("LSTM", without(6))),
    "no masks": ("max ()", changed_call("Where", lambda i, m: ([np.array(True), *i[1:]], m))),
    "n-grams counted twice": (
        "3-grams",
        changed_call("Equal", lambda i, m: ([i[0], -5] if str(i[1]).startswith("Pad") else i, m)),
    ),
    "segments forgotten": (
        "short segments",
        changed_call("Min", lambda i, m: ([i[0], 1000], m) if i[1] == 8 else (i, m)),
    ),
    "another hash": ("3-grams", lambda patch: patch.setattr(ngrams, "PRIME", 2**31 - 3)),
    "another multiplier": ("3-grams", lambda patch: patch.setattr(ngrams, "MULTIPLIERS", (3, 5, 7))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, plant = FAULTS[fault]
    model: Model = KINDS[name]()
    plant(monkeypatch)
    with pytest.raises(CheckFailed, match="answers otherwise"):
        export(model.task, model.network, "digest", states=name in PIECEWISE)


# Refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.cell.kind=jordan"], "the cell jordan: ONNX has no node for it"),
        (["model.layer_norm=true"], "layer_norm"),
        (["model.zoneout=0.1"], "zoneout"),
    ],
)
@pytest.mark.parametrize("make", [classifier, language])
def test_what_has_no_node_is_refused_with_a_reason(make: Any, settings: list[str], said: str) -> None:
    model = make(*settings)
    with pytest.raises(UsageError, match=said):
        export(model.task, model.network, "digest")


@pytest.mark.parametrize("more", [(), ("model.batch_norm=true",), ("model.bidirectional=false",)])
def test_a_model_without_recurrence_is_refused_with_a_reason(more: tuple[str, ...]) -> None:
    model = classifier("model.layers=0", *more)
    for int8 in (False, True):
        with pytest.raises(UsageError, match="a network without recurrence"):
            export(model.task, model.network, "digest", int8=int8)


def test_an_adaptive_softmax_is_refused_with_a_reason() -> None:
    model = language("task.cutoffs=[4]")
    with pytest.raises(UsageError, match=r"task\.cutoffs"):
        export(model.task, model.network, "digest")


def test_more_than_one_file_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    monkeypatch.setattr(graph, "LARGEST", 1000)
    with pytest.raises(UsageError, match="holds at most 1,000; try --int8"):
        export(model.task, model.network, "digest")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: classifier(), "reads both ways"),
        (lambda: classifier("model.bidirectional=false", ngrams=2), "counts n-grams once a text"),
        (language, "has its states without asking"),
    ],
)
def test_states_that_make_no_sense_are_refused(model: Any, said: str) -> None:
    made = model()
    with pytest.raises(UsageError, match=said):
        export(made.task, made.network, "digest", states=True)
