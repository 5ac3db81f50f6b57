"""`echoic export`: a file that is checked, measured, or refused with one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import Answer, sentences, write_csv
from echoic.core import bundle
from echoic.export import onnx, parity, sealed
from echoic.model import load
from export.models import classifier, language, translator

Call = Callable[..., Answer]


def test_a_file_that_names_its_bundle(call: Call, run: Path, tmp_path: Path) -> None:
    answer = call("export", run, tmp_path / "m.onnx", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["checked"]["largest_difference"] <= 1e-5
    found = sealed.read(tmp_path / "m.onnx")
    assert found.about["bundle"] == json.loads((run / "bundle" / "manifest.json").read_text())["sha256"]
    assert found.about["labels"] == load(run).task.names
    assert len(found.data) == answer.json["bytes"]
    before = found.data
    call("export", run, tmp_path / "m.onnx").refused(73, "m.onnx: exists already; --force")
    assert call("export", run / "bundle", tmp_path / "m.onnx", "--force", "--quiet").code == 0
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_eight_bits_are_measured(call: Call, run: Path, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", sentences(40, seed=9))
    answer = call("export", run, tmp_path / "m.onnx", "--int8", "--measure", rows, "--max-drop", "100")
    assert answer.code == 0, answer.err
    assert "accuracy on 40 rows: " in answer.out
    assert "of the float32 file's size" in answer.out
    assert "not measured" not in answer.out
    facts = call("export", run, tmp_path / "n.onnx", "--int8", "--measure", rows, "--max-drop", "100", "--json").json
    assert facts["measured"]["rows"] == 40
    scores = call("evaluate", run, rows, "--json").json
    assert facts["measured"]["before"] == pytest.approx(scores["accuracy"])


def test_eight_bits_that_nobody_measured_say_so(call: Call, run: Path, tmp_path: Path) -> None:
    answer = call("export", run, tmp_path / "m.onnx", "--int8")
    assert answer.code == 0, answer.err
    assert "not measured: --measure FILE says what eight bits cost\n" in answer.out
    facts = call("export", run, tmp_path / "n.onnx", "--int8", "--json").json
    assert facts["measured"] is None
    model, data = load(run), (tmp_path / "n.onnx").read_bytes()
    own = parity.largest_difference(model.task, model.network, data, states=False)
    assert facts["checked"]["largest_difference"] == own > 1e-5
    assert f"at most {own:.1e} from the bundle\n" in answer.out
    assert "not measured" not in call("export", run, tmp_path / "o.onnx").out


def test_rows_are_read_before_anything_is_made(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "export", lambda *given, **more: pytest.fail("exported before the rows were read"))
    given = ("export", run, tmp_path / "m.onnx", "--int8", "--measure")
    call(*given, tmp_path / "absent.csv").refused(66, "absent.csv")
    rows = write_csv(tmp_path / "rows.csv", [("pos", "a film"), ("else", "a plot")])
    call(*given, rows).refused(65, "label 'else' was not in training")


def test_a_drop_is_not_hidden(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for _, text in sentences(40, seed=9)]
    answers = load(run).predict(texts)
    rows = write_csv(tmp_path / "rows.csv", [(record.label, text) for record, text in zip(answers, texts, strict=True)])
    usual = onnx.outputs
    monkeypatch.setattr(onnx, "outputs", lambda *given: -usual(*given))
    given = ("export", run, tmp_path / "m.onnx", "--int8", "--measure", rows)
    answer = call(*given)
    answer.refused(1, "eight bits cost 100.00 points of accuracy", "more than --max-drop 0.3: nothing was written")
    assert not (tmp_path / "m.onnx").exists()
    assert call(*given, "--max-drop", "100").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["m.txt"], 2, "want a name that ends in .onnx"),
        (["absent/m.onnx"], 73, "parent folder does not exist"),
        (["folder.onnx"], 73, "exists and is no file"),
        (["m.onnx", "--measure", "x.csv"], 2, "--measure compares --int8 with float32"),
        (["m.onnx", "--int8", "--states", "--measure", "x.csv"], 2, "measure without --states"),
        (["m.onnx", "--int8", "--measure", "absent.csv"], 66, "absent.csv"),
        (["m.onnx", "--int8", "--measure", "x.csv", "--max-drop", "nan"], 2, "--max-drop nan: want a number"),
        (["m.onnx", "--int8", "--measure", "x.csv", "--max-drop=-1"], 2, "--max-drop -1.0: want a number"),
        (["m.onnx", "--int8", "--max-drop", "0.3"], 2, "--max-drop: of use with --measure FILE alone"),
        (["m.onnx", "--int8", "--max-drop", "nan"], 2, "--max-drop: of use with --measure FILE alone"),
        (["m.onnx", "--text", "a", "--no-header"], 2, "--text, --no-header: of use with --measure FILE alone"),
        (["m.onnx", "--states"], 2, "reads both ways"),
        (["m.onnx", "--int4"], 2, "--int4"),
        ([], 2, "OUT.onnx"),
    ],
)
def test_what_is_refused(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    call("export", run, *arguments).refused(code, said)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.onnx"]


def test_a_folder_that_cannot_be_written(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    call("export", run, tmp_path / "m.onnx").refused(77, "cannot be written to")
    monkeypatch.undo()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", full)
    call("export", run, tmp_path / "m.onnx").refused(74, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_language_model_and_one_that_is_fed_pieces(call: Call, tmp_path: Path, unsynced: None) -> None:
    language().save(tmp_path / "l")
    classifier("model.bidirectional=false").save(tmp_path / "c")
    for name, more in (("l", []), ("c", ["--states"])):
        answer = call("export", tmp_path / name, tmp_path / f"{name}.onnx", *more, "--json")
        assert answer.code == 0, answer.err
        runtime = sealed.session(sealed.read(tmp_path / f"{name}.onnx").data)
        given = {each.name.removeprefix("state.") for each in runtime.get_inputs()} - {"ids", "lengths"}
        left = {each.name.removeprefix("next.") for each in runtime.get_outputs()} - {"logits", "probabilities"}
        assert given == left
        assert {"0.h", "0.c"} <= given
    call("export", tmp_path / "l", tmp_path / "n.onnx", "--int8", "--measure", "x.csv").refused(2, "wants a classifier")
    call("export", tmp_path / "l", tmp_path / "n.onnx", "--states").refused(2, "has its states without asking")
    classifier("model.cell.kind=jordan").save(tmp_path / "j")
    call("export", tmp_path / "j", tmp_path / "n.onnx").refused(2, "the cell jordan: ONNX has no node for it")
    assert not (tmp_path / "n.onnx").exists()


@pytest.fixture
def broken(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run / "bundle", tmp_path / "b"))


def rewritten(path: Path, **files: bytes | None) -> None:
    opened = bundle.read(path, "bundle")
    changed = {name.replace("__", "."): data for name, data in files.items()}
    kept = {name: data for name, data in {**opened.files, **changed}.items() if data is not None}
    bundle.write(path, "bundle", opened.about, kept)  # type: ignore[arg-type]


def test_a_bundle_that_is_no_bundle(call: Call, broken: Path, tmp_path: Path, unsynced: None) -> None:
    out = tmp_path / "m.onnx"
    call("export", tmp_path / "absent", out).refused(66, "no such file or folder")
    (tmp_path / "empty").mkdir()
    call("export", tmp_path / "empty", out).refused(65, "no manifest.json, so not a bundle")
    (tmp_path / "m.pt").write_bytes(b"PK")
    call("export", tmp_path / "m.pt", out).refused(65, "a pickle is never loaded")
    rewritten(broken, tokenizer__json=None)
    call("export", broken, out).refused(65, "tokenizer.json: missing")
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_bytes(bundle.canonical({**manifest, "format": 99}))
    call("export", broken, out).refused(65, "written in format 99", "install a newer echoic")
    assert not out.exists()


def test_a_damaged_bundle(call: Call, broken: Path, tmp_path: Path) -> None:
    raw = bytearray((broken / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (broken / "model.safetensors").write_bytes(bytes(raw))
    call("export", broken, tmp_path / "m.onnx").refused(65, "model.safetensors: damaged")


def test_a_translator_is_two_files(call: Call, tmp_path: Path, unsynced: None) -> None:
    translator().save(tmp_path / "t")
    answer = call("export", tmp_path / "t", tmp_path / "m.onnx", "--json")
    assert answer.code == 0, answer.err
    names = ["m.encoder.onnx", "m.step.onnx"]
    assert sorted(p.name for p in tmp_path.glob("*.onnx")) == names
    assert [Path(each).name for each in answer.json["files"]] == names
    assert answer.json["bytes"] == sum((tmp_path / name).stat().st_size for name in names)
    call("export", tmp_path / "t", tmp_path / "m.onnx").refused(
        73, "m.encoder.onnx: exists already; --force replaces it"
    )
    answer = call("export", tmp_path / "t", tmp_path / "m.onnx", "--force", "--int8")
    assert answer.code == 0, answer.err
    assert "m.encoder.onnx and " in answer.out
    for more, said in (
        (["--states"], "has its states without asking"),
        (["--int8", "--measure", "x.csv"], "wants a classifier"),
    ):
        call("export", tmp_path / "t", tmp_path / "n.onnx", *more).refused(2, said)
    assert sorted(p.name for p in tmp_path.glob("*.onnx")) == names
