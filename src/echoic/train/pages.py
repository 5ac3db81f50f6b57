"""Pages of memory that a step has freed are the next step's.

glibc hands a large tensor pages of its own and gives them back to the system when the tensor dies. A training step
makes the same tensors as the one before it, so the system would clear the same gigabyte again and again: a sixth
of the time in which a language model learns. The kernels' own tapes do without in csrc/memory.h.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""mallopt's names in malloc.h"""
KEEPING = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 << 20}
USUAL = {MMAP_MAX: 65536, TRIM_THRESHOLD: 128 << 10, TOP_PAD: 128 << 10}


@contextmanager
def kept_pages() -> Iterator[None]:
    """Within it, memory that is freed stays with the process; after it, what is free goes back. Does nothing
    where the C library is not glibc."""
    libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    try:
        _set(libc, KEEPING)
        yield
    finally:
        _set(libc, USUAL)
        if libc is not None:
            libc.malloc_trim(0)


def _set(libc: ctypes.CDLL | None, options: dict[int, int]) -> None:
    if libc is not None:
        for name, value in options.items():
            libc.mallopt(name, value)
