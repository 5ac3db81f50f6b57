from __future__ import annotations

import builtins

import numpy as np
import pytest

from echoic.core.config import TextConfig
from echoic.core.errors import BundleError, ConfigError, DataError, Unavailable
from echoic.core.types import SPECIALS, UNKNOWN
from echoic.prepare.text import Cut, TextPreparer, choose

ENGLISH = ["a good film, good and long", "a bad film", "not good"]
CHINESE = ["这部电影很好看", "酒店不好, WiFi 很慢", "房间很小"]


def tokens(preparer: TextPreparer, text: str) -> list[str]:
    return [preparer.vocabulary[i] for i in preparer.encode([text])[0]]


def words_of(text: str, **settings) -> list[str]:
    return tokens(TextPreparer.fit([text], TextConfig(tokenizer="words", min_count=1, **settings)), text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's GREAT!!", ["it's", "great", "!", "!"]),
        ("don’t rock 'n' roll'", ["don’t", "rock", "'", "n", "'", "roll", "'"]),
        ("a<br /><BR>b <p class='x'>c</p>", ["a", "b", "c"]),
        ("1 <3 a<b and c>d <unk>", ["1", "<", "3", "a", "<", "b", "and", "c", ">", "d", "<", "unk", ">"]),
        ("我爱NLP，カナ", ["我", "爱", "nlp", "，", "カ", "ナ"]),
        ("👍🏽👨‍👩‍👧 🇩🇪🇫🇷❤️", ["👍🏽", "👨‍👩‍👧", "🇩🇪", "🇫🇷", "❤️"]),
        ("हिन्दी می‌خواهم e\u0301t", ["हिन्दी", "می‌خواهم", "e\u0301t"]),
        ("x_y 3.5 $5", ["x", "_", "y", "3", ".", "5", "$", "5"]),
    ],
)
def test_words(text, expected):
    assert words_of(text) == expected


def test_words_keep_case_when_asked():
    assert words_of("Ab AB ab", lowercase=False) == ["Ab", "AB", "ab"]


def test_vocabulary_is_by_count_then_text_and_capped_aloud():
    said: list[str] = []
    preparer = TextPreparer.fit(
        ["b b b a a c c d", "d"], TextConfig(tokenizer="words", max_vocab=6, min_count=2), said.append
    )
    assert preparer.vocabulary == [*SPECIALS, "b", "a", "c"]
    assert said == ["vocabulary capped: 3 of 4 tokens kept (text.max_vocab=6)"]
    assert preparer.encode(["d b"])[0].tolist() == [UNKNOWN, 3]


@pytest.mark.parametrize("kind", ["words", "chars", "zh_words"])
def test_min_count(kind):
    preparer = TextPreparer.fit(["好 好 坏"], TextConfig(tokenizer=kind, min_count=2))
    assert preparer.vocabulary[3:] in (["好"], [" ", "好"])


def test_empty_texts_are_one_empty_token():
    preparer = TextPreparer.fit(ENGLISH, TextConfig(min_count=1))
    for text in ("", "  \n", "<br />"):
        assert preparer.encode([text])[0].tolist() == [2]
    assert preparer.encode([]) == []


def test_cut_is_counted_and_offsets_are_cut_alike():
    preparer = TextPreparer.fit(ENGLISH, TextConfig(min_count=1, max_tokens=3))
    rows = preparer.encode(ENGLISH)
    assert [len(row) for row in rows] == [3, 3, 2]
    assert rows.cut == Cut(texts=1, tokens=4)
    ids, spans = preparer.encode_with_offsets(ENGLISH[0])
    assert ids.tolist() == rows[0].tolist()
    assert [ENGLISH[0][a:b] for a, b in spans] == ["a", "good", "film"]
    assert TextPreparer.fit(ENGLISH, TextConfig(min_count=1)).encode(ENGLISH).cut == Cut(0, 0)


def test_offsets_stay_right_where_lower_case_grows():
    text = "İİ İstanbul ΑΣ!"
    preparer = TextPreparer.fit([text], TextConfig(tokenizer="words", min_count=1))
    assert [text[a:b] for a, b in preparer.encode_with_offsets(text)[1]] == ["İİ", "İstanbul", "ΑΣ", "!"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (ENGLISH, "words"),
        (CHINESE, "chars"),
        (["ひらがなだけ"], "chars"),
        (["한국어 문장"], "words"),
        (["123 !!"], "words"),
    ],
)
def test_auto_looks_and_says(texts, kind):
    said: list[str] = []
    assert choose(texts, said.append) == kind
    assert said[0].startswith(f"tokenizer: {kind}, since")


