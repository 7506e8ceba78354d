"""Calls to dosages: the written policy, one call and many calls at a time."""

import itertools

import numpy as np
import pytest

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.dosage import (
    UnreadableCallError,
    as_dosages,
    call_dosage,
    decode_alleles,
    decode_calls,
)

POLICY = {
    "0/0": 0, "0|0": 0, "0/1": 1, "1|0": 1, "1/1": 2, "1/2": 2, "0/2": 1, "10/12": 2, "0|10": 1,
    "10/0": 1, "./.": -1, ".|.": -1, "0/.": -1, "./1": -1, ".|1": -1, "12/.": -1, ".": -1, "": -1,
    "0": 0, "1": 2, "3": 2, "12": 2, "/0/1": 1, "|1": 2, "123/456": 2,
}  # fmt: skip


@pytest.mark.parametrize(("call", "dosage"), POLICY.items())
def test_policy(call, dosage):
    assert call_dosage(call.encode()) == dosage


@pytest.mark.parametrize("call", ["0/0/1", "././.", "0|1|1|1", "0/0/0/0/0/1"])
def test_polyploid_calls_are_refused(call):
    with pytest.raises(UnreadableCallError, match="more than two alleles") as caught:
        decode_calls(np.array([b"0/0", call.encode()], dtype="S8"))
    assert caught.value.call == call.encode()[:8]


@pytest.mark.parametrize("call", ["A/B", "0/", "x", "0-1", "-1/0", "0 1", "0/x", ":"])
def test_nonsense_is_refused(call):
    with pytest.raises(UnreadableCallError, match="no genotype"):
        decode_calls(np.array([[call.encode()]], dtype="S8"))


def test_many_calls_agree_with_one_call():
    alleles = ["", ".", "0", "1", "9", "10", "123"]
    calls = [
        *alleles,
        *(a + s + b for a, s, b in itertools.product(alleles[1:], "/|", alleles[1:])),
    ]
    rng = np.random.default_rng(0)
    matrix = rng.choice(np.array(calls, dtype="S8"), size=(200, 31))
    expected = [[call_dosage(call) for call in row] for row in matrix.tolist()]
    decoded = decode_calls(matrix)
    assert decoded.dtype == np.int8
    np.testing.assert_array_equal(decoded, expected)
    np.testing.assert_array_equal(decode_calls(matrix.T), np.transpose(expected))  # not contiguous


@pytest.mark.parametrize("dtype", ["i1", "i4", "i8", "f2", "f4", "f8"])
def test_matrices_of_any_number_type(dtype):
    values = np.array([[0, 1], [2, -1], [2, 0]], dtype=dtype)
    dosages = as_dosages(values, "the array")
    assert dosages.dtype == np.int8
    np.testing.assert_array_equal(dosages, [[0, 1], [2, -1], [2, 0]])
    assert (dosages is values) == (dtype == "i1")


@pytest.mark.parametrize("value", [0.5, 3, -9, np.inf, -np.inf, 2.0001])
def test_what_is_no_dosage_is_named(value):
    values = np.zeros((4, 3))
    values[2, 1] = value
    with pytest.raises(InputFormatError, match=rf"row 2, column 1 .* {value}"):
        as_dosages(values, "the array")


def test_no_numbers():
    with pytest.raises(InputFormatError, match="the array holds <U3"):
        as_dosages(np.array([["0/1"]]), "the array")
    with pytest.raises(InputFormatError, match=r"shape \(3,\)"):
        as_dosages(np.array([0, 1, 2]), "the array")


def test_a_matrix_is_checked_block_by_block(monkeypatch):
    monkeypatch.setattr("ancestryvi.genotypes.dosage._BLOCK_CALLS", 7)
    values = np.random.default_rng(1).choice([0.0, 1.0, 2.0, np.nan], size=(11, 3))
    expected = [[-1 if np.isnan(value) else int(value) for value in row] for row in values]
    np.testing.assert_array_equal(as_dosages(values, "the array"), expected)
    values[9, 2] = 7
    with pytest.raises(InputFormatError, match="row 9, column 2"):
        as_dosages(values, "the array")


def as_text(alleles):
    """A call as VCF writes it, from allele numbers with -1 for a dot and -2 for none."""
    return "/".join("." if allele < 0 else str(allele) for allele in alleles if allele != -2)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("ploidy", [1, 2, 3])
def test_allele_numbers_agree_with_text(dtype, ploidy):
    numbers = [-2, -1, 0, 1, 2, 100]
    every = [
        call for call in itertools.product(numbers, repeat=ploidy)
        if list(call) == sorted(call, key=lambda a: a == -2)  # what fills comes last
        and sum(a != -2 for a in call) <= 2
    ]  # fmt: skip
    calls = (
        np.random.default_rng(0)
        .permutation(np.array(every * 3, dtype=dtype))
        .reshape(3, -1, ploidy)
    )
    expected = [[call_dosage(as_text(call).encode()) for call in row] for row in calls.tolist()]
    wide = np.concatenate([calls, calls], axis=-1)  # as a slice, which is not contiguous
    for given in (calls, wide[..., :ploidy], calls.transpose(1, 0, 2)):
        decoded = decode_alleles(given)
        assert decoded.dtype == np.int8
        assert (decoded if given.shape == calls.shape else decoded.T).tolist() == expected


def test_three_allele_numbers_are_refused():
    calls = np.full((2, 3, 4), -2, dtype=np.int8)
    calls[..., 0] = 0
    calls[1, 2, :3] = (0, -1, 2)
    with pytest.raises(UnreadableCallError, match=r"call '0/\./2' has more than two") as caught:
        decode_alleles(calls)
    assert caught.value.index == (1, 2)
