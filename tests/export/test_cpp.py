"""examples/classify.cpp answers as the bundle does. It is built where a C++ compiler is and ECHOIC_ORT_HEADERS names the
folder of onnxruntime_cxx_api.h, against the library of the installed onnxruntime."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from echoic.export.onnx import export
from export.models import classifier

SOURCE = Path(__file__).parents[2] / "examples" / "classify.cpp"
HEADERS = os.environ.get("ECHOIC_ORT_HEADERS", "")
COMPILER = shutil.which("c++")
LIBRARY = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
pytestmark = pytest.mark.skipif(
    not (HEADERS and COMPILER and LIBRARY), reason="ECHOIC_ORT_HEADERS names no headers, or no compiler or library"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the program and the library that it was built with."""
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "libonnxruntime.so.1").symlink_to(LIBRARY[-1])
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", HEADERS, f"-Wl,-rpath,{folder}"]
    built = [str(COMPILER), *flags, str(SOURCE), str(folder / "libonnxruntime.so.1"), "-o", str(folder / "classify")]
    subprocess.run(built, check=True, timeout=300)
    return folder


def answers(folder: Path, model: Path, ids: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "classify", model], input=ids, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("settings", [(), ("model.cell.kind=gru", "model.pool=attention")])
def test_a_ragged_batch_is_answered_as_by_the_bundle(folder: Path, settings: tuple[str, ...]) -> None:
    model = classifier(*settings, classes=4, ngrams=2)
    file = folder / "model.onnx"
    file.write_bytes(export(model.task, model.network, "digest", seed=0, batches=1).data)
    texts = ["good", "", "a bad bad plot of words of a good story", "neither , nor ?", "a good film " * 9]
    ids = "".join(" ".join(map(str, row)) + "\n" for row in model.task.text.encode(texts))
    done = answers(folder, file, ids)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = model.task.probabilities(model.outputs(texts))
    found = np.array([line.split() for line in done.stdout.splitlines()], float)
    assert np.allclose(found[:, 1:], wanted, atol=1e-5)
    assert found[:, 0].tolist() == wanted.argmax(1).tolist()


def test_what_is_no_id_and_no_model_is_said(folder: Path) -> None:
    model = classifier()
    file = folder / "model.onnx"
    file.write_bytes(export(model.task, model.network, "digest", seed=0, batches=1).data)
    assert answers(folder, file, "").stdout == ""
    assert answers(folder, file, "3\n\n").stdout == answers(folder, file, "3\n2\n").stdout, (
        "an empty line is an empty text"
    )
    done = answers(folder, file, "3 4\n3 good\n")
    assert (done.returncode, done.stderr) == (1, "line 2: not all whole numbers\n")
    assert answers(folder, folder / "none.onnx", "3\n").returncode == 1
    assert answers(folder, file, "3 999999\n").returncode == 1
