"""What the pages of tables share: the records of a folder, the line that says where one comes from, a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


def records(folder: Path, pattern: str = "*.json") -> list[tuple[str, Record]]:
    """(name, record) of each."""
    return [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob(pattern))]


def about(record: Record) -> str:
    machine = record["machine"]
    return f"`{record['command']}`: {machine['processor']}, {machine['cores']} cores, torch {record['versions']['torch']}, {record['time']}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---" if i == 0 else "---:" for i in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
