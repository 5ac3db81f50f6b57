"""Every registered cell keeps the contract, and a wrong cell does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from contracts.bptt import BY_NAME
from contracts.cells import CHECKS, Case, cases, check_equations, check_native, check_torch_parity, torch_layer
from echoic.cells.base import NO_MASKS, Cell, Masks
from echoic.cells.lstm import LSTMCell, LSTMState
from echoic.kernels import native

CASES = cases()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads only hinder tensors this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: Case, check: Any) -> None:
    if check is check_native and native.why_not():
        pytest.skip(str(native.why_not()))
    check(case)


def swapped(kind: type[Cell]) -> type[Cell]:
    """The cell with its first two gates in each other's place."""

    def swap(a: Tensor, size: int) -> Tensor:
        one, two, *others = a.split(size, dim=-1)
        return torch.cat([two, one, *others], dim=-1)

    class Swapped(kind):  # type: ignore[valid-type, misc]
        def project(self, x: Tensor) -> Tensor:
            return swap(super().project(x), self.hidden_size)

        def recur(self, h: Tensor, mask: Tensor | None, first: int = 0, last: int | None = None) -> Tensor:
            u = super().recur(h, mask, first, last)
            return u if first else swap(u, self.hidden_size)

    return Swapped


GATED = [case for case in CASES if len(case.kind.gates) > 1]


@pytest.mark.parametrize("case", GATED, ids=str)
def test_a_permuted_gate_is_caught(case: Case) -> None:
    mutant = Case(case.name, swapped(case.kind), case.options, case.bias, case.layer_norm)
    with pytest.raises(AssertionError, match="by hand"):
        check_equations(mutant)
    if torch_layer(case):
        with pytest.raises(AssertionError, match=r"torch\.nn"):
            check_torch_parity(mutant)


@pytest.mark.skipif(bool(native.why_not()), reason=str(native.why_not()))
@pytest.mark.parametrize("case", [case for case in GATED if case.name != "jordan" and not case.layer_norm], ids=str)
def test_a_permuted_gate_is_not_what_the_core_computes(case: Case) -> None:
    with pytest.raises(AssertionError, match="native"):
        check_native(Case(case.name, swapped(case.kind), case.options, case.bias))


class StalePeephole(LSTMCell):
    """The output gate sees the old c."""

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, LSTMState]:
        i, f, g, o = (a + self.recur(state.h, masks.hidden)).chunk(4, dim=-1)
        o = torch.sigmoid(o + self.weight_po * state.c)
        i, f = torch.sigmoid(i + self.weight_pi * state.c), torch.sigmoid(f + self.weight_pf * state.c)
        c = f * state.c + i * torch.tanh(g) * (1.0 if masks.candidate is None else masks.candidate)
        h = o * torch.tanh(c)
        return h, LSTMState(h, c)


def test_a_stale_peephole_is_caught() -> None:
    with pytest.raises(AssertionError, match="by hand"):
        check_equations(Case("lstm", StalePeephole, {"peephole": True}))


def test_every_cell_has_its_gradients_derived_by_hand() -> None:
    assert {case.name for case in CASES} == set(BY_NAME)
