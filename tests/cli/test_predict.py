"""`echoic predict`: texts, files, streams, abstaining; rows 46 to 48 of the table of bad input."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import PROGRAMME, TINY, Answer, loaded, process, sentences, write_csv
from echoic.core import bundle
from echoic.serve.predictor import Predictor
from serve.bundles import make, saved

Call = Callable[..., Answer]


def test_texts_as_json(call: Call, run: Path) -> None:
    answer = call("predict", run, "a good film", "这是一部好电影", "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json["predictions"]
    assert first["text"] == "a good film"
    assert second["text"] == "这是一部好电影"
    assert "这是" in answer.out
    assert first["label"] == max(first["probabilities"], key=first["probabilities"].get)
    assert sum(first["probabilities"].values()) == pytest.approx(1)


def test_the_bundle_answers_as_the_run_does(call: Call, run: Path) -> None:
    assert call("predict", run / "bundle", "a film", "--json").out == call("predict", run, "a film", "--json").out


def test_texts_for_people_are_safe_for_a_terminal(call: Call, run: Path) -> None:
    answer = call("predict", run, "red \x1b[31m\n text")
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    assert "\x1b" not in answer.out


def test_empty_and_strange_texts_get_answers(call: Call, run: Path) -> None:
    answer = call("predict", run, "--json", "--", "", "-x", "\U0001f600", "\u0000"[:0] + "\t")
    assert [p["text"] for p in answer.json["predictions"]] == ["", "-x", "\U0001f600", "\t"]


def test_abstaining(call: Call, run: Path) -> None:
    answer = call("predict", run, "a film", "--min-confidence", "1", "--json")
    assert answer.json["predictions"][0]["label"] is None
    assert call("predict", run, "a film", "--min-confidence", "0", "--json").json["predictions"][0]["label"]
    assert call("predict", run, "a film", "--min-confidence", "1").out.startswith("-\t")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    place = tmp_path / "texts.csv"
    place.write_bytes(b'id,text\n1,a good film\n2,"a, dull\nfilm"\n3,\n')
    return place


def test_a_file_in_gives_a_file_out(call: Call, run: Path, texts: Path, tmp_path: Path) -> None:
    lines = tmp_path / "answers.jsonl"
    answer = call("predict", run, "--input", texts, "--output", lines)
    assert (answer.code, answer.out) == (0, ""), answer.err
    records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [r["text"] for r in records] == ["a good film", "a, dull\nfilm", ""]
    assert call("predict", run, "a good film", "--json").json["predictions"][0] == records[0]

    table = tmp_path / "answers.csv"
    answer = call("predict", run, "--input", texts, "--output", table, "--json", "--quiet")
    assert answer.json["predictions"] == 3
    assert answer.err == ""
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"), newline="")))
    assert [r["text"] for r in rows] == [r["text"] for r in records]
    assert float(rows[1]["probabilities.pos"]) == records[1]["probabilities"]["pos"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answers.csv", "answers.jsonl", "texts.csv"]


def test_a_bare_carriage_return_comes_back_from_a_table(call: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a\\rb"}\n{"text": "c"}\n')
    assert call("predict", run, "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.csv", "-q").code == 0
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["a\rb", "c"]


def test_several_labels_are_joined_as_the_training_file_joined_them(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(("a/b;c", "a/b", "c", "")[i % 4], f"{text} {i}") for i, (_, text) in enumerate(sentences(60))]
    data = write_csv(tmp_path / "tags.csv", rows)
    out, answers = tmp_path / "run", tmp_path / "answers.csv"
    several = ("--set=task.several=true", "--set=task.separator=;")
    done = call("train", data, "--out", out, "-q", *TINY, *several)
    assert done.code == 0, done.err

    def both(self: Predictor, inputs: object, **options: object) -> object:
        assert self.thresholds is not None
        self.thresholds[:] = 0.0
        yield from self.predict(list(inputs))  # type: ignore[call-overload]

    monkeypatch.setattr(Predictor, "predict_stream", both)
    done = call("predict", out, "--input", data, "--output", answers, "-q")
    assert done.code == 0, done.err
    found = list(csv.DictReader(io.StringIO(answers.read_text(encoding="utf-8"), newline="")))
    assert [each["labels"] for each in found] == ["a/b;c"] * len(rows)


def test_a_file_without_output_gives_json_lines(call: Call, run: Path, texts: Path) -> None:
    lines = call("predict", run, "--input", texts, "--json", "-q").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a good film", "a, dull\nfilm", ""]


def test_stdin(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("text\n好\nb c\n".encode())))
    lines = call("predict", run, "--input", "-", "--json", "-q").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["好", "b c"]


def test_the_file_is_streamed_not_held(call: Call, run: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of the first chunk are written before the last row is read."""
    seen: list[str] = []

    def stream(self: Predictor, inputs: object, **options: object) -> object:
        for text in inputs:  # type: ignore[attr-defined]
            seen.append(f"read {text[:6]}")
            yield from self.predict([text])

    monkeypatch.setattr(Predictor, "predict_stream", stream)
    monkeypatch.setattr("echoic.cli.predict._show_one", lambda record, json: seen.append("shown"))
    assert call("predict", run, "--input", texts, "--json", "-q").code == 0
    assert seen == ["read a good", "shown", "read a, dul", "shown", "read ", "shown"]


