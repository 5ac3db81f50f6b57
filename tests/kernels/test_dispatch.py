"""Which kernel is chosen. That each computes what the reference computes is in tests/contracts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from echoic.cells.base import Cell, Masks
from echoic.cells.lstm import LSTMCell
from echoic.core import registry
from echoic.kernels.dispatch import choose
from echoic.layers.unroll import unroll

MASK = Masks(candidate=torch.ones(1, 3))


def name(kind: str, /, *, layer_norm: bool = False, options: dict[str, Any] | None = None, **asked: Any) -> str:
    cell: Cell = registry.get("cell", kind)(2, 3, layer_norm=layer_norm, **(options or {}))
    choice = choose(cell, unroll, **({"ragged": False} | asked))
    assert choice.why
    assert (choice.run is unroll) is (choice.name == "reference")
    return choice.name


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_plain_cells_run_on_torch(kind: str) -> None:
    assert name(kind) == "torch"
    assert name(kind, ragged=True, want_state=False) == "torch"
    assert name(kind, ragged=True) == ("torch-packed" if kind == "lstm" else "torch")
    assert name(kind, layer_norm=True) == name(kind, masks=MASK) == name(kind, zoneout=0.1) == "reference"


def test_what_torch_lacks_runs_on_the_reference() -> None:
    assert name("rnn", options={"nonlinearity": "relu"}) == "torch"
    assert name("rnn", options={"nonlinearity": "sigmoid"}) == "reference"
    assert name("lstm", options={"peephole": True}) == "reference"
    assert name("gru", options={"reset": "before"}) == "reference"
    assert name("jordan") == "reference"


def test_a_subclass_is_another_cell() -> None:
    class Other(LSTMCell):
        pass

    assert choose(Other(2, 3), unroll, ragged=False).name == "reference"


def test_weights_put_in_for_one_call_reach_the_kernel() -> None:
    cell, x = LSTMCell(2, 3), torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    twin = cell.with_weights(weight_hh=torch.zeros_like(cell.weight_hh))
    assert not torch.equal(choose(twin, unroll, ragged=False).run(twin, x, None, None)[0], unroll(cell, x)[0])
    assert torch.allclose(choose(twin, unroll, ragged=False).run(twin, x, None, None)[0], unroll(twin, x)[0], atol=1e-6)


def test_a_state_that_the_kernel_does_not_know_is_none() -> None:
    x, lengths = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 2])
    cell = LSTMCell(2, 3)
    run = choose(cell, unroll, ragged=True, want_state=False).run
    assert run(cell, x, lengths, None)[1] is None
    assert run(cell, x, torch.tensor([3, 3]), None)[1] is not None
