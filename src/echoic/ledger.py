"""The finished pieces of a long job in one JSON file, rewritten whole after each: the same command goes on with it.

    done = Ledger.open(path, about={"data": digest}, said=print)
    if "lstm/0" not in done.pieces: done.keep("lstm/0", {...})

`about` is what all pieces must share. A file of another job is refused, never replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from echoic.core import durable
from echoic.core.bundle import canonical
from echoic.core.errors import CannotCreate, ConfigError, show


@dataclass
class Ledger:
    path: Path | None
    """None keeps nothing."""
    about: dict[str, Any]
    pieces: dict[str, Any]

    @classmethod
    def open(cls, path: Path | None, about: Mapping[str, Any], said: Callable[[str], None]) -> Self:
        """Raises ConfigError for a file that is damaged or of another job, CannotCreate where there is no folder."""
        here = cls(path, json.loads(canonical(dict(about))), {})
        if path is None:
            return here
        where = show(path, 200)
        if not path.parent.is_dir():
            raise CannotCreate(f"{where}: its parent folder does not exist; make it first")
        if path.is_dir():
            raise CannotCreate(f"{where}: is a folder; name a file")
        if not path.exists():
            here._write()
            return here
        try:
            stated = json.loads(path.read_bytes())
            about_it, pieces = dict(stated["about"]), dict(stated["pieces"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigError(f"{where}: damaged, or not what this command wrote; choose another file") from None
        other = [key for key in {*about_it, *here.about} if about_it.get(key) != here.about.get(key)]
        if other:
            raise ConfigError(f"{where}: was made with other {', '.join(sorted(other))}; choose another file")
        here.pieces = pieces
        said(f"going on after {len(pieces)} finished pieces in {where}")
        return here

    def keep(self, name: str, piece: Any) -> None:
        self.pieces[name] = piece
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            durable.write_file(self.path, canonical({"about": self.about, "pieces": self.pieces}))
