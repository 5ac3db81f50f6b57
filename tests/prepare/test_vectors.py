from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import zipfile

import numpy as np
import pytest

from echoic.core.errors import DataError, InputMissing, StorageError
from echoic.prepare.vectors import digest_of, load_vectors

VOCABULARY = ["<pad>", "<unk>", "<empty>", "cat", "Dog", "中", "nowhere", "don't"]
ROWS = {
    "dog": [1.0, 2.0, 3.0],
    "cat": [-1.5, 0.25, 1e-3],
    "other": [9, 9, 9],
    "中": [4, 5, 6],
    "don't": [7, 8, 9],
    "<unk>": [5, 5, 5],
}


def text(rows=ROWS, header=False, end="\n") -> bytes:
    lines = [f"{len(rows)} 3"] if header else []
    lines += [f"{word} {' '.join(map(str, row))}" for word, row in rows.items()]
    return "".join(line + end for line in lines).encode()


def binary(rows=ROWS, feed=b"\n") -> bytes:
    return f"{len(rows)} 3\n".encode() + b"".join(
        word.encode() + b" " + np.array(row, "<f4").tobytes() + feed for word, row in rows.items()
    )


FORMATS = {
    "GloVe": text(),
    "word2vec text": text(header=True),
    "fastText .vec": text(header=True, end=" \n"),
    "windows": text(end="\r\n"),
    "a blank line at the end": text() + b"\n",
    "and behind a header": text(header=True) + b"\r\n",
    "word2vec binary": binary(),
    "gensim binary": binary(feed=b""),
    "gz": gzip.compress(text(), mtime=0),
    "xz": lzma.compress(binary()),
    "bz2": bz2.compress(text(header=True)),
}


def load(tmp_path, data: bytes, **named):
    (tmp_path / "v").write_bytes(data)
    return load_vectors(tmp_path / "v", VOCABULARY, **named)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path, name):
    vectors = load(tmp_path, FORMATS[name])
    assert vectors.matrix.dtype == np.float32
    assert vectors.found.tolist() == [False, False, False, True, True, True, False, True]
    np.testing.assert_allclose(
        vectors.matrix[[3, 4, 5, 7]], [ROWS["cat"], ROWS["dog"], ROWS["中"], ROWS["don't"]], rtol=1e-6
    )
    assert not vectors.matrix[0].any()
    assert "4 of 5 tokens (80.0%)" in vectors.notes[0]


def test_missing_rows_are_noise_of_the_same_size_from_the_seed(tmp_path):
    vocabulary = [*VOCABULARY, *(f"missing{i}" for i in range(2000))]
    (tmp_path / "v").write_bytes(text())
    first, again, other = (load_vectors(tmp_path / "v", vocabulary, seed=seed).matrix for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[8:].std() == pytest.approx(first[[3, 4, 5, 7]].std(), rel=0.05)
    assert first[1].any()
    assert first[2].any()


def test_the_word_itself_before_lower_case(tmp_path):
    vectors = load(tmp_path, text({"dog": [1, 1, 1], "Dog": [2, 2, 2], "cat": [3, 3, 3]}))
    assert vectors.matrix[4].tolist() == [2, 2, 2]
    assert vectors.matrix[3].tolist() == [3, 3, 3]


def test_a_word_with_spaces_and_the_first_of_two(tmp_path):
    vectors = load(tmp_path, b"the 1 1 1\n. . 9 9 9\ncat 2 2 2\ncat 3 3 3\n")
    assert vectors.matrix[3].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (text() + b"cut 1 2\n", "line 7: 2 numbers, wants 3"),
        (b"the 1 2 3\ncat 1 x 3\n", "line 2: could not convert"),
        (b"the 1 2 3\ncat 1 nan 3\n", "line 2: number 2 is not finite"),
        (b"9 3\ncat 1 2 3\n", "1 vectors, its first line promises 9"),
        (b"only\nwords\n", "line 1: not a file of word vectors"),
        (b"the 1 2 3\nzebra 1 2 3\n", "none of the vocabulary's 5 tokens"),
        (binary()[:-6], "word 6 of 6: no vector of 3 numbers"),
        (binary({"cat": [1, np.inf, 2]}), "word 1: number 2 is not finite"),
        ((793712314).to_bytes(4, "little") + b"\x0c\0\0\0", r"fastText \.bin"),
        (gzip.compress(text(), mtime=0)[:-12], "damaged"),
        (lzma.compress(text())[:-12], "damaged"),
        (b"1 " + b"9" * 12 + b"\ncat 1\n", "line 1: not a file of word vectors"),
        (b"the 1 2 3\ncat   5\n", "line 2: 1 numbers, wants 3"),
        (b"the 1 2 3\ncat 1  2\n", "line 2: 2 numbers, wants 3"),
        (b"the 1 2 3\ncat 1\t9 2 3\n", "line 2: 4 numbers, wants 3"),
        (gzip.compress(text(), mtime=0)[:40] + b"\xff" * 30, "damaged"),
        (bz2.compress(text())[:-12], "damaged"),
        (bz2.compress(text())[:30] + b"\xff" * 60, "damaged"),
        (lzma.compress(text())[:40] + b"\xff" * 60, "damaged"),
    ],
)
def test_refused(tmp_path, data, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_the_digest_is_that_of_the_file_as_it_stands(tmp_path):
    data = FORMATS["gz"]
    assert load(tmp_path, data).digest == digest_of(tmp_path / "v") == hashlib.sha256(data).hexdigest()
    with pytest.raises(InputMissing, match="no such file"):
        digest_of(tmp_path / "absent")


def test_a_disk_that_fails_is_not_called_damage(tmp_path, monkeypatch):
    (tmp_path / "v").write_bytes(text())

    def fails(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("echoic.prepare.vectors._look", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        load_vectors(tmp_path / "v", VOCABULARY)


def test_zip_directory_and_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("glove.txt", text())
    with pytest.raises(DataError, match="zip archive; unpack it"):
        load_vectors(tmp_path / "z", VOCABULARY)
    with pytest.raises(DataError, match="is a directory"):
        load_vectors(tmp_path, VOCABULARY)
    with pytest.raises(InputMissing, match="no such file"):
        load_vectors(tmp_path / "absent", VOCABULARY)
