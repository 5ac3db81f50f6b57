"""The native core without torch: what it can do, and whose processor's code of it runs.

The core (csrc/) is built with the package where there is a C++ compiler; where there was none,
`core()` is None. ECHOIC_ISA chooses another instruction set than the fastest this processor has:
amx, avx512bf16, avx512, avx2 or portable; none leaves the core unused.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType

from echoic.core.errors import ConfigError

KINDS = ("rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru_after", "gru_before")
"""The recurrences the core has, in the order of `Kind` in csrc/recurrence.h."""
GATES = (1, 1, 1, 4, 3, 3)
"""How many gates each has."""


@cache
def core() -> ModuleType | None:
    """The compiled core, or None where there is none."""
    try:
        return importlib.import_module("echoic.kernels._native")
    except ModuleNotFoundError:
        return None


@cache
def isa() -> int:
    """The place in `core().isas()` of the instruction set that runs. Raises ConfigError if ECHOIC_ISA
    names one that this processor or this build lacks."""
    native = core()
    assert native is not None
    names: list[str] = native.isas()
    wanted = os.environ.get("ECHOIC_ISA", names[0])
    if wanted not in names:
        raise ConfigError(f"ECHOIC_ISA={wanted!r}: this processor and build have {', '.join(names)} (or none)")
    return names.index(wanted)


def why_not() -> str | None:
    """Why the core does not run; None if it does."""
    if os.environ.get("ECHOIC_ISA") == "none":
        return "ECHOIC_ISA=none"
    return "the native core was not built" if core() is None else None


def name() -> str:
    """native-amx, native-avx512bf16, native-avx512, native-avx2 or native-portable: what runs where `why_not` is None."""
    native = core()
    assert native is not None
    return f"native-{native.isas()[isa()]}"


def has_bfloat16() -> bool:
    """Whether the core runs, and what runs multiplies bfloat16."""
    return why_not() is None and bool(core().has_bfloat16(isa()))  # type: ignore[union-attr]


def has_memory(kind: int) -> bool:
    """Whether the state has a c beside its h."""
    return KINDS[kind] == "lstm"


def tape_size(kind: int, batch: int, steps: int, hidden: int) -> int:
    """Elements that a forward call leaves for backward, as `tape_size` in csrc/plan.cpp; works on
    torch's symbolic sizes too."""
    stride = (hidden + 15) // 16 * 16
    stored = 1 if GATES[kind] == 1 else 4
    return batch * steps * (stored * stride + 16 + (1 + has_memory(kind)) * stride)
