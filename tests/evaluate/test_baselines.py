"""The baseline is scikit-learn's TF-IDF and logistic regression, to the last digits, without scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from echoic.core.errors import BundleError, Unavailable
from echoic.evaluate import baselines, metrics
from echoic.evaluate.baselines import Baseline

ENGLISH = [
    "the",
    "film",
    "was",
    "not",
    "good",
    "bad",
    "awful",
    "I'd",
    "a",
    "",
    "plot\tActing",
    "ünïcode",
    "3rd",
    "snake_case",
    "don't",
]
CHINESE = list("这部电影不好看很差真棒演员剧情推荐 \n，。A1")


def _texts(seed: int, rows: int, chinese: bool = False) -> list[str]:
    """Random texts; the last word tells the class i % 3 of text i."""
    generator = np.random.default_rng(seed)
    words, join = (CHINESE, "") if chinese else (ENGLISH, " ")
    return [join.join([*generator.choice(words, generator.integers(1, 12)), words[4 + i % 3]]) for i in range(rows)]


def _fit(
    kind: metrics.Kind = "single", chinese: bool = False, rows: int = 90
) -> tuple[Baseline, list[str], np.ndarray]:
    y = np.arange(rows) % 3
    targets = y if kind == "single" else np.eye(3, dtype=np.float32)[y]
    if kind == "several":
        targets[:, 1] = np.maximum(targets[:, 1], targets[:, 0])
    if kind == "soft":
        targets = targets @ np.array([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.0, 0.45, 0.55]])
    texts = _texts(0, rows, chinese)
    valid = rows // 3 * 3
    made = Baseline.fit(
        texts, targets, _texts(1, valid, chinese), targets[:valid], chinese=chinese, kind=kind, names=["x", "y", "z"]
    )
    return made, texts, targets


def _vectoriser(chinese: bool) -> TfidfVectorizer:
    shape = {"analyzer": "char", "ngram_range": (1, 3)} if chinese else {"ngram_range": (1, 2)}
    return TfidfVectorizer(sublinear_tf=True, min_df=2, **shape)


@pytest.mark.parametrize("chinese", [False, True])
def test_terms_and_weights_are_scikit_learns(chinese: bool) -> None:
    made, texts, _ = _fit(chinese=chinese)
    vectoriser = _vectoriser(chinese).fit(texts)
    assert made.terms == vectoriser.vocabulary_
    assert made.idf == pytest.approx(vectoriser.idf_, rel=1e-6)
    for text in [*_texts(5, 20, chinese), "", "  \t ", "never seen", "不 认识"]:
        row = np.zeros(len(made.terms))
        places, values = baselines._row(text, chinese, made.terms, made.idf)
        row[places] = values
        assert row == pytest.approx(vectoriser.transform([text]).toarray()[0], abs=1e-6)


@pytest.mark.parametrize("chinese", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_scikit_learns(chinese: bool, classes: int) -> None:
    texts, valid = _texts(0, 90, chinese), _texts(1, 60, chinese)
    y = np.arange(90) % 3 % classes
    made = Baseline.fit(texts, y, valid, y[:60], chinese=chinese, kind="single", names=["x", "y", "z"][:classes])
    vectoriser = _vectoriser(chinese).fit(texts)
    x, v = vectoriser.transform(texts), vectoriser.transform(valid)
    fitted = {c: LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(x, y) for c in baselines.STRENGTHS}
    scores = {c: model.score(v, y[:60]) for c, model in fitted.items()}
    assert scores[made.c] == pytest.approx(max(scores.values()), abs=1.5 / 60)
    assert made.predict_proba(valid) == pytest.approx(fitted[made.c].predict_proba(v), abs=3e-3)


def test_several_labels_are_one_regression_each() -> None:
    made, texts, targets = _fit("several")
    x = _vectoriser(False).fit(texts)
    fresh = _texts(7, 30)
    for i in range(3):
        model = LogisticRegression(C=made.c, tol=1e-9, max_iter=10_000).fit(x.transform(texts), targets[:, i])
        assert made.predict_proba(fresh)[:, i] == pytest.approx(model.predict_proba(x.transform(fresh))[:, 1], abs=3e-3)
    assert made.thresholds is not None
    assert made.thresholds.shape == (3,)


def test_soft_targets_are_the_optimum_of_their_cross_entropy() -> None:
    """There the gradient is zero: weights = C x' (targets - probabilities), and the means agree."""
    made, texts, targets = _fit("soft")
    gap = targets - made.predict_proba(texts)
    assert gap.mean(0) == pytest.approx(np.zeros(3), abs=1e-4)
    wanted = made.c * _vectoriser(False).fit_transform(texts).T @ gap
    assert made.regression.weights == pytest.approx(wanted, abs=0.05)
    assert np.abs(wanted).max() > 0.5


