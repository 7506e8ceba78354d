"""BCF and indexed regions against the VCF reader, which reads the same records as text."""

import numpy as np
import pytest

from ancestryvi.exceptions import InputFormatError, NoVariantsError
from ancestryvi.genotypes import open_source, read_genotypes
from ancestryvi.genotypes.htslib import HtslibSource

pytest.importorskip("cyvcf2", reason="the extra bcf is not installed")
SAMPLES = "abcdefg"


@pytest.fixture
def write_bcf(write_vcf, tool):
    """Return a function that writes records as VCF, and as BCF by bcftools."""

    def write(records, samples=SAMPLES, index=False):
        vcf = write_vcf(records, samples)
        known = [f"##contig=<ID={name}>" for name in dict.fromkeys(r[0] for r in records)]
        known.append('##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">')
        first, rest = vcf.read_text().split("\n", 1)
        vcf.write_text("\n".join([first, *known, rest]))
        bcf = vcf.with_suffix(".bcf")
        tool("bcftools", "view", "-Ob", "-o", bcf, vcf)
        if index:
            tool("bcftools", "index", "-f", bcf)
        return vcf, bcf

    return write


def assert_same(first, second):
    np.testing.assert_array_equal(first.dosages, second.dosages)
    assert first.sample_ids == second.sample_ids
    assert first.variants.equals(second.variants)


@pytest.mark.parametrize("name", ["cohort.bcf", "download.txt"])
def test_five_calls(write_bcf, five_calls, name):
    calls, dosages = five_calls
    _, bcf = write_bcf([("chrX", "9", "A", "C", "GT", *calls)], "abcde")
    genotypes = read_genotypes(bcf.rename(bcf.with_name(name)))
    assert genotypes.dosages.ravel().tolist() == dosages
    assert genotypes.variants.values.tolist() == [["chrX", 9, ".", "A", "C"]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_as_text(write_bcf, messy, monkeypatch, seed):
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 60)
    records, dosages = messy(7, 50, seed)
    records[4] = (*records[4][:4], "DP", *["3"] * 7)  # a record without GT
    dosages[:, 4] = -1
    vcf, bcf = write_bcf(records)
    genotypes = read_genotypes(bcf)
    np.testing.assert_array_equal(genotypes.dosages, dosages)
    assert_same(genotypes, read_genotypes(vcf))


def indexed(tool, vcf, flag="--tbi"):
    """Compress and index a VCF."""
    path = vcf.with_name(vcf.name + ".gz")
    tool("bcftools", "view", "-Oz", "-o", path, vcf)
    tool("bcftools", "index", "-f", flag, path)
    return path


ASKED = [
    ["Sca100"], ["chrUn_3:16-22"], ["X:61-", "LT635612.1:1"], ["X:50-60", "X:55-63", "X:65-70"],
]  # fmt: skip


@pytest.mark.parametrize("region", ASKED, ids=str)
def test_regions_by_index(write_bcf, messy, tool, region):
    vcf, bcf = write_bcf(messy(7, 50)[0], index=True)
    scanned = read_genotypes(vcf, region=region, samples=["b", "a"])
    for path in (bcf, indexed(tool, vcf), indexed(tool, vcf, "--csi")):
        source = open_source(path, region=region)
        assert isinstance(source._source, HtslibSource)
        assert sum(len(block.columns) for block in source.iter_blocks()) == len(scanned.variants)
        assert source.n_variants_there is None  # of the file, which was not read
        assert_same(read_genotypes(path, region=region, samples=["b", "a"]), scanned)


def test_a_long_ref_is_where_it_begins(write_bcf):
    """bcftools -r also gives what reaches into a region, once for each of several."""
    records = [("1", "5", "A" * 90, "A", "GT", "0/1"), ("1", "40", "A", "C", "GT", "1/1")]
    vcf, bcf = write_bcf(records, "a", index=True)
    for path in (vcf, bcf):
        genotypes = read_genotypes(path, region=["1:30-50", "1:60-70"])
        assert genotypes.variants["position"].tolist() == [40]
        genotypes = read_genotypes(path, region=["1:1-10", "1:60-70"])
        assert genotypes.variants["position"].tolist() == [5]


