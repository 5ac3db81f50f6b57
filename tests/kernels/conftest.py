"""The native core, for the tests that need it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from echoic.kernels import native


@pytest.fixture
def core() -> Any:
    """The compiled core; a test without it is skipped, but where it is required it fails."""
    found = native.core()
    if found is None and os.environ.get("ECHOIC_REQUIRE_NATIVE") != "1":
        pytest.skip("the native core was not built, and ECHOIC_REQUIRE_NATIVE=1 is not set")
    assert found is not None, "the native core was not built"
    return found


@pytest.fixture
def isa(core: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The place in `core.isas()` of what the operators run, also where ECHOIC_ISA=none keeps the core unused."""
    if os.environ.get("ECHOIC_ISA") == "none":
        monkeypatch.delenv("ECHOIC_ISA")
    native.isa.cache_clear()
    yield native.isa()
    native.isa.cache_clear()


@pytest.fixture
def threads() -> Iterator[None]:
    """torch's number of threads may be set, and is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
