"""A bundle is refused by name if a single bit of it is not as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from echoic.core import bundle, durable
from echoic.core.errors import BundleError, CannotCreate, InputMissing

FILES = {
    "model.safetensors": bytes(range(0, 256, 8)),
    "labels.json": b'["a","b"]',
    "sub/vocabulary.txt": "好坏".encode(),
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    bundle.write(tmp_path / "b", "bundle", {"seed": 3}, FILES)
    return tmp_path / "b"


def test_what_is_written_is_read(written: Path) -> None:
    opened = bundle.read(written, "bundle")
    assert opened.files == FILES
    assert opened.about == {"seed": 3}
    assert opened.json("labels.json") == ["a", "b"]


def test_every_flipped_bit_is_refused_by_name(written: Path) -> None:
    flips = 0
    for name in [*FILES, bundle.MANIFEST]:
        path = written / name
        good = path.read_bytes()
        for place in range(len(good)):
            for bit in range(8):
                path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
                with pytest.raises(BundleError, match=path.name):
                    bundle.read(written, "bundle")
                flips += 1
        path.write_bytes(good)
    assert flips > 4_000
    assert bundle.read(written, "bundle").files == FILES


def test_every_truncation_is_refused_by_name(written: Path) -> None:
    for name in [*FILES, bundle.MANIFEST]:
        path = written / name
        good = path.read_bytes()
        for size in range(len(good)):
            path.write_bytes(good[:size])
            with pytest.raises(BundleError, match=path.name):
                bundle.read(written, "bundle")
        path.write_bytes(good)


def test_the_digest_is_what_refuses(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: with a digest that never differs, a flipped bit would load silently."""
    monkeypatch.setattr(durable, "sha256", lambda data: "0" * 64)
    bundle.write(written, "bundle", {}, FILES)
    (written / "labels.json").write_bytes(b'["b","a"]')
    assert bundle.read(written, "bundle").json("labels.json") == ["b", "a"]


def test_a_missing_file_is_named(written: Path) -> None:
    (written / "labels.json").unlink()
    with pytest.raises(BundleError, match=r"labels\.json: missing"):
        bundle.read(written, "bundle")


def test_a_newer_format_names_both_versions(written: Path) -> None:
    manifest = json.loads((written / bundle.MANIFEST).read_bytes())
    manifest["format"] = 7
    (written / bundle.MANIFEST).write_bytes(bundle.canonical(manifest))
    with pytest.raises(BundleError, match=r"format 7, this release reads up to 1"):
        bundle.read(written, "bundle")


def test_another_kind_is_refused(written: Path) -> None:
    with pytest.raises(BundleError, match="holds a bundle, wanted a checkpoint"):
        bundle.read(written, "checkpoint")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "..\\b"])
def test_no_path_leaves_the_folder(written: Path, name: str) -> None:
    manifest = json.loads((written / bundle.MANIFEST).read_bytes())
    manifest.pop("sha256")
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    manifest["sha256"] = durable.sha256(bundle.canonical(manifest))
    (written / bundle.MANIFEST).write_bytes(bundle.canonical(manifest))
    with pytest.raises(BundleError, match="stay inside"):
        bundle.read(written, "bundle")


def test_a_link_out_of_the_folder_is_refused(written: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(FILES["labels.json"])
    (written / "labels.json").unlink()
    (written / "labels.json").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="stay inside"):
        bundle.read(written, "bundle")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"format": "x"}', b"[" * 100_000, b"\xff\xfe", b"9" * 10_000]
)
def test_a_foreign_manifest_is_no_traceback(written: Path, content: bytes) -> None:
    (written / bundle.MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="manifest"):
        bundle.read(written, "bundle")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError, match="a pickle is never loaded"):
        bundle.read(tmp_path / "model.pt", "bundle")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="no such"):
        bundle.read(tmp_path / "absent", "bundle")
    with pytest.raises(BundleError, match="not a bundle"):
        bundle.read(tmp_path, "bundle")


def test_nothing_but_a_bundle_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "models" / "other").mkdir(parents=True)
    (tmp_path / "note.txt").write_text("mine")
    for place in ("models", "note.txt"):
        with pytest.raises(CannotCreate, match="is no bundle"):
            bundle.write(tmp_path / place, "bundle", {}, FILES)
    assert (tmp_path / "models" / "other").is_dir()
    assert (tmp_path / "note.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    for content in (FILES, {"a": b"b"}):
        bundle.write(tmp_path / "empty", "bundle", {}, content)
        assert bundle.read(tmp_path / "empty", "bundle").files == content


def test_a_manifest_too_large_to_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="manifest of"):
        bundle.write(tmp_path / "b", "bundle", {"labels": ["x" * 100] * 20_000}, FILES)
    assert not (tmp_path / "b").exists()


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    bundle.write(tmp_path / "a", "bundle", {"x": 1, "y": 2}, FILES)
    bundle.write(tmp_path / "b", "bundle", {"y": 2, "x": 1}, dict(reversed(FILES.items())))
    assert (tmp_path / "a" / bundle.MANIFEST).read_bytes() == (tmp_path / "b" / bundle.MANIFEST).read_bytes()
