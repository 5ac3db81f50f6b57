"""Products of bfloat16: the same recurrence, as exact as eight bits of mantissa allow, and float32 elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from echoic import nn as enn
from echoic.cells.base import Masks
from echoic.core import registry
from echoic.kernels import bridge, dispatch, native
from echoic.layers.unroll import unroll
from kernels import native_calls as calls
from kernels.native_calls import Problem
from kernels.native_reference import problems, reference

pytestmark = pytest.mark.usefixtures("core")
ALLOWED = {"y": 0.03, "last": 0.03, "d": 0.08}
"""Largest error over the largest number: 2^-9 for each rounding, some of which meet in a long sum."""


@pytest.fixture(params=["amx", "avx512bf16"])
def halves(core: Any, request: pytest.FixtureRequest) -> int:
    """The place of an instruction set with products of bfloat16."""
    names: list[str] = core.isas()
    if request.param not in names:
        pytest.skip(f"this processor, or the compiler, has no {request.param}")
    assert core.has_bfloat16(names.index(request.param))
    return names.index(request.param)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(problem=problems())
def test_it_is_the_time_loop_but_for_rounding(core: Any, halves: int, problem: Problem) -> None:
    problem = dataclasses.replace(problem, double=False, bfloat16=True)
    n = calls.draw(problem)
    wanted, _ = reference(problem, n)
    got = calls.both(core, halves, problem, n, threads=1 + problem.seed % 3)
    assert set(got) == set(wanted)
    for name, array in got.items():
        if array.size == 0 or (name.startswith("d_") and problem.kind == "rnn_relu"):  # its kink may be crossed
            continue
        off = np.abs(array - wanted[name]).max() / max(1.0, np.abs(wanted[name]).max())
        assert off <= ALLOWED[name.partition("_")[0]], f"{name} is off by {off:.1e}"


@pytest.mark.parametrize("rows", [1, 2, 7, 16])
@pytest.mark.parametrize("kind", native.KINDS)
def test_what_bfloat16_can_hold_is_multiplied_exactly(core: Any, halves: int, kind: str, rows: int) -> None:
    """One step, with nothing to round before it: as in float32, but for the order of its sums."""
    problem = Problem(kind, batch=rows, steps=1, features=5, hidden=19, double=False, ragged=False)
    n = calls.draw(problem)
    for name in ("x", "weight_ih", "weight_hh", "h"):
        n.inputs[name] = np.round(np.asarray(n.inputs[name]) * 16) / 16
    if kind == "gru_before":
        n.inputs["weight_hh"] = np.zeros_like(n.inputs["weight_hh"])  # it multiplies r h, which is rounded
    exact = calls.both(core, halves, problem, n)
    rounded = calls.both(core, halves, dataclasses.replace(problem, bfloat16=True), n)
    for name in ("y", "last_h", *(["last_c"] if kind == "lstm" else [])):
        np.testing.assert_allclose(rounded[name], exact[name], atol=2e-6, err_msg=name)
    np.testing.assert_allclose(rounded["d_bias_hh"], exact["d_bias_hh"], atol=1e-5)  # sums, not products


@pytest.mark.parametrize(("batch", "features", "hidden"), [(15, 33, 48), (17, 70, 130), (33, 1, 16), (70, 64, 64)])
@pytest.mark.parametrize("kind", native.KINDS)
def test_tiles_that_are_full_and_tiles_that_are_not(
    core: Any, halves: int, kind: str, batch: int, features: int, hidden: int
) -> None:
    problem = Problem(kind, batch, 9, features, hidden, double=False, hidden_mask=True)
    n = calls.draw(problem)
    wanted, _ = reference(problem, n)
    got = calls.both(core, halves, dataclasses.replace(problem, bfloat16=True), n, threads=2)
    for name, array in got.items():
        if name.startswith("d_") and kind == "rnn_relu":  # its kink may be crossed
            continue
        off = np.abs(array - wanted[name]).max() / max(1.0, np.abs(wanted[name]).max())
        assert off <= ALLOWED[name.partition("_")[0]], f"{name} is off by {off:.1e}"


def test_it_rounds_what_it_multiplies(core: Any, halves: int) -> None:
    problem = Problem("lstm", double=False, ragged=False)
    n = calls.draw(problem)
    exact = calls.both(core, halves, problem, n)
    rounded = calls.both(core, halves, dataclasses.replace(problem, bfloat16=True), n)
    assert np.abs(rounded["y"] - exact["y"]).max() > 1e-4


def layer_and_input() -> tuple[enn.LSTM, Tensor]:
    torch.manual_seed(0)
    return enn.LSTM(9, 12, batch_first=True), torch.randn(3, 6, 9)


@pytest.mark.usefixtures("halves", "isa")
def test_autocast_asks_for_it_and_nothing_else_does() -> None:
    layer, x = layer_and_input()
    plain = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        off = layer(x)[0]
    assert half.dtype == torch.float32
    assert not torch.equal(half, plain)
    torch.testing.assert_close(half, plain, atol=0.02, rtol=0)
    torch.testing.assert_close(off, plain, atol=0, rtol=0)
    cell = registry.get("cell", "lstm")(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert "bfloat16" in dispatch.choose(cell, unroll, ragged=False).why
        assert "bfloat16" not in dispatch.choose(cell.double(), unroll, ragged=False).why
    assert "bfloat16" not in dispatch.choose(cell.float(), unroll, ragged=False).why


@pytest.mark.usefixtures("halves", "isa")
def test_the_pass_back_is_of_the_same_kind_as_the_pass_forward() -> None:
    """autocast is left before backward runs, as torch says it should be."""
    layer, x = layer_and_input()
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = layer(x)[0]
        y.square().sum().backward()
        gradients.append(layer.weight_ih_l0.grad)
    assert all(isinstance(g, Tensor) and g.dtype == torch.float32 for g in gradients)
    assert not torch.equal(*gradients)
    torch.testing.assert_close(*gradients, atol=0.05, rtol=0.05)


@pytest.mark.usefixtures("isa")
def test_the_operator_refuses_what_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = registry.get("cell", "rnn")(2, 3)
    kind = native.KINDS.index("rnn_tanh")
    x = torch.zeros(1, 1, 2, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"float64.*bfloat16"):
        bridge.recur(x, *(p.double() for p in cell.parameters()), *[None] * 10, kind, False, True)
    monkeypatch.setattr(native, "has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="has no products of bfloat16"):
        bridge.run(cell, torch.zeros(1, 1, 2), None, None, kind=kind, masks=Masks(None, None), bfloat16=True)
