"""The PGEN reader against files that plink2 and Pgenlib's own writer made, and on damaged sets."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pgenlib
import pytest

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import open_source, read_genotypes

PVAR = ["#CHROM\tPOS\tID\tREF\tALT", "1\t5\ta\tA\tC", "chrUn_7\t9\t.\tAC\tA,<DEL>,*"]
ALLELES = [  # one row per variant, two alleles per sample; -9 is a missing call
    [[0, 0], [0, 1], [1, 1], [-9, -9], [1, 0]],
    [[0, 2], [3, 3], [1, 2], [-9, -9], [0, 0]],
]
DOSAGES = [[0, 1], [1, 2], [2, 2], [-1, -1], [1, 0]]


@pytest.fixture
def write_pgen(tmp_path):
    """Return a function that writes a file set through Pgenlib, allele by allele."""

    def write(alleles=ALLELES, pvar=PVAR, psam=("#IID", *"abcde"), stem="cohort"):
        path = tmp_path / f"{stem}.pgen"
        with pgenlib.PgenWriter(
            str(path).encode(), len(alleles[0]), len(alleles), False, allele_ct_limit=4
        ) as writer:
            for row in alleles:
                flat = np.array(row, dtype=np.int32).ravel()
                writer.append_alleles(flat, allele_ct=4 if max(flat) > 1 else 2)
        path.with_suffix(".pvar").write_text("".join(line + "\n" for line in pvar))
        path.with_suffix(".psam").write_text("".join(line + "\n" for line in psam))
        return path

    return write


def test_alt_alleles_count_alike(write_pgen):
    genotypes = read_genotypes(write_pgen())
    assert genotypes.dosages.tolist() == DOSAGES
    assert genotypes.sample_ids == list("abcde")
    assert genotypes.variants.values.tolist() == [
        ["1", 5, "a", "A", "C"],
        ["chrUn_7", 9, ".", "AC", "A,<DEL>,*"],
    ]


@pytest.mark.parametrize("form", [(), ("vzs",), ("psam-cols=+fid",)])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_plink2_makes_of_a_vcf(write_vcf, messy, tool, tmp_path, form, seed):
    records, dosages = messy(7, 60, seed)
    # plink2 has rules of its own for X; other haploid calls it stores as homozygous.
    vcf = write_vcf([(record[0].replace("X", "7"), *record[1:]) for record in records], "abcdefg")
    tool(
        "plink2", "--vcf", vcf, "--vcf-half-call", "m", "--allow-extra-chr", "--make-pgen", *form,
        "--out", tmp_path / "cohort",
    )  # fmt: skip
    genotypes, same = read_genotypes(tmp_path / "cohort.pgen"), read_genotypes(vcf)
    np.testing.assert_array_equal(genotypes.dosages, dosages)
    assert genotypes.variants.equals(same.variants)


@pytest.mark.parametrize("given", ["cohort.v2", "cohort.v2.pvar", "cohort.v2.psam"])
def test_any_name_of_the_set(write_pgen, given):
    path = write_pgen(stem="cohort.v2")
    assert read_genotypes(path.with_name(given)).dosages.tolist() == DOSAGES


def test_prefix_of_two_sets(write_pgen, write_bed):
    path = write_pgen()
    write_bed([[0]])
    with pytest.raises(InputFormatError, match=r"means .*cohort\.bed or .*cohort\.pgen"):
        read_genotypes(path.with_suffix(""))


@pytest.mark.parametrize(
    ("psam", "ids"),
    [
        (["##x", "#FID IID SEX", *(f"f{x} {x} 1" for x in "abcde")], list("abcde")),
        (["#FID\tIID", *(f"f{x}\t1" for x in "abcde")], [f"f{x}_1" for x in "abcde"]),
        (["#IID\tSID", *(f"{x}\t1" for x in "abcde")], list("abcde")),
        ([f"0 {x} 0 0 0 -9" for x in "abcde"], list("abcde")),
    ],
)
def test_forms_of_psam(write_pgen, psam, ids):
    assert read_genotypes(write_pgen(psam=psam)).sample_ids == ids


def test_forms_of_pvar(write_pgen):
    header = ["##fileformat=VCFv4.3", "#CHROM POS ID REF ALT QUAL FILTER INFO"]
    path = write_pgen(pvar=[*header, "1 5 a A C . . A=1;B", "2 6 b AC A,T,G . . ."])
    assert read_genotypes(path).variants["alt"].tolist() == ["C", "A,T,G"]
    # Without a header the columns are those of a .bim: ALT before REF.
    path = write_pgen(ALLELES[:1], pvar=["7 rs1 0 5 C A"])
    assert read_genotypes(path).variants.values.tolist() == [["7", 5, "rs1", "A", "C"]]
    path.with_suffix(".pvar").rename(path.with_suffix(".bim"))
    path.with_suffix(".psam").write_text("".join(f"f {x} 0 0 0 0\n" for x in "abcde"))
    path.with_suffix(".psam").rename(path.with_suffix(".fam"))
    assert read_genotypes(path).dosages.tolist() == [row[:1] for row in DOSAGES]


def biallelic(dosages):
    """Alleles of dosages of (samples, variants)."""
    pairs = {0: [0, 0], 1: [0, 1], 2: [1, 1], -1: [-9, -9]}
    return [[pairs[d] for d in column] for column in dosages.T.tolist()]


def test_any_columns_in_any_thread_and_process(write_pgen, monkeypatch):
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 60)
    dosages = np.random.default_rng(0).integers(-1, 3, (5, 50)).astype(np.int8)
    pvar = PVAR[:1] + [f"1\t{i}\t.\tA\tC" for i in range(50)]
    path = write_pgen(biallelic(dosages), pvar)
    np.testing.assert_array_equal(read_genotypes(path).dosages, dosages)
    source = open_source(path)
    asked = [slice(3, 9), slice(40, 99), np.array([0, 1, 4, 5, 6, 22, 49]), np.arange(0)] * 20
    wanted = [dosages[:, columns] for columns in asked]
    with ThreadPoolExecutor(4) as threads:
        for read, want in zip(threads.map(source.read_dosages, asked), wanted, strict=True):
            assert read.dtype == np.int8
            np.testing.assert_array_equal(read, want)
    with multiprocessing.get_context("fork").Pool(2) as processes:
        for read, want in zip(processes.map(source.read_dosages, asked), wanted, strict=True):
            np.testing.assert_array_equal(read, want)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read_dosages(asked[2]), wanted[2])


def test_sets_that_do_not_fit(write_pgen):
    path = write_pgen(psam=("#IID", *"abcd"))
    with pytest.raises(InputFormatError, match=r"cohort\.pgen is damaged, or \.pvar or \.psam"):
        read_genotypes(path)
    with pytest.raises(InputFormatError, match=r"cohort\.pgen is damaged, or \.pvar or \.psam"):
        read_genotypes(write_pgen(pvar=PVAR[:2]))
    path = write_pgen(pvar=[*PVAR[:2], "1\tfive\tb\tA\tC"])
    with pytest.raises(
        InputFormatError, match=r"cohort\.pvar is no table of variants .Invalid POS"
    ):
        read_genotypes(path)
    path.with_suffix(".pvar").unlink()
    with pytest.raises(InputFormatError, match=r"cohort\.pvar is missing"):
        read_genotypes(path)
    path.with_suffix(".psam").unlink()
    with pytest.raises(InputFormatError, match=r"cohort\.psam is missing"):
        read_genotypes(path)


def test_samples_that_are_none(write_pgen):
    with pytest.raises(SampleError, match=r"cohort\.psam: sample id 'a' occurs twice"):
        read_genotypes(write_pgen(psam=("#IID", *"aabcd")))
    with pytest.raises(InputFormatError, match=r"cohort\.psam: sample 2 has 1 columns"):
        read_genotypes(write_pgen(psam=("#IID SEX", "a 1", "b")))
    with pytest.raises(InputFormatError, match=r"cohort\.psam has no column IID"):
        read_genotypes(write_pgen(psam=("#SEX", "1")))
    with pytest.raises(InputFormatError, match=r"cohort\.psam holds no samples"):
        read_genotypes(write_pgen(psam=()))


def test_truncated_file(write_pgen):
    path = write_pgen()
    data = path.read_bytes()
    for n in (len(data) - 1, len(data) - 4, 13, 4):
        path.write_bytes(data[:n])
        with pytest.raises(InputFormatError, match=r"cohort\.pgen is damaged"):
            read_genotypes(path)


def test_real_files(shared_data, tool, tmp_path):
    bed = shared_data / "1000g-14pop-plink" / "phase1.bed"
    out = tmp_path / "phase1"
    tool("plink2", "--bfile", bed.with_suffix(""), "--make-pgen", "vzs", "--out", out)
    genotypes, same = read_genotypes(out), read_genotypes(bed)
    np.testing.assert_array_equal(genotypes.dosages, same.dosages)
    assert genotypes.sample_ids == same.sample_ids
    assert genotypes.variants.equals(same.variants)
