"""`echoic train`: what it leaves and says, and rows 40 to 46, 52, 54 and 55 of the table of bad input."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.commands import TINY, Answer, process, sentences, write_csv
from echoic.core import durable
from echoic.core.config import Config
from echoic.tasks.classify import Classify
from echoic.train import lock

Call = Callable[..., Answer]


def test_a_run_folder_holds_everything(run: Path) -> None:
    assert {"config.toml", "metrics.jsonl", "report.html", "checkpoints", "bundle"} <= {p.name for p in run.iterdir()}
    assert (run / "bundle" / "manifest.json").is_file()
    assert Config.load(run / "config.toml").model.hidden == 4


def test_json_is_one_document_and_progress_goes_to_stderr(call: Call, csv_file: Path, tmp_path: Path) -> None:
    answer = call("train", csv_file, "--out", tmp_path / "r", "--json", *TINY)
    assert answer.code == 0, answer.err
    assert answer.json["validation"]["baselines"].keys() == {"majority", "tfidf_lr"}
    assert answer.json["command"].startswith("echoic")
    assert "epoch 1/" in answer.err
    assert "The label is column 'label'" in answer.err


def test_the_table_is_for_people_and_quiet_is_quiet(call: Call, csv_file: Path, tmp_path: Path) -> None:
    answer = call("train", csv_file, "--out", tmp_path / "r", "--quiet", *TINY)
    assert (answer.code, answer.err) == (0, "")
    assert "TF-IDF + logistic regression" in answer.out
    assert "echoic predict" in answer.out


def test_settings_are_listed_from_the_config_itself(call: Call) -> None:
    answer = call("train", "--settings")
    assert answer.code == 0
    assert "train.lr" in answer.out
    assert "data.valid_fraction" in answer.out


def test_a_file_to_validate_on(call: Call, csv_file: Path, tmp_path: Path) -> None:
    valid = write_csv(tmp_path / "v.csv", sentences(14, seed=9))
    answer = call("train", csv_file, "--valid", valid, "--out", tmp_path / "r", "--json", "-q", *TINY)
    assert answer.json["data"]["rows"] == {"train": 60, "valid": 14}


def test_several_labels(call: Call, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "d.csv", [(f"{a}|long" if i % 3 else a, t) for i, (a, t) in enumerate(sentences(60))])
    answer = call("train", data, "--several", "--out", tmp_path / "r", "--json", "-q", *TINY)
    assert answer.code == 0, answer.err
    assert sorted(answer.json["labels"]) == ["long", "neg", "pos"]


def test_strict_refuses_a_leak_before_anything_is_made(call: Call, csv_file: Path, tmp_path: Path) -> None:
    call("train", csv_file, "--valid", csv_file, "--strict", "--out", tmp_path / "r", "-q").refused(
        1, "LEAK001", "--strict"
    )
    assert not (tmp_path / "r").exists()
    call("train", "-", "--strict", "--out", tmp_path / "r").refused(2, "stdin")


# Row 40: the output


def test_a_run_that_exists_is_not_overwritten(call: Call, csv_file: Path, run: Path) -> None:
    before = (run / "bundle" / "manifest.json").read_bytes()
    call("train", csv_file, "--out", run, *TINY).refused(73, "exists already", "--resume", "--force")
    assert (run / "bundle" / "manifest.json").read_bytes() == before


def test_force_starts_over(call: Call, csv_file: Path, run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run, tmp_path / "r")
    answer = call("train", csv_file, "--out", out, "--force", "--json", "-q", "--seed", "5", *TINY)
    assert answer.code == 0, answer.err
    assert Config.load(out / "config.toml").seed == 5


def test_a_missing_parent_is_73(call: Call, csv_file: Path, tmp_path: Path) -> None:
    call("train", csv_file, "--out", tmp_path / "no" / "r").refused(73, "No such file or directory")


def test_a_file_in_the_way_is_73(call: Call, csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")
    call("train", csv_file, "--out", tmp_path / "r", "--force").refused(73, str(tmp_path))
    assert (tmp_path / "r").read_text() == "mine"


@pytest.mark.parametrize(("number", "code"), [("EROFS", 73), ("EACCES", 77), ("ENOSPC", 74), ("EIO", 74)])
def test_a_disk_that_refuses(
    call: Call, csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, code: int
) -> None:
    import errno

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)), str(path))

    monkeypatch.setattr(durable, "_write", refuse)
    call("train", csv_file, "--out", tmp_path / "r", "-q").refused(code, os.strerror(getattr(errno, number)))


# Row 41: two at once


def test_a_run_in_use_is_75(call: Call, csv_file: Path, run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run, tmp_path / "r")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.hold(out):
            held.set()
            done.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert held.wait(10)
        call("train", csv_file, "--out", out, "--resume", "-q").refused(75, f"process {os.getpid()}", "since")
    finally:
        done.set()
        other.join()


# Rows 42, 43: going on


def test_resume_of_a_finished_run_changes_nothing(call: Call, csv_file: Path, run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run, tmp_path / "r")
    weights = (out / "bundle" / "model.safetensors").read_bytes()
    for settings in ([], TINY):
        answer = call("train", csv_file, "--out", out, "--resume", "--json", "-q", *settings)
        assert answer.code == 0, answer.err
        assert (out / "bundle" / "model.safetensors").read_bytes() == weights


def test_resume_with_other_data_is_78(call: Call, run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run, tmp_path / "r")
    other = write_csv(tmp_path / "o.csv", sentences(60, seed=3))
    call("train", other, "--out", out, "--resume", "-q").refused(78, "cannot resume", "data")


@pytest.mark.parametrize("setting", ["model.hidden=5", "model.cell.kind=gru", "train.lr=0.5"])
def test_resume_with_other_settings_is_78_and_names_them(
    call: Call, csv_file: Path, run: Path, tmp_path: Path, setting: str
) -> None:
    out = shutil.copytree(run, tmp_path / "r")
    key, value = setting.split("=")
    answer = call("train", csv_file, "--out", out, "--resume", "-q", "--set", setting)
    answer.refused(78, "cannot resume", key.split(".")[-1], value)


def test_nothing_to_resume_is_73(call: Call, csv_file: Path, tmp_path: Path) -> None:
    call("train", csv_file, "--out", tmp_path / "r", "--resume").refused(73, "no run to resume")


# Rows 44, 45, 55: what goes wrong on the way


def losing(after: int, what: Callable[..., Any]) -> Callable[..., Any]:
    """Classify.loss until it has been called `after` times, then `what`."""
    usual, calls = Classify.loss, [0]

    def loss(self: Classify, outputs: torch.Tensor, batch: Any) -> Any:
        calls[0] += 1
        return usual(self, outputs, batch) if calls[0] <= after else what(outputs)

    return loss


def test_a_loss_that_is_not_finite_is_1(
    call: Call, csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classify, "loss", losing(5, lambda outputs: (outputs.sum() * float("nan"), 1)))
    once = ("--set", "train.adversarial=0")  # one loss a step
    answer = call("train", csv_file, "--out", tmp_path / "r", "-q", *TINY, *once)
    answer.refused(1, "not finite at step 6", "last good checkpoint", "train.lr", "train.clip")
    assert (tmp_path / "r" / "nan_batch.json").is_file()


def test_no_memory_is_71(call: Call, csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(outputs: torch.Tensor) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried")

    monkeypatch.setattr(Classify, "loss", losing(0, greedy))
    answer = call("train", csv_file, "--out", tmp_path / "r", "-q", *TINY)
    answer.refused(71, "out of memory", "train.batch_size", "model.hidden")


def test_a_file_that_changes_meanwhile_is_1(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_csv(tmp_path / "d.csv", sentences(60))
    usual = Classify.finish

    def finish(self: Classify, *arguments: Any, **tools: Any) -> None:
        data.write_text(data.read_text() + "pos,one more row\n")
        usual(self, *arguments, **tools)

    monkeypatch.setattr(Classify, "finish", finish)
    call("train", data, "--out", tmp_path / "r", "-q", *TINY).refused(1, "changed while it was trained on")
    assert not (tmp_path / "r" / "bundle").exists()


# Row 46: damaged checkpoints


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    call: Call, csv_file: Path, run: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(run, tmp_path / "r")
    kept = sorted((out / "checkpoints").iterdir())
    for count, each in enumerate(reversed(kept), 1):
        weights = each / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
        if count == 1:
            answer = call("train", csv_file, "--out", out, "--resume", "--json")
            assert answer.code == 0, answer.err
            assert "damaged" in answer.err
            assert each.name in answer.err
            break
    else:
        pytest.fail("no checkpoint was kept")


def test_only_damaged_checkpoints_are_65(
    call: Call, csv_file: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = shutil.copytree(run, "r")
    for each in (tmp_path / out / "checkpoints").iterdir():
        (each / "optimizer.safetensors").write_bytes(b"short")
    call("train", csv_file, "--out", out, "--resume", "-q").refused(
        65, "optimizer.safetensors", "damaged", "start again"
    )


# Rows 52 and 54


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "nonsense"])
def test_a_device_that_is_not_there_is_69(call: Call, csv_file: Path, tmp_path: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    answer = call("train", csv_file, "--out", tmp_path / "r", "-q", "--device", device, *TINY)
    answer.refused(69, device, "cpu")


STRANGE = ["new\nline", "emoji\U0001f600", "-dash", "x" * 255, "\udcff\udcfe", " ", "a'b\"c", "%s{}"]


@pytest.mark.parametrize("name", STRANGE)
def test_a_missing_file_of_any_name_is_66(call: Call, tmp_path: Path, name: str) -> None:
    call("train", "--out", tmp_path / "r", "--strict", "--", tmp_path / name).refused(66)
    call("predict", "--quiet", "--", tmp_path / name, "a text").refused(66)
    call("check", "--", tmp_path / (name + "x" * 300)).refused(66)


@pytest.mark.parametrize(
    "name",
    [
        "new\nline\U0001f600",
        "\udcff\udcfe",
    ],
)
def test_strange_names_work(tmp_path: Path, name: str) -> None:
    data = write_csv(tmp_path / f"{name}.csv", sentences(60))
    done = process("train", data, "--out", tmp_path / name, "--quiet", *TINY)
    assert (done.returncode, done.stderr) == (0, b"")
