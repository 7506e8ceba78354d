"""The BED reader against a loop over bits, on real data and on damaged file sets."""

import numpy as np
import pytest

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import Genotypes, open_source, read_genotypes


def naive_bed(path, n_samples, n_variants):
    """Read two bits after two bits; the result is (samples, variants) copies of A1."""
    data = path.read_bytes()[3:]
    width = -(-n_samples // 4)
    meaning = {(0, 0): 2, (1, 0): -1, (0, 1): 1, (1, 1): 0}  # (lower bit, higher bit)
    rows = []
    for sample in range(n_samples):
        row = []
        for variant in range(n_variants):
            byte = data[variant * width + sample // 4]
            low = byte >> 2 * (sample % 4) & 1
            high = byte >> (2 * (sample % 4) + 1) & 1
            row.append(meaning[low, high])
        rows.append(row)
    return rows


def test_five_calls(write_bed, five_calls):
    _, dosages = five_calls
    genotypes = read_genotypes(write_bed([[dosage] for dosage in dosages]))
    assert genotypes.dosages.ravel().tolist() == dosages
    # A1, the fifth column of the .bim, is counted.
    assert genotypes.variants.values.tolist() == [["1", 100, "rs0", "A", "G"]]


@pytest.mark.parametrize("n_samples", [1, 4, 5, 6, 7, 33])
def test_random_files_agree_with_a_loop_over_bits(write_bed, monkeypatch, n_samples):
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 60)
    dosages = np.random.default_rng(n_samples).integers(-1, 3, (n_samples, 23))
    path = write_bed(dosages.tolist())
    genotypes = read_genotypes(path)
    np.testing.assert_array_equal(genotypes.dosages, dosages)
    assert genotypes.dosages.tolist() == naive_bed(path, n_samples, 23)


def test_any_columns_are_those_of_the_whole(write_bed):
    dosages = np.random.default_rng(0).integers(-1, 3, (5, 23))
    source = open_source(write_bed(dosages.tolist()))
    assert len(source.variants) == 23
    for columns in (slice(3, 9), slice(20, 99), np.array([0, 1, 4, 5, 6, 22]), np.arange(0)):
        read = source.read_dosages(columns)
        assert read.dtype == np.int8
        np.testing.assert_array_equal(read, dosages[:, columns])
        np.testing.assert_array_equal(
            Genotypes.from_dosages(dosages).read_dosages(columns), dosages[:, columns]
        )


def test_bim_and_fam_decide_names(write_bed):
    bim = ["chr1 a 0 5 T C", "23\tb\t0.5\t-7\t0\tACG"]
    people = ["fam1 1 0 0 1 -9", "fam2 1 0 0 2 1"]
    path = write_bed([[0, 1], [2, -1]], bim, people)
    genotypes = read_genotypes(path)
    assert genotypes.sample_ids == ["fam1_1", "fam2_1"]
    assert genotypes.variants.values.tolist() == [
        ["chr1", 5, "a", "C", "T"],
        ["23", -7, "b", "ACG", "0"],
    ]


@pytest.mark.parametrize("given", ["cohort.v2", "cohort.v2.bim", "cohort.v2.fam", "cohort.v2.bed"])
def test_any_name_of_the_set(write_bed, given):
    path = write_bed([[0], [2]], stem="cohort.v2")
    assert read_genotypes(path.with_name(given)).dosages.tolist() == [[0], [2]]


def test_real_files(shared_data):
    path = shared_data / "1000g-14pop-plink" / "phase1.bed"
    genotypes = read_genotypes(path)
    assert genotypes.dosages.shape == (1092, 14079)
    assert genotypes.n_missing == 0
    assert genotypes.variants.iloc[0].tolist() == ["1", 838555, "rs4970383", "C", "A"]
    assert genotypes.dosages[:, :40].tolist() == naive_bed(path, 1092, 40)


def test_wrong_size_gives_both_numbers(write_bed):
    path = write_bed([[0, 1, 2]] * 5)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(
        InputFormatError, match=r"truncated: 5 samples .* 3 variants .* 9 bytes, found 8"
    ):
        read_genotypes(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(InputFormatError, match=r"too long: .* 9 bytes, found 10"):
        read_genotypes(path)


def test_sets_that_are_none(write_bed):
    path = write_bed([[0, 1]])
    data = path.read_bytes()
    path.write_bytes(b"\x6c\x1b\x00" + data[3:])
    with pytest.raises(InputFormatError, match="sample-major"):
        read_genotypes(path)
    path.write_text("chr1\t100\t200\n")
    with pytest.raises(InputFormatError, match=r"no PLINK 1 \.bed: it begins with b'chr'"):
        read_genotypes(path)
    path.write_bytes(data)
    path.with_suffix(".bim").unlink()
    with pytest.raises(InputFormatError, match=r"cohort\.bim is missing"):
        read_genotypes(path)


@pytest.mark.parametrize(
    ("bim", "message"),
    [
        ("1 rs1 0 five A G", r"cohort\.bim, line 1: position 'five'"),
        ("1 rs1 0 5 A", r"cohort\.bim has fewer than the six columns"),
    ],
)
def test_bim_that_is_none(write_bed, bim, message):
    with pytest.raises(InputFormatError, match=message):
        read_genotypes(write_bed([[0], [1]], [bim]))


def test_repeated_person(write_bed):
    with pytest.raises(SampleError, match=r"cohort\.fam: sample id 'f_1' occurs twice"):
        read_genotypes(write_bed([[0], [1]], people=["f 1 0 0 0 0", "f 1 0 0 0 0"]))
