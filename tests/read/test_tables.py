"""Good input: every format, compression, header, column and label gives the rows that were written."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import sys
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echoic.core.config import DataConfig
from echoic.read.tables import Table, read_table, stream_texts

CSV = 'text,label\n"good, and\nlong",pos\n"他说""好""",neg\n'
ROWS = [("good, and\nlong", "pos"), ('他说"好"', "neg")]


def read(path: Path, data: bytes | str, **settings_: object) -> Table:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_table(path, DataConfig(**settings_))  # type: ignore[arg-type]


def rows(table: Table) -> list[tuple[object, object]]:
    return [(e.input, e.target) for e in table.examples]


def zip_of(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("in.csv", data)
        archive.writestr("__MACOSX/._in.csv", b"x")
    return out.getvalue()


def zstd_of(data: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lzma.compress, bz2.compress, zip_of, zstd_of], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_compression_is_told_by_the_first_bytes(pack, name, tmp_path: Path) -> None:
    data = pack(CSV.encode())
    table = read(tmp_path / name, data)
    assert rows(table) == ROWS
    assert [e.row for e in table.examples] == [1, 2]
    assert table.digest == hashlib.sha256(data).hexdigest()
    assert (table.text, table.label, table.columns, table.skipped) == ("text", "label", ["text", "label"], 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "big5"])
def test_encodings_told(encoding: str, tmp_path: Path) -> None:
    told = "utf-8" if encoding == "utf-8-sig" else encoding
    text = CSV.replace("他说", "他說")
    table = read(tmp_path / "in.csv", text.encode(encoding), encoding=told)
    assert rows(table) == [ROWS[0], ('他說"好"', "neg")]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_characters_across_the_edges_of_chunks(encoding: str, tmp_path: Path) -> None:
    texts = ["好" * n + "a" for n in range(600)]
    table = read(tmp_path / "in.txt", "\n".join(f"__label__x {t}" for t in texts).encode(encoding), encoding=encoding)
    assert [e.input for e in table.examples] == texts


@pytest.mark.parametrize("prefix", [0, 1, 65_535, 65_536, 65_537, 131_071])
@pytest.mark.parametrize(
    ("encoding", "bad"), [("utf-8", b"\xe5\xa5x"), ("gb18030", b"\xff"), ("ascii", b"\x80"), ("big5", b"\xff")]
)
def test_the_offset_of_a_bad_byte_is_right_in_every_chunk(
    prefix: int, encoding: str, bad: bytes, tmp_path: Path
) -> None:
    line = b"x" * prefix + bad
    with pytest.raises(ValueError, match=f"row 1 .*byte offset {prefix:,} "):
        read(tmp_path / "in.txt", line, encoding=encoding)


def test_bad_bytes_replaced_are_counted(tmp_path: Path) -> None:
    table = read(tmp_path / "in.csv", b"text,label\na\xff,1\nb,0\n", on_bad_bytes="replace")
    assert rows(table) == [("a\ufffd", "1"), ("b", "0")]
    assert any("1 texts hold U+FFFD" in note for note in table.notes)


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c\x0bd\x1ce"
    assert rows(read(tmp_path / "in.csv", f"text,label\r\n{odd},1\r\n")) == [(odd, "1")]
    (tmp_path / "in.txt").write_bytes(f"{odd}\r\nz".encode())
    assert [e.input for e in stream_texts(tmp_path / "in.txt", DataConfig())] == [odd, "z"]


@pytest.mark.parametrize(("delimiter", "word"), [(",", ""), (";", "semicolon"), ("|", "bar"), ("\t", "tab")])
def test_delimiters_are_sniffed_and_said(delimiter: str, word: str, tmp_path: Path) -> None:
    lines = ["text,label", "good film,pos", "bad film,neg", "so so,pos"]
    table = read(tmp_path / "in.csv", "\n".join(lines).replace(",", delimiter))
    assert rows(table)[0] == ("good film", "pos")
    assert not word or any(word in note for note in table.notes)


def test_commas_in_texts_do_not_make_a_semicolon_table_a_comma_table(tmp_path: Path) -> None:
    table = read(tmp_path / "in.csv", "text;label\nwell, well, well;1\nno;0\nyes, indeed;1\n")
    assert rows(table) == [("well, well, well", "1"), ("no", "0"), ("yes, indeed", "1")]


