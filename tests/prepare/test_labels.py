from __future__ import annotations

import numpy as np
import pytest

from echoic.core.errors import BundleError, DataError
from echoic.prepare.labels import Labels


def test_single_sorted_by_value():
    labels = Labels.fit(["10", "2", "x", "-1", "2"])
    assert (labels.kind, labels.names) == ("single", ["-1", "2", "10", "x"])
    encoded = labels.encode(["x", "2"])
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [3, 1]


def test_several():
    labels = Labels.fit([("b", "a"), (), "c"])
    assert labels.kind == "several"
    encoded = labels.encode([("c", "a"), ()])
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert Labels.fit(["a", "b"], multilabel=True).kind == "several"


def test_soft_fills_in_and_sums_to_one():
    labels = Labels.fit([{"a": 0.25, "b": 0.75}, {"b": 0.9995}, {"a": 0.0, "c": 1}])
    assert labels.kind == "soft"
    np.testing.assert_allclose(
        labels.encode([{"a": 0.25, "b": 0.75}, {"b": 0.9995}, "c"]), [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["x", "x"], "needs >= 2 classes, found 1: 'x'"),
        ([], "needs >= 2 classes, found 0"),
        ([(), ()], "needs >= 1 classes, found 0"),
        ([f"id{i}" for i in range(200)], "labels look like ids: 200 different ones in 200 rows"),
        (["a", None], "row 2: no label"),
        (["a", 3], "row 2: wants one label, got '3'"),
        ([{"a": 1.0}, ("a",)], "row 2: wants probabilities"),
        ([{"a": 0.5, "b": 0.2}], "row 1: the soft labels sum to 0.7"),
        ([{"a": 1.5, "b": -0.5}], "row 1: the probability of 'b' is '-0.5'"),
        ([{"a": float("nan"), "b": 1}], "probability of 'a' is 'nan'"),
    ],
)
def test_refused(targets, message):
    with pytest.raises(DataError, match=message):
        Labels.fit(targets)


def test_one_rule_says_what_looks_like_ids_and_how_far_a_sum_may_be_off():
    """The rules are those of read/labels.py, so that a file and an array are told the same."""
    with pytest.raises(DataError, match="labels look like ids: 11 different ones in 20 rows"):
        Labels.fit([f"id{i % 11}" for i in range(20)])
    assert len(Labels.fit([f"id{i % 10}" for i in range(20)]).names) == 10
    assert len(Labels.fit([(f"tag{i}",) for i in range(30)]).names) == 30
    soft = Labels.fit([{"a": 0.5, "b": 0.54}])
    np.testing.assert_allclose(soft.encode([{"a": 0.5, "b": 0.54}]).sum(), 1)
    with pytest.raises(DataError, match=r"sum to 1\.06"):
        Labels.fit([{"a": 0.5, "b": 0.56}])


def test_one_label_only_where_one_is_asked():
    with pytest.raises(DataError, match="row 9: wants one label"):
        Labels.fit(["b", ("a",)], multilabel=False, rows=[7, 9])


def test_many_classes_with_many_rows_are_fine():
    assert len(Labels.fit([str(i) for i in range(150)] * 3).names) == 150


def test_unseen_label_names_row_and_nearest():
    labels = Labels.fit(["good", "bad"])
    with pytest.raises(DataError, match=r"row 41: label 'goood' was not in training \(did you mean 'good'\?\)"):
        labels.encode(["bad", "goood"], rows=[40, 41])


def test_untrusted_labels_are_escaped():
    with pytest.raises(DataError) as caught:
        Labels.fit(["a", "b"]).encode(["\x1b[31m"])
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("targets", [["b", "a"], [("x",), ("y", "中")], [{"p": 0.5, "q": 0.5}]])
def test_save_and_load(targets):
    labels = Labels.fit(targets)
    assert Labels.from_files(labels.files()) == labels


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"kind": "odd", "names": ["a"]}',
        b'{"kind": "single", "names": ["a", "a"]}',
        b'{"kind": "single", "names": [1]}',
    ],
)
def test_damaged(data):
    with pytest.raises(BundleError, match=r"labels\.json"):
        Labels.from_files({"labels.json": data})
    with pytest.raises(BundleError, match=r"labels\.json"):
        Labels.from_files({})


def test_balanced_weights_level_the_classes():
    labels = Labels.fit(["a", "a", "a", "b"])
    encoded = labels.encode(["a", "a", "a", "b"])
    weights = labels.balanced_weights(encoded)
    np.testing.assert_allclose(weights, [4 / 6, 2.0], rtol=1e-6)
    np.testing.assert_allclose(weights[encoded].sum(), 4.0, rtol=1e-6)
    np.testing.assert_allclose(labels.balanced_weights(np.array([1, 1])), [0, 0.5])
    several = Labels.fit([("a",), ("a", "b")])
    np.testing.assert_allclose(several.balanced_weights(several.encode([("a",), ("a", "b")])), [0.75, 1.5])
