"""Alignments: the attention of the very translation, in a terminal, on a page, in a picture."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from echoic.core.errors import UsageError
from echoic.core.types import EMPTY
from echoic.explain.alignment import Alignment, Place, Wrote, align
from echoic.explain.alignment_shown import html, render, write_png
from explain.toys import NASTY, untrained
from tasks.test_translate import KINDS, VALID, fitted

pytestmark = pytest.mark.usefixtures("unsynced")
TEXT = VALID[0].input


@pytest.mark.parametrize("settings", [KINDS[0], KINDS[1], KINDS[3], KINDS[4]], ids=" ".join)
def test_it_is_what_the_steps_of_the_search_attended_to(settings: tuple[str, ...]) -> None:
    model = fitted(*settings).model
    task, network = model.task, model.network
    found = align(task, network, TEXT, beam_size=1, prefix="a man")
    (source,) = task.text.encode([TEXT])
    ids = task.written.encode([found.translation])[0].tolist()
    state, step, told = task.begin(network, [source]), task.step(network), []
    for given, chosen in zip([EMPTY, *ids], [*ids, EMPTY], strict=True):
        logits, weights, state = step(np.array([given]), state)
        p = np.exp(logits[0].astype(np.float64))
        told.append((weights[0], p[chosen] / p.sum()))
    np.testing.assert_allclose(found.weights, [w for w, _ in told], atol=1e-5)
    np.testing.assert_allclose(np.sum(found.weights, 1), 1.0, atol=1e-5)
    assert [token.probability for token in found.target] == pytest.approx([p for _, p in told], abs=1e-5)
    log_p = sum(math.log(token.probability) for token in found.target)
    assert found.score == pytest.approx(log_p / ((5 + len(found.target)) / 6), abs=1e-4)
    assert [found.text[t.start : t.end] for t in found.source] == [t.text for t in found.source] == TEXT.split()
    assert [found.translation[t.start : t.end] for t in found.target] == [t.text for t in found.target]
    assert found.target[-1].text == ""


def test_the_model_aligns_any_text() -> None:
    model = fitted().model
    for text in ("", " ", NASTY, "电影 😀"):
        (found,) = model.explain([text])
        assert len(found.weights) == len(found.target)
        assert {len(row) for row in found.weights} == {len(found.source)}
        assert json.loads(json.dumps(found.document())) == found.document()
        assert "<script" not in html([found])
        Console(file=io.StringIO(), width=80).print(render(found))


def test_what_has_no_alignment_says_so() -> None:
    without, classifier = fitted(*KINDS[2]).model, untrained()
    with pytest.raises(UsageError, match="no attention"):
        without.explain([TEXT])
    network: torch.nn.Module = classifier.network
    with pytest.raises(UsageError, match="this model does classify"):
        align(classifier.task, network, TEXT)  # type: ignore[arg-type]


def drawn(sources: int, targets: int) -> Alignment:
    draws = np.random.default_rng(0)
    weights = draws.dirichlet(np.ones(sources) / 10, targets)
    return Alignment(
        text="",
        translation="电影",
        score=-1.0,
        source=[Place(text=f"词{i}" if i % 2 else "a long word indeed", start=0, end=0) for i in range(sources)],
        target=[Wrote(text="影" * 20 if i else "", start=0, end=0, probability=0.5) for i in range(targets)],
        weights=weights.tolist(),
    )


def test_a_terminal_gets_as_many_blocks_as_it_needs_and_no_line_too_long() -> None:
    for width, blocks in ((60, 2), (200, 1)):
        out = io.StringIO()
        found = drawn(30, 4)
        Console(file=out, width=width).print(render(found))
        lines = out.getvalue().splitlines()
        assert max(map(cell_len, lines)) <= width
        rows = [line for line in lines if line.startswith("影" * 7)]
        assert len(rows) == 3 * blocks
        whole = ["".join(re.findall(r"[·\d](?= )", row)) for row in rows]
        tenths = ["".join(whole[i] for i in range(row, 3 * blocks, 3)) for row in range(3)]
        assert tenths == [
            "".join(str(min(9, int(10 * w))) if w >= 0.05 else "·" for w in row) for row in found.weights[1:]
        ]


def test_a_picture_of_more_than_it_holds(tmp_path: Path) -> None:
    heard: list[str] = []
    write_png(tmp_path / "a.png", [drawn(61, 3), drawn(2, 1)], heard.append)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert any("holds 60 tokens" in line for line in heard)