def test_auto_reads_chinese_by_characters():
    preparer = TextPreparer.fit(CHINESE, TextConfig(min_count=1))
    assert preparer.kind == "chars"
    assert tokens(preparer, "很好 WiFi") == ["很", "好", " ", "w", "i", "f", "i"]


@pytest.mark.parametrize("kind", ["words", "chars", "zh_words"])
def test_nothing_to_know(kind):
    with pytest.raises(DataError, match=r"lower text\.min_count"):
        TextPreparer.fit(["", "  "], TextConfig(tokenizer=kind))


@pytest.mark.parametrize("kind", ["bytes", "bpe", "unigram"])
def test_no_room_for_bytes(kind):
    with pytest.raises(ConfigError, match=f"max_vocab=100: tokenizer {kind} needs 259"):
        TextPreparer.fit(ENGLISH, TextConfig(tokenizer=kind, max_vocab=100))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_share_pieces_and_respect_max_vocab(kind):
    texts = ["walking walked talking talked jumping jumped walks talks jumps"] * 5
    preparer = TextPreparer.fit(texts, TextConfig(tokenizer=kind, max_vocab=275))
    assert 259 < len(preparer.vocabulary) <= 275
    assert len(preparer.encode(["walking"])[0]) < len("walking")
    assert preparer.decode(preparer.encode([" Never 见过 😀"])[0]) == " never 见过 😀"


def test_chinese_words():
    preparer = TextPreparer.fit(["我们去北京大学, OK吧"], TextConfig(tokenizer="zh_words", min_count=1))
    ids, spans = preparer.encode_with_offsets("我们  去北京大学OK")
    assert [preparer.vocabulary[i] for i in ids] == ["我们", "去", "北京大学", "ok"]
    assert spans == [(0, 2), (4, 5), (5, 9), (9, 11)]
    assert preparer.decode(ids) == "我们去北京大学ok"


def test_chinese_words_without_rjieba(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "rjieba":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pip install 'echoic\[zh\]'"):
        TextPreparer.fit(CHINESE, TextConfig(tokenizer="zh_words"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [(3, "text 2: is a int"), (None, "text 2: is a NoneType"), ("x\ud800", r"U\+D800 at character 2")],
)
def test_what_is_no_text(bad, message):
    with pytest.raises(DataError, match=message):
        TextPreparer.fit(["a a", bad], TextConfig())


@pytest.mark.parametrize(
    "settings",
    [b"", b"[]", b"{}", b'{"tokenizer": "os", "max_tokens": 0}', b'{"tokenizer": "words", "max_tokens": "x"}', b"\xff"],
)
def test_damaged_settings(settings):
    files = TextPreparer.fit(ENGLISH, TextConfig(min_count=1)).files()
    with pytest.raises(BundleError, match=r"text\.json"):
        TextPreparer.from_files({**files, "text.json": settings})


def test_missing_file_is_named():
    files = TextPreparer.fit(ENGLISH, TextConfig(min_count=1)).files()
    with pytest.raises(BundleError, match=r"tokenizer\.json: missing"):
        TextPreparer.from_files({"text.json": files["text.json"]})


def test_a_file_with_added_tokens_is_refused():
    files = TextPreparer.fit(ENGLISH, TextConfig(min_count=1)).files()
    added = b'"added_tokens": [{"id": 0, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}]'
    assert b'"added_tokens": []' in files["tokenizer.json"]
    with pytest.raises(BundleError, match="added tokens"):
        TextPreparer.from_files(
            {**files, "tokenizer.json": files["tokenizer.json"].replace(b'"added_tokens": []', added)}
        )


def test_encoding_does_not_depend_on_company():
    preparer = TextPreparer.fit(ENGLISH, TextConfig(min_count=1))
    together = preparer.encode(ENGLISH * 50)
    for row, text in zip(together, ENGLISH * 50, strict=True):
        np.testing.assert_array_equal(row, preparer.encode([text])[0])