def test_tsv_with_quotes_as_characters_and_as_quotes(tmp_path: Path) -> None:
    assert rows(read(tmp_path / "a.tsv", 'text\tlabel\n"so it goes\t1\nno\t0\n'))[0] == ('"so it goes', "1")
    assert rows(read(tmp_path / "b.tsv", 'text\tlabel\n"so ""it"" goes"\t1\nno\t0\n'))[0] == ('so "it" goes', "1")


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("text,label\na,1\nb,0\n", True),
        ("评论,情感\n很好,1\n不好,0\n", True),
        ("a long enough text here,1\nanother long one there,0\nand a third of these,1\n", False),
        ("1,good content\n0,bad content\n1,nice review\n", False),
        ("question,how are you\nstatement,i am fine\nquestion,why is that\n", False),
        ("frase,nota\nmuy buena pelicula la de ayer,1\nmala pelicula la de hoy,0\n", True),
        ("很好,正面\n不好,负面\n还行,正面\n", False),
    ],
)
def test_header_found_by_looking(text: str, header: bool, tmp_path: Path) -> None:
    table = read(tmp_path / "in.csv", text)
    assert len(table.examples) == text.count("\n") - header
    assert any(("names the columns" if header else "no header") in note for note in table.notes)


def test_header_told(tmp_path: Path) -> None:
    table = read(tmp_path / "in.csv", "text,label\na,1\n", header=False, text="1", label="2")
    assert rows(table) == [("text", "label"), ("a", "1")]
    table = read(tmp_path / "in.csv", "1,good film\n0,bad film\n", header=True, text="2", label="1")
    assert rows(table) == [("bad film", "0")]
    assert table.text == "good film"


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("id,label,group,text", "text", "label"),
        ("label,fine_label,text", "text", "label"),
        ("Review Text,Rating", "Review Text", "Rating"),
        ("类别,标题,内容", "内容", "类别"),
        ("sentiment,tweet", "tweet", "sentiment"),
        ("user_id,comment,toxic_label", "comment", "toxic_label"),
    ],
)
def test_columns_by_name(header: str, text: str, label: str, tmp_path: Path) -> None:
    cells = ",".join(f"c{i}" for i in range(header.count(",") + 1))
    table = read(tmp_path / "in.csv", f"{header}\n{cells}\n")
    assert (table.text, table.label) == (text, label)
    assert any(repr(text) in note for note in table.notes)


def test_columns_by_shape(tmp_path: Path) -> None:
    body = "".join(f"{i},a rather long text number {i},{'yn'[i % 2]},k\n" for i in range(30))
    table = read(tmp_path / "in.csv", body)
    assert (table.text, table.label) == ("2", "3")
    assert rows(table)[1] == ("a rather long text number 1", "n")


def test_a_column_by_number_and_a_name_that_is_a_number(tmp_path: Path) -> None:
    table = read(tmp_path / "in.csv", "a,b,c\nx,y,z\n", text="3", label="1", header=True)
    assert rows(table) == [("z", "x")]
    table = read(tmp_path / "in.csv", "2,1,text\nx,y,z\n", label="1", header=True)
    assert rows(table) == [("z", "y")]


def test_like_reads_the_next_file_the_same_way(tmp_path: Path) -> None:
    first = read(tmp_path / "a.csv", "title,body,topic,label\nt,b,x,1\n", text="title", label="topic")
    (tmp_path / "b.csv").write_text("label,topic,title,body\n1,x,t,b\n")
    assert rows(read_table(tmp_path / "b.csv", DataConfig(), like=first.chosen)) == [("t", "x")]
    (tmp_path / "c.csv").write_text("body,title\nb,t\n")
    assert [e.input for e in stream_texts(tmp_path / "c.csv", DataConfig(), like=first.chosen)] == ["t"]
    assert rows(read_table(tmp_path / "c.csv", DataConfig(), like=first.chosen, need_label=False)) == [("t", None)]


