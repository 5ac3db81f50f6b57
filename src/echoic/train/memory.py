"""Running out of memory: what to make smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from echoic.core.config import TrainConfig
from echoic.core.errors import OutOfMemory

NO_MEMORY = ("not enough memory", "out of memory", "allocate memory")
"""How torch's allocators, which raise RuntimeError, say it."""


@contextmanager
def room(where: str, config: TrainConfig) -> Iterator[None]:
    """Where memory runs out inside, raises OutOfMemory that says where, and what to make smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in NO_MEMORY)):
            raise
        raise OutOfMemory(
            f"out of memory at {where}; try half of train.batch_size (now {config.batch_size:,}), "
            f"of train.batch_tokens (now {config.batch_tokens:,}), or a smaller model.hidden"
        ) from error
