"""The page of `echoic inspect` as text: one file, one script that its policy knows, and nobody's text runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import numpy as np
import pytest

from echoic.explain.alike import alike
from echoic.explain.flow import flows
from echoic.explain.inside import Inside, inside
from echoic.explain.inside_page import html
from explain.toys import NASTY, untrained


def page_of(text: str, others: tuple[str, ...] = (), *settings: str) -> tuple[Inside, str]:
    model = untrained(*settings)
    found = inside(model.task, model.network, text)
    each, notes = alike(model.task, model.network, found, others) if others else ([], [])
    return found, html(found, flows(model.task, model.network, text), each, notes)


def data_of(page: str) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])


@pytest.mark.parametrize("text", ["a", "", "好", NASTY, "</script><script>alert(1)</script>", "the film " * 10_000])
def test_any_text(text: str) -> None:
    found, page = page_of(text, (NASTY, "the film was good"))
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", page)
    data = data_of(page)
    assert len(data["tokens"]) == len(found.tokens)
    assert len(page) < 2_000_000
    assert "\x00" not in page


def test_the_policy_lets_this_script_run_and_no_other() -> None:
    page = page_of("the film was good")[1]
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert "innerHTML" not in script


def test_the_numbers_are_the_recorded_ones() -> None:
    found, page = page_of("这部电影很好看", (), "model.cell.kind=gru")
    data = data_of(page)
    assert "".join(token["gap"] + token["word"] for token in data["tokens"]) == "这部电影很好看"
    for cell, watched in zip(data["cells"], found.cells, strict=True):
        assert (cell["name"], cell["output"], cell["units"]) == (watched.name, "h", 6)
        assert list(cell["fields"]) == ["r", "z", "n", "h"]
        for name, field in cell["fields"].items():
            small = np.frombuffer(base64.b64decode(field["data"]), np.int8).reshape(-1, 6)
            np.testing.assert_allclose(small / 127 * field["scale"], watched.fields[name], atol=field["scale"] / 250)
