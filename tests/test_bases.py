"""Bases: found by name without a network, half as large on disk, made of text without mark-up."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import echoic
from echoic import pipeline
from echoic.core import bundle
from echoic.core.errors import Unavailable
from echoic.core.types import UNKNOWN, Example
from echoic.finetuning import finetune
from echoic.serve.author import open_author
from export.models import language

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of the name base-xx, as pip would lay it out; the folder of its bundle."""
    package = tmp_path / "site" / "echoic_base_xx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a base is data: nothing of it is run')\n")
    language(texts=["a bad film", "a good film"] * 9).save(package / "bundle", half=True)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.chdir(tmp_path)
    return package / "bundle"


def test_a_base_is_found_by_its_name_and_fine_tuned(installed: Path, tmp_path: Path) -> None:
    assert echoic.load("base-xx").generate("a ", length=9) == echoic.load(installed).generate("a ", length=9)
    assert open_author("base-xx").generate("a ", length=9) == open_author(installed).generate("a ", length=9)
    rows = "".join(f"a {word} film {i},{word}\n" for i in range(20) for word in ("good", "bad"))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    finetune(tmp_path / "rows.csv", tmp_path / "run", echoic.Config().override(["train.epochs=1"]), base="base-xx")
    assert "base" in echoic.load(tmp_path / "run").about
    assert "echoic_base_xx" not in sys.modules


def test_a_folder_of_that_name_goes_first(installed: Path, tmp_path: Path) -> None:
    own = language("model.cell.kind=gru")
    own.save(tmp_path / "base-xx")
    assert echoic.load("base-xx").config.model.cell.kind == "gru"
    own.save(tmp_path / "base-yy" / "bundle")
    assert bundle.find("base-yy") == Path("base-yy/bundle")


def test_a_base_that_is_not_installed_says_how(installed: Path) -> None:
    for opens in (echoic.load, open_author):
        with pytest.raises(Unavailable, match=r"pip install ./bases/echoic-base-zz"):
            opens("base-zz")
    for other in ("base-", "base-../x", "base-en/bundle", "based"):
        assert bundle.find(other) == Path(other)


def test_weights_of_16_bits_are_half_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    whole = language("model.hidden=64")
    whole.save(tmp_path / "whole")
    whole.save(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    found = echoic.load(tmp_path / "half")
    for name, tensor in found.network.state_dict().items():
        wanted = whole.network.state_dict()[name]
        assert tensor.dtype == wanted.dtype
        np.testing.assert_allclose(tensor.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-6)
    ids = np.array([[2, 5, 6]])
    from_torch, from_numpy = (
        found.task.step(found.network)(ids, None)[0],
        open_author(tmp_path / "half").network.step(ids, None)[0],
    )
    np.testing.assert_allclose(from_numpy, from_torch, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["base-en", "base-zh"])
def test_a_distribution_holds_a_whole_base(name: str) -> None:
    place = ROOT / "bases" / f"echoic-{name}"
    stated = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))
    package = f"src/echoic_{name.replace('-', '_')}"
    assert stated["project"]["name"] == f"echoic-{name}"
    assert stated["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [package]
    folder = place / package / "bundle"
    if not folder.exists():
        pytest.skip("not trained yet: python bases/train.py " + name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 15_000_000
    model = echoic.load(folder)
    assert model.task.streams
    assert model.generate("", length=5).continuation
    assert "Terms" in (place / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> Any:
    """bases/train.py, which imports bases/texts.py."""
    sys.path.insert(0, str(ROOT / "bases"))
    try:
        yield importlib.import_module("train")
    finally:
        sys.path.remove(str(ROOT / "bases"))


@pytest.fixture
def texts(script: Any) -> Any:
    return importlib.import_module("texts")


@pytest.mark.parametrize("name", ["base-en", "base-zh"])
def test_what_was_trained_is_packed_with_a_card(
    script: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each base's own settings but smaller, so that nothing is found wrong after hours."""
    monkeypatch.setattr(script, "HERE", tmp_path)
    base = script.BASES[name]
    small = ("model.hidden=6", "model.embedding=5", "task.cutoffs=[]", "text.min_count=1")
    examples = [Example(f"the cat sat on mat {i}, 猫坐在垫子上 and it was so" * 3, row=i) for i in range(20)]
    config = echoic.Config().override([*script.SHARED, *base.settings, *small])
    journey = pipeline.fit(examples[:16], examples[16:], config)
    script.pack(name, base, journey.model, [e.input for e in examples], script.told(journey, 16))
    package = tmp_path / f"echoic-{name}"
    assert echoic.load(package / "src" / f"echoic_{name.replace('-', '_')}" / "bundle").task.streams
    card = (package / "README.md").read_text(encoding="utf-8")
    assert base.terms in card
    assert "16 documents" in card


LONG = "and so the line is long enough to be kept as it stands"


@pytest.mark.parametrize(
    ("markup", "wanted"),
    [
        ("#REDIRECT [[Geography of Albania]]", ""),
        (f"'''Anarchism''' is {LONG}.", f"Anarchism is {LONG}."),
        (f"A [[state (polity)|state]] and [[law]], {LONG}.", f"A state and law, {LONG}."),
        (f"{{{{Infobox|a={{{{b}}}}|c}}}}It is, {LONG}.", f"It is, {LONG}."),
        (f"[[Image:x.jpg|thumb|A [[cat]] of [[Rome]]]]Here, {LONG}.", f"Here, {LONG}."),
        (f"See [http://a.example/b the page] or http://c.example, {LONG}.", f"See the page or {LONG}."),
        (f"One&lt;ref name=&quot;x&quot;&gt;Book, p. 5&lt;/ref&gt; two &amp;amp; three, {LONG}.", f"One two & three, {LONG}."),
        (f"== A heading that is long enough to be taken for a line ==\n* [[an item]] of a list, {LONG}\nText, {LONG}.", f"Text, {LONG}."),
        (f"{{| class=x\n|-\n| a cell, {LONG}\n|}}\nAfter it, {LONG}.", f"After it, {LONG}."),
        (f"Short.\n\n{LONG}\n[[Category:Ideas]]\n[[fr:Anarchisme]]\n[[zh-min-nan:X]]", LONG),
    ],
)  # fmt: skip
def test_markup_is_removed(texts: Any, markup: str, wanted: str) -> None:
    assert texts.plain(markup) == wanted


@pytest.mark.parametrize(("name", "prompt"), [("base-en", "The city of"), ("base-zh", "皇帝")])
def test_what_is_given_away_is_small_reads_its_language_and_says_what_it_is(name: str, prompt: str) -> None:
    place = ROOT / "bases" / f"echoic-{name}"
    folder = place / "src" / f"echoic_{name.replace('-', '_')}" / "bundle"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 15_000_000
    model = echoic.load(folder)
    assert model.task.text.encode([prompt])[0].min() > UNKNOWN
    assert len(model.generate(prompt, length=8, temperature=0.7).continuation) > 0
    card = (place / "README.md").read_text(encoding="utf-8")
    for said in (
        f"{sum(p.numel() for p in model.network.parameters()):,} parameters",
        "perplexity",
        "Terms",
        "Not for",
    ):
        assert said in card
