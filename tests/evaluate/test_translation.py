"""BLEU with its signature, ROUGE by its definition, a word for a word."""

from __future__ import annotations

import numpy as np
import pytest

from echoic.core.errors import BundleError, DataError
from echoic.evaluate.translation import bleu_difference, forced, rouge, translation
from echoic.evaluate.translation_report import TranslationFacts, Written
from echoic.evaluate.word_table import WordTable

WANTED = ["The cat sat on the mat.", "Two men are walking.", "A dog runs across the green field today."]
CHINESE = ["一只狗在草地上跑。", "两个男人在走路。"]


def test_the_reference_itself_is_perfect() -> None:
    found = translation(WANTED, WANTED)
    assert found["bleu"] == found["bleu_lc"] == pytest.approx(100)
    assert found["chrf"] == pytest.approx(100)
    assert found["rouge1"] == found["rouge2"] == found["rougeL"] == found["length_ratio"] == 1
    assert "tok:13a" in found["signatures"]["bleu"]
    assert translation(CHINESE, CHINESE)["bleu"] == pytest.approx(100)
    assert "case:lc" in found["signatures"]["bleu_lc"]
    assert "tok:zh" in translation(CHINESE, CHINESE)["signatures"]["bleu"]
    japanese = ["私はりんごを食べました。", "犬が庭で走っています。"]
    assert "tok:char" in translation(japanese, japanese)["signatures"]["bleu"]


def test_case_counts_in_bleu_and_not_in_its_folded_form() -> None:
    found = translation([text.lower() for text in WANTED], WANTED)
    assert found["bleu"] < found["bleu_lc"] == pytest.approx(100)


def test_rouge_by_hand() -> None:
    """Lin 2004, section 2 and 3: police killed the gunman / police kill the gunman."""
    found = rouge(["police kill the gunman"], ["police killed the gunman"], chinese=False)
    assert found == pytest.approx({"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 3 / 4})
    turned = rouge(["the gunman kill police"], ["police killed the gunman"], chinese=False)
    assert turned["rougeL"] == pytest.approx(2 / 4)
    assert rouge(["两个人"], ["两个男人"], chinese=True)["rouge1"] == pytest.approx(6 / 7)
    assert rouge([""], ["a b"], chinese=False)["rouge1"] == 0


def test_the_difference_of_two_systems() -> None:
    wanted = WANTED * 8
    bad = [" ".join(text.split()[::-1]) for text in wanted]
    found = bleu_difference(wanted, bad, wanted)
    whole = [translation(each, wanted)["bleu"] for each in (wanted, bad)]
    assert found.difference == pytest.approx(whole[0] - whole[1], abs=1e-6)
    assert found.verdict == "above"
    assert bleu_difference(bad, bad, wanted).verdict == "level"


def test_forced_scores() -> None:
    found = forced(np.array([[2.0, 4, 1], [1.0, 2, 2]]))
    assert (found["loss"], found["token_accuracy"], found["tokens"]) == (0.5, 0.5, 6)
    with pytest.raises(DataError, match="no target"):
        forced(np.zeros((2, 3)))
    with pytest.raises(DataError, match="not all finite"):
        forced(np.array([[np.nan, 4, 1]]))


def test_a_word_for_a_word() -> None:
    sources = ["ein Hund", "ein Mann", "zwei Hund", "zwei Mann", "ein Ball.", "zwei Ball"]
    targets = ["a dog", "a man", "two dog", "two man", "a ball.", "two ball"]
    table = WordTable.fit(sources, targets)
    assert table.translate("zwei Ball, Haus.") == "two ball , Haus ."
    again = WordTable.from_files(table.files())
    assert again == table
    chinese = WordTable.fit(["dog", "man", "dog man"], ["狗", "人", "狗人"])
    assert chinese.translate("man dog") == "人狗"
    for wrong in ({}, {"words.json": b"[]"}, {"words.json": b'{"table": 3, "chinese": [true, false]}'}):
        with pytest.raises(BundleError, match=r"words\.json"):
            WordTable.from_files(wrong)


def test_the_page_is_safe_and_whole() -> None:
    own = {**translation(WANTED, WANTED), **forced(np.array([[2.0, 4, 1]])), "translated": 3}
    own["by_length"] = [{"tokens": 1, "rows": 2, "bleu": 30.0}, {"tokens": 21, "rows": 1, "bleu": 20.0}]
    facts = TranslationFacts("x", "given", {"model": own}, written=[Written(1, "<script>", "b", "c", -0.5)])
    page = facts.html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "1 to 20" in page
    assert "21 and more" in page
