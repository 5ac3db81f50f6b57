"""The core under AddressSanitizer and UBSan, and its threads under ThreadSanitizer. Builds take minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CSRC = ROOT / "src/echoic/kernels/csrc"

pytestmark = [pytest.mark.deep, pytest.mark.usefixtures("core")]


def ran(command: list[str | Path], **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return done.stdout


def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++")
    if not found or not sys.platform.startswith("linux"):
        pytest.skip("needs g++ on Linux")
    return found


def runtime(name: str) -> str:
    """The path of a sanitizer's library, which must be in the process before Python is."""
    path = ran([compiler(), f"-print-file-name={name}"]).strip()
    if not Path(path).is_absolute():
        pytest.skip(f"{compiler()} has no {name}")
    return path


def test_no_address_and_no_behaviour_is_undefined(tmp_path: Path) -> None:
    library, cmake = runtime("libasan.so"), shutil.which("cmake")
    if cmake is None:
        pytest.skip("needs cmake")
    where = ran([sys.executable, "-m", "nanobind", "--cmake_dir"]).strip()
    options = [f"-Dnanobind_DIR={where}", f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_CXX_COMPILER={compiler()}"]
    ran([cmake, "-S", ROOT, "-B", tmp_path, "-DECHOIC_SANITIZE=address,undefined", *options])
    ran([cmake, "--build", tmp_path])
    (module,) = tmp_path.glob("_native*.so")
    said = ran(
        [sys.executable, HERE / "sanitised.py", module, "60"],
        LD_PRELOAD=library,
        ASAN_OPTIONS="detect_leaks=0",  # Python's own
        UBSAN_OPTIONS="print_stacktrace=1",
        OMP_NUM_THREADS="1",
    )
    assert said.endswith("problems compared\n")


def test_no_thread_races_another(tmp_path: Path) -> None:
    runtime("libtsan.so")
    sources = [HERE / "race.cpp", *(CSRC / f"{name}.cpp" for name in ("isa", "memory", "plan", "pool"))]
    flags = ["-std=c++20", "-O1", "-g", "-Wno-psabi", "-fsanitize=thread", "-DECHOIC_ISA=portable", "-pthread"]
    ran([compiler(), *flags, "-I", CSRC, *sources, "-o", tmp_path / "race"])
    assert ran([tmp_path / "race"]) == "no race\n"
