"""First weights: torch.nn's by default, better ones on request, both from an explicit generator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from echoic.cells.gru import GRUCell
from echoic.cells.jordan import JordanCell
from echoic.cells.lstm import LSTMCell
from echoic.core import registry

H, D = 8, 5


def test_default_weights_are_those_of_torch() -> None:
    torch.manual_seed(3)
    theirs = nn.LSTMCell(D, H).state_dict()
    torch.manual_seed(3)
    ours = LSTMCell(D, H).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", registry.names("cell"))
def test_a_generator_decides_alone(kind: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        cell = registry.get("cell", kind)(D, H, generator=torch.Generator().manual_seed(seed))
        cell.init_orthogonal(torch.Generator().manual_seed(seed + 1))
        return nn.utils.parameters_to_vector(cell.parameters())

    before = torch.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", registry.names("cell"))
def test_orthogonal_weights(kind: str) -> None:
    cell = registry.get("cell", kind)(D, H, layer_norm=True, dtype=torch.float64)
    cell.init_orthogonal(torch.Generator().manual_seed(0))
    for block in cell.weight_hh.split(H):
        assert torch.allclose(block @ block.T, torch.eye(H, dtype=torch.float64), atol=1e-10)
    limit = math.sqrt(6.0 / (D + H))
    assert 0.8 * limit < cell.weight_ih.abs().max() <= limit
    assert not cell.bias_hh.any()
    assert (cell.gain_ih == 1.0).all()


def test_the_forget_gate_starts_open() -> None:
    cell = LSTMCell(D, H, peephole=True)
    cell.init_orthogonal()
    assert torch.equal(cell.bias_ih, torch.tensor([0.0] * H + [1.0] * H + [0.0] * 2 * H))
    assert not cell.weight_po.any()
    other = GRUCell(D, H)
    other.init_orthogonal()
    assert not other.bias_ih.any()


def test_jordan_matrix_is_xavier() -> None:
    cell = JordanCell(D, H)
    cell.init_orthogonal()
    assert 0.0 < cell.weight_ho.abs().max() <= math.sqrt(6.0 / (2 * H))


@pytest.mark.parametrize("kind", registry.names("cell"))
def test_cells_are_copied_and_saved_whole(kind: str) -> None:
    cell = registry.get("cell", kind)(D, H, layer_norm=True)
    other = registry.get("cell", kind)(D, H, layer_norm=True)
    other.load_state_dict(cell.state_dict(), strict=True)
    x = torch.randn(2, D, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        other.step(other.project(x), other.initial(2))[0], cell.step(cell.project(x), cell.initial(2))[0]
    )


def test_replaced_weights_leave_the_cell_alone() -> None:
    cell = LSTMCell(D, H)
    twin = cell.with_weights(weight_hh=cell.weight_hh * 0.0)
    assert not twin.weight_hh.any()
    assert cell.weight_hh.any()
    assert "weight_hh" in dict(cell.named_parameters())
    assert "weight_hh" not in dict(twin.named_parameters())
