"""Every format into every other, read by us and by plink2, bcftools, vcztools and anndata."""

import gzip
import itertools
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr

from ancestryvi.exceptions import InputFormatError, NoVariantsError, OutputError
from ancestryvi.genotypes import Genotypes, open_source, read_genotypes, write_genotypes

SUFFIXES = [".vcf", ".vcf.gz", ".bed", ".pgen", ".vcz", ".zarr", ".h5ad"]
FORMATS = [".vcf.gz", ".bed", ".pgen", ".vcz", ".h5ad"]
PAIRS = [*itertools.product(FORMATS, FORMATS), (".vcf", ".zarr"), (".zarr", ".vcf")]
SAMPLES = "abcdefg"


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few variants, so that they are cut and joined anew on the way."""
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 60)
    monkeypatch.setattr("ancestryvi.genotypes.vcz._CHUNK_SHAPE", (5, 3))


@pytest.fixture
def cohort(write_vcf, messy):
    """A VCF with one ALT allele a record and its genotypes."""
    records, dosages = messy(7, 43, biallelic=True)
    path = write_vcf(records, SAMPLES, "source.vcf")
    return path, dosages, read_genotypes(path).variants


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_pair(cohort, tmp_path, small_blocks, first, second):
    path, dosages, variants = cohort
    one, two = tmp_path / f"one{first}", tmp_path / f"two{second}"
    for source, target in ((path, one), (one, two)):
        written = write_genotypes(open_source(source), target)
        assert (written.n_samples, written.n_variants, written.n_multiallelic) == (7, 43, 0)
        genotypes = read_genotypes(target)
        np.testing.assert_array_equal(genotypes.dosages, dosages)
        assert genotypes.sample_ids == list(SAMPLES)
        pd.testing.assert_frame_equal(genotypes.variants[variants.columns], variants)
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


def by_bcftools(tool, path):
    """Contig, position, id, alleles and calls of every record, as bcftools sees them."""
    query = "%CHROM\t%POS\t%ID\t%REF\t%ALT[\t%GT]\n"
    return [line.split("\t") for line in tool("bcftools", "query", "-f", query, path).splitlines()]


def calls_of(dosages):
    text = {-1: "./.", 0: "0/0", 1: "0/1", 2: "1/1"}
    return [[text[d] for d in column] for column in dosages.T.tolist()]


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz"])
def test_bcftools_reads_our_vcf(cohort, tool, tmp_path, small_blocks, suffix):
    path, dosages, variants = cohort
    target = tmp_path / f"out{suffix}"
    write_genotypes(open_source(path), target)
    found = by_bcftools(tool, target)
    assert [row[5:] for row in found] == calls_of(dosages)
    assert [row[:5] for row in found] == variants.astype(str).to_numpy().tolist()
    if suffix == ".vcf.gz":
        tool("bcftools", "index", "--tbi", target)
        count = tool("bcftools", "view", "-H", "-r", "Sca100", target).count("\n")
        assert count == (variants["contig"] == "Sca100").sum()


def test_bgzf_blocks(tmp_path):
    """Many blocks of 64 KiB, and the marker at the end; gzip checks every sum."""
    dosages = np.random.default_rng(0).integers(-1, 3, (500, 400)).astype(np.int8)
    variants = Genotypes.from_dosages(dosages).variants.assign(ref="A", alt="C", contig="1")
    genotypes = Genotypes(dosages, Genotypes.from_dosages(dosages).samples, variants)
    path = tmp_path / "cohort.vcf.gz"
    write_genotypes(genotypes, path)
    data = path.read_bytes()
    assert data.count(b"BC\x02\0") > 10
    assert data.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
    assert gzip.decompress(data).count(b"\n") == 400 + 5
    np.testing.assert_array_equal(read_genotypes(path).dosages, dosages)


@pytest.mark.parametrize("suffix", [".bed", ".pgen"])
def test_plink2_reads_our_sets(cohort, tool, tmp_path, small_blocks, suffix):
    path, dosages, _ = cohort
    write_genotypes(open_source(path), tmp_path / f"out{suffix}")
    flag = {".bed": "--bfile", ".pgen": "--pfile"}[suffix]
    tool(
        "plink2", flag, tmp_path / "out", "--allow-extra-chr", "--export", "Av",
        "--out", tmp_path / "plain",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "plain.traw", sep="\t", na_values=["NA"])
    counted_ref = 2 - dosages.T  # .traw counts REF unless told otherwise
    expected = np.where(dosages.T < 0, -1, counted_ref)
    np.testing.assert_array_equal(table.iloc[:, 6:].fillna(-1).to_numpy(), expected)


def test_anndata_reads_our_h5ad(cohort, tmp_path, small_blocks):
    path, dosages, _ = cohort
    write_genotypes(open_source(path), tmp_path / "out.h5ad")
    ours, theirs = anndata.read_h5ad(tmp_path / "out.h5ad"), read_genotypes(path).to_anndata()
    np.testing.assert_array_equal(ours.X, dosages)
    assert ours.X.dtype == np.int8
    pd.testing.assert_frame_equal(ours.var, theirs.var)
    assert ours.obs_names.tolist() == theirs.obs_names.tolist()
    assert ours.uns["ancestryvi"]["missing"] == -1
    ours.write_h5ad(tmp_path / "again.h5ad")


def test_arrays_of_our_vcf_zarr(cohort, tmp_path, small_blocks):
    """As the specification and vcztools want them."""
    path, dosages, variants = cohort
    write_genotypes(open_source(path), tmp_path / "out.vcz")
    group = zarr.open_group(tmp_path / "out.vcz", mode="r")
    assert group.metadata.zarr_format == 2
    assert group.attrs["vcf_zarr_version"] == "0.4"
    calls = group["call_genotype"]
    assert calls.shape == (43, 7, 2)
    assert calls.chunks == (5, 3, 2)
    pairs = np.array([[-1, -1], [0, 0], [0, 1], [1, 1]])
    np.testing.assert_array_equal(calls[:], pairs[dosages.T + 1])
    assert not group["call_genotype_phased"][:].any()
    assert group["call_genotype_phased"].shape == (43, 7)
    lengths = variants["ref"].str.len()
    assert group["variant_length"][:].tolist() == lengths.tolist()
    for name, dimension in (("sample_id", "samples"), ("variant_position", "variants")):
        assert group[name].attrs["_ARRAY_DIMENSIONS"] == [dimension]
    # Each row of the index must be what a loop over the variants of its chunk and contig finds.
    rows, contigs = [], list(dict.fromkeys(variants["contig"]))
    for chunk, start in enumerate(range(0, 43, 5)):
        part = variants.iloc[start : start + 5]
        for contig in dict.fromkeys(part["contig"]):
            of = part[part["contig"] == contig]
            last = max(p + len(r) - 1 for p, r in zip(of["position"], of["ref"], strict=True))
            places = (of["position"].iloc[0], of["position"].iloc[-1], last, len(of))
            rows.append([chunk, contigs.index(contig), *map(int, places)])
    assert group["region_index"][:].tolist() == rows


def test_vcztools_reads_our_vcf_zarr(cohort, tool, tmp_path):
    path, dosages, _ = cohort
    write_genotypes(open_source(path), tmp_path / "out.vcz")
    lines = tool("vcztools", "view", "--no-header", tmp_path / "out.vcz").splitlines()
    # A record without any call has no FORMAT there.
    found = [line.split("\t")[9:] for line in lines]
    assert found == [
        ["."] * 7 if set(calls) == {"./."} else calls for calls in calls_of(dosages)
    ]  # fmt: skip


def test_several_alt_alleles(write_vcf, messy, tmp_path):
    records, dosages = messy(7, 40)
    path = write_vcf(records, SAMPLES)
    several = np.array(["," in record[3] for record in records])
    first = records[int(several.argmax())]
    for suffix in SUFFIXES:
        folder = tmp_path / suffix[1:]
        target = folder / f"out{suffix}"
        if suffix == ".h5ad":
            write_genotypes(open_source(path), target)
            np.testing.assert_array_equal(read_genotypes(target).dosages, dosages)
            assert read_genotypes(target).variants["alt"].tolist() == [r[3] for r in records]
            continue
        with pytest.raises(OutputError, match="which of its ALT alleles") as caught:
            write_genotypes(open_source(path), target)
        assert f"variant {first[0]}:{first[1]}:{first[2]}:{first[3]}" in str(caught.value)
        assert not folder.exists()
        written = write_genotypes(open_source(path), target, skip_multiallelic=True)
        assert written.n_multiallelic == several.sum()
        np.testing.assert_array_equal(read_genotypes(target).dosages, dosages[:, ~several])
    only = open_source(path, region=first[0], variants=[":".join(first[:4])])
    with pytest.raises(NoVariantsError, match="no variant is left to write"):
        write_genotypes(only, tmp_path / "none.bed", skip_multiallelic=True)


def genotypes_of(dosages=((0, 1), (2, -1)), ids=("a", "b"), **columns):
    plain = Genotypes.from_dosages(dosages, ids)
    variants = plain.variants.assign(contig="1", position=[5, 6], ref="A", alt="C", id=".")
    return Genotypes(plain.dosages, plain.samples, variants.assign(**columns))


@pytest.mark.parametrize("suffix", [".vcf", ".pgen", ".vcz"])
def test_alleles_that_plink_does_not_know(tmp_path, suffix):
    """An allele 0 or a dot is unknown; without calls of it, it does not matter."""
    genotypes = genotypes_of([[0, 1], [-1, 2]], ref=["0", "."], alt=["0", "C"], id=["", "x"])
    write_genotypes(genotypes, tmp_path / f"out{suffix}")
    again = read_genotypes(tmp_path / f"out{suffix}")
    assert again.variants[["id", "ref", "alt"]].values.tolist() == [
        [".", "N", "."],
        ["x", "N", "C"],
    ]
    np.testing.assert_array_equal(again.dosages, genotypes.dosages)


@pytest.mark.parametrize(
    ("genotypes", "suffixes", "message"),
    [
        (genotypes_of(alt="."), [".vcf", ".pgen", ".vcz"], r"variant 1:5:A:\.: it has calls of an"),
        (genotypes_of(position=[5, -6]), [".vcf", ".pgen", ".vcz"], "variant 1:-6:A:C: its pos"),
        (genotypes_of(id=["x", "b c"]), [".vcf", ".bed", ".pgen", ".vcz"], "id 'b c' of variant"),
        (genotypes_of(contig=["1", ""]), [".vcf", ".bed", ".pgen", ".vcz"], "contig '' of variant"),
        (genotypes_of(ids=("a", "b c")), [".bed", ".pgen"], "cannot hold sample 'b c'"),
        (genotypes_of(ids=("a", "b\tc")), [".vcf"], "cannot hold sample"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, genotypes, suffixes, message):
    for suffix in suffixes:
        with pytest.raises(OutputError, match=message):
            write_genotypes(genotypes, tmp_path / f"out{suffix}")
        assert list(tmp_path.iterdir()) == []
    write_genotypes(genotypes, tmp_path / "out.h5ad")
    np.testing.assert_array_equal(read_genotypes(tmp_path / "out.h5ad").dosages, genotypes.dosages)


class Broken:
    """A source that ends in an error, or by Ctrl-C, after its first block."""

    content = "dosages"
    paths = ()

    def __init__(self, error):
        self._error = error
        self._genotypes = genotypes_of()
        self.sample_ids = self._genotypes.sample_ids

    def iter_blocks(self):
        from ancestryvi.genotypes import Block

        yield Block(self._genotypes.dosages, self._genotypes.variants)
        raise self._error


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [InputFormatError("damaged"), KeyboardInterrupt()], ids=str)
def test_nothing_is_left_of_a_failure(tmp_path, suffix, error):
    target = tmp_path / f"out{suffix}"
    with pytest.raises(type(error)):
        write_genotypes(Broken(error), target)
    assert list(tmp_path.iterdir()) == []
    write_genotypes(genotypes_of(), target)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(type(error)):
        write_genotypes(Broken(error), target, overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_replacing(tmp_path, suffix):
    target = tmp_path / "new" / f"out{suffix}"
    write_genotypes(genotypes_of(), target)
    with pytest.raises(OutputError, match=r"exists; choose another name, or replace .* --force"):
        write_genotypes(genotypes_of(), target)
    write_genotypes(genotypes_of([[2, 2], [1, 1]]), target, overwrite=True)
    assert read_genotypes(target).dosages.tolist() == [[2, 2], [1, 1]]
    with pytest.raises(OutputError, match="is what is read; give the output another name"):
        write_genotypes(open_source(target), target, overwrite=True)
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".")]


def test_names_that_say_no_format(tmp_path):
    for name in ("out", "out.txt", ".vcf", "out.gz"):
        with pytest.raises(OutputError, match=r"should end in one of \.vcf, "):
            write_genotypes(genotypes_of(), tmp_path / name)
    with pytest.raises(OutputError, match=r"bcftools view -Ob -o out\.bcf out\.vcf\.gz"):
        write_genotypes(genotypes_of(), tmp_path / "out.bcf")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_genotypes(genotypes_of(), tmp_path / "file" / "out.bed")
    table = tmp_path / "pcs.tsv"
    table.write_text("sample\tPC1\na\t1\n")
    with pytest.raises(InputFormatError, match="table of scores; give genotypes"):
        write_genotypes(open_source(table), Path(tmp_path, "out.bed"))


def test_real_vcf_by_plink2_and_by_us(shared_data, tool, tmp_path):
    """What plink2 makes of a file and what we make of it hold the same calls."""
    vcf = shared_data / "1000g-12pop" / "chr22.vcf.gz"
    tool("plink2", "--vcf", vcf, "--make-pgen", "--out", tmp_path / "theirs")
    whole = read_genotypes(vcf)
    theirs = read_genotypes(tmp_path / "theirs.pgen")
    np.testing.assert_array_equal(theirs.dosages, whole.dosages)
    for suffix in (".pgen", ".vcz", ".vcf.gz"):
        write_genotypes(open_source(vcf), tmp_path / f"ours{suffix}", skip_multiallelic=True)
        ours = read_genotypes(tmp_path / f"ours{suffix}")
        one_alt = ~whole.variants["alt"].str.contains(",").to_numpy()
        np.testing.assert_array_equal(ours.dosages, whole.dosages[:, one_alt])