def test_a_bad_row_leaves_no_half_file(call: Call, run: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.csv"
    source.write_text("id,text\n" + "1,fine\n" * 3000 + "2,too,many\n")
    call("predict", run, "--input", source, "--output", tmp_path / "o.csv", "-q").refused(65, "row 3001")
    assert [p.name for p in tmp_path.iterdir()] == ["texts.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "one of the two"),
        (["a text", "--input", "texts.csv"], 2, "one of the two"),
        (["a text", "--output", "o.csv"], 2, "--input"),
        (["--input", "texts.csv", "--output", "o.xlsx"], 2, ".jsonl, .csv or .tsv"),
        (["--input", "texts.csv", "--output", "./texts.csv"], 2, "is the input as well"),
        (["--input", "texts.csv", "--output", "there.csv"], 73, "--force"),
        (["--input", "texts.csv", "--output", "no/o.csv"], 73, "parent folder"),
        (["--input", "texts.csv", "--output", "folder.csv", "--force"], 73, "is no file"),
        (["--input", "none.csv", "--output", "o.csv"], 66, "none.csv: no such file"),
        (["--input", ".", "--output", "o.csv"], 65, "is a directory"),
        (["--input", "texts.csv", "--text", "txt"], 65, "no column 'txt'"),
        (["bad \udcff byte"], 65, "text 1"),
        (["a text", "--device", "cuda:9"], 69, "cuda:9"),
    ],
)
def test_what_predict_refuses(
    call: Call,
    run: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    call("predict", run, "-q", *arguments).refused(code, said)
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.csv", "texts.csv", "there.csv"]


def test_force_replaces(call: Call, run: Path, texts: Path, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("old")
    assert call("predict", run, "--input", texts, "--output", tmp_path / "o.csv", "--force", "-q").code == 0
    assert (tmp_path / "o.csv").read_text().startswith("text,label,")


# Without torch, and with it


def test_no_heavy_library_is_loaded(run: Path, texts: Path) -> None:
    heavy = {"torch", "sklearn", "scipy", "pyarrow", "pandas", "matplotlib", "onnxruntime", "fastapi"}
    for arguments in (["a good film", "--json"], ["--input", texts, "--min-confidence", "0.5"]):
        code, names, said = loaded("predict", run, *arguments)
        assert code == 0, said
        assert names & heavy == set()


def test_what_only_torch_runs_is_run_by_torch_and_said(call: Call, tmp_path: Path) -> None:
    model = make("model.cell.kind=jordan")
    place = saved(model, tmp_path / "jordan")
    answer = call("predict", place, "good", "--json")
    assert answer.json["predictions"] == [each.model_dump(exclude_defaults=True) for each in model.predict(["good"])]
    assert answer.err == "the cell jordan runs in torch alone, so torch answers\n"
    assert call("predict", place, "good", "--json", "-q").err == ""


def test_rounded_products_are_for_the_predictor(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, found = (
        call("predict", run, "a film", "--json", *more).json["predictions"][0] for more in ([], ["--int8"])
    )
    assert found["probabilities"] != wanted["probabilities"]
    assert found["probabilities"] == pytest.approx(wanted["probabilities"], abs=0.1)
    place = saved(make("model.cell.kind=jordan"), tmp_path / "jordan")
    call("predict", place, "good", "--int8").refused(2, "--int8", "the cell jordan runs in torch alone")
    call("predict", run, "good", "--int8", "--device", "meta").refused(2, "--int8", "not for --device meta")
    call("predict", run, "good", "--int8", "--bfloat16").refused(2, "--int8 and --bfloat16", "one of them")
    monkeypatch.setenv("ECHOIC_ISA", "none")
    call("predict", run, "good", "--bfloat16").refused(69, "bfloat16", "ECHOIC_ISA=none")


def test_without_the_core_numpy_answers_and_that_is_said(
    call: Call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = call("predict", run, "a film", "--json").json["predictions"][0]
    monkeypatch.setenv("ECHOIC_ISA", "none")
    answer = call("predict", run, "a film", "--json")
    assert answer.err == "NumPy computes the recurrence, slowly: ECHOIC_ISA=none\n"
    assert answer.json["predictions"][0]["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)


# Rows 46, 47, 48: what is no bundle


def test_a_flipped_bit_is_named(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run / "bundle", "b")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        place = tmp_path / "b" / name
        whole = place.read_bytes()
        place.write_bytes(bytes([*whole[:9], whole[9] ^ 1, *whole[10:]]))
        call("predict", "b", "a text").refused(65, name, "damaged")
        place.write_bytes(whole)
    assert call("predict", "b", "a text").code == 0


def test_a_pickle_is_never_opened(call: Call, tmp_path: Path) -> None:
    for name in ("model.pt", "model.pkl", "weights.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
        call("predict", tmp_path / name, "a text").refused(65, "a pickle is never loaded")


def test_a_newer_bundle_is_65(call: Call, run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run / "bundle", tmp_path / "b")
    manifest = json.loads((out / "manifest.json").read_bytes())
    (out / "manifest.json").write_bytes(bundle.canonical({**manifest, "format": 99}))
    call("predict", out, "a text").refused(65, "format 99", "install a newer echoic")


def test_what_is_no_run_folder(call: Call, tmp_path: Path, csv_file: Path) -> None:
    call("predict", tmp_path, "a text").refused(65, "not a bundle")
    call("predict", tmp_path / "none", "a text").refused(66, "no such file or folder")
    call("predict", csv_file, "a text").refused(65, "not a bundle")


def test_a_fresh_process_gives_the_same_bits(call: Call, run: Path) -> None:
    done = process("predict", run, "a good film", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == call("predict", run, "a good film", "--json").out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_stream_leaves_no_half_file(run: Path, tmp_path: Path, number: int, code: int) -> None:
    line = [*PROGRAMME, "predict", str(run), "--input", "-", "--output", str(tmp_path / "o.csv")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(b"text\n" + b"a good film\n" * 10_000)
        child.stdin.flush()
        assert child.stderr.readline()  # a note: the stream is being read
        assert [p.suffix for p in tmp_path.iterdir()] == [".tmp"]
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []
