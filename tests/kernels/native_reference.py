"""The same problem on the time loop in float64, its gradients by autograd, and how far the core is off."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from echoic.cells.base import Cell, Masks, Zoneout
from echoic.core import registry
from echoic.kernels import native
from echoic.layers.unroll import unroll
from kernels.native_calls import LEARNED, Array, Numbers, Problem

FORWARD = {True: 1e-10, False: 1e-5}
GRADIENTS = {True: 1e-10, False: 1e-4}
"""Largest error over the largest number, by whether it is double: DESIGN of the native core, `It must show`."""


class Kink(TorchFunctionMode):
    """Whether a relu was so near its kink that float32 may see the other side."""

    near = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "relu":
            self.near |= bool(((args[0].abs() < 1e-5) & (args[0] != 0)).any())
        return func(*args, **(kwargs or {}))


def options_of(p: Problem) -> tuple[str, dict[str, Any]]:
    """The registered cell and its options."""
    name, _, option = p.kind.partition("_")
    own = {"rnn": {"nonlinearity": option}, "gru": {"reset": option}, "lstm": {"peephole": p.peephole}}
    return name, own[name]


def cell_of(p: Problem, n: Numbers, dtype: torch.dtype = torch.float64) -> Cell:
    name, options = options_of(p)
    cell: Cell = registry.get("cell", name)(p.features, p.hidden, bias=p.bias, dtype=dtype, **options)
    with torch.no_grad():
        for parameter, tensor in cell.named_parameters():
            tensor.copy_(torch.from_numpy(n.inputs[parameter]))
    return cell


def reference(p: Problem, n: Numbers) -> tuple[dict[str, Array], bool]:
    """(as `native_calls.both`; whether the gradients are those of a kink)"""
    given = {name: None if a is None else torch.from_numpy(a).double() for name, a in n.inputs.items()}
    cell, fields = cell_of(p, n), "hc"[: p.fields]
    leaves = {name: cell.get_parameter(name) for name, _ in cell.named_parameters()}
    leaves |= {name: t.requires_grad_() for name, t in given.items() if name in ("x", *fields) and t is not None}
    state = cell.State(*(given[f] for f in fields)) if p.state else None
    zoneout = Zoneout(0.4, tuple(given[f"keep_{f}"] == 1 for f in fields) if p.zoneout == "drawn" else None)
    lengths = None if n.lengths is None else torch.from_numpy(n.lengths)
    with Kink() as kink:
        y, last = unroll(
            cell,
            leaves["x"],
            lengths,
            state,
            reverse=p.reverse,
            masks=Masks(given["mask_hidden"], given["mask_candidate"]),
            zoneout=zoneout if p.zoneout else Zoneout(),
        )
    outputs, downs = [y, *last], [torch.from_numpy(np.nan_to_num(n.dy)), *map(torch.from_numpy, n.dlast)]
    loss = sum((o * d).sum() for o, d in zip(outputs, downs, strict=True))
    gradients = [torch.zeros_like(leaf) for leaf in leaves.values()]
    if isinstance(loss, Tensor) and loss.requires_grad:
        gradients = list(torch.autograd.grad(loss, [*leaves.values()], allow_unused=True, materialize_grads=True))
    named = dict(zip(("y", "last_h", "last_c"), outputs, strict=False))
    named |= {f"d_{name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: t.detach().numpy() for name, t in named.items()}, kink.near and not p.double


def compare(got: dict[str, Array], wanted: dict[str, Array], double: bool, *, gradients: bool = True) -> None:
    """Raises AssertionError where an answer is off by more than the core promises."""
    assert set(got) == set(wanted)
    for name, array in got.items():
        assert array.shape == wanted[name].shape, name
        if array.size == 0 or (name in map("d_{}".format, LEARNED) and not gradients):
            continue
        allowed = (GRADIENTS if name.startswith("d_") else FORWARD)[double]
        off = np.abs(array - wanted[name]).max() / max(0.1, np.abs(wanted[name]).max())
        assert off <= allowed, f"{name} is off by {off:.1e}, allowed are {allowed:.0e}"


HIDDEN = [*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small ones, and now and then a size around a power of two."""
    kind = draw(st.sampled_from(native.KINDS))
    whether = st.booleans()
    return Problem(
        kind,
        batch=draw(st.integers(0, 17) | st.sampled_from([31, 32, 33])),
        steps=draw(st.integers(0, 17)),
        features=draw(st.integers(0, 17) | st.sampled_from([31, 33, 64])),
        hidden=draw(st.sampled_from(HIDDEN)),
        double=draw(whether),
        reverse=draw(whether),
        ragged=draw(whether),
        bias=draw(whether),
        peephole=kind == "lstm" and draw(whether),
        state=draw(whether),
        hidden_mask=draw(whether),
        candidate_mask=draw(whether),
        zoneout=draw(st.sampled_from(["", "drawn", "mean"])),
        seed=draw(st.integers(0, 99)),
    )
