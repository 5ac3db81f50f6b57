"""Listing what exists imports nothing; a name is a file's name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from echoic.core import registry
from echoic.core.errors import ConfigError


@pytest.mark.parametrize("kind", registry.ROOMS)
def test_each_name_gives_its_class(kind: str) -> None:
    for name, summary in registry.summaries(kind).items():
        found = registry.get(kind, name)
        assert found.__module__.endswith(f".{name}")
        assert summary, f"{found.__module__} says nothing of itself in its first line"


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from echoic.core import registry; "
        "[registry.summaries(kind) for kind in registry.ROOMS]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no cell named 'lstn' \(did you mean 'lstm'\?\)"):
        registry.get("cell", "lstn")


def test_one_file_holds_one_class() -> None:
    twin = type("Twin", (), {"__module__": "echoic.cells.lstm"})
    registry.get("cell", "lstm")
    with pytest.raises(TypeError, match="registers two"):
        registry.register(twin)
