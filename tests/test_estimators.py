"""The scikit-learn door: its own checks on rows rendered as text, and what a person does with it."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

import echoic
from echoic import SequenceClassifier
from echoic.core.config import Config, describe
from echoic.core.errors import ConfigError, DataError
from echoic.estimators import KEYS
from echoic.train.signals import Interrupted

TINY: dict[str, Any] = {
    "hidden_size": 4,
    "embedding_size": 8,
    "epochs": 2,
    "batch_size": 16,
    "tokenizer": "words",
    "validation_fraction": 0.25,
    "settings": {"text.min_count": 1, "train.average": 0.0, "train.label_smoothing": 0.0},
}


def toy(rows: int = 48, seed: int = 0) -> tuple[list[str], list[str]]:
    """Five words of a dozen, and one that tells the class."""
    draws = np.random.default_rng(seed)
    words = draws.choice([*"abcdefghijkl"], (rows, 5))
    label = draws.integers(0, 2, rows)
    words[np.arange(rows), draws.integers(0, 5, rows)] = np.array(["y", "z"])[label]
    return [" ".join(row) for row in words], np.array(["neg", "pos"])[label].tolist()


TEXTS, LABELS = toy()
UNSEEN, UNSEEN_LABELS = toy(40, 1)


@pytest.fixture(scope="module")
def fitted() -> SequenceClassifier:
    return SequenceClassifier(**TINY).fit(TEXTS, LABELS)


# scikit-learn's own checks


class OnNumbers(SequenceClassifier):
    """Rows of numbers rendered as text, two words a column: its value in steps of 1 and of 0.01, so that the
    checks for tables run. Everything else is the estimator's own."""

    def _rendered(self, X: Any, **options: Any) -> list[str]:
        table = validate_data(self, X, **options)
        return [" ".join(f"c{i}v{value:.0f} c{i}w{value:.2f}" for i, value in enumerate(row)) for row in table]

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> OnNumbers:
        if y is None:
            return super().fit([], None)
        X, y = validate_data(self, X, y, multi_output=self.multilabel, dtype=np.float64)
        return super().fit(self._rendered(X, reset=False, dtype=np.float64), y, groups)

    def predict_proba(self, X: Any) -> np.ndarray:
        echoic.estimators.check_is_fitted(self)
        return super().predict_proba(self._rendered(X, reset=False, dtype=np.float64))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


EXPECTED_TO_FAIL = {"check_class_weight_classifiers": "class_weight is None or 'balanced', not a dict of weights"}


@parametrize_with_checks([OnNumbers(**{**TINY, "epochs": 1})], expected_failed_checks=lambda _: EXPECTED_TO_FAIL)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_checks_are_not_vacuous() -> None:
    from sklearn.utils.estimator_checks import estimator_checks_generator

    checks = list(estimator_checks_generator(OnNumbers(**TINY)))
    assert len(checks) > 45
    assert len(EXPECTED_TO_FAIL) <= 10


# Parameters


def test_the_defaults_are_those_of_the_configuration() -> None:
    stated = describe()
    for name, parameter in inspect.signature(SequenceClassifier).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        for key in KEYS.get(name, ()):
            if key in stated:
                default = (
                    {None: "none"}.get(parameter.default, parameter.default)
                    if name == "class_weight"
                    else parameter.default
                )
                assert default == stated[key][0], name
    assert SequenceClassifier()._config() == Config.parse({"task": {"several": False}})


