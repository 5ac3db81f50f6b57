"""The methods on functions whose answers can be written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from echoic.explain import attribute
from echoic.explain.attribute import error, gradient_x_input, integrated_gradients, occlusion
from echoic.layers.stack import Stack

X = torch.tensor([[0.5, -1.0], [2.0, 0.25], [0.0, 1.5]], dtype=torch.float64)
W = torch.tensor([1.0, -0.5], dtype=torch.float64)


def linear(x: Tensor) -> Tensor:
    return (x @ W).sum(1) + 7.0


def square(x: Tensor) -> Tensor:
    return ((x @ W) ** 2).sum(1)


def test_a_linear_function_is_shared_exactly() -> None:
    parts = (X @ W).numpy()
    np.testing.assert_allclose(gradient_x_input(linear, X), parts)
    found = integrated_gradients(linear, X)
    np.testing.assert_allclose(found.scores, parts)
    assert found.difference == pytest.approx(parts.sum())
    assert (found.completeness, found.points) == (pytest.approx(0, abs=1e-12), attribute.FEWEST)


def test_a_square_is_twice_itself_by_its_gradient_and_itself_by_the_integral() -> None:
    parts = ((X @ W) ** 2).numpy()
    np.testing.assert_allclose(gradient_x_input(square, X), 2 * parts)
    np.testing.assert_allclose(integrated_gradients(square, X).scores, parts)


def test_the_gradient_through_time_is_the_one_derived_by_hand() -> None:
    """h_t = tanh(W x_t + U h_(t-1) + b), f = v . h_T: df/dx_t = W' d_t with d_t = (1 - h_t^2) (U' d_(t+1))."""
    stack = Stack(2, 3, cell="rnn", dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    cell = stack.cells[0]
    w, u = cell.weight_ih.detach().numpy(), cell.weight_hh.detach().numpy()
    b = (cell.bias_ih + cell.bias_hh).detach().numpy()
    h = [np.zeros(3)]
    for x in X.numpy():
        h.append(np.tanh(w @ x + u @ h[-1] + b))
    back, wanted = v.numpy(), np.zeros(3)
    for t in (3, 2, 1):
        d = (1 - h[t] ** 2) * back
        wanted[t - 1] = (w.T @ d) @ X.numpy()[t - 1]
        back = u.T @ d
    np.testing.assert_allclose(gradient_x_input(lambda x: stack(x)[0][:, -1] @ v, X), wanted, atol=1e-12)


def step(x: Tensor, steepness: float = 400) -> Tensor:
    """Rises within a fiftieth of the path, which few points do not see."""
    return torch.sigmoid(steepness * (x.sum((1, 2)) / X.sum() - 0.412))


def test_points_are_doubled_until_the_sum_is_complete() -> None:
    asked: list[int] = []

    def counted(x: Tensor) -> Tensor:
        asked.append(len(x))
        return step(x, 80)

    found = integrated_gradients(counted, X)
    assert found.points in (32, 64)
    assert found.completeness is not None
    assert found.completeness <= attribute.TOLERANCE
    assert sum(asked) == 2 + sum(16 << i for i in range(20) if 16 << i <= found.points)
    assert len(asked) < 20, "path points run as batches"


@pytest.mark.parametrize("steepness", [400, 1e4, 1e6, 1e12])
def test_where_the_score_jumps_points_lie_closer(steepness: float) -> None:
    """Even points step over what is narrower than their distance, however many the budget has."""
    asked: list[int] = []

    def jump(x: Tensor) -> Tensor:
        asked.append(len(x))
        return step(x, steepness)

    found = integrated_gradients(jump, X)
    assert found.points is not None
    assert attribute.EVEN < found.points <= attribute.MOST
    assert found.completeness is not None
    assert found.completeness <= attribute.TOLERANCE
    share = X.sum(1).numpy() / float(X.sum())
    np.testing.assert_allclose(found.scores, share, atol=0.02)
    assert sum(asked) == 2 + 16 + 32 + 64 + found.points, "no point is computed twice"
    assert len(asked) < 60, "path points run as batches"


def test_a_sum_that_is_never_complete_is_reported_as_it_is() -> None:
    found = integrated_gradients(step, X, most=32)
    assert found.points == 32
    assert found.completeness == error(found.scores.sum(), found.difference) > 0.05
    found = integrated_gradients(lambda x: step(x, 1e20), X, most=300)
    assert 290 < (found.points or 0) <= 300
    assert found.completeness == error(found.scores.sum(), found.difference) > 0.05


def test_a_path_in_several_batches_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = integrated_gradients(step, X)
    monkeypatch.setattr(attribute, "PATH_TOKENS", 15)
    np.testing.assert_allclose(integrated_gradients(step, X).scores, whole.scores)


def test_a_linear_path_beside_is_added_exactly() -> None:
    added = np.array([1.0, -2.0, 0.25])
    alone, both = integrated_gradients(square, X), integrated_gradients(square, X, added=added)
    np.testing.assert_allclose(both.scores, alone.scores + added)
    assert both.difference == pytest.approx(alone.difference + added.sum())


def test_little_is_not_divided_by() -> None:
    assert error(1.02, 1.0) == pytest.approx(0.02)
    assert error(-1.02, -1.0) == pytest.approx(0.02)
    assert error(0.001, 0.0) == pytest.approx(0.02)


def test_the_global_gradient_switch_does_not_matter_and_weights_keep_none() -> None:
    stack = Stack(2, 3, dtype=torch.float64)
    with torch.no_grad():
        found = gradient_x_input(lambda x: stack(x)[0].sum((1, 2)), X)
    assert np.abs(found).max() > 0
    assert all(p.grad is None for p in stack.parameters())


@pytest.mark.parametrize(("most", "window"), [(5, 1), (4, 2), (2, 3), (1, 5)])
def test_occlusion_hides_each_window_once(most: int, window: int) -> None:
    worth = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    rows: list[Tensor] = []

    def score(hidden: Tensor) -> Tensor:
        rows.append(hidden)
        return (worth * ~hidden).sum(1)

    found = occlusion(score, 5, most)
    assert found.window == window
    hidden = torch.cat(rows)
    assert not hidden[0].any()
    assert (hidden[1:].sum(0) == 1).all()
    for start in range(0, 5, window):
        np.testing.assert_allclose(found.scores[start : start + window], worth[start : start + window].mean())
    assert found.completeness is None


def test_a_jump_narrower_than_float32_tells_apart_is_looked_at_in_float64() -> None:
    asked: set[torch.dtype] = set()

    def jump(x: Tensor) -> Tensor:
        asked.add(x.dtype)
        return step(x, 1e9)

    found = integrated_gradients(jump, X.float())
    assert asked == {torch.float32, torch.float64}
    assert found.completeness is not None
    assert found.completeness <= attribute.TOLERANCE
    asked.clear()
    integrated_gradients(lambda x: jump(x) * 0 + linear(x.double()), X.float())
    assert asked == {torch.float32}, "where even points do, nothing is wide"
