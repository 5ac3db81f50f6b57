"""A model as a folder: `manifest.json` holds the SHA-256 and size of every other file.

A flipped bit, a missing end, a foreign or a newer file is refused by name before anything reads
it (safetensors alone would load a flipped bit silently). Nothing is pickled, nothing is imported by
a name that a bundle holds, no path leaves the folder.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from echoic.core import durable
from echoic.core.errors import BundleError, CannotCreate, InputMissing, Newer, Unavailable, show

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its manifest's `about` and its files' bytes."""

    path: Path
    kind: str
    about: dict[str, Any]
    files: dict[str, bytes]

    def json(self, name: str) -> Any:
        return json.loads(self.files[name])


def canonical(value: Any) -> bytes:
    """JSON with one spelling for one value, so that equal content has equal bytes."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def write(path: Path, kind: str, about: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes the folder in one step; an older bundle at `path` is replaced, and nothing else ever is.

    Raises CannotCreate where something stands that is no bundle.
    """
    if path.exists() and not (path / MANIFEST).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise CannotCreate(f"{show(path, 300)}: exists and is no bundle; choose another place")
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "about": dict(about),
        "files": {name: {"bytes": len(data), "sha256": durable.sha256(data)} for name, data in files.items()},
    }
    manifest["sha256"] = durable.sha256(canonical(manifest))
    whole = canonical(manifest)
    if len(whole) > MANIFEST_LIMIT:
        raise CannotCreate(f"{show(path, 300)}: a manifest of {len(whole):,} bytes is more than {MANIFEST_LIMIT:,}")
    durable.write_folder(path, {**files, MANIFEST: whole})


def find(path: str | Path) -> Path:
    """The bundle that is meant: the one of a run folder, an installed base by its name (`base-en` is the one that comes
    with the distribution echoic-base-en), else `path` itself. Raises Unavailable for a base that is not installed."""
    inside = Path(path) / "bundle"
    if (inside / MANIFEST).is_file():
        return inside
    if not re.fullmatch(r"base-[a-z]{2,12}", str(path)) or Path(path).exists():
        return Path(path)
    package = importlib.util.find_spec(f"echoic_{str(path).replace('-', '_')}")
    if package is None or package.origin is None:
        raise Unavailable(
            f"{path}: no such folder, and no base of this name is installed: pip install ./bases/echoic-{path}, in the source of echoic"
        )
    return Path(package.origin).parent / "bundle"


def read(path: str | Path, kind: str) -> Bundle:
    """The verified bundle at `path`. Raises BundleError naming the file that is wrong."""
    path = Path(path)
    if path.is_file() and path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".bin"):
        raise BundleError(
            f"{show(path, 300)}: a pickle is never loaded, as it can run code; train here or load its weights through echoic.nn"
        )
    if not (path / MANIFEST).is_file():
        reason = f"no {MANIFEST}, so not a bundle" if path.exists() else "no such file or folder"
        raise (BundleError if path.exists() else InputMissing)(f"{show(path, 300)}: {reason}")
    manifest = _manifest(path / MANIFEST)
    if manifest["kind"] != kind:
        raise BundleError(f"{show(path, 300)}: holds a {show(manifest['kind'])}, wanted a {kind}")
    files = {name: _file(path, name, entry) for name, entry in manifest["files"].items()}
    return Bundle(path, kind, manifest["about"], files)


def _manifest(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()[: MANIFEST_LIMIT + 1]
    damaged = BundleError(f"{show(path, 300)}: damaged: not a manifest that echoic wrote")
    if len(raw) > MANIFEST_LIMIT:
        raise damaged
    try:
        manifest = json.loads(raw)
        version, *_ = (manifest[key] for key in ("format", "kind", "about", "files"))
        stated = manifest.pop("sha256")
        whole = durable.sha256(canonical(manifest)) == stated and raw == canonical({**manifest, "sha256": stated})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if isinstance(version, int) and version > FORMAT:
        raise Newer(
            f"{show(path, 300)}: written in format {version}, this release reads up to {FORMAT}; install a newer echoic"
        )
    if not whole:
        raise damaged
    return dict(manifest)


def _file(folder: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    parts = PurePosixPath(name)
    where = show(folder / name, 300)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or (folder / name).is_symlink():
        raise BundleError(f"{where}: a bundle's files stay inside it")
    try:
        if (size := (folder / name).stat().st_size) != entry["bytes"]:
            raise BundleError(f"{where}: damaged: {size:,} bytes, the manifest says {entry['bytes']:,}")
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{where}: missing") from None
    if durable.sha256(data) != entry["sha256"]:
        raise BundleError(
            f"{where}: damaged: SHA-256 {durable.sha256(data)[:12]}…, the manifest says {entry['sha256'][:12]}…"
        )
    return data