def test_parameters_reach_the_configuration() -> None:
    estimator = SequenceClassifier(
        cell="gru",
        hidden_size=np.int64(3),
        dropout=0.25,
        class_weight="balanced",
        random_state=5,
        settings={"train.clip": 2.0},
    )
    config = estimator._config()
    assert (config.model.cell.kind, config.model.hidden, config.train.class_weights) == ("gru", 3, "balanced")
    assert config.model.dropout_embedding == config.model.dropout_output == 0.25
    assert (config.seed, config.train.clip) == (5, 2.0)
    assert clone(estimator).get_params() == estimator.get_params()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cell": "lstn"}, "lstm"),
        ({"hidden_size": 0}, "/model/hidden"),
        ({"settings": {"train.clp": 1}}, "clip"),
        ({"settings": {"model.hidden": 1}}, "hidden_size=1"),
        ({"settings": {"data.text": "x"}}, "data come as X and y"),
        ({"settings": {"train": {"updates": 5}}}, "wants a whole name and its value"),
        ({"settings": {"train.lr.x": 5}}, "train.lr"),
        ({"class_weight": {"a": 2}}, "class_weights"),
    ],
)
def test_a_wrong_setting_is_refused_when_fitting_with_a_hint(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SequenceClassifier(**given).fit(TEXTS, LABELS)


# Fitting and answering


def test_it_learns_and_says_what_it_did(fitted: SequenceClassifier) -> None:
    assert fitted.score(UNSEEN, UNSEEN_LABELS) > 0.9
    assert fitted.score(UNSEEN, UNSEEN_LABELS) == accuracy_score(UNSEEN_LABELS, fitted.predict(UNSEEN))
    assert fitted.classes_.tolist() == ["neg", "pos"]
    assert fitted.n_iter_ == len(fitted.history_) == 2
    assert {"epoch", "train_loss", "loss", "accuracy"} <= fitted.history_[0].keys()


def test_probabilities_stand_in_the_order_of_classes_and_sum_to_one(fitted: SequenceClassifier) -> None:
    found = fitted.predict_proba(UNSEEN)
    assert found.shape == (40, 2)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    assert (fitted.classes_[found.argmax(1)] == fitted.predict(UNSEEN)).all()
    records = fitted.model_.predict(UNSEEN)
    np.testing.assert_allclose(found[:, 1], [record.probabilities["pos"] for record in records], atol=1e-6)


@pytest.mark.parametrize(
    "classes",
    [
        [10, 9, 2],
        ["10", "9", "2"],
        [True, False],
        [1.5, -2.0],
        ["乙", "甲"],
        [np.datetime64("2020-01-01"), np.datetime64("2019-01-01")],
    ],
)
def test_labels_come_back_in_the_type_they_had(classes: list[Any]) -> None:
    """Text sorts "10" before "9" and the bundle after it: columns follow `classes_`."""
    y = np.array([classes[("y" in text) + (i % 3 == 0 and len(classes) > 2)] for i, text in enumerate(TEXTS)])
    if y.dtype.kind == "f":
        y = y.astype(object)
    model = SequenceClassifier(**TINY).fit(TEXTS, y)
    assert model.classes_.dtype == y.dtype
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    assert set(model.predict(TEXTS).tolist()) <= set(y.tolist())
    probabilities = dict(zip(map(str, model.classes_.tolist()), model.predict_proba(TEXTS[:1])[0], strict=True))
    assert model.model_.predict(TEXTS[:1])[0].probabilities == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [tuple, np.array, pd.Series, lambda x: np.array(x, object), lambda x: pd.Series(x, index=range(9, 9 + len(x)))],
)
def test_texts_and_labels_come_in_any_sequence(wrap: Any, fitted: SequenceClassifier) -> None:
    same = SequenceClassifier(**TINY).fit(wrap(TEXTS), wrap(LABELS))
    assert np.array_equal(same.predict_proba(wrap(UNSEEN)), fitted.predict_proba(UNSEEN))


def test_several_labels_as_collections() -> None:
    y = [
        [*(["why"] if "y" in text else []), *(["zed"] if "z" in text else []), *({"a"} & set(text.split()))]
        for text in TEXTS
    ]
    model = SequenceClassifier(**TINY, multilabel=True).fit(TEXTS, y)
    assert model.classes_.tolist() == ["a", "why", "zed"]
    answers = model.predict(["b c y a", "z b c d", "b c d e"])
    assert answers == [("a", "why"), ("zed",), ()] or model.score(TEXTS, y) > 0.9
    assert model.score(TEXTS, y) == np.mean([set(a) == set(b) for a, b in zip(model.predict(TEXTS), y, strict=True)])
    assert model.predict_proba(TEXTS).max() <= 1


def test_several_labels_as_a_table() -> None:
    y = np.array([[float("y" in text), float("a" in text.split())] for text in TEXTS])
    model = SequenceClassifier(**TINY, multilabel=True).fit(TEXTS, y)
    answers = model.predict(TEXTS)
    assert answers.shape == y.shape
    assert set(np.unique(answers)) <= {0, 1}
    assert model.score(TEXTS, y) == accuracy_score(y, answers) > 0.7


def test_a_label_that_no_training_row_has_is_never_answered() -> None:
    """Usual in the folds of a cross-validation; the first column too, as -1 must not mean the last one."""
    y = np.array([[0, "y" in text, 0, "a" in text.split()] for text in TEXTS], int)
    model = SequenceClassifier(**TINY, multilabel=True).fit(TEXTS, y)
    found = model.predict_proba(TEXTS)
    assert found.shape == y.shape
    assert not found[:, [0, 2]].any()
    assert found[:, [1, 3]].all()
    model.model_.task.thresholds[:] = 0.0
    assert model.predict(TEXTS).sum(0).tolist() == [0, len(TEXTS), 0, len(TEXTS)]
    assert model.score(TEXTS, np.array([[0, 1, 0, 1]] * len(TEXTS))) == 1.0


