"""The gradient of a loss at the last token, step by step back."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from echoic.cells.base import Zoneout
from echoic.cells.rnn import RNNCell
from echoic.explain.flow import FRESH, LARGE, MOST_STEPS, Flow, flow, flows, sentence
from echoic.explain.flow_shown import DOTTED, HIGHEST, LOWEST, render, rows, svg, write_png
from explain.toys import NASTY, trained, untrained

TEXT = "a b c d e f " * 8


def test_a_linear_chain_is_multiplied_by_u_at_each_step() -> None:
    cell = RNNCell(2, 1, dtype=torch.float64, nonlinearity="relu")
    with torch.no_grad():
        cell.weight_hh.fill_(0.5)
        cell.weight_ih.fill_(1.0)
    found = flow("rnn", cell, torch.ones(1, 8, 2))
    np.testing.assert_allclose(found.norms[1:] / found.norms[:-1], 0.5)
    assert found.rate == pytest.approx(0.5)
    assert found.verdict == f"vanishes: tenfold in {math.log(10) / math.log(2):.1f} steps"
    assert cell.weight_hh.grad is None


@pytest.mark.parametrize("zoneout", [0.0, 0.5])
def test_the_norms_are_those_of_finite_differences(zoneout: float) -> None:
    cell = RNNCell(2, 3, dtype=torch.float64)
    x = torch.randn(1, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = flow("rnn", cell, x, seed=5, zoneout=Zoneout(zoneout))
    head = torch.randn(2, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64) / math.sqrt(3)

    def loss(moved: torch.Tensor) -> float:
        state = cell.initial(1)
        for t in range(4):
            _, new = cell.step(cell.project(x[:, t]), state)
            h = zoneout * state.h + (1 - zoneout) * new.h
            state = type(state)(h + moved if t == 1 else h)
        return -float((state.h @ head.T).log_softmax(1)[0, 0])

    with torch.no_grad():
        steps = [1e-6 * row for row in torch.eye(3, dtype=torch.float64)]
        slope = [(loss(step) - loss(-step)) / 2e-6 for step in steps]
    assert found.norms[2] == pytest.approx(float(np.linalg.norm(slope)), rel=1e-5)


def test_a_gradient_that_is_gone_has_vanished_and_a_long_text_is_said_to_be_cut() -> None:
    gone = Flow("relu", False, np.array([0.5, 0.0, 0.0]), None, 1.0, 0.0)
    assert (gone.rate, gone.verdict) == (0.0, "vanishes: nothing is left")
    long = Flow("rnn", False, np.full(MOST_STEPS, 0.5), None, 1.0, 0.0)
    assert sentence([long]).startswith(f"Of the first {MOST_STEPS} tokens: ")
    assert sentence([gone]).startswith("The gradient vanishes")


@pytest.mark.parametrize("settings", [(), ("model.layers=2", "model.cell.kind=gru"), ("model.batch_norm=true",)])
def test_the_model_and_fresh_cells_on_the_same_text(settings: tuple[str, ...]) -> None:
    model = untrained(*settings, "model.hidden=16")
    found = flows(model.task, model.network, TEXT, clip=0.5)
    assert [each.trained for each in found] == [True] + [False] * (len(FRESH) + 1)
    assert {each.norms.shape for each in found} == {(48,)}
    names = [each.name for each in found]
    assert names[1:] == ["rnn", "lstm", "lstm, peepholes", "gru", f"rnn, U x {LARGE:g}"]
    assert found[1].verdict.startswith("vanishes")
    assert found[5].verdict.startswith("explodes")
    assert (found[2].memory is None, found[4].memory is None) == (False, True)
    assert found[5].factor == pytest.approx(0.5 / found[5].weights)
    assert "It explodes in rnn, U x 4" in sentence(found)


def test_clipping_may_be_off_and_an_empty_gradient_is_no_crash() -> None:
    assert Flow("x", False, np.zeros(3), None, 0.0, 1.0).factor == 1
    assert Flow("x", False, np.ones(3), None, 9.0, 0.0).factor == 1
    assert Flow("x", False, np.zeros(3), None, 0.0, 1.0).verdict == "neither"


@pytest.mark.parametrize("text", ["a", "", NASTY, "a b " * 9_999])
def test_any_text(text: str) -> None:
    model = trained()
    found = flows(model.task, model.network, text)
    drawn = svg(found)
    assert drawn.startswith("<svg") == (len(found[0].norms) > 1)
    assert "nan" not in drawn
    assert len(rows(found)[1]) == 6
    assert render(found).row_count == 6


def test_a_picture_and_borders(tmp_path: Path) -> None:
    burst = Flow("<b>", False, 10.0 ** np.arange(0, 60), None, 100.0, 1.0)
    gone = Flow("gone", True, 10.0 ** -np.arange(0.0, 60), None, 0.5, 1.0)
    drawn = svg([burst, gone])
    assert "<b>" not in drawn
    assert "clipped x 0.01" in drawn
    assert drawn.count("stroke-dasharray") == 1
    assert f'10<tspan dy="-5" font-size="9">{round(math.log10(LOWEST))}' in drawn
    write_png(tmp_path / "p.png", [burst, gone])
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert 0 < LOWEST < 1 < HIGHEST


def test_what_reaches_the_memory_is_drawn_beside_what_reaches_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = 10.0 ** -np.arange(9.0, 69)
    both = Flow("lstm", False, 10.0 ** -np.arange(0.0, 60), memory, 0.5, 1.0)
    alone = Flow("gru", False, 10.0 ** -np.arange(0.0, 60), None, 0.5, 1.0)
    drawn = svg([alone, both])
    assert drawn.count(DOTTED) == 1
    assert drawn.count(">lstm: c</text>") == 1
    assert "gru: c" not in drawn
    heights = re.findall(r'd="M([^"]*)"[^>]*' + re.escape(DOTTED), drawn)[0].split("L")
    assert len(heights) == 60
    lines: list[Axes] = []
    legend = Axes.legend
    monkeypatch.setattr(Axes, "legend", lambda self, **how: (lines.append(self), legend(self, **how))[1])
    write_png(tmp_path / "p.png", [alone, both])
    named = {line.get_label(): line for line in lines[0].get_lines()}
    assert list(named) == ["gru", "lstm", "lstm: c"]
    np.testing.assert_allclose(named["lstm: c"].get_ydata(), np.clip(memory, LOWEST, HIGHEST))
