"""Running text: one text as it stands, whatever the file is packed in, and cut at its end."""

from __future__ import annotations

import gzip
import io
import lzma
from pathlib import Path
from types import SimpleNamespace

import pytest

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, InputMissing, UsageError
from echoic.core.types import Example
from echoic.read.streams import cut, read_running_text, read_unlabelled

TEXT = "One, two\tthree\n\n  four  \n五六\u2028七\n"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz", "a.gz", "corpus", "a.md"])
def test_a_text_is_read_as_it_stands(tmp_path: Path, name: str) -> None:
    raw = TEXT.encode()
    packed = {".xz": lzma.compress, ".gz": gzip.compress}.get(Path(name).suffix, lambda data: data)(raw)
    (tmp_path / name).write_bytes(packed)
    said: list[str] = []
    table = read_running_text(tmp_path / name, DataConfig(), said=said.append)
    assert [e.input for e in table.examples] == [TEXT]
    assert said == table.notes == ["read as one text of 30 characters in 5 lines"]


def test_stdin_marks_and_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\xef\xbb\xbfa\r\nb\rc\n"), closed=False))
    assert read_running_text("-", DataConfig()).examples[0].input == "a\nb\rc\n"


def test_a_table_has_a_text_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,text\npos,first one\nneg,second one\n")
    table = read_running_text(path, DataConfig())
    assert [(e.input, e.target) for e in table.examples] == [("first one", None), ("second one", None)]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "first one"}\n{"text": "second one"}\n')
    assert len(read_running_text(lines, DataConfig()).examples) == 2


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"", DataError, "empty"),
        (b" \n\n\t", DataError, "nothing but white space"),
        (b"good\nb\xffd\n", DataError, "line 2: .*0xff"),
        (b"abcdefgh\n\x00b\n", DataError, "line 2: NUL"),
        ("ab".encode("utf-16"), DataError, "UTF-16"),
        (b"\x89PNG\r\n....", DataError, "PNG"),
    ],
)
def test_bad_files(tmp_path: Path, raw: bytes, error: type[Exception], says: str) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(error, match=says):
        read_running_text(tmp_path / "a.txt", DataConfig())


def test_a_missing_file_and_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        read_running_text(tmp_path / "none.txt", DataConfig())
    for settings in ({"label": "x"}, {"group": "x"}, {"soft_labels": ("a", "b")}):
        with pytest.raises(UsageError, match="no labels"):
            read_running_text(tmp_path / "none.txt", DataConfig(**settings))


def test_the_end_is_held_out() -> None:
    (train,), (valid,) = cut([Example("0123456789", row=1)], 0.25)
    assert (train.input, valid.input) == ("0123456", "789")
    texts = [Example(str(i), row=i) for i in range(10)]
    first, last = cut(texts, 0.1)
    assert [e.input for e in first + last] == [e.input for e in texts]
    assert len(last) == 1
    for few in (0.999, 0.001):
        assert all(cut(texts[:2], few))
    with pytest.raises(DataError, match="too short"):
        cut([Example("a")], 0.1)


def test_a_tables_name_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text("comment,text\nfirst one,x\nsecond one,y\n")
    assert read_unlabelled(tmp_path / "A.CSV", DataConfig(text="comment")).text == "comment"