def test_a_label_of_validation_rows_only_does_not_stop_the_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.arange(len(TEXTS))
    monkeypatch.setattr("echoic.read.split.split", lambda *_: (rows[:36], rows[36:]))
    y = [["why"] * ("y" in text) + ["last"] * (i == 47) for i, text in enumerate(TEXTS)]
    model = SequenceClassifier(**TINY, multilabel=True, verbose=1).fit(TEXTS, y)
    assert "1 labels stand in validation rows only and are never answered: 'last'" in capsys.readouterr().err
    assert model.classes_.tolist() == ["last", "why"]
    assert not model.predict_proba(TEXTS)[:, 0].any()


def test_soft_labels() -> None:
    y = np.array([[0.1, 0.2, 0.7] if "z" in text else [0.6, 0.3, 0.1] for text in TEXTS])
    model = SequenceClassifier(**TINY).fit(TEXTS, y)
    assert model.classes_.tolist() == [0, 1, 2]
    assert set(model.predict(TEXTS)) == {0, 2}
    assert model.score(TEXTS, y) > 0.9
    assert np.abs(model.predict_proba(TEXTS) - y).mean() < 0.15
    with pytest.raises(DataError, match=r"row 2.*sum to"):
        SequenceClassifier(**TINY).fit(TEXTS, np.where(np.arange(48)[:, None] == 1, 0.6, [[0.5, 0.5]] * 48))


def test_a_group_never_stands_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    from echoic import pipeline

    seen: list[Any] = []
    right = pipeline.fit
    monkeypatch.setattr(pipeline, "fit", lambda a, b, *rest, **more: seen.extend((a, b)) or right(a, b, *rest, **more))
    SequenceClassifier(**TINY).fit(TEXTS, LABELS, groups=[i % 12 for i in range(len(TEXTS))])
    train, valid = ({example.group for example in part} for part in seen)
    assert len(train) > 0 < len(valid)
    assert not train & valid


def test_a_group_that_is_nothing_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from echoic import pipeline

    seen: list[Any] = []
    right = pipeline.fit
    monkeypatch.setattr(
        pipeline, "fit", lambda a, b, *rest, **more: seen.extend([*a, *b]) or right(a, b, *rest, **more)
    )
    nothing = [None, float("nan"), np.nan, pd.NA, pd.NaT]
    SequenceClassifier(**TINY).fit(TEXTS, LABELS, groups=[*nothing, 7, "x", *nothing * 8, 1.0])
    assert {example.row: example.group for example in seen if example.group is not None} == {6: "7", 7: "x", 48: "1.0"}


