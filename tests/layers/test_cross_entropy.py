"""Cross entropy over a large vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from echoic.layers import cross_entropy as room
from echoic.layers.cross_entropy import cross_entropy


@pytest.fixture(params=[7, 40, 1 << 18], ids=["a row", "a few rows", "all rows"], autouse=True)
def numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are looked at at a time."""
    monkeypatch.setattr(room, "NUMBERS", request.param)


def drawn(dtype: torch.dtype, rows: int = 9, size: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(rows, size, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.randint(0, size, (rows,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_it_is_torchs_and_so_is_its_gradient(smoothing: float) -> None:
    logits, targets = drawn(torch.float64)
    weights = torch.linspace(-1.0, 2.0, len(logits), dtype=torch.float64)
    own = cross_entropy(logits, targets, smoothing)
    torchs = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(own, torchs)
    (found,) = torch.autograd.grad((own * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((torchs * weights).sum(), logits)
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, targets, smoothing), logits)


def test_halves_are_summed_in_float32_and_get_their_gradient_in_halves() -> None:
    logits, targets = drawn(torch.bfloat16, size=4000)
    own = cross_entropy(logits, targets, 0.1)
    assert own.dtype == torch.float32
    whole = logits.detach().float().requires_grad_()
    torchs = F.cross_entropy(whole, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(own, torchs, rtol=1e-6, atol=1e-5)
    own.sum().backward()  # type: ignore[no-untyped-call]
    torchs.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert whole.grad is not None
    torch.testing.assert_close(logits.grad, whole.grad.bfloat16(), rtol=1e-2, atol=1e-9)


def test_large_logits_do_not_overflow() -> None:
    nats = cross_entropy(torch.tensor([[1e4, 0.0], [-1e4, -1e4]]), torch.tensor([0, 1]))
    torch.testing.assert_close(nats, torch.tensor([0.0, 0.6931472]), rtol=0, atol=1e-3)


def test_no_rows_have_no_nats() -> None:
    logits = torch.empty(0, 5, requires_grad=True)
    nats = cross_entropy(logits, torch.empty(0, dtype=torch.int64))
    assert nats.shape == (0,)
    nats.sum().backward()
    assert logits.grad is not None
