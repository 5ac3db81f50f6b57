"""Writing on without torch: the same text from the same seed, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from echoic.core import bundle
from echoic.core.errors import BundleError, UsageError
from echoic.model import Model
from echoic.serve import opening
from echoic.serve.author import Author, open_author
from echoic.serve.opening import NeedsTorch
from echoic.serve.predictor import open_predictor
from export.models import language
from serve.bundles import make, saved

pytestmark = pytest.mark.usefixtures("unsynced")

MODELS: dict[str, tuple[str, ...]] = {
    "lstm": (),
    "peephole, two layers": ("model.cell.peephole=true", "model.layers=2"),
    "gru, tied": ("model.cell.kind=gru", "task.tied=true"),
    "gru before, batch norm": ("model.cell.kind=gru", "model.cell.reset=before", "model.batch_norm=true"),
    "relu, tied, projected": (
        "model.cell.kind=rnn",
        "model.cell.nonlinearity=relu",
        "task.tied=true",
        "model.hidden=9",
    ),
    "cutoffs": ("task.cutoffs=[8, 12]",),
    "cutoffs, tied": ("task.cutoffs=[9]", "task.tied=true"),
    "read both ways": ("model.bidirectional=true",),
}


def both(place: Path, *settings: str, **how: Any) -> tuple[Model, Author]:
    model = language(*settings)
    model.save(place / "b")
    return model, open_author(place / "b", **how)


@pytest.mark.parametrize("known", [opening.KNOWN, 0])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_text_from_the_same_seed(
    name: str, known: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "KNOWN", known)
    model, author = both(tmp_path, *MODELS[name])
    assert bool(author.network.layers[0].knows) == bool(known)
    step = model.task.step(model.network)
    ids, before, mine = np.array([[2, 5, 6], [2, 7, 3]]), None, None
    for _ in range(3):
        want, before = step(ids, before)
        found, mine = author.network.step(ids, mine)
        assert np.abs(found - want).max() <= 1e-5 * max(1.0, float(np.abs(want).max()))
        ids = ids[:, :1]
    for options in ({}, {"temperature": 0.3, "samples": 3}, {"top_k": 3, "seed": 7}, {"temperature": 0}):
        prompt = "ab" if options else ""
        wanted = model.generate(prompt, length=30, **options)
        assert author.generate(prompt, length=30, **options) == wanted
    assert author.generate("ab", length=12, beam=3) == model.generate("ab", length=12, beam=3)
    assert "".join(author.writer("ab", seed=3).stream(20)) == model.generate("ab", length=20, seed=3).continuation


def test_eight_bits_write_too(tmp_path: Path) -> None:
    model, author = both(tmp_path, products="int8")
    ids = np.array([[2, 5, 6, 7]])
    want, found = model.task.step(model.network)(ids, None)[0], author.network.step(ids, None)[0]
    assert 0 < np.abs(want - found).max() < 0.15 * np.abs(want).max()


def test_a_fresh_process_writes_without_torch(tmp_path: Path) -> None:
    model, _ = both(tmp_path)
    code = f"""
import sys
from echoic.serve.author import open_author
print(ascii(open_author({str(tmp_path / "b")!r}).generate("ab", length=20).continuation), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*ascii(model.generate("ab", length=20).continuation).split(), "False"]


def test_what_is_refused(tmp_path: Path) -> None:
    _, author = both(tmp_path)
    with pytest.raises(UsageError, match="no option 'heat'"):
        author.generate("a", heat=1)
    with pytest.raises(UsageError, match="length -1"):
        author.generate("a", length=-1)
    with pytest.raises(NeedsTorch, match="does classify"):
        open_author(saved(make(), tmp_path / "classifier"))
    with pytest.raises(NeedsTorch, match="does generate"):
        open_predictor(tmp_path / "b")
    language("model.cell.kind=jordan").save(tmp_path / "jordan")
    with pytest.raises(NeedsTorch, match="jordan"):
        open_author(tmp_path / "jordan")


@pytest.mark.parametrize("name", ["out.weight", "stack.cells.0.weight_hh", "embed.weight"])
def test_a_tensor_that_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    both(tmp_path)
    opened = bundle.read(tmp_path / "b", "bundle")
    tensors = load(opened.files["model.safetensors"])
    for wrong in (tensors[name][:-1], np.full_like(tensors[name], np.nan), None):
        changed = {**tensors, name: wrong} if wrong is not None else {k: v for k, v in tensors.items() if k != name}
        bundle.write(tmp_path / "w", "bundle", opened.about, {**opened.files, "model.safetensors": save(changed)})
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            open_author(tmp_path / "w")
    bundle.write(tmp_path / "w", "bundle", opened.about, {**opened.files, "generate.json": b"[]"})
    with pytest.raises(BundleError, match=r"generate\.json"):
        open_author(tmp_path / "w")
