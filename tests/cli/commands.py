"""What the tests of the command line share: tiny data, the smallest settings, an answer, a process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD, BAD = "good great lovely warm bright", "bad awful dull cold grim"
REST = ["the", "a", "film", "story", "plot", "actor", "scene", "was", "is", "very", "quite"]

PROGRAMME = [sys.executable, "-c", "from echoic.cli.main import run; run()"]

TINY = [
    f"--set={setting}"
    for setting in (
        "model.hidden=4",
        "model.embedding=4",
        "model.ngrams=false",
        "train.epochs=2",
        "train.updates=8",
        "train.batch_size=16",
        "text.min_count=1",
    )
]
"""The smallest settings that go through every room."""


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code and its two outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, code: int, *said: str) -> None:
        """It ended with `code`, nothing on stdout, one line on stderr that holds all of `said`."""
        last = self.err.rstrip("\n").splitlines()[-1:]
        assert (self.code, self.out) == (code, ""), self.err
        assert last, "no message"
        assert last[0].startswith("echoic: error: ")
        assert "Traceback" not in self.err
        for part in said:
            assert part in last[0]


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(label, text): six common words and one that tells."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        label, telling = (("pos", GOOD), ("neg", BAD))[i % 2]
        words = [*draw.sample(REST, 6), draw.choice(telling.split())]
        draw.shuffle(words)
        rows.append((label, " ".join(words)))
    return rows


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("label,text\n" + "".join(f"{label},{text}\n" for label, text in rows), encoding="utf-8")
    return path


def process(*arguments: object, **how: Any) -> subprocess.CompletedProcess[bytes]:
    """Gives a command in a process of its own."""
    line = [*PROGRAMME, *map(os.fsencode, map(str, arguments))]
    return subprocess.run(line, timeout=120, check=False, **{"capture_output": True, **how})


def loaded(*arguments: object) -> tuple[int, set[str], str]:
    """A command in a process of its own: its exit code, the libraries it loaded, its stderr."""
    code = (
        "import sys, json\nfrom echoic.cli.main import main\ncode = main(json.loads(sys.argv[1]))\n"
        "print('loaded', *{name.split('.')[0] for name in sys.modules}, file=sys.stderr)\nsys.exit(code)"
    )
    line = [sys.executable, "-c", code, json.dumps([str(each) for each in arguments])]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    said, _, names = done.stderr.rpartition("loaded ")
    return done.returncode, set(names.split()), said
