from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import Genotypes
from ancestryvi.preprocess.inputs import as_genotypes, is_anndata, is_path, looks_like_dosages

NAN = np.nan
CALLS = [[0, 1, -1], [2, -1, 0]]

# ---- dosages or features -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        [[0, 1, 2], [2, 0, 0]],
        [[2]],
        [[-1, 2], [0, -1]],
        [[0.0, 1.0], [2.0, NAN]],
        [[-1.0, NAN], [2.0, 0.0]],
        np.array([[0, 2]], np.int8),
        np.array([[0, 2]], np.uint8),
        np.array([[0, 2]], np.float16),
        np.asfortranarray([[0, 2], [1, 1]]),
        pd.DataFrame({"rs1": [0, 2], "rs2": [1.0, NAN]}, index=["ann", "bo"]),
    ],
)
def test_these_look_like_dosages(X):
    assert looks_like_dosages(X) is True


@pytest.mark.parametrize(
    "X",
    [
        [[0, 1], [1, 0]],  # indicators
        [[-1, 1], [1, -1]],  # signs
        [[0, 1, 3]],
        [[0, 1, 2, -2]],
        [[0, 2, -9]],  # a missing call of other programs
        [[0.0, 2.0, 0.5]],
        [[0.0, 2.0, np.inf]],
        [[NAN, NAN]],
        [[0, 0]],
        [0, 1, 2],
        [[[0, 1, 2]]],
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        [["0", "2"]],
        np.array([[0, 2]], object),
        np.array([[False, True]]),
        np.array([[0, 2 + 0j]]),
        sparse.csr_matrix([[0, 2]]),
        pd.DataFrame({"a": [0, 2], "b": ["x", "y"]}),
    ],
    ids=str,
)
def test_these_do_not(X):
    assert looks_like_dosages(X) is False


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        ("cohort.vcf", True),
        (Path("cohort.vcf"), True),
        (["chr1.vcf", Path("chr2.vcf")], True),
        (("chr1.vcf",), True),
        ([], False),
        (["chr1.vcf", 2], False),
        ([[0, 1], [2, 0]], False),
        (np.array(CALLS), False),
        (pd.DataFrame(CALLS), False),
        (None, False),
    ],
)
def test_paths_are_told_from_data(X, expected):
    assert is_path(X) is expected


def test_anndata_is_told_by_its_class():
    class Mine(anndata.AnnData):
        pass

    assert is_anndata(anndata.AnnData(np.ones((2, 2))))
    assert is_anndata(Mine(np.ones((2, 2))))
    assert not is_anndata(np.ones((2, 2)))
    assert not is_anndata(pd.DataFrame(CALLS))


# ---- everything becomes Genotypes --------------------------------------------------------------


def test_genotypes_pass_unchanged():
    genotypes = Genotypes.from_dosages(CALLS)
    assert as_genotypes(genotypes) is genotypes


@pytest.mark.parametrize(
    "X",
    [
        CALLS,
        np.array(CALLS),
        np.array(CALLS, np.int8),
        np.asfortranarray(CALLS),
        np.array(CALLS, object),
        [[0, 1, NAN], [2, NAN, 0]],
        np.array([[0, 1, NAN], [2, NAN, 0]], np.float32),
    ],
)
def test_a_matrix(X):
    genotypes = as_genotypes(X)
    assert genotypes.dosages.tolist() == CALLS
    assert genotypes.dosages.dtype == np.int8
    assert genotypes.sample_ids == ["sample_0", "sample_1"]
    assert (genotypes.variants["contig"] == "unknown").all()


def test_int8_is_not_copied():
    matrix = np.array(CALLS, np.int8)
    assert as_genotypes(matrix).dosages is matrix


@pytest.mark.parametrize("dtype", ["float64", "int8", "object", "Int8"])
def test_a_frame_brings_sample_ids(dtype):
    frame = pd.DataFrame(CALLS, index=["ann", 7], columns=["rs1", "rs2", "rs3"]).astype(dtype)
    if dtype == "Int8":
        frame = frame.replace(-1, pd.NA)
    genotypes = as_genotypes(frame)
    assert genotypes.dosages.tolist() == CALLS
    assert genotypes.sample_ids == ["ann", "7"]


def test_repeated_names_in_a_frame_are_refused():
    with pytest.raises(SampleError, match="'ann' occurs twice"):
        as_genotypes(pd.DataFrame(CALLS, index=["ann", "ann"]))


@pytest.mark.parametrize("convert", [np.array, sparse.csr_matrix])
def test_anndata(convert):
    obs, var = pd.DataFrame(index=["ann", "bo"]), pd.DataFrame({"position": [5, 6, 7]})
    var.index = ["rs1", "rs2", "rs3"]
    genotypes = as_genotypes(anndata.AnnData(convert(np.array(CALLS, float)), obs, var))
    assert genotypes.dosages.tolist() == CALLS
    assert genotypes.sample_ids == ["ann", "bo"]
    assert genotypes.variants["position"].tolist() == [5, 6, 7]
    assert genotypes.variants["id"].tolist() == ["rs1", "rs2", "rs3"]


@pytest.fixture
def files(tmp_path):
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbo\n"
    paths = []
    for contig, calls in [("1", "0/0\t1/1"), ("2", "./.\t0/1")]:
        path = tmp_path / f"chr{contig}.vcf"
        path.write_text(f"{head}{contig}\t100\t.\tA\tG\t.\t.\t.\tGT\t{calls}\n")
        paths.append(path)
    return paths


def test_one_file_and_several(files):
    for one in (files[0], str(files[0]), [files[0]]):
        genotypes = as_genotypes(one)
        assert genotypes.dosages.tolist() == [[0], [2]]
        assert genotypes.sample_ids == ["ann", "bo"]
    several = as_genotypes([str(files[0]), files[1]])
    assert several.dosages.tolist() == [[0, -1], [2, 1]]
    assert several.variants["contig"].tolist() == ["1", "2"]


@pytest.mark.parametrize("value", [3, -2, 0.5, np.inf, -9])
def test_the_place_of_a_value_that_is_no_dosage_is_named(value):
    matrix = np.zeros((3, 4))
    matrix[1, 2] = value
    with pytest.raises(InputFormatError, match="row 1, column 2"):
        as_genotypes(matrix)


@pytest.mark.parametrize(
    ("X", "error", "pattern"),
    [
        (sparse.csr_matrix(CALLS), TypeError, "[Ss]parse"),
        ([0, 1, 2], ValueError, "Expected 2D array, got 1D array"),
        (np.zeros((2, 2, 2)), ValueError, "dim 3"),
        (np.zeros((0, 3)), ValueError, r"0 sample\(s\)"),
        (np.zeros((3, 0)), ValueError, r"0 feature\(s\)"),
        (np.array([[1j]]), ValueError, "Complex data not supported"),
        ([["A/A", "A/G"]], ValueError, "numeric"),
        (np.array([[True, False]]), InputFormatError, "bool"),
        (None, ValueError, "Expected 2D array"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(X, error, pattern):
    with pytest.raises(error, match=pattern):
        as_genotypes(X)
