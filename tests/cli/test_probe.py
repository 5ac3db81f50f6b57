"""`echoic probe`: a table, JSON, an outcome kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cli.commands import Answer

Call = Callable[..., Answer]


def test_the_verb(call: Call, tmp_path: Path) -> None:
    how = ["--problems", "recall", "--cells", "rnn, gru", "--hidden", 4, "--updates", 1, "--out", tmp_path / "p.json"]
    found = call("probe", *how, "--json", "-q")
    assert (found.code, found.err) == (0, "")
    assert [each["cell"] for each in found.json["outcomes"]] == ["rnn", "gru"]
    assert json.loads((tmp_path / "p.json").read_text())["pieces"].keys() == {"recall/rnn/0", "recall/gru/0"}
    people = call("probe", *how, "-q")
    assert "recall" in people.out
    call("probe", "--problems", "sorting", "-q").refused(2, "sorting")