def test_c_is_chosen_on_validation() -> None:
    """Where validation is labelled at random from the rarer side, strong fits lose to weak ones."""
    texts = ["good film"] * 30 + ["bad film"] * 10
    y = np.repeat([0, 1], [30, 10])
    weak = Baseline.fit(
        texts, y, ["bad film"] * 4, np.zeros(4, np.int64), chinese=False, kind="single", names=["g", "b"]
    )
    strong = Baseline.fit(
        texts, y, ["bad film"] * 4, np.ones(4, np.int64), chinese=False, kind="single", names=["g", "b"]
    )
    assert weak.c == 1.0
    assert strong.predict_proba(["bad film"])[0, 1] > 0.5


@pytest.mark.parametrize("kind", ["single", "several", "soft"])
def test_the_files_give_the_same_numbers_without_scikit_learn(
    kind: metrics.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, texts, _ = _fit(kind)
    files = made.files()
    for name in ("sklearn", "scipy", "scipy.sparse", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, name, None)
    again = Baseline.from_files(files)
    assert np.array_equal(again.predict_proba(texts), made.predict_proba(texts))
    assert np.array_equal(again.majority_proba(2), made.majority_proba(2))
    assert (again.c, again.kind, again.names) == (made.c, made.kind, made.names)
    assert again.files() == files
    assert {name.rsplit(".")[-1] for name in files} == {"safetensors", "json"}


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(Unavailable, match=r"echoic\[train\]"):
        _fit()


def test_files_of_two_baselines_are_refused() -> None:
    one, other = _fit()[0].files(), _fit(chinese=True)[0].files()
    with pytest.raises(BundleError, match="not of one baseline"):
        Baseline.from_files({baselines.ARRAYS: one[baselines.ARRAYS], baselines.TERMS: other[baselines.TERMS]})
    with pytest.raises(BundleError, match="not a baseline"):
        Baseline.from_files({**one, baselines.TERMS: b"[]"})


def test_it_is_the_same_each_time() -> None:
    assert _fit()[0].files() == _fit()[0].files()


def test_a_tiny_set_falls_back_and_says_so() -> None:
    made = Baseline.fit(
        ["good film", "bad plot"],
        np.array([0, 1]),
        [],
        np.zeros(0, np.int64),
        chinese=False,
        kind="single",
        names=["g", "b"],
    )
    assert "single text" in made.note
    assert made.predict_proba(["good", "bad"]).argmax(1).tolist() == [0, 1]
    assert _fit()[0].note == ""


@pytest.mark.parametrize("kind", ["single", "several", "soft"])
def test_texts_without_a_term_give_the_shares(kind: metrics.Kind) -> None:
    y = np.array([0, 1, 1, 1])
    targets = y if kind == "single" else np.eye(2, dtype=np.float32)[y]
    made = Baseline.fit(["", "a", "", "b"], targets, [""], targets[:1], chinese=False, kind=kind, names=["g", "b"])
    assert "no term" in made.note
    assert made.predict_proba(["x"])[0] == pytest.approx([0.25, 0.75], abs=0.06)
    assert np.array_equal(Baseline.from_files(made.files()).predict_proba(["good"]), made.predict_proba(["good"]))


def test_a_class_that_training_lacks_gets_nothing() -> None:
    names = ["a", "b", "c", "d"]
    made = Baseline.fit(
        _texts(0, 30),
        np.arange(30) % 3 + (np.arange(30) % 3 == 2),
        [],
        np.zeros(0, np.int64),
        chinese=False,
        kind="single",
        names=names,
    )
    p = made.predict_proba(_texts(1, 10))
    assert p.shape == (10, 4)
    assert (p[:, 2] == 0).all()
    assert p.sum(1) == pytest.approx(1)
    one = Baseline.fit(
        ["good film"] * 3, np.full(3, 1), [], np.zeros(0, np.int64), chinese=False, kind="single", names=names
    )
    assert one.predict_proba(["x"]).tolist() == [[0, 1, 0, 0]]


def test_a_label_that_all_or_none_have() -> None:
    targets = np.array([[1, 0, 1], [1, 0, 0]] * 5, np.float32)
    made = Baseline.fit(
        ["good film", "bad film"] * 5,
        targets,
        ["good"],
        targets[:1],
        chinese=False,
        kind="several",
        names=["x", "y", "z"],
    )
    p = made.predict_proba(["good", "bad"])
    assert (p[:, 0] > 0.9).all()
    assert (p[:, 1] < 0.1).all()
    assert p[0, 2] > p[1, 2]


def test_the_majority() -> None:
    made, _, _ = _fit(rows=91)
    assert made.majority_proba(3).argmax(1).tolist() == [0, 0, 0]
    assert made.majority_proba(1)[0] == pytest.approx([31 / 91, 30 / 91, 30 / 91])
    assert baselines.class_shares(np.array([[1, 0], [1, 1]]), 2, "several").tolist() == [1.0, 0.5]
