"""A saved model opens as it was, on the machine at hand; one that does not fit together is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from echoic.cli.evaluate import open_model
from echoic.cli.main import main
from echoic.core import bundle, registry
from echoic.core.config import Config
from echoic.core.errors import BundleError, Unavailable, UsageError
from echoic.core.types import Example
from echoic.layers.ngrams import NgramPath
from echoic.model import Model, load
from echoic.tasks.classify import Classify

TEXTS = ["a good film", "a bad film", "good good story", "a bad bad plot"]
TARGETS = ["pos", "neg", "pos", "neg"]
TINY = ("model.hidden=4", "model.embedding=4", "model.segment=8", "text.min_count=1", "text.tokenizer=words")
LONG = ["", "good", "never seen", "a good bad film " * 20]

Files = dict[str, bytes]
Change = Callable[[Files], None]


def made(*settings: str, ngrams: bool = True) -> Model:
    """An untrained model with an n-gram path of random weights and two scales."""
    config = Config().override((*TINY, *settings))
    task = Classify.fit([Example(x, y) for x, y in zip(TEXTS, TARGETS, strict=True)], config, lambda _: None)
    network = task.network(0).eval()
    draws = torch.Generator().manual_seed(0)
    path = NgramPath(16, 2, 2)
    path.weight.normal_(generator=draws)
    path.check.random_(0, 2**27, generator=draws)
    network.join(path if ngrams else None, np.array([0.75, 0.5])[: 1 + ngrams])
    return Model(config, task, network, {"seed": 0}, seen=np.arange(3, dtype=np.uint64))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model; never changed by a test."""
    path = tmp_path_factory.mktemp("model") / "bundle"
    made().save(path)
    return path


@pytest.fixture
def rewritten(saved: Path, tmp_path: Path, unsynced: None) -> Callable[[Change], Path]:
    """The saved model with one change, its manifest as true as before."""

    def rewrite(change: Change) -> Path:
        opened = bundle.read(saved, "bundle")
        files = dict(opened.files)
        change(files)
        bundle.write(tmp_path / "changed", "bundle", opened.about, files)
        return tmp_path / "changed"

    return rewrite


# It opens as it was


