"""Which kernel is chosen. That each computes what the reference computes is in tests/contracts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from echoic.cells.base import Cell, Masks, Zoneout
from echoic.cells.lstm import LSTMCell
from echoic.core import registry
from echoic.kernels import native
from echoic.kernels.dispatch import Choice, choose
from echoic.layers.unroll import unroll

MASK = Masks(candidate=torch.ones(1, 3))
ZONEOUT = Zoneout(0.1)
NOT_CHOSEN = ["ECHOIC_ISA=none", "the native core was not built"]


def choice(
    kind: str,
    /,
    *,
    layer_norm: bool = False,
    options: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    **asked: Any,
) -> Choice:
    made = registry.get("cell", kind)(2, 3, layer_norm=layer_norm, dtype=dtype, device=device, **(options or {}))
    return choose(made, unroll, **({"ragged": False} | asked))


def name(kind: str, /, **asked: Any) -> str:
    found = choice(kind, **asked)
    assert found.why
    assert (getattr(found.run, "func", None) is unroll) is (found.name == "reference")
    return found.name


@pytest.fixture(params=NOT_CHOSEN)
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The core is not to be used, or not there. Why."""
    if request.param == NOT_CHOSEN[0]:
        monkeypatch.setenv("ECHOIC_ISA", "none")
    else:
        monkeypatch.delenv("ECHOIC_ISA", raising=False)
        monkeypatch.setattr(native, "core", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rnn", {"nonlinearity": "tanh"}),
        ("rnn", {"nonlinearity": "relu"}),
        ("rnn", {"nonlinearity": "sigmoid"}),
        ("lstm", {}),
        ("lstm", {"peephole": True}),
        ("gru", {"reset": "after"}),
        ("gru", {"reset": "before"}),
    ],
)
def test_rnn_lstm_and_gru_run_on_the_core(
    core: Any, isa: int, kind: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    wanted = f"native-{core.isas()[isa]}"
    for asked in ({}, {"masks": MASK}, {"zoneout": ZONEOUT}, {"masks": MASK, "zoneout": ZONEOUT}):
        for ragged in (False, True):
            for want_state in (False, True):
                here = {"ragged": ragged, "want_state": want_state} | asked
                assert name(kind, options=options, dtype=dtype, **here) == wanted
    assert name(kind, options=options, dtype=dtype, layer_norm=True) == "reference"
    assert "layer norm" in choice(kind, options=options, layer_norm=True).why


@pytest.mark.usefixtures("isa")
def test_what_the_core_lacks_runs_elsewhere_and_is_not_laid_to_the_core() -> None:
    found = [choice("jordan"), choice("lstm", dtype=torch.bfloat16), choice("gru", device="meta")]
    assert [each.name for each in found] == ["reference", "torch", "torch"]
    assert not [each.why for each in found for reason in NOT_CHOSEN if reason in each.why]


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_without_the_core_plain_cells_run_on_torch(without: str, kind: str) -> None:
    assert name(kind) == "torch"
    assert name(kind, ragged=True, want_state=False) == "torch"
    assert name(kind, ragged=True) == ("torch-packed" if kind == "lstm" else "torch")
    assert name(kind, layer_norm=True) == name(kind, masks=MASK) == name(kind, zoneout=ZONEOUT) == "reference"
    for asked in ({}, {"ragged": True}, {"masks": MASK}, {"zoneout": ZONEOUT}):
        assert choice(kind, **asked).why.startswith(f"{without}; ")


def test_without_the_core_what_torch_lacks_runs_on_the_reference(without: str) -> None:
    assert name("rnn", options={"nonlinearity": "relu"}) == "torch"
    lacking = [("rnn", {"nonlinearity": "sigmoid"}), ("lstm", {"peephole": True}), ("gru", {"reset": "before"})]
    for kind, options in lacking:
        assert name(kind, options=options) == "reference"
        assert choice(kind, options=options).why.startswith(f"{without}; ")
    assert name("jordan") == "reference"
    assert without not in choice("jordan").why


def test_a_subclass_is_another_cell() -> None:
    class Other(LSTMCell):
        pass

    assert choose(Other(2, 3), unroll, ragged=False).name == "reference"


def weights_put_in_for_one_call_reach_the_kernel() -> None:
    cell, x = LSTMCell(2, 3), torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    twin: Cell = cell.with_weights(weight_hh=torch.zeros_like(cell.weight_hh))
    run = choose(twin, unroll, ragged=False).run
    assert not torch.equal(run(twin, x, None, None)[0], unroll(cell, x)[0])
    assert torch.allclose(run(twin, x, None, None)[0], unroll(twin, x)[0], atol=1e-6)


@pytest.mark.usefixtures("isa")
def test_weights_put_in_for_one_call_reach_the_core() -> None:
    weights_put_in_for_one_call_reach_the_kernel()


@pytest.mark.usefixtures("without")
def test_weights_put_in_for_one_call_reach_torch() -> None:
    weights_put_in_for_one_call_reach_the_kernel()


@pytest.mark.usefixtures("without")
def test_a_state_that_the_kernel_does_not_know_is_none() -> None:
    x, lengths = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 2])
    cell = LSTMCell(2, 3)
    run = choose(cell, unroll, ragged=True, want_state=False).run
    assert run(cell, x, lengths, None)[1] is None
    assert run(cell, x, torch.tensor([3, 3]), None)[1] is not None


@pytest.mark.usefixtures("core")
def test_a_few_single_steps_pay_for_no_packing() -> None:
    def asked(kind: str, units: int, rows: int | None, **other: Any) -> str:
        cell = registry.get("cell", kind)(units, units)
        return choose(cell, unroll, ragged=False, rows_of_one_step=rows, **other).name

    assert [asked(kind, 128, 1) for kind in ("lstm", "gru", "rnn")] == ["reference", "torch", "torch"]
    assert asked("gru", 128, 1, masks=Masks(torch.ones(1, 128), None)) == "reference", "torch would drop nothing"
    assert [asked("rnn", 32, 1), asked("rnn", 32, 1000), asked("gru", 32, 64)] == ["torch"] * 3
    for kind, rows in (("gru", 65), ("gru", None), ("rnn", None), ("lstm", 32), ("lstm", None)):
        assert asked(kind, 128, rows) == native.name()
    assert asked("lstm", 32, 1) == native.name(), "few weights are packed at once"
