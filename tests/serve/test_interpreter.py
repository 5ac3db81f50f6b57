"""A translator without torch: the answers of the one in torch, and the same refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoic.core import bundle
from echoic.core.errors import BundleError, DataError, UsageError
from echoic.kernels import native
from echoic.serve.interpreter import open_interpreter
from echoic.serve.opening import NeedsTorch
from echoic.serve.seq2seq import take
from serve.bundles import make, pairs, saved, translator
from serve.clients import serving

pytestmark = pytest.mark.usefixtures("unsynced")
KINDS = [
    (),
    ("task.attention=additive", "model.cell.kind=gru"),
    ("task.attention=additive", "task.input_feeding=true", "model.variational=0", "model.bidirectional=false"),
    ("task.attention=none", "task.tied=false"),
    ("task.vocabulary=separate", "model.layers=2", "model.bidirectional=false"),
    ("model.cell.kind=gru", "model.cell.reset=before", "model.batch_norm=true", "model.layers=2"),
    ("model.cell.kind=rnn", "task.copying=true"),
    ("model.cell.peephole=true", "text.tokenizer=bpe", "task.copying=true"),
]


TEXTS = [e.input for e in pairs(17, 2)]


@pytest.mark.parametrize("settings", KINDS, ids=" ".join)
def test_it_answers_as_the_model_in_torch(settings: tuple[str, ...], tmp_path: Path) -> None:
    model = translator(*settings)
    model.save(tmp_path / "bundle")
    interpreter = open_interpreter(tmp_path / "bundle")
    for options in (
        {},
        {"beam_size": 1},
        {"beam_size": 3, "n_best": 2, "no_repeat": 2},
        {"temperature": 0.9, "seed": 3},
    ):
        wanted, got = model.predict(TEXTS, **options), interpreter.predict(TEXTS, **options)
        assert [r.translation for r in got] == [r.translation for r in wanted]
        np.testing.assert_allclose([r.score for r in got], [r.score for r in wanted], atol=1e-4)
        assert [r.translations for r in got] == [r.translations for r in wanted]
        assert len({r.translation for r in got}) > 2, "it says the same whatever it is asked"


@pytest.mark.parametrize("settings", KINDS, ids=" ".join)
def test_a_step_is_the_step_in_torch(settings: tuple[str, ...], tmp_path: Path) -> None:
    """Three steps of several hypotheses a source, the second source forgotten after the first step."""
    from echoic.layers.seq2seq import take as take_in_torch

    model = translator(*settings)
    model.save(tmp_path / "bundle")
    network, step = open_interpreter(tmp_path / "bundle").network, model.task.step(model.network)
    sources = list(model.task.text.encode(TEXTS[:3]))
    ours, theirs = network.begin(sources), model.task.begin(model.network, sources)
    for ids, places in (([2, 2, 2], [0, 0, 2, 2, 2]), ([3, 4, 5, 3, 3], [0, 1, 2, 3, 4]), ([4, 4, 3, 5, 3], [1, 4])):
        logits, weights, ours = network.step(np.array(ids), ours)
        wanted, attention, theirs = step(np.array(ids), theirs)
        np.testing.assert_allclose(logits, wanted, atol=2e-5)
        if attention is None:
            assert weights is None
        else:
            np.testing.assert_allclose(weights, attention, atol=1e-6)
        ours, theirs = take(ours, np.array(places)), take_in_torch(theirs, np.array(places))


def test_one_by_one_is_all_at_once(tmp_path: Path) -> None:
    translator().save(tmp_path / "bundle")
    interpreter = open_interpreter(tmp_path / "bundle")
    together = interpreter.predict(TEXTS)
    assert [interpreter.predict([text])[0].translation for text in TEXTS] == [r.translation for r in together]
    assert [r.translation for r in interpreter.predict_stream(iter(TEXTS), chunk=4)] == [
        r.translation for r in together
    ]
    assert interpreter.predict([]) == []
    assert interpreter.predict(["  "])[0].translation == ""


def test_threads_that_search_for_texts_of_their_own_answer_as_one_does(tmp_path: Path) -> None:
    translator().save(tmp_path / "bundle")
    one, three = (open_interpreter(tmp_path / "bundle", threads=n) for n in (1, 3))
    for options in ({}, {"beam_size": 3, "n_best": 2}, {"temperature": 0.9, "seed": 3}):
        wanted, got = one.predict(TEXTS, **options), three.predict(TEXTS, **options)
        assert [r.translations or r.translation for r in got] == [r.translations or r.translation for r in wanted]
    with pytest.raises(ValueError, match="threads=0, wanted 1 to"):
        open_interpreter(tmp_path / "bundle", threads=0)
    with pytest.raises(DataError, match="text 2: 400 tokens"):
        three.predict(["ein", " ".join(["ein"] * 400)])


@pytest.mark.parametrize("products", ["int8", "bfloat16"])
def test_rounded_products_answer_much_the_same(products: Any, tmp_path: Path) -> None:
    if products == "bfloat16" and not native.has_bfloat16():
        pytest.skip("this processor multiplies no bfloat16")
    translator().save(tmp_path / "bundle")
    exact, rounded = open_interpreter(tmp_path / "bundle"), open_interpreter(tmp_path / "bundle", products=products)
    sources = list(exact.sides.text.encode(TEXTS))
    ids = np.full(len(sources), 2)
    one, other = (np.asarray(each.network.step(ids, each.network.begin(sources))[0]) for each in (exact, rounded))
    assert 0 < np.abs(one - other).max() < 0.1


def test_it_refuses_what_the_model_refuses(tmp_path: Path) -> None:
    model = translator("text.max_tokens=20")
    model.save(tmp_path / "bundle")
    interpreter = open_interpreter(tmp_path / "bundle")
    with pytest.raises(UsageError, match="wants a list of texts"):
        interpreter.predict("ein")
    for texts, options, error in (
        ([" ".join(["ein"] * 21)], {}, DataError),
        (["ein"], {"beam_size": 0}, UsageError),
        (["ein"], {"n_best": 0}, UsageError),
        (["ein"], {"max_ratio": 0.0}, UsageError),
    ):
        with pytest.raises(error) as theirs:
            model.predict(texts, **options)
        with pytest.raises(error) as ours:
            interpreter.predict(texts, **options)
        assert str(ours.value) == str(theirs.value)


def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    translator().save(tmp_path / "bundle")
    opened = bundle.read(tmp_path / "bundle", "bundle")
    for name, change in (
        ("join.weight", lambda a: a[:, :-1].copy()),
        ("start.bias", None),
        ("embed.weight", lambda a: a * np.nan),
    ):
        tensors = load(opened.files["model.safetensors"])
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name])
        files = {**opened.files, "model.safetensors": save(tensors)}
        bundle.write(tmp_path / name, "bundle", opened.about, files)
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            open_interpreter(tmp_path / name)


def test_what_only_torch_runs_is_refused(tmp_path: Path) -> None:
    translator("model.layer_norm=true").save(tmp_path / "bundle")
    with pytest.raises(NeedsTorch, match="layer norm"):
        open_interpreter(tmp_path / "bundle")


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    translator().save(tmp_path / "bundle")
    code = (
        "import json, sys\nfrom echoic.serve.interpreter import open_interpreter\n"
        "told = open_interpreter(sys.argv[1]).predict(['ein Hund'])[0].translation\n"
        "print(json.dumps([told, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundle")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [translator().predict(["ein Hund"])[0].translation, False]


def test_it_is_served(tmp_path: Path) -> None:
    places = {"german": str(saved(translator(), tmp_path / "german")), "films": str(saved(make(), tmp_path / "films"))}
    interpreter = open_interpreter(places["german"])
    with serving(places) as served:
        found = served.ask("/v1/translate", {"texts": TEXTS, "beam": 3, "n_best": 2}).json
        wanted = interpreter.predict(TEXTS, beam_size=3, n_best=2)
        assert found["model"] == "german"
        assert [each["translations"] for each in found["translations"]] == [each.translations for each in wanted]
        assert served.ask("/v1/translate", {"texts": []}).json == {"model": "german", "translations": []}
        tasks = {each["name"]: each["task"] for each in served.ask("/v1/models").json["models"]}
        assert tasks == {"german": "translate", "films": "classify"}
        for body, said in (
            ({"texts": ["ein"], "model": "films"}, "films classifies; this wants a model that translates"),
            ({"texts": ["ein"], "beam": 0}, "/beam: Input should be greater than or equal to 1"),
            ({"texts": [" ".join(["ein"] * 300)]}, "300 tokens, and this model reads 256"),
            ({"texts": ["ein"] * 5 + [" ".join(["ein"] * 300)]}, "text 6: 300 tokens"),
        ):
            refused = served.ask("/v1/translate", body)
            assert refused.status == 422
            assert said in refused.json["detail"]
