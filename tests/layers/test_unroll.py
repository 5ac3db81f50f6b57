"""Zoneout. What the loop promises of every cell is in tests/contracts."""

from __future__ import annotations

import torch
from torch import Tensor

from echoic.cells.base import Zoneout
from echoic.cells.lstm import LSTMCell
from echoic.cells.rnn import RNNCell
from echoic.layers.dropout import Noise
from echoic.layers.unroll import unroll

B, T, D, H = 4, 5, 2, 3
LENGTHS = torch.tensor([5, 3, 0, 4])


def lstm() -> tuple[LSTMCell, Tensor, LSTMCell.State]:
    generator = torch.Generator().manual_seed(0)
    cell = LSTMCell(D, H, dtype=torch.float64, generator=generator)
    draw = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((B, T, D), (B, H), (B, H))]
    return cell, draw[0], cell.State(*draw[1:])


def drawn(rate: float, step: int, steps: int = T) -> Zoneout:
    """Of an LSTM."""
    noise = Noise(0, step)
    return Zoneout(rate, (noise.keep((steps, B, H), rate), noise.keep((steps, B, H), rate)))


def test_zoneout_keeps_units_of_each_state_field_in_training() -> None:
    cell, x, first = lstm()
    _, new = cell.step(cell.project(x)[:, 0], first)
    y, zoned = unroll(cell, x[:, :1], None, first, zoneout=drawn(0.5, 0, 1))
    for old_field, new_field, field in zip(first, new, zoned, strict=True):
        kept = field == old_field
        assert kept.any()
        assert not kept.all()
        assert torch.equal(torch.where(kept, old_field, new_field), field)
    assert not torch.equal(zoned.h == first.h, zoned.c == first.c), "h and c are drawn apart"
    assert torch.equal(y[:, 0], zoned.h)


def test_zoneout_without_noise_is_the_expectation() -> None:
    cell, x, first = lstm()
    _, expected = unroll(cell, x[:, :1], None, first, zoneout=Zoneout(0.3))
    draws = [unroll(cell, x[:, :1], None, first, zoneout=drawn(0.3, k, 1))[1] for k in range(3000)]
    for got, field in zip(zip(*draws, strict=True), expected, strict=True):
        assert torch.allclose(torch.stack(got).mean(0), field, atol=0.08)
    _, new = cell.step(cell.project(x)[:, 0], first)
    assert torch.allclose(expected.c, 0.3 * first.c + 0.7 * new.c)


def test_zoneout_leaves_padding_alone_and_has_right_gradients() -> None:
    cell, x, first = lstm()

    def run(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        y, last = unroll(cell, x, LENGTHS, cell.State(h, c), zoneout=drawn(0.4, 3))
        return y, *last

    y, h, _ = run(x, *first)
    assert not y[1, 3:].any()
    assert torch.equal(h[2], first.h[2])
    leaves = [t.requires_grad_() for t in (x, *first)]
    assert torch.autograd.gradcheck(run, leaves, eps=1e-6, atol=1e-9, rtol=1e-7)


def test_the_input_product_is_made_once_for_all_steps() -> None:
    calls = []

    class Counting(RNNCell):
        def project(self, x: Tensor) -> Tensor:
            calls.append(tuple(x.shape))
            return super().project(x)

    unroll(Counting(D, H), torch.zeros(B, T, D))
    assert calls == [(B, T, D)]
