"""The predictor without torch against the model in torch: over everything that a bundle can hold."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echoic.core import bundle, registry
from echoic.core.config import WIDTH
from echoic.core.errors import BundleError, DataError, UsageError
from echoic.explain.record import Explanation
from echoic.kernels import native
from echoic.model import Model
from echoic.serve import network
from echoic.serve.opening import NeedsTorch
from echoic.serve.predictor import Predictor, open_predictor
from serve.bundles import make, saved, texts

CELLS: dict[str, tuple[str, ...]] = {
    "lstm": ("model.cell.kind=lstm",),
    "peephole": ("model.cell.kind=lstm", "model.cell.peephole=true"),
    "gru_after": ("model.cell.kind=gru",),
    "gru_before": ("model.cell.kind=gru", "model.cell.reset=before"),
    "rnn_tanh": ("model.cell.kind=rnn",),
    "rnn_relu": ("model.cell.kind=rnn", "model.cell.nonlinearity=relu"),
    "rnn_sigmoid": ("model.cell.kind=rnn", "model.cell.nonlinearity=sigmoid"),
}
POOLS = [*WIDTH, "dot"]


def pooling(name: str) -> tuple[str, ...]:
    return ("model.pool=attention", "model.attention=dot") if name == "dot" else (f"model.pool={name}",)


@pytest.fixture(params=["core", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "core" and native.why_not() is not None:
        pytest.skip(str(native.why_not()))
    if request.param == "numpy":
        monkeypatch.setenv("ECHOIC_ISA", "none")
    native.isa.cache_clear()
    yield request.param
    native.isa.cache_clear()


def agree(model: Model, predictor: Predictor, given: list[str], **options: Any) -> None:
    wanted, found = model.predict(given, **options), predictor.predict(given, **options)
    assert [type(each) for each in found] == [type(each) for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert (one.text, one.label, one.labels) == (other.text, other.label, other.labels)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def both(place: Path, *settings: str, **how: Any) -> tuple[Model, Predictor]:
    model = make(*settings, **how)
    return model, open_predictor(saved(model, place / "bundle"))


@pytest.mark.parametrize("two_ways", [False, True], ids=["one-way", "two-ways"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_pool_and_direction(cell: str, pool: str, two_ways: bool, tmp_path: Path) -> None:
    directions = f"model.bidirectional={str(two_ways).lower()}"
    model, predictor = both(tmp_path, *CELLS[cell], *pooling(pool), directions, ngrams=False)
    agree(model, predictor, texts(30, longest=60))


OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "layers": (("model.layers=3",), {}),
    "batch norm": (("model.batch_norm=true", "model.layers=2"), {}),
    "n-grams": ((), {"ngrams": True}),
    "one segment": (("model.segment=1000",), {"ngrams": True}),
    "cut": (("text.max_tokens=11",), {"ngrams": True}),
    "two classes": ((), {"labels": ("no", "yes")}),
    "several": (("task.several=true",), {"labels": [("a",), ("b", "c"), ()], "ngrams": True}),
    "soft": ((), {"labels": [{"a": 0.7, "b": 0.3}, {"a": 0.1, "b": 0.9}]}),
    "case": (("text.lowercase=false",), {}),
    "noise, which prediction has not": (("model.variational=0.3", "model.weight_drop=0.3", "model.candidate=0.2"), {}),
    **{f"tokenizer {name}": ((f"text.tokenizer={name}",), {}) for name in registry.names("tokenizer")},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option(option: str, tmp_path: Path, kernel: str) -> None:
    if option.endswith("zh_words"):
        pytest.importorskip("rjieba", reason="the zh extra is not installed")
    settings, how = OPTIONS[option]
    model, predictor = both(tmp_path, *settings, **{"ngrams": False, **how})
    assert (predictor.kernel[0] == "numpy") == (kernel == "numpy")
    agree(model, predictor, texts(20))
    agree(model, predictor, texts(20), min_confidence=0.6)


@pytest.mark.parametrize("cell", [name for name in CELLS if name != "rnn_sigmoid"])
def test_eight_bits_are_near(cell: str, tmp_path: Path, kernel: str) -> None:
    model = make(*CELLS[cell], "model.layers=2", "model.batch_norm=true", ngrams=False)
    place, given = saved(model, tmp_path / "b"), texts(20)
    exact, eight = open_predictor(place), open_predictor(place, products="int8")
    assert ("int8" in eight.kernel[0]) == (kernel == "core")
    want, found = exact.logits(given), eight.logits(given)
    assert 0 < np.abs(found - want).max() <= 0.15 * np.abs(want).max()


def test_no_text_and_one(tmp_path: Path) -> None:
    model, predictor = both(tmp_path)
    assert predictor.predict([]) == []
    agree(model, predictor, ["good"])
    with pytest.raises(UsageError, match="in a list"):
        predictor.predict("good")
    with pytest.raises(DataError, match=r"text 2: lone surrogate U\+D800"):
        predictor.predict(["good", "\ud800"])


def test_batches_change_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, predictor = both(tmp_path)
    given = texts(40)
    whole = predictor.logits(given)
    for segments, tokens in ((1, 1), (3, 40), (1000, 1000)):
        monkeypatch.setattr(network, "SEGMENTS", segments)
        monkeypatch.setattr(network, "TOKENS", tokens)
        np.testing.assert_allclose(predictor.logits(given), whole, atol=1e-5)
    streamed = list(predictor.predict_stream(iter(given), chunk=7))
    assert [each.label for each in streamed] == [each.label for each in model.predict(given)]


def test_many_threads_at_once(tmp_path: Path) -> None:
    _, predictor = both(tmp_path)
    given = texts(40)
    alone = [predictor.logits([text]) for text in given]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(lambda text: predictor.logits([text]), given * 5), alone * 5, strict=True):
            np.testing.assert_array_equal(one, other)


# What it cannot run


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("model.cell.kind=jordan",), "the cell jordan"),
        (("model.layer_norm=true",), "layer norm"),
        (("model.zoneout=0.1",), "zoneout"),
        (("model.layers=0", "model.pool=mean"), "a network without recurrence"),
    ],
)
def test_what_needs_torch_says_so(settings: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(NeedsTorch, match=rf"{said}.* runs in torch alone: pip install 'echoic\[train\]'"):
        both(tmp_path, *settings)


def test_every_cell_is_either_run_or_refused(tmp_path: Path) -> None:
    for number, kind in enumerate(registry.names("cell")):
        try:
            _, predictor = both(tmp_path / str(number), f"model.cell.kind={kind}")
        except NeedsTorch:
            assert kind == "jordan"
        else:
            assert predictor.predict(["good"])


# Damaged, foreign, of another model


def rewritten(source: Path, place: Path, **changes: Any) -> Path:
    """The bundle with files changed and the manifest right."""
    opened = bundle.read(source, "bundle")
    bundle.write(place, "bundle", opened.about, {**opened.files, **changes})
    return place


def test_a_flipped_bit_and_a_newer_bundle(tmp_path: Path) -> None:
    place = saved(make(), tmp_path / "b")
    data = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"model\.safetensors: damaged"):
        open_predictor(place)
    (place / "model.safetensors").write_bytes(data)
    manifest = json.loads((place / "manifest.json").read_bytes())
    (place / "manifest.json").write_bytes(bundle.canonical({**manifest, "format": 99}))
    with pytest.raises(BundleError, match="install a newer echoic"):
        open_predictor(place)


def tensors_changed(change: Any) -> bytes:
    from safetensors.torch import save

    tensors = {name: each.clone() for name, each in make().network.state_dict().items()}
    return bytes(save(change(tensors)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {**t, "out.bias": t["out.bias"][:1].clone()}, r"out\.bias: has \(1,\)"),
        (lambda t: {**t, "more": t["out.bias"].clone()}, "more: the network .* has no such tensor"),
        (lambda t: {n: e for n, e in t.items() if n != "scales"}, "scales: missing"),
        (lambda t: {n: e for n, e in t.items() if n != "ngrams.weight"}, r"ngrams\.weight: missing"),
        (lambda t: {**t, "embed.weight": t["embed.weight"].double()}, r"embed\.weight: .*float64"),
        (lambda t: {**t, "embed.weight": t["embed.weight"][0].clone()}, r"embed\.weight: has \(5,\)"),
        (lambda t: {**t, "embed.weight": t["embed.weight"][1:].clone()}, r"embed\.weight: has"),
        (lambda t: {**t, "out.weight": t["out.weight"] * torch.nan}, r"out\.weight: holds a number"),
        (lambda t: {**t, "ngrams.order": torch.tensor(9)}, r"ngrams\.order: 9, wanted 1 to 8"),
        (lambda t: {**t, "ngrams.check": t["ngrams.check"][:0].clone(), "ngrams.weight": t["ngrams.weight"][:0].clone()},
         "without a slot"),
        (lambda t: {n: e for n, e in t.items() if not n.startswith("ngrams")}, r"scales: has \(2,\)"),
        (lambda t: {**t, "stack.cells.0.weight_hh": t["stack.cells.0.weight_hh"].T.contiguous()}, "weight_hh: has"),
    ],
)  # fmt: skip
def test_tensors_of_another_model(change: Any, said: str, tmp_path: Path) -> None:
    place = rewritten(saved(make(), tmp_path / "a"), tmp_path / "b", **{"model.safetensors": tensors_changed(change)})
    with pytest.raises(BundleError, match=said):
        open_predictor(place)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\xff" * 40),
        ("tokenizer.json", b"{}"),
        ("labels.json", b"[]"),
        ("classify.json", b"{}"),
        ("text.json", b"{}"),
        ("config.json", b'{"model": {"hidden": 7}}'),
    ],
)
def test_foreign_files(name: str, content: bytes, tmp_path: Path) -> None:
    place = rewritten(saved(make(), tmp_path / "a"), tmp_path / "b", **{name: content})
    with pytest.raises(BundleError):
        open_predictor(place)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "labels.json", "classify.json"])
def test_a_model_without_one_of_its_files(name: str, tmp_path: Path) -> None:
    opened = bundle.read(saved(make(), tmp_path / "a"), "bundle")
    bundle.write(tmp_path / "b", "bundle", {}, {n: d for n, d in opened.files.items() if n != name})
    with pytest.raises(BundleError, match=rf"{name}: missing"):
        open_predictor(tmp_path / "b")


# Explaining


@pytest.mark.parametrize("two_ways", ["true", "false"])
@pytest.mark.parametrize("method", ["occlusion", "trace"])
def test_explanations_are_those_of_torch(method: str, two_ways: str, tmp_path: Path) -> None:
    model, predictor = both(tmp_path, f"model.bidirectional={two_ways}")
    for text in [*texts(6)[:6], "good bad not good, it's a film " * 6]:
        (wanted,) = model.explain([text], method)
        found = predictor.explain(text, method)
        same(found, wanted)
        label = next(name for name in predictor.names if name != found.label)
        same(predictor.explain(text, method, label), model.explain([text], method, label)[0])


def same(found: Explanation, wanted: Explanation) -> None:
    assert [(t.text, t.start, t.end) for t in found.tokens] == [(t.text, t.start, t.end) for t in wanted.tokens]
    np.testing.assert_allclose([t.score for t in found.tokens], [t.score for t in wanted.tokens], atol=2e-5)
    assert (found.label, found.window, found.turns) == (wanted.label, wanted.window, wanted.turns)
    assert found.probability == pytest.approx(wanted.probability, abs=1e-5)
    assert (found.beliefs is None) == (wanted.beliefs is None)
    for name, curve in (wanted.beliefs or {}).items():
        np.testing.assert_allclose((found.beliefs or {})[name], curve, atol=2e-5)


def test_a_long_text_is_explained_in_windows(tmp_path: Path) -> None:
    _, predictor = both(tmp_path)
    text = " ".join(texts(3)[-3:])
    found = predictor.explain(text, "trace", most=5)
    tokens = len(found.tokens)
    assert found.window == -(-tokens // 5)
    for method in ("occlusion", "trace"):
        scores = [t.score for t in predictor.explain(text, method, most=5).tokens]
        assert len({round(s, 9) for s in scores}) <= 5
    whole = predictor.predict([text])[0]
    assert (found.beliefs or {})[found.label][-1] == pytest.approx(whole.probabilities[found.label], abs=1e-5)


def test_what_explain_refuses(tmp_path: Path) -> None:
    _, predictor = both(tmp_path)
    with pytest.raises(UsageError, match="without torch there is occlusion and trace"):
        predictor.explain("good", "attention")
    with pytest.raises(UsageError, match="none of that name"):
        predictor.explain("good", "trace", "yess")


# Nothing heavy


def test_no_heavy_library_is_loaded(tmp_path: Path) -> None:
    place = saved(make("model.bidirectional=false"), tmp_path / "b")
    code = f"""
import json, sys
from echoic.serve.predictor import open_predictor
predictor = open_predictor({str(place)!r})
stream = predictor.stream()
stream.feed("a good film")
print(predictor.predict(["a good film"])[0].label == stream.answer().label == predictor.explain("a good film").label)
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert first == "True"
    heavy = {"torch", "sklearn", "scipy", "pyarrow", "pandas", "matplotlib", "onnx", "onnxruntime", "fastapi"}
    assert set(json.loads(last)) & heavy == set()


def test_cells_and_pools_are_all_there() -> None:
    kinds = {line.partition("=")[2] for settings in CELLS.values() for line in settings if ".kind=" in line}
    assert kinds == set(registry.names("cell")) - {"jordan"}
    assert len(list(itertools.product(CELLS, POOLS))) == 7 * 6