def test_regions_in_vain(write_bcf, messy, tool):
    vcf, bcf = write_bcf(messy(7, 50)[0], index=True)
    for path in (vcf, bcf, indexed(tool, vcf)):
        with pytest.raises(NoVariantsError, match=r"contig 'chrX'; its contigs are LT635612\.1, "):
            read_genotypes(path, region="chrX:1-5")
        with pytest.raises(NoVariantsError, match=r"among those asked for \(X:1-2\)"):
            read_genotypes(path, region="X:1-2")


def test_one_file_per_contig(write_bcf, tool):
    one, bcf = write_bcf([("1", "5", "A", "C", "GT", "0/1", "1/1")], "ab", index=True)
    other = one.with_name("other.vcf")
    other.write_text(
        one.read_text()
        .replace("ID=1>", "ID=2>")
        .replace("\n1\t", "\n2\t")
        .replace("\ta\tb", "\tb\ta")
    )
    genotypes = read_genotypes([bcf, indexed(tool, other)], region="2")
    assert genotypes.dosages.tolist() == [[2], [1]]
    with pytest.raises(NoVariantsError, match=r"contig '3'; its contigs are 1, 2$"):
        read_genotypes([bcf, indexed(tool, other)], region="3")


def test_urls(write_bcf, messy):
    """What htslib opens by URL; over the network it takes the same path."""
    vcf, bcf = write_bcf(messy(7, 50)[0], index=True)
    url = bcf.as_uri()
    assert url.startswith("file://")
    assert_same(read_genotypes(url, region="X:60-"), read_genotypes(vcf, region="X:60-"))
    with pytest.raises(InputFormatError, match="remote: say which part to read with --region"):
        open_source(url)
    with pytest.raises(InputFormatError, match=r"none\.bcf cannot be read"):
        open_source(f"{url.removesuffix('cohort.bcf')}none.bcf", region="X")


def test_files_that_are_refused(write_bcf, messy, capfd):
    _, bcf = write_bcf(messy(7, 300)[0])
    data = bcf.read_bytes()
    bcf.write_bytes(data[:-28])
    with pytest.raises(InputFormatError, match="BGZF end-of-file block is missing"):
        read_genotypes(bcf)
    damaged = bytearray(data)
    damaged[-200:-150] = bytes(50)
    bcf.write_bytes(damaged)
    with pytest.raises(InputFormatError, match=r"cohort\.bcf cannot be read"):
        read_genotypes(bcf)
    _, bcf = write_bcf([("1", "5", "A", "C", "GT", "0/1", "0/1/1")], "ab")
    with pytest.raises(InputFormatError, match=r"variant 1:5:A:C, sample 'b': call '0/1/1' has"):
        read_genotypes(bcf)
    _, bcf = write_bcf([("1", "5", "A", "C", "DP", "3", "2")], "ab")
    with pytest.raises(InputFormatError, match="no record has GT"):
        read_genotypes(bcf)
    _, bcf = write_bcf([], "ab")
    with pytest.raises(InputFormatError, match="no records"):
        read_genotypes(bcf)


def test_without_cyvcf2(write_bcf, messy, tool, monkeypatch):
    vcf, bcf = write_bcf(messy(7, 50)[0], index=True)
    zipped = indexed(tool, vcf)
    with_index = read_genotypes(zipped, region="X")
    monkeypatch.setattr("ancestryvi.genotypes.htslib.is_available", lambda: False)
    monkeypatch.setattr("ancestryvi.genotypes.reading.is_available", lambda: False)
    with pytest.raises(InputFormatError, match=r'pip install "ancestryvi\[bcf\]", or convert it'):
        open_source(bcf)
    assert_same(read_genotypes(zipped, region="X"), with_index)
