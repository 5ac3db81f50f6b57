"""What a step frees, the next one takes without asking the system."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from echoic.train.pages import kept_pages

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def faults(times: int = 5) -> int:
    """Pages that the system hands out while a tensor of 64 MB is made so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_pages_stay_within_and_go_back_after() -> None:
    with kept_pages():
        faults(20)  # it takes a few until the heap is as large as it will be
        kept = faults()
    asked = faults()
    assert kept < asked / 10, "a tensor's pages were asked for again"
    assert asked > 5 * (64 << 20) / resource.getpagesize() / 2, "large tensors have pages of their own again"