def test_text_files(tmp_path: Path) -> None:
    assert rows(read(tmp_path / "a.txt", "1\tgood film\n0\tbad film\n1\tfine\n")) == [
        ("good film", "1"),
        ("bad film", "0"),
        ("fine", "1"),
    ]
    assert rows(read(tmp_path / "b.txt", "__label__a good\n__label__b bad, it is\n")) == [
        ("good", "a"),
        ("bad, it is", "b"),
    ]
    assert rows(read(tmp_path / "c.txt", "__label__a __label__b x\n__label__b y\n")) == [
        ("x", ("a", "b")),
        ("y", ("b",)),
    ]
    (tmp_path / "d.txt").write_text("one, two\n\nthree\n\n")
    assert [(e.row, e.input) for e in stream_texts(tmp_path / "d.txt", DataConfig())] == [
        (1, "one, two"),
        (2, ""),
        (3, "three"),
    ]


def test_jsonl_cells_keep_their_spelling(tmp_path: Path) -> None:
    lines = [
        '{"text": "a\\u2028b", "label": 1}',
        '{"label": 1.0, "text": 7}',
        '{"text": null, "label": true, "x": [{"y": null}]}',
        "",
    ]
    assert rows(read(tmp_path / "in.jsonl", "\n".join(lines))) == [("a\u2028b", "1"), ("7", "1.0"), ("", "true")]
    table = read(
        tmp_path / "in.jsonl",
        '{"text": "a", "labels": ["x", "y", "x"]}\n{"text": "b", "labels": []}\n{"text": "c", "labels": "z"}\n',
    )
    assert rows(table) == [("a", ("x", "y")), ("b", ()), ("c", ("z",))]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table({"text": ["good", None, "好"], "label": [1, 0, 1], "tags": [["a"], [], ["a", "b"]]})
    parquet.write_table(table, tmp_path / "in.parquet")
    assert rows(read_table(tmp_path / "in.parquet", DataConfig())) == [("good", "1"), ("", "0"), ("好", "1")]
    (tmp_path / "packed.bin").write_bytes(gzip.compress((tmp_path / "in.parquet").read_bytes()))
    got = read_table(tmp_path / "packed.bin", DataConfig(label="tags"))
    assert [e.target for e in got.examples] == [("a",), (), ("a", "b")]
    with pytest.raises(ValueError, match="expands past limit 10 bytes"):
        read_table(tmp_path / "packed.bin", DataConfig(max_bytes=10))


def test_parquet_that_expands_in_memory_is_bounded(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"text": ["x" * 1000] * 5000, "label": ["a"] * 5000}), tmp_path / "in.parquet", compression="zstd"
    )
    assert (tmp_path / "in.parquet").stat().st_size < 100_000
    with pytest.raises(ValueError, match="--max-bytes"):
        read_table(tmp_path / "in.parquet", DataConfig(max_bytes=100_000))


@pytest.mark.parametrize("data", [CSV, '{"text": "x", "label": "y"}\n', "__label__y x\n"])
def test_stdin_is_sniffed(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data.encode()), closed=False))
    assert rows(read_table("-", DataConfig())) == (ROWS if data == CSV else [("x", "y")])


def test_sentences_with_commas_on_stdin_are_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"hello, world\ngood, bye\nso, long\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), closed=False))
    assert [e.input for e in stream_texts("-", DataConfig())] == data.decode().splitlines()


def test_labels_stand_as_they_are_and_separators_part_them(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text,label\na,x|y\nb,y | z|y\nc,\n")
    table = read_table(path, DataConfig(), label_separator="|")
    assert rows(table) == [("a", ("x", "y")), ("b", ("y", "z")), ("c", ())]
    assert any("1 rows carry none" in note for note in table.notes)
    path.write_text("text,label\na, x|y\n")
    assert rows(read_table(path, DataConfig())) == [("a", " x|y")]


def test_soft_labels(tmp_path: Path) -> None:
    table = read(tmp_path / "in.csv", "text,pos,neg\na,0.25,0.75\nb,0.67,0.34\nc,1,0\n", soft_labels=["pos", "neg"])
    assert table.label is None
    assert table.examples[0].target == {"pos": 0.25, "neg": 0.75}
    assert table.examples[1].target == pytest.approx({"pos": 0.67 / 1.01, "neg": 0.34 / 1.01})
    assert sum("1 rows did not sum to 1" in note for note in table.notes) == 1
    assert rows(
        read(tmp_path / "in.csv", "text,pos,neg\na,,\nb,1,0\n", soft_labels=["pos", "neg"], drop_unlabelled=True)
    ) == [("b", {"pos": 1, "neg": 0})]


def test_groups_skips_and_drops_are_counted(tmp_path: Path) -> None:
    table = read(
        tmp_path / "in.csv",
        "text,label,who\na,1,ann\nb\nc,,bob\n,0,\n",
        group="who",
        skip_bad=True,
        drop_unlabelled=True,
    )
    assert [(e.input, e.target, e.group, e.row) for e in table.examples] == [("a", "1", "ann", 1), ("", "0", None, 4)]
    assert table.skipped == 2
    assert any("row 2" in note for note in table.notes)
    assert any("dropped: 3" in note for note in table.notes)


def test_notes_are_said_as_they_are_kept(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text;label\na;1\n")
    said: list[str] = []
    assert read_table(tmp_path / "in.csv", DataConfig(), said=said.append).notes == said != []


def test_a_stream_takes_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + (b"x" * 999 + b"\n") * 20_000))
    tracemalloc.start()
    assert sum(1 for _ in stream_texts(path, DataConfig())) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


