"""What is recorded is what the network computes: gates, states, segments, directions; and only when asked for."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from contracts.cells import Case, cases
from echoic.cells.base import Cell
from echoic.core.config import Config
from echoic.core.errors import UsageError
from echoic.explain import alike as alike_room
from echoic.explain.alike import alike
from echoic.explain.inside import MOST_TOKENS, inside, run, watch
from echoic.layers.unroll import unroll
from explain.toys import NASTY, trained, untrained


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_cell_shows_its_gates_and_its_states(case: Case) -> None:
    cell = case.build()
    x, lengths = torch.randn(3, 5, 2, dtype=torch.float64), torch.tensor([5, 3, 1])
    for reverse in (False, True):
        y, fields = run(cell, x, lengths, reverse=reverse)
        wanted, last = unroll(cell, x, lengths, reverse=reverse)
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-12)
        vectors = {name for name, shape in cell.state_shapes.items() if len(shape) == 1}
        assert set(fields) == {*cell.gates, *vectors}
        for name in vectors:
            end = fields[name][torch.arange(3), torch.zeros(3, dtype=int) if reverse else lengths - 1]
            torch.testing.assert_close(end, getattr(last, name), rtol=0, atol=1e-12)
    assert cell._watch is None


def test_the_gates_are_those_of_the_equations() -> None:
    model = untrained("model.bidirectional=false")
    found = inside(model.task, model.network, "the film was good").cells[0].fields
    c = np.concatenate([np.zeros_like(found["c"][:1]), found["c"][:-1]])
    np.testing.assert_allclose(found["f"] * c + found["i"] * found["g"], found["c"], atol=1e-6)
    np.testing.assert_allclose(found["o"] * np.tanh(found["c"]), found["h"], atol=1e-6)
    for name in "ifo":
        assert 0 < found[name].min() < found[name].max() < 1


def test_nobody_is_told_unless_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained()
    inside(model.task, model.network, "the film")
    told: list[Any] = []
    monkeypatch.setattr(Cell, "watched", lambda self, by: told.append(by))
    model.predict(["the film was good"])
    assert told == []
    assert all(cell._watch is None for cell in model.network.stack.cells)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "settings",
    [
        ("model.layers=2",),
        ("model.layers=2", "model.bidirectional=false", "model.cell.kind=gru"),
        ("model.cell.kind=lstm", "model.cell.peephole=true", "model.zoneout=0.2"),
        ("model.batch_norm=true", "model.cell.kind=rnn", "model.layers=2"),
        ("model.layer_norm=true",),
    ],
)
def test_the_last_layer_is_what_the_network_pools(settings: tuple[str, ...]) -> None:
    model = untrained(*settings, "model.segment=8")
    network: Any = model.network
    text = "the film was good " * 5
    found = inside(model.task, network, text)
    ids = torch.as_tensor(model.task.text.encode([text])[0].astype(np.int64))
    with torch.inference_mode():
        states = torch.cat([network.states(part[None], torch.tensor([len(part)]))[0] for part in ids.split(8)])
    last = found.cells[-network.stack.directions :]
    got = np.concatenate([cell.fields[cell.output] for cell in last], 1)
    np.testing.assert_allclose(got, states.numpy(), atol=1e-5)
    assert found.cells[0].name == "layer 0 forwards"
    assert found.starts == [0, 8, 16]


def test_a_window_of_a_long_text_is_the_same_as_the_whole() -> None:
    model = untrained("model.segment=8")
    text = " ".join(["the film was good", "the plot is bad"] * 100)
    whole, part = inside(model.task, model.network, text), inside(model.task, model.network, text, 301)
    assert (whole.first, whole.total, len(whole.tokens)) == (0, 800, MOST_TOKENS)
    assert (part.first, len(part.tokens), part.starts[0]) == (301, 499, 304)
    assert any("--from" in note for note in whole.notes)
    for a, b in zip(whole.cells, part.cells, strict=True):
        np.testing.assert_allclose(a.fields["c"][301:], b.fields["c"][: 512 - 301], atol=1e-6)
    with pytest.raises(UsageError, match="801"):
        inside(model.task, model.network, text, 800)


@pytest.mark.parametrize("text", ["a", "", "好", NASTY, "the film " * 10_000])
def test_any_text(text: str) -> None:
    model = untrained()
    found = inside(model.task, model.network, text)
    assert [text[a:b] for a, b in found.spans] == found.tokens
    for cell in found.cells:
        assert {values.shape for values in cell.fields.values()} == {(len(found.tokens), 6)}
    json.dumps(found.document(), allow_nan=False)


def test_what_was_not_read_is_said() -> None:
    model = untrained("text.max_tokens=4")
    for text, cut in (("the film was good and bad", True), ("the film", False)):
        notes = inside(model.task, model.network, text).notes
        assert any("first 4 tokens" in note for note in notes) == cut


def test_a_language_model_is_refused() -> None:
    task = SimpleNamespace(config=Config().override(["task.kind=generate"]))
    with pytest.raises(UsageError, match="this model does generate"):
        inside(task, untrained().network, "x")


# alike


def test_where_else_a_unit_is_highest_is_what_a_whole_reading_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained("model.segment=8")
    network: Any = model.network
    texts = [f"{'a b c ' * n}tell{n % 2} d e" for n in range(1, 9)]
    monkeypatch.setattr(alike_room, "BATCH", 3)
    found = inside(model.task, network, "a tell0 b")
    each, notes = alike(model.task, network, found, [*texts, "a tell0 b"])
    assert notes == []
    values = []
    for row, text in enumerate(texts, 1):
        other = inside(model.task, network, text)
        values += [(row, token, other.cells[1].fields["h"][t]) for t, token in enumerate(other.tokens)]
    for unit in range(6):
        for places, sign in ((each[1].highest[unit], 1), (each[1].lowest[unit], -1)):
            wanted = sorted((sign * float(h[unit]) for _, _, h in values), reverse=True)[: alike_room.BEST]
            assert [sign * place.value for place in places] == pytest.approx(wanted, rel=1e-3)
            for place in places:  # and it is the token with that value
                there = [h[unit] for row, token, h in values if (row, token) == (place.row, place.token)]
                assert any(abs(value - place.value) < 1e-3 for value in there)
            assert all(p.before + p.token + p.after in texts[p.row - 1] for p in places)
    y = found.cells[1].fields["h"][1]
    cosines = sorted((float(h @ y / np.linalg.norm(h) / np.linalg.norm(y)) for _, _, h in values), reverse=True)
    assert [p.value for p in each[1].nearest[1]] == pytest.approx(cosines[: alike_room.BEST], rel=1e-3)


def test_a_large_file_is_looked_at_from_its_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained()
    monkeypatch.setattr(alike_room, "MOST_TOKENS", 8)
    found = inside(model.task, model.network, "good")
    each, notes = alike(model.task, model.network, found, ["the film was good"] * 9)
    assert {place.row for place in each[0].highest[0]} <= {1, 2}
    assert notes == ["the first 2 of 9 texts were looked at"]
    assert json.dumps(each[0].document())


def test_watching_reads_what_the_network_reads() -> None:
    model = untrained("model.layers=2")
    rows = torch.tensor([[3, 4, 5], [6, 0, 0]])
    lengths = torch.tensor([3, 1])
    with torch.no_grad():
        cells, states = list(watch(model.network, rows, lengths)), model.network.states(rows, lengths).numpy()
    assert [cell.name for cell in cells] == [f"layer {i} {way}" for i in (0, 1) for way in ("forwards", "backwards")]
    top = np.concatenate([cell.fields["h"] for cell in cells[2:]], axis=-1)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(top[row, :length], states[row, :length], atol=1e-6)