@pytest.mark.parametrize(
    "settings",
    [
        *([f"model.cell.kind={name}"] for name in registry.names("cell")),
        ["model.layers=2", "model.batch_norm=true", "model.bidirectional=false"],
        ["model.layer_norm=true", "model.cell.peephole=true"],
        ["model.pool=attention"],
        ["model.pool=attention", "model.attention=dot"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("ngrams", [True, False])
def test_the_same_bits_after_opening(settings: list[str], ngrams: bool, tmp_path: Path, unsynced: None) -> None:
    model = made(*settings, ngrams=ngrams)
    model.save(tmp_path / "b")
    opened = load(tmp_path / "b")
    state = opened.network.state_dict()
    assert state.keys() == model.network.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.network.state_dict().items())
    assert not any(tensor.is_meta for tensor in state.values())
    assert not opened.network.training
    assert np.array_equal(opened.outputs(LONG), model.outputs(LONG))
    assert opened.seen is not None
    assert opened.seen.tolist() == [0, 1, 2]


def test_opening_draws_nothing_and_heeds_no_default_type(saved: Path) -> None:
    wanted, before = load(saved).outputs(LONG), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(load(saved).outputs(LONG), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


def test_where_it_was_trained_does_not_matter(rewritten: Callable[[Change], Path], saved: Path) -> None:
    path = rewritten(config(device="cuda:63"))
    opened = load(path)
    assert opened.config.device == "cpu"
    assert np.array_equal(opened.outputs(LONG), load(saved).outputs(LONG))
    for named in (None, "cpu"):
        assert open_model(str(path), named).config.device == "cpu"
    for absent in ("cuda:63", "a toaster"):
        with pytest.raises(Unavailable, match=r"is not here \(present: cpu"):
            load(path, absent)


def test_a_run_folder_opens_too(saved: Path) -> None:
    assert np.array_equal(load(saved.parent).outputs(LONG), load(saved).outputs(LONG))


def test_a_file_to_evaluate_needs_no_column_of_groups(
    rewritten: Callable[[Change], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{y},{x}\n" for x, y in zip(TEXTS, TARGETS, strict=True))
    (tmp_path / "t.csv").write_text(f"label,text\n{rows}")
    path = rewritten(config(data={"text": "text", "label": "label", "group": "author"}))
    assert main(["evaluate", str(path), str(tmp_path / "t.csv"), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 4


# What is asked


def test_one_text_is_not_a_list_of_its_characters() -> None:
    model = made()
    for ask in (model.predict, model.outputs, lambda text: list(model.predict_stream(text))):
        for text in ("a text", "", b"a text"):
            with pytest.raises(UsageError, match="predict wants a list of texts"):
                ask(text)  # type: ignore[operator]
    assert len(model.predict(("a text", "another"))) == 2


@pytest.mark.parametrize(
    "setting", [f"model.cell.kind={name}" for name in registry.names("cell")] + ["model.pool=attention"]
)
@pytest.mark.parametrize("ngrams", [True, False])
def test_no_inputs_have_no_outputs(setting: str, ngrams: bool) -> None:
    outputs = made(setting, ngrams=ngrams).outputs([])
    assert outputs.shape == (0, 2)
    assert outputs.dtype == np.float32


# A bundle whose digests are right and whose content is not


def config(**changes: Any) -> Change:
    def change(files: Files) -> None:
        values = json.loads(files["config.json"])
        for key, value in changes.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
        files["config.json"] = bundle.canonical(values)

    return change


def tensor(name: str, made_of: Callable[[torch.Tensor], torch.Tensor | None]) -> Change:
    def change(files: Files) -> None:
        tensors = load_tensors(files["model.safetensors"])
        new = made_of(tensors.pop(name, torch.zeros(1)))
        if new is not None:
            tensors[name] = new.contiguous()
        files["model.safetensors"] = save_tensors(tensors)

    return change


def tokenizer(**changes: Any) -> Change:
    def change(files: Files) -> None:
        values = json.loads(files["tokenizer.json"])
        model = {**values["model"], **changes.pop("model", {})}
        files["tokenizer.json"] = json.dumps({**values, **changes, "model": model}).encode()

    return change


def content(name: str, data: bytes) -> Change:
    return lambda files: files.update({name: data})


def without(name: str) -> Change:
    return lambda files: files.pop(name) and None  # type: ignore[func-returns-value]


def poisoned(x: torch.Tensor, value: float) -> torch.Tensor:
    x = x.clone()
    x.view(-1)[-1] = value
    return x


TRUNCATION = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
}  # fmt: skip
CRAFTED: dict[str, tuple[Change, str]] = {
    "no config": (without("config.json"), r"config\.json: missing"),
    "config is no json": (content("config.json", b"{"), "not a model"),
    "config is not utf-8": (content("config.json", b"\xff"), "not a model"),
    "config is endless": (content("config.json", b"[" * 200_000), "not a model"),
    "no weights": (without("model.safetensors"), r"model\.safetensors: missing"),
    "weights are no safetensors": (content("model.safetensors", b"12345678901234567890"), "not a model"),
    "no tokenizer": (without("tokenizer.json"), r"tokenizer\.json"),
    "no labels": (without("labels.json"), r"labels\.json"),
    "no classify.json": (without("classify.json"), r"classify\.json: missing"),
    "classify.json is a list": (content("classify.json", b"[]"), r"classify\.json"),
    "thresholds of another count": (content("classify.json", b'{"thresholds": [0.5]}'), r"classify\.json: thresholds"),
    "thresholds of text": (content("classify.json", b'{"thresholds": ["a", "b"]}'), r"classify\.json"),
    "a threshold that is none": (content("classify.json", b'{"thresholds": [0.5, NaN]}'), r"classify\.json"),
    "seen is cut": (content("seen.bin", b"123"), "not a model"),
    "text.json overflows": (content("text.json", b'{"tokenizer": "words", "max_tokens": 1e999}'), "not the settings"),
    "no embedding": (tensor("embed.weight", lambda x: None), r"embed\.weight: missing"),
    "embedding of one dimension": (tensor("embed.weight", lambda x: x[0]), r"embed\.weight: wants 2 dimensions"),
    "embedding with fewer rows": (tensor("embed.weight", lambda x: x[:-1]), r"embed\.weight: .* rows.*tokenizer\.json"),
    "embedding of another width": (tensor("embed.weight", lambda x: x[:, :2]), r"stack\.cells\.0\.weight_ih: has \(16"),
    "embedding in bfloat16": (
        tensor("embed.weight", lambda x: x.bfloat16()),
        r"embed\.weight: wants .*float32, has .*bfloat16",
    ),
    "a weight missing": (tensor("out.weight", lambda x: None), r"out\.weight: missing"),
    "a weight too many": (tensor("out.other", lambda x: x), r"out\.other: the network .* has no such"),
    "a weight of text's name": (tensor("x\x1b[31m", lambda x: x), r"model\.safetensors: x\\x1b\[31m"),
    "a bias in double": (tensor("out.bias", lambda x: x.double()), r"out\.bias: .*float64.*float32"),
    "a weight not a number": (tensor("out.weight", lambda x: poisoned(x, math.nan)), r"out\.weight: .*not finite"),
    "a weight infinite": (tensor("embed.weight", lambda x: poisoned(x, math.inf)), r"embed\.weight: .*not finite"),
    "scales of three": (tensor("scales", lambda x: torch.ones(3)), r"scales: has \(3,\)"),
    "scales of one": (tensor("scales", lambda x: torch.ones(1)), r"scales: has \(1,\)"),
    "no scales": (tensor("scales", lambda x: None), "scales: missing"),
    "n-grams of 50": (tensor("ngrams.order", lambda x: torch.tensor(50)), "ngrams: order: expected 1 to 8, got 50"),
    "n-grams of none": (tensor("ngrams.order", lambda x: torch.tensor(0)), "ngrams: order"),
    "n-grams of a list": (tensor("ngrams.order", lambda x: torch.tensor([2, 2])), r"ngrams\.order: wants 0 dim"),
    "n-grams of a float": (tensor("ngrams.order", lambda x: torch.tensor(2.0)), r"ngrams\.order: wants .*int64"),
    "no order": (tensor("ngrams.order", lambda x: None), r"ngrams\.order: missing"),
    "no slots": (tensor("ngrams.check", lambda x: x[:0]), "ngrams: slots"),
    "no check": (tensor("ngrams.check", lambda x: None), r"ngrams\.check: missing"),
    "check of another length": (tensor("ngrams.check", lambda x: x[:8]), r"ngrams\.weight: has \(16, 2\)"),
    "check of another type": (tensor("ngrams.check", lambda x: x.long()), r"ngrams\.check: wants .*int32"),
    "n-gram weight not a number": (
        tensor("ngrams.weight", lambda x: poisoned(x, math.nan)),
        r"ngrams\.weight: .*finite",
    ),
    "a huge network": (config(model={"hidden": 65_536, "layers": 64}), r"\.safetensors: out\.weight: has \(2, 8\)"),
    "another cell": (config(model={"cell": {"kind": "gru"}}), r"stack\.cells\.0\.bias_hh: has \(16,\)"),
    "another pooling": (config(model={"pool": "attention"}), r"pool\.attention\..*: missing"),
    "tokenizer that truncates": (tokenizer(truncation=TRUNCATION), r"tokenizer\.json: truncates or pads"),
    "tokenizer that pads": (tokenizer(padding=PADDING), r"tokenizer\.json: truncates or pads"),
    "tokenizer without its unknown": (tokenizer(model={"unk_token": "<other>"}), r"tokenizer\.json: not a tokenizer"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_bundle_that_does_not_fit_together_is_refused(case: str, rewritten: Callable[[Change], Path]) -> None:
    change, said = CRAFTED[case]
    with pytest.raises(BundleError, match=said) as caught:
        load(rewritten(change))
    assert len(str(caught.value).splitlines()) == 1


def test_the_rewriting_itself_breaks_nothing(rewritten: Callable[[Change], Path], saved: Path) -> None:
    path = rewritten(tensor("out.weight", lambda x: x))
    assert np.array_equal(load(path).outputs(LONG), load(saved).outputs(LONG))