def test_a_plain_stream_is_not_bounded(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hello\n" * 100)
    assert sum(1 for _ in stream_texts(tmp_path / "in.txt", DataConfig(max_bytes=10))) == 100


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(st.tuples(ANY_TEXT, st.sampled_from(["pos", "neg", "正"])), min_size=1, max_size=8))
def test_what_csv_and_json_write_is_what_is_read(
    cells: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *cells])
    cells = cells if any(text.strip() for text, _ in cells) else [*cells, ("x", "pos")]
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *cells])
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in cells)
    if all(text.strip().casefold() in ("", "nan", "none", "null") for text, _ in cells):
        return
    assert rows(read(folder / "in.csv", out.getvalue())) == cells
    assert rows(read(folder / "in.jsonl", lines)) == cells


def test_labels_of_fasttext_end_at_any_white_space(tmp_path: Path) -> None:
    table = read(tmp_path / "a.txt", "__label__pos\tgood film here\n__label__neg dull\tfilm\n__label__pos\n")
    assert rows(table) == [("good film here", "pos"), ("dull\tfilm", "neg"), ("", "pos")]


def test_a_blank_cell_of_one_column_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\na\n""\n\n  \nb\n')
    found = list(stream_texts(tmp_path / "a.csv", DataConfig()))
    assert [(e.input, e.row) for e in found] == [("a", 1), ("", 2), ("  ", 3), ("b", 4)]


def test_spaces_behind_delimiters_are_left_out(tmp_path: Path) -> None:
    table = read(tmp_path / "a.csv", 'text, label\n"good, film", "pos"\n"dull, film", "neg"\n')
    assert rows(table) == [("good, film", "pos"), ("dull, film", "neg")]
    assert "The space behind each comma is left out." in table.notes


def test_a_long_first_field_without_a_header(tmp_path: Path) -> None:
    limit = csv.field_size_limit(1 << 17)
    try:
        table = read(tmp_path / "a.csv", f"pos,{'x ' * 100_000}\nneg,{'y ' * 9}\n" * 3, header=False)
        assert len(table.examples) == 6
    finally:
        csv.field_size_limit(max(limit, csv.field_size_limit()))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "gb18030"])
def test_a_byte_order_mark_is_no_letter_of_a_name(encoding: str, tmp_path: Path) -> None:
    data = "\ufefftext,label\ngood,pos\ndull,neg\n".encode(encoding)
    assert read(tmp_path / "a.csv", data, encoding=encoding).columns == ["text", "label"]


def test_dates_that_python_does_not_hold(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    when = pyarrow.array([2**61, 1], pyarrow.timestamp("us"))
    table = pyarrow.table({"text": ["a b", "c d"], "label": ["x", "y"], "when": when})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert rows(read_table(tmp_path / "a.parquet", DataConfig())) == [("a b", "x"), ("c d", "y")]


def test_without_labels_none_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a b c", "tags": [{"n": 1}]}\n' * 2)
    table = read_table(tmp_path / "a.jsonl", DataConfig(), need_label=False)
    assert rows(table) == [("a b c", None)] * 2
    assert not any("label" in note for note in table.notes)


def test_text_that_begins_as_a_picture_does(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "ID3,text,label\n1,good,pos\n2,dull,neg\n").columns[0] == "ID3"
