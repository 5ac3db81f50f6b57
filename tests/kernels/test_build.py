"""The native core is there where it is asked for; without a compiler the package installs without it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIRED = "ECHOIC_REQUIRE_NATIVE"


def test_the_core_is_there_where_it_is_required() -> None:
    if os.environ.get(REQUIRED) != "1" and importlib.util.find_spec("echoic.kernels._native") is None:
        pytest.skip(f"the native core was not built, and {REQUIRED}=1 is not set")
    importlib.import_module("echoic.kernels._native")


def install_without_compiler(target: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """pip install of this tree into `target`, with a compiler that always fails."""
    environment = {name: value for name, value in os.environ.items() if name != REQUIRED}
    environment |= {"CXX": "false", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", str(target), "."]
    return subprocess.run(pip, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.deep
def test_without_a_compiler_the_package_installs_without_the_core(tmp_path: Path) -> None:
    done = install_without_compiler(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "echoic" / "py.typed").exists()
    assert not list(tmp_path.rglob("_native*"))
    # -S: an editable echoic in this environment would come first.
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import echoic.kernels; print(echoic.__file__)"
    loaded = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert Path(loaded.stdout.strip()).is_relative_to(tmp_path)


@pytest.mark.deep
def test_a_core_that_is_required_and_does_not_build_fails_the_install(tmp_path: Path) -> None:
    done = install_without_compiler(tmp_path, **{REQUIRED: "1"})
    assert done.returncode != 0
    assert "CMake configuration failed" in done.stdout + done.stderr
    assert not (tmp_path / "echoic").exists()
