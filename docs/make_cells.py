"""The middle of docs/cells.md, from the docstrings of the cells' own files, so that page and programme agree.

    python docs/make_cells.py            # writes
    python docs/make_cells.py --check    # writes nothing, exits with 1 if the page is not up to date

What stands around the markers is written by hand.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from echoic import cells
from echoic.core import registry

PAGE = Path(__file__).parent / "cells.md"
START, END = "<!-- cells:start -->", "<!-- cells:end -->"
ROOM = Path(cells.__path__[0])
CODE = re.compile(r"(`[^`]*`)")


def page(old: str) -> str:
    """The page with what stands between its markers made anew."""
    head, _, rest = old.partition(START)
    parts = [section(name) for name in (*registry.names("cell"), "base")]
    return "\n\n".join([f"{head}{START}", *parts, f"{END}{rest.partition(END)[2]}"])


def section(name: str) -> str:
    doc = ast.get_docstring(ast.parse((ROOM / f"{name}.py").read_text(encoding="utf-8"))) or ""
    first, _, body = doc.partition("\n")
    title = "what all of them share" if name == "base" else name
    return "\n\n".join(
        [f"## {title}", "\n".join(map(plain, [first, *body.split("\n")])), f"Source: `src/echoic/cells/{name}.py`"]
    )


def plain(line: str) -> str:
    """A docstring's line as Markdown: equations are indented and so code already; in prose * and _ mean themselves."""
    if line.startswith("    "):
        return line
    return "".join(part if part.startswith("`") else re.sub(r"([*_<])", r"\\\1", part) for part in CODE.split(line))


def main() -> int:
    old = PAGE.read_text(encoding="utf-8")
    fresh = page(old)
    if "--check" in sys.argv[1:]:
        return int(old != fresh)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
