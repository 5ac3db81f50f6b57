"""What every test shares: `deep` tests are the long forms of harnesses and run with ECHOIC_DEEP=1 only."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: xdist has a process for each core
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ECHOIC_DEEP") == "1":
        return
    skip = pytest.mark.skip(reason="the long form: `make test-deep`, or ECHOIC_DEEP=1")
    for item in items:
        if "deep" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: for tests that save often and pull no plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
