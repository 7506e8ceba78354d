"""Labels as indices: what is missing, what is a label, and what is neither."""

import datetime

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from ancestryvi.estimators.labels import encode_labels


def encode(y, n_samples):
    """Labels of samples that all count."""
    return encode_labels(y, np.full(n_samples, True))


MISSING = {
    "None": None,
    "NaN": float("nan"),
    "numpy NaN": np.float32("nan"),
    "pandas NA": pd.NA,
    "no time": pd.NaT,
    "-1": -1,
    "-1.0": -1.0,
    "numpy -1": np.int8(-1),
}


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("labels", [["b", "a"], [7, 3]])
def test_every_way_to_miss_a_label(name, labels):
    absent = MISSING[name]
    codes, classes = encode([absent, labels[0], labels[1], absent, labels[0]], 5)
    assert_array_equal(codes, [-1, 1, 0, -1, 1])
    assert classes.tolist() == sorted(labels)
    assert encode([absent] * 3, 3) is None


def test_no_y_is_no_labels():
    assert encode(None, 4) is None


FORMS = {
    "list": lambda values: values,
    "tuple": tuple,
    "array of objects": lambda values: np.array(values, dtype=object),
    "table column": lambda values: pd.Series(values, index=range(50, 50 + len(values))),
    "categories": pd.Categorical,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("values", [["x", None, "w", "x"], [2, None, 1, 2]])
def test_the_container_does_not_matter(form, values):
    codes, classes = encode(FORMS[form](values), 4)
    assert_array_equal(codes, [1, -1, 0, 1])
    assert classes.tolist() == sorted({value for value in values if value is not None})
    assert codes.dtype == np.int64


@pytest.mark.parametrize(
    "values",
    [
        pd.array(["x", None, "w", "x"], dtype="string"),
        pd.array([2, None, 1, 2], dtype="Int64"),
        np.array([2.0, np.nan, 1.0, 2.0]),
        np.array([2, -1, 1, 2], dtype=np.int8),
    ],
)
def test_types_with_a_missing_value_of_their_own(values):
    assert_array_equal(encode(values, 4)[0], [1, -1, 0, 1])


def test_texts_stay_texts_and_whole_numbers_become_integers():
    assert encode(np.array(["b", "a"]), 2)[1].dtype == object
    for numbers in ([3, 0], [3.0, 0.0], np.array([3, 0], dtype=np.uint8)):
        classes = encode(numbers, 2)[1]
        assert classes.dtype == np.int64
        assert classes.tolist() == [0, 3]
    # Texts that look like something else are texts: "-1", "NA" and the empty one are labels.
    assert encode(["-1", "NA", "", "10", "9", "9"], 6)[1].tolist() == ["", "-1", "10", "9", "NA"]


def test_negative_numbers_other_than_minus_one_are_labels():
    codes, classes = encode([-2, 0, -1], 3)
    assert classes.tolist() == [-2, 0]
    assert_array_equal(codes, [0, 1, -1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b"], r"each of the 3 samples; got shape \(2,\)"),
        ([["a"], ["b"], ["c"]], r"got shape \(3, 1\)"),
        ("abc", r"got shape \(\)"),
        (["a", 1, None], "mixes strings and numbers"),
        ([1.5, 2, 3], "1.5, which is no label"),
        ([np.inf, 2, 3], "inf, which is no label"),
        ([2, datetime.date(2020, 1, 1), None], r"datetime.date\(2020, 1, 1\), which is no label"),
        ([2, b"a", 3], "b'a', which is no label"),
        ([1, [1, 2], 3], r"\[1, 2\], which is no label"),
        ([2**70, 2, 3], f"{2**70}, which is no label"),
    ],
)
def test_what_is_no_label_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        encode(values, 3)


def test_labels_of_samples_that_do_not_count_are_missing():
    counted = np.array([True, False, True, False])
    codes, classes = encode_labels(["b", "a", "c", "c"], counted)
    assert_array_equal(codes, [0, -1, 1, -1])
    assert classes.tolist() == ["b", "c"]
    assert encode_labels([None, "a", None, "b"], counted) is None


def test_a_label_for_every_sample_is_no_label():
    with pytest.raises(ValueError, match="Each of the 3 samples has a label of its own"):
        encode(["a", "b", "c"], 3)
    assert encode(["a", "b", None], 3)[1].tolist() == ["a", "b"]
