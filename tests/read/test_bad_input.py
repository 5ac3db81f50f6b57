"""Bad input, one row a case: its exit code and what its message must say (no case is a traceback)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from echoic.core.config import DataConfig
from echoic.core.errors import EchoicError
from echoic.read.check import require_trainable
from echoic.read.tables import read_table, stream_texts

GOOD = "text,label\ngood film,1\nbad film,0\n"


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def sqlite_file() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    data = connection.serialize()
    connection.close()
    return data


def parquet_file() -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": ["x", "y"]}), out, store_schema=False)
    return out.getvalue()


@dataclass
class Case:
    id: str
    data: bytes | str
    code: int
    says: list[str]
    name: str = "in.csv"
    settings: dict[str, Any] = field(default_factory=dict)


def deep(n: int) -> str:
    return '{"text": "a", "label": "b", "x": ' + "[" * n + "]" * n + "}\n"


CASES = [
    Case("empty", b"", 65, ["empty"]),
    Case("empty gzip", gzip.compress(b""), 65, ["0 rows"]),
    Case("header only", "text,label\n", 65, ["0 rows"]),
    Case("blank lines", "\n  \n\n", 65, ["0 rows"]),
    Case("blank lines txt", "\n  \n\n", 65, ["0 rows"], "in.txt"),
    Case("blank lines jsonl", "\n  \n\n", 65, ["0 rows"], "in.jsonl"),
    Case("BOM only", b"\xef\xbb\xbf", 65, ["0 rows"]),
    Case("utf-16 with BOM", GOOD.encode("utf-16"), 65, ["looks like UTF-16; use --encoding utf-16"]),
    Case("utf-16-be no BOM", GOOD.encode("utf-16-be"), 65, ["looks like UTF-16-BE; use --encoding utf-16-be"]),
    Case("utf-32", GOOD.encode("utf-32"), 65, ["looks like UTF-32; use --encoding utf-32"]),
    Case("utf-16 jsonl", '{"text": "a"}\n'.encode("utf-16"), 65, ["looks like UTF-16"], "in.jsonl"),
    Case(
        "bad byte",
        b"text,label\nfine,1\ncaf\xe9 x,0\n",
        65,
        ["row 2", "byte offset 21", "--encoding", "--on-bad-bytes replace", "0xe9"],
    ),
    Case("bad byte in header", b"te\xffxt,label\na,b\n", 65, ["line 1", "byte offset 2"]),
    Case("cut-off character", "text,label\n好,1\n坏".encode()[:-1], 65, ["row 2", "byte offset 17"]),
    Case("bad byte after BOM", b"\xef\xbb\xbftext,label\na\xff,1\n", 65, ["row 1", "byte offset 15"]),
    Case(
        "gb18030",
        "text,label\n这家酒店很好,1\n".encode("gb18030"),
        65,
        ["row 1", "byte offset 11", "--encoding gb18030"],
    ),
    Case(
        "latin-1 is not gb18030",
        "text,label\nun café très agréable à côté,1\n".encode("latin-1"),
        65,
        ["name its --encoding"],
    ),
    Case(
        "bad gb18030",
        b"text,label\n\xba\xc3\xff\xff,1\n",
        65,
        ["row 1", "byte offset 13"],
        settings={"encoding": "gb18030"},
    ),
    Case("odd utf-16", GOOD.encode("utf-16") + b"a", 65, ["row 3", "byte offset"], settings={"encoding": "utf-16"}),
    Case(
        "utf-16 without its mark",
        GOOD.encode("utf-16-le"),
        65,
        ["line 1", "--encoding utf-16-le"],
        settings={"encoding": "utf-16"},
    ),
    Case("bare carriage return, nameless", "a\rb,1\nc,2\n", 65, ["texts without labels"], "in"),
    Case("parquet with a broken name", parquet_file().replace(b"label", b"lab\xa2l"), 65, ["damaged"], "in.parquet"),
    Case(
        "zip with a broken index",
        zipped({"a.csv": GOOD.encode()})[:-30] + b"\x00\x00PK\x05\x06" + b"\xff" * 24,
        65,
        ["damaged zip"],
    ),
    Case("no utf-16 at all", b"ab\xd8\xd8\xd8\xd8", 65, ["line 1", "byte offset"], settings={"encoding": "utf-16"}),
    Case("unknown encoding", GOOD, 78, ["'utf-9000'"], settings={"encoding": "utf-9000"}),
    Case("no text encoding", GOOD, 78, ["'rot13'"], settings={"encoding": "rot13"}),
    Case("NUL", "text,label\nfine,1\na\0b,0\n", 65, ["row 2", "NUL", "column 2"]),
    Case("NUL jsonl", '{"text": "a\0", "label": "b"}\n', 65, ["row 1", "NUL"], "in.jsonl"),
    Case("NUL txt", "hello\0\n", 65, ["NUL"], "in.txt"),
    Case("gzip in gzip", gzip.compress(gzip.compress(GOOD.encode())), 65, ["looks like gzip, not CSV"]),
    Case(
        "excel", zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}), 65, ["looks like Excel, not CSV"]
    ),
    Case("old excel", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, 65, ["looks like Excel, not CSV"]),
    Case("pickle", pickle.dumps({"text": ["a"]}), 65, ["looks like pickle, not CSV"]),
    Case("torch zip", zipped({"archive/data.pkl": b"\x80\x02.", "archive/version": b"3"}), 65, ["looks like pickle"]),
    Case("png", b"\x89PNG\r\n\x1a\n" + b"\0" * 30, 65, ["looks like PNG, not CSV"]),
    Case("pdf", b"%PDF-1.7\n%\xe2\xe3\n", 65, ["looks like PDF, not CSV"]),
    Case("sqlite", sqlite_file(), 65, ["looks like SQLite, not CSV"]),
    Case("tar in xz", lzma.compress(b"a" * 257 + b"ustar\0" + b"0" * 400), 65, ["looks like tar, not CSV"]),
    Case("pickle in bz2", bz2.compress(pickle.dumps([1])), 65, ["looks like pickle"]),
    Case("zip of two", zipped({"a.csv": b"a", "b.csv": b"b"}), 65, ["a zip of 2 files"]),
    Case("zip of none", zipped({}), 65, ["a zip of 0 files"]),
    Case("broken zip", zipped({"a.csv": GOOD.encode()})[:40], 65, ["damaged zip"]),
    Case("cut gzip", gzip.compress(GOOD.encode() * 99)[:-12], 65, ["damaged gzip"]),
    Case("cut xz", lzma.compress(GOOD.encode() * 99)[:-12], 65, ["damaged xz"]),
    Case("cut bz2", bz2.compress(GOOD.encode() * 99)[:-12], 65, ["damaged bzip2"]),
    Case("flipped gzip", gzip.compress(GOOD.encode())[:-8] + b"\1\2\3\4\5\6\7\x08", 65, ["damaged gzip"]),
    *(
        Case(
            f"bomb {name}",
            pack((b"a" * 1000 + b",b\n") * 2000),
            65,
            ["expands past limit 1 MiB (--max-bytes)"],
            settings={"max_bytes": 1 << 20},
        )
        for name, pack in (
            ("gzip", gzip.compress),
            ("xz", lzma.compress),
            ("bz2", bz2.compress),
            ("zip", lambda b: zipped({"a.csv": b})),
        )
    ),
    Case(
        "plain past the limit",
        GOOD * 9,
        65,
        ["larger than the limit 100 bytes (--max-bytes)"],
        settings={"max_bytes": 100},
    ),
    Case(
        "unclosed quote", 'text,label\na,1\n"b,0\nc,1\nd,0\n', 65, ["row 2 (line 3)", "opens in line 3", "never closed"]
    ),
    Case("unclosed quote in header", '"text,label\na,1\n', 65, ["line 1", "never closed"]),
    Case("quote goes on", 'text,label\na,1\n"b" c,0\n', 65, ["row 2", "closing quote"]),
    Case("quote closed rows later", 'text,label\n"a,1\nb,0\n"c",1\n', 65, ["row 1 (line 2)", "opens in line 2"]),
    Case("bare carriage return", "text,label\na\rb,1\n", 65, ["row 1", "carriage return"]),
    Case(
        "field too long",
        "text,label\nok,1\n" + "x" * 41 + ",0\n",
        65,
        ["row 2", "41 characters", "--max-field"],
        settings={"max_field": 40},
    ),
    Case(
        "field too long jsonl",
        '{"text": "%s", "label": "a"}\n' % ("x" * 41),
        65,
        ["row 1", "41 characters"],
        "in.jsonl",
        {"max_field": 40},
    ),
    Case("line without end", b"text,label\n" + b"x" * 90_000, 65, ["row 1", "--max-field"], settings={"max_field": 40}),
    Case("too few fields", "text,label\na,1\nb\n", 65, ["row 2", "got 1 field, want 2", "--skip-bad"]),
    Case("too many fields", "text,label\na,1\nb,c,0\n", 65, ["row 2", "got 3 fields, want 2", "--skip-bad"]),
    Case("row after multi-line row", 'text,label\n"a\nb",1\nc\n', 65, ["row 2 (line 4)"]),
    Case("only ragged rows", "text,label\na\nb\n", 65, ["0 rows", "2 were skipped"], settings={"skip_bad": True}),
    Case("duplicate columns", "text,label,text\na,1,b\n", 65, ["'text'", "positions 1, 3"]),
    Case(
        "no such text column",
        GOOD,
        65,
        ["'texts'", "did you mean 'text'", "columns: text, label"],
        settings={"text": "texts"},
    ),
    Case("no such label column", GOOD, 65, ["'zzz'", "columns: text, label", "--label"], settings={"label": "zzz"}),
    Case("column 0", GOOD, 65, ["'0'"], settings={"label": "0"}),
    Case("column 3 of 2", GOOD, 65, ["'3'"], settings={"label": "3"}),
    Case("huge column number", GOOD, 65, ["no column"], settings={"label": "9" * 9999}),
    Case("no such group", GOOD, 65, ["'author'", "--group"], settings={"group": "author"}),
    Case("same column", GOOD, 2, ["'label'", "--text"], settings={"text": "label", "label": "2"}),
    Case("no label column", "text\na\nb\n", 65, ["no label column", "--label"]),
    Case("texts without labels", "one\ntwo\n", 65, ["without labels"], "in.txt"),
    Case("empty labels", "text,label\na,1\nb,\nc, \n", 65, ["'label'", "2 rows: 2, 3", "--drop-unlabelled"]),
    Case("null label", '{"text": "a", "label": null}\n{"text": "b"}\n', 65, ["2 rows: 1, 2"], "in.jsonl"),
    Case("fasttext line without label", "__label__a x\ny\n", 65, ["1 rows: 2"], "in.txt"),
    Case("no label left", "text,label\na,\n", 65, ["0 rows"], settings={"drop_unlabelled": True}),
    Case("all texts empty", "text,label\n,1\nNaN,0\n", 65, ["all 2 texts are empty"]),
    Case(
        "bad json", '{"text": "a", "label": "b"}\n{"text": "a",, }\n', 65, ["row 2 (line 2)", "column 14"], "in.jsonl"
    ),
    Case("array line", '["a", "b"]\n', 65, ["line 1", "column 1", "array"], "in.jsonl"),
    Case("json array file", '[{"text": "a", "label": "b"}]', 65, ["line 1", "an array"], "in.json"),
    Case("bare value", "3\n", 65, ["line 1", "column 1"], "in.jsonl"),
    Case("deep nesting", deep(100_000), 65, ["line 1", "column 133", "nested"], "in.jsonl"),
    Case(
        "giant integer",
        '{"text": "a", "label": %s}\n' % ("9" * 1_000_000),
        65,
        ["line 1", "column 24", "1,000,000 digits"],
        "in.jsonl",
    ),
    Case("overflow", '{"text": "a", "label": 1e999}\n', 65, ["column 24", "1e999"], "in.jsonl"),
    Case(
        "duplicate key", '{"text": "a", "label": "b", "text": "c"}\n', 65, ["line 1", "column 29", "'text'"], "in.jsonl"
    ),
    Case("NaN", '{"text": "NaN", "label": NaN}\n', 65, ["line 1", "column 26", "NaN"], "in.jsonl"),
    Case("-Infinity", '{"text": "a", "label": -Infinity}\n', 65, ["column 24", "Infinity"], "in.jsonl"),
    Case(
        "lone surrogate",
        '{"text": "ok \\ud83d\\ude00", "label": "1"}\n{"text": "a\\ud800b", "label": "1"}\n',
        65,
        ["line 2", "U+D800", "column 10"],
        "in.jsonl",
    ),
    Case("lone surrogate in a key", '{"te\\udfffxt": "a"}\n', 65, ["U+DFFF"], "in.jsonl"),
    Case("text missing", '{"text": "a", "label": "1"}\n{"label": "1"}\n', 65, ["row 2", "no text column"], "in.jsonl"),
    Case("text is an object", '{"text": {"a": 1}, "label": "1"}\n', 65, ["row 1", "an object"], "in.jsonl"),
    Case("label is an object", '{"text": "a", "label": {"a": 1}}\n', 65, ["row 1", "label"], "in.jsonl"),
    Case("not parquet", b"PAR1 and then nothing of the kind", 65, ["parquet"], "in.parquet"),
    Case("csv named parquet", GOOD, 65, ["not a parquet file"], "in.parquet"),
    *(
        Case(
            f"soft label {value!r}",
            f"text,pos,neg\na,0.5,0.5\nb,{value},0.5\n",
            65,
            ["row 2", says],
            settings={"soft_labels": ("pos", "neg")},
        )
        for value, says in (
            ("nan", "'pos'"),
            ("inf", "'pos'"),
            ("-0.5", "-0.5"),
            ("1_0", "1_0"),
            ("٠", "'pos'"),
            ("0.1", "sum to 0.6"),
            ("1e999", "1e999"),
            ("", "'pos'"),
        )
    ),
    Case("one soft label", "text,pos\na,1\n", 65, ["at least 2 columns"], settings={"soft_labels": ("pos",)}),
    Case("escape codes in a name", "text,\x1b[31mlabel\na,1\n", 65, ["\\x1b[31m"], settings={"label": "zz"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_input(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.data if isinstance(case.data, bytes) else case.data.encode())
    with pytest.raises(EchoicError) as caught:
        read_table(path, DataConfig(**case.settings))
    message = str(caught.value)
    assert caught.value.exit_code == case.code, message
    for part in case.says:
        assert part in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 700
    if case.code in (65, 66):
        assert case.name in message


def fails(call: Callable[[], object]) -> EchoicError:
    with pytest.raises(EchoicError) as caught:
        call()
    return caught.value


def test_missing_file_and_directory(tmp_path: Path) -> None:
    error = fails(lambda: read_table(tmp_path / "nein.csv", DataConfig()))
    assert error.exit_code == 66
    assert "nein.csv: no such file" in str(error)
    error = fails(lambda: read_table(tmp_path, DataConfig()))
    assert error.exit_code == 65
    assert "is a directory" in str(error)
    assert fails(lambda: read_table("a\0b", DataConfig())).exit_code == 66
    assert fails(lambda: read_table("x" * 5000, DataConfig())).exit_code == 66
    assert "\\n" in str(fails(lambda: read_table("with\nnewline", DataConfig())))


def test_no_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.csv"
    path.write_text(GOOD)
    if os.geteuid() == 0:  # root may read everything, so the system call is made to refuse

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    else:
        path.chmod(0)
    error = fails(lambda: read_table(path, DataConfig()))
    assert error.exit_code == 77
    assert "in.csv" in str(error)


def test_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.csv"
    path.write_text(GOOD)

    def broken(self: object, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    opened_file = type("File", (io.RawIOBase,), {"read": broken})
    monkeypatch.setattr("builtins.open", lambda *_, **__: opened_file())
    assert fails(lambda: read_table(path, DataConfig())).exit_code == 74


def test_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert fails(lambda: read_table("-", DataConfig())).exit_code == 66


def test_a_stream_meets_the_bad_row_after_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"text\n" + b"fine\n" * 2000 + b"\xff\n")
    stream = stream_texts(path, DataConfig())
    got = [next(stream).input for _ in range(2000)]
    assert got == ["fine"] * 2000
    assert "row 2001 (line 2002)" in str(fails(lambda: next(stream)))


@pytest.mark.parametrize(
    ("text", "minimum", "says"),
    [
        ("text,label\na,x\nb,x\n", 2, ["needs >=2 classes, found 1: 'x'"]),
        ("text,label\na,x\nb,x\nc,y\n", 2, ["'y' (1 row)", "--min-class-count"]),
        ("text,label\na,x\nb,x\nc,y\nd,y\n", 3, ["'x' (2 rows)", "'y' (2 rows)"]),
        ("text,label\n" + "".join(f"t{i},id{i}\n" for i in range(100)), 1, ["labels look like ids", "100 different"]),
    ],
)
def test_labels_that_nothing_can_be_trained_on(text: str, minimum: int, says: list[str], tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    examples = read_table(path, DataConfig()).examples
    error = fails(lambda: require_trainable(examples, minimum, "in.csv"))
    assert error.exit_code == 65
    for part in says:
        assert part in str(error)