@pytest.mark.parametrize(("signum", "stops"), [(2, KeyboardInterrupt), (15, SystemExit)])
def test_a_signal_ends_a_grid_search_and_is_no_failed_fold(
    signum: int, stops: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    from echoic import pipeline

    def stopped(*_: Any, **__: Any) -> Any:
        raise Interrupted(signum, "stopped after step 1")

    monkeypatch.setattr(pipeline, "fit", stopped)
    with pytest.raises(stops) as caught:
        GridSearchCV(SequenceClassifier(**TINY), {"ngrams": [False, True]}, cv=2).fit(TEXTS, LABELS)
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 143
    else:
        assert "stopped after step 1" in str(caught.value)


def test_class_weight_moves_the_answers() -> None:
    y = ["rare" if "z" in text and i % 3 == 0 else "often" for i, text in enumerate(TEXTS)]
    plain, balanced = (
        SequenceClassifier(**{**TINY, "epochs": 4}, ngrams=False, lr=0.02, class_weight=weight).fit(TEXTS, y)
        for weight in (None, "balanced")
    )
    assert balanced.predict_proba(TEXTS)[:, 1].mean() > plain.predict_proba(TEXTS)[:, 1].mean()


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([(1, "a"), ("b",)], "some labels are text"),
        ([("a", None), ("b",)], r"row 1: .*a label is none"),
        ([("a",), (float("nan"), "b")], r"row 2: .*a label is none"),
        ([("a",), (("b", "c"),)], r"row 2: .*a collection itself"),
        (["a", "b"], r"row 1 is 'a'"),
    ],
)
def test_bad_collections_of_labels_are_told_in_one_line(y: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        SequenceClassifier(**TINY, multilabel=True).fit(["a", "b"], y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("X", "y", "says"),
    [
        ("one text", ["a"], "X is one text"),
        (["a", 3], ["x", "y"], "text 2 is a int"),
        (["a", None], ["x", "y"], "text 2 is a NoneType"),
        (["a", "b"], ["x"], "inconsistent"),
        (["a", "b"], None, "requires y"),
        (["a", "b"], ["x", None], "row 2 has no label"),
        (["a", "b"], [["x"], ["y", "z"]], "multilabel=True"),
        (["a", "b"], [1, "1"], "some labels are text"),
        (np.ones((2, 2)), ["x", "y"], "shape"),
        (["a", "b", "c"], ["x", "x", "x"], "classes"),
        ([], [], "minimum|rows|classes|sample"),
    ],
)
def test_bad_input_is_told_in_one_line(X: Any, y: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        SequenceClassifier(**TINY).fit(X, y)
    assert "\n" not in str(caught.value)


def test_before_fit_it_says_so_and_after_it_answers_no_text_with_no_row(fitted: SequenceClassifier) -> None:
    for act in (lambda m: m.predict(["a"]), lambda m: m.predict_proba(["a"]), lambda m: m.save("x")):
        with pytest.raises(NotFittedError):
            act(SequenceClassifier())
    assert fitted.predict_proba([]).shape == (0, 2)
    assert fitted.predict([]).shape == (0,)


# Randomness, copies, files


def test_equal_seeds_give_equal_bits_and_others_do_not(fitted: SequenceClassifier) -> None:
    again = clone(fitted).fit(TEXTS, LABELS)
    twice = again.predict_proba(UNSEEN).tobytes()
    assert twice == fitted.predict_proba(UNSEEN).tobytes() == again.fit(TEXTS, LABELS).predict_proba(UNSEEN).tobytes()
    assert clone(fitted).set_params(random_state=1).fit(TEXTS, LABELS).predict_proba(UNSEEN).tobytes() != twice


def test_global_state_is_left_alone() -> None:
    threads = torch.get_num_threads()
    np.random.seed(3)
    torch.manual_seed(3)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    other = 2 if threads == 1 else 1
    SequenceClassifier(**{**TINY, "settings": {**TINY["settings"], "threads": other}}).fit(TEXTS, LABELS).predict(
        UNSEEN
    )
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_answers_the_same(copied: Any, fitted: SequenceClassifier) -> None:
    assert copied(fitted).predict_proba(UNSEEN).tobytes() == fitted.predict_proba(UNSEEN).tobytes()


def test_a_saved_one_is_a_bundle_that_another_process_opens(fitted: SequenceClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    assert not [p for p in (tmp_path / "saved").iterdir() if p.suffix in (".pkl", ".pt", ".joblib")]
    code = (
        "import sys, echoic, numpy as np\n"
        "records = echoic.load(sys.argv[1]).predict(sys.argv[2:])\n"
        "print([r.label for r in records], [r.probabilities['pos'].hex() for r in records])\n"
    )
    texts = UNSEEN[:5]
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved"), *texts], capture_output=True, text=True, check=True
    )
    records = fitted.model_.predict(texts)
    assert out.stdout.strip() == f"{[r.label for r in records]} {[r.probabilities['pos'].hex() for r in records]}"


def test_load_gives_back_one_that_answers_alike(fitted: SequenceClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    again = SequenceClassifier.load(tmp_path / "saved")
    assert again.predict_proba(UNSEEN).tobytes() == fitted.predict_proba(UNSEEN).tobytes()
    assert again.predict(UNSEEN).tolist() == [str(label) for label in fitted.predict(UNSEEN)]
    assert again.score(UNSEEN, again.predict(UNSEEN)) == 1.0


def test_load_gives_back_several_labels(tmp_path: Path) -> None:
    labels = [("a",), ("a", "b"), ()] * (len(TEXTS) // 3) + [("b",)] * (len(TEXTS) % 3)
    fitted = SequenceClassifier(**TINY, multilabel=True).fit(TEXTS, labels)
    fitted.save(tmp_path / "saved")
    again = SequenceClassifier.load(tmp_path / "saved")
    assert again.multilabel
    assert again.predict(UNSEEN) == fitted.predict(UNSEEN)


def test_verbose_speaks_on_stderr_and_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    SequenceClassifier(**TINY).fit(TEXTS, LABELS)
    assert capsys.readouterr() == ("", "")
    SequenceClassifier(**TINY, verbose=1).fit(TEXTS, LABELS)
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 2/2" in said.err


# In scikit-learn's company


def test_it_works_in_a_pipeline_a_grid_and_cross_validation() -> None:
    lower = Pipeline(
        [("lower", FunctionTransformer(lambda X: [x.lower() for x in X])), ("model", SequenceClassifier(**TINY))]
    )
    assert lower.fit([t.upper() for t in TEXTS], LABELS).score(UNSEEN, UNSEEN_LABELS) > 0.9
    assert (cross_val_score(SequenceClassifier(**TINY), TEXTS, LABELS, cv=2) > 0.6).all()
    grid = GridSearchCV(SequenceClassifier(**TINY), {"ngrams": [False, True]}, cv=2).fit(TEXTS, LABELS)
    assert grid.best_params_ == {"ngrams": True}
    assert grid.predict(UNSEEN[:1])[0] in ("neg", "pos")
