"""benchmarks/explain.py: a run that was killed goes on where it stopped."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from echoic.explain import classifier
from explain.toys import toy, trained

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "explain.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script's names, of a toy model and eight toy texts; `saved` is what it would keep."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    names = runpy.run_path(str(SCRIPT), run_name="bench")
    scope = names["main"].__globals__
    saved: list[Any] = []
    scope |= {"load": lambda _: trained(), "SETS": {"imdb": lambda: {"test": toy(8, 3)}}, "saved": saved}
    scope["save"] = lambda name, facts: saved.append((name, facts)) or scope["RESULTS"] / "x.json"
    return scope


def test_a_run_that_is_killed_goes_on(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["explain.py", "RUN", "imdb", "--work", str(tmp_path / "w"), "--texts", "8"])
    explained, asked = bench["explained"], list[str]()

    def killed(model: Any, text: str) -> Any:
        asked.append(text)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return explained(model, text)

    bench["explained"] = killed
    with pytest.raises(KeyboardInterrupt):
        bench["main"]()
    assert bench["saved"] == []
    costs = bench["cost"]
    bench["cost"] = lambda *_: pytest.fail("measured twice")
    bench["main"]()
    assert len(asked) == 6 + 3, "the one that was killed, and the two after it"
    assert asked[5] == asked[6]
    name, facts = bench["saved"][0]
    assert name == "explain/imdb"
    assert facts["completeness"]["texts"] == sum(facts["points"].values()) == facts["faithful"]["texts"] == 8
    assert facts["completeness"]["within"] == 1
    bench["cost"] = costs
    monkeypatch.setattr(classifier, "explain", lambda *_: pytest.fail("measured twice"))
    bench["main"]()
    assert bench["saved"][1] == (name, facts)
