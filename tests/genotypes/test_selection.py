"""Filters for reading, against a loop over the whole; the same from every format."""

from types import SimpleNamespace

import numpy as np
import pytest

from ancestryvi.exceptions import InputFormatError, NoVariantsError, SampleError
from ancestryvi.genotypes import open_source, read_genotypes, write_genotypes
from ancestryvi.genotypes.selection import Region, SelectedIndexed, _sample_rows

SAMPLES = "abcdefg"
SUFFIXES = [".vcf", ".bed", ".pgen", ".vcz", ".h5ad"]


@pytest.fixture(params=SUFFIXES)
def cohort(request, write_vcf, messy, tmp_path, monkeypatch):
    """A file of each format in blocks of a few variants, and what it holds."""
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 30)
    records, _ = messy(7, 43, biallelic=True)
    path = write_vcf(records, SAMPLES)
    whole = read_genotypes(path)
    whole.variants.loc[[3, 20], "id"] = ["rs3", "rs20"]
    if request.param == ".vcf":
        lines = path.read_text().splitlines()
        for row, name in ((3, "rs3"), (20, "rs20")):
            cells = lines[row + 3].split("\t")
            lines[row + 3] = "\t".join([*cells[:2], name, *cells[3:]])
        path.write_text("\n".join(lines) + "\n")
        return path, whole
    target = tmp_path / f"cohort{request.param}"
    write_genotypes(whole, target)
    return target, whole


def check(genotypes, whole, samples, variants):
    samples, variants = list(samples), list(variants)
    np.testing.assert_array_equal(genotypes.dosages, whole.dosages[np.ix_(samples, variants)])
    assert genotypes.sample_ids == [SAMPLES[i] for i in samples]
    expected = whole.variants.iloc[variants].reset_index(drop=True)
    assert genotypes.variants[expected.columns].equals(expected)


REGIONS = {
    "chrUn_3": lambda contig, position: contig == "chrUn_3",
    "Sca100:40-50": lambda contig, position: contig == "Sca100" and 40 <= position <= 50,
    "X:61-": lambda contig, position: contig == "X" and position >= 61,
    "X:61": lambda contig, position: contig == "X" and position == 61,
}


@pytest.mark.parametrize("asked", [[name] for name in REGIONS] + [list(REGIONS)], ids=str)
def test_regions(cohort, asked):
    path, whole = cohort
    places = list(zip(whole.variants["contig"], whole.variants["position"], strict=True))
    wanted = [j for j, place in enumerate(places) if any(REGIONS[r](*place) for r in asked)]
    assert 0 < len(wanted) < 43
    region = asked[0] if len(asked) == 1 else asked
    check(read_genotypes(path, region=region), whole, range(7), wanted)


def test_samples_keep_the_order_of_the_file(cohort, tmp_path):
    path, whole = cohort
    check(read_genotypes(path, samples=["f", "b", "b"]), whole, [1, 5], range(43))
    listed = tmp_path / "keep.txt"
    listed.write_text("\ufefff\r\n\n b\n", encoding="utf-8")
    check(read_genotypes(path, samples=listed), whole, [1, 5], range(43))


@pytest.mark.parametrize("text", ["fam\tb\nfam f\n", "#FID\tIID\nfam\tb\nx\tf\n", "#IID\nf\nb\n"])
def test_samples_may_be_listed_as_for_plink(cohort, tmp_path, text):
    path, whole = cohort
    listed = tmp_path / "keep.txt"
    listed.write_text(text)
    check(read_genotypes(path, samples=listed), whole, [1, 5], range(43))


def test_families_whose_members_are_numbered_alike():
    whole = SimpleNamespace(sample_ids=["A_1", "B_1", "1 2", "#3", "1"], paths=["file"])
    for entries, rows in ((["B 1"], [1]), (["1 2", "#3"], [2, 3]), (["A\t1\t0\t0"], [0])):
        assert _sample_rows(whole, entries, "the list").tolist() == rows
    for entry in ("C 9", "#7"):
        with pytest.raises(SampleError, match=entry):
            _sample_rows(whole, [entry], "the list")


def test_variants_by_any_name(cohort, tmp_path):
    path, whole = cohort
    keys = whole.variant_keys()
    contig, position, ref, alt = whole.variants.loc[7, ["contig", "position", "ref", "alt"]]
    place = f"{contig}:{position}"
    assert whole.variants.loc[6, "position"] == position  # two records of one position
    assert keys[6] != keys[7]
    check(read_genotypes(path, variants=["rs20", "rs3"]), whole, range(7), [3, 20])
    check(read_genotypes(path, variants=[f"{place}:{ref}:{alt}"]), whole, range(7), [7])
    listed = tmp_path / "variants.txt"
    listed.write_text(f"rs20\n{place}\nrs99\n")
    with pytest.warns(
        UserWarning, match=r"Not met in .*: 1 of the 3 variants in .*variants\.txt, such as rs99"
    ):
        genotypes = read_genotypes(path, variants=str(listed))
    check(genotypes, whole, range(7), [6, 7, 20])
    with pytest.raises(NoVariantsError, match=r"the 1 of the list, such as \.\)"):
        read_genotypes(path, variants=["."])  # what has no id is not called a dot


def test_all_at_once(cohort):
    path, whole = cohort

    def two_passes():
        listed = ["rs3", "X:64", "X:61"]
        source = open_source(path, region="X", samples=["g", "a"], variants=listed)
        return [block for _ in range(2) for block in source.iter_blocks()]

    with pytest.warns(UserWarning, match=r"1 of the 3 variants in the list, such as rs3"):
        blocks = two_passes()
    wanted = np.flatnonzero(whole.variants["position"].isin([61, 64]))
    values = np.hstack([block.values for block in blocks])
    np.testing.assert_array_equal(values, whole.dosages[np.ix_([0, 6], [*wanted, *wanted])])


def test_indexed_formats_read_only_what_is_wanted(cohort, monkeypatch):
    path, whole = cohort
    source = open_source(path, region="X", samples=["g", "a"])
    assert isinstance(source, SelectedIndexed) == (path.suffix != ".vcf")
    if path.suffix == ".vcf":
        return
    wanted = np.flatnonzero(whole.variants["contig"] == "X")
    expected = whole.dosages[np.ix_([0, 6], wanted)]
    np.testing.assert_array_equal(source.read_dosages(slice(1, 4)), expected[:, 1:4])
    some = np.array([0, 3, 4, 7])
    np.testing.assert_array_equal(source.read_dosages(some), expected[:, some])
    read = []
    inner = type(source._indexed).read_dosages
    monkeypatch.setattr(
        type(source._indexed), "read_dosages", lambda self, c: read.append(c) or inner(self, c)
    )
    assert sum(len(block.columns) for block in source.iter_blocks()) == len(wanted)
    assert np.concatenate(read).tolist() == wanted.tolist()


def test_several_files(cohort, write_vcf, messy):
    path, whole = cohort
    other = write_vcf(messy(7, 9, 5, biallelic=True)[0], "gfedcba", "other.vcf")
    genotypes = read_genotypes([path, other], region="X", samples=["a", "g"])
    second = read_genotypes(other)
    x, also_x = whole.variants["contig"] == "X", second.variants["contig"] == "X"
    expected = np.hstack([whole.dosages[[0, 6]][:, x], second.dosages[[6, 0]][:, also_x]])
    np.testing.assert_array_equal(genotypes.dosages, expected)


def test_asked_in_vain(cohort, tmp_path):
    path, _ = cohort
    contigs = "LT635612.1, chrUn_3, Sca100, X"
    with pytest.raises(NoVariantsError, match=f"no variant on contig 'chrX'; .* are {contigs}$"):
        read_genotypes(path, region=["X", "chrX:1-5"])
    with pytest.raises(NoVariantsError, match=r"among those asked for \(X:1-2\); compare"):
        read_genotypes(path, region="X:1-2")
    with pytest.raises(
        SampleError, match=r"2 of the samples in the list are not .*: x, y; give one"
    ):
        read_genotypes(path, samples=["a", "y", "x"])
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    for name in ("samples", "variants"):
        with pytest.raises(InputFormatError, match=r"empty\.txt is empty"):
            read_genotypes(path, **{name: empty})
        with pytest.raises(InputFormatError, match="is no file"):
            read_genotypes(path, **{name: tmp_path / "none.txt"})
    for region in ("", "X:5-4"):
        with pytest.raises(InputFormatError, match="region"):
            read_genotypes(path, region=region)


def test_contigs_with_colons():
    contigs = np.array(["HLA*01:01", "HLA*01", "HLA*01"], dtype=object)
    positions = np.array([7, 1, 2])
    assert Region.parse("HLA*01:01").holds(contigs, positions).tolist() == [True, True, False]
    assert Region.parse("HLA*01:01:5-9").holds(contigs, positions).tolist() == [True, False, False]


def test_scores_cannot_be_filtered(tmp_path):
    table = tmp_path / "pcs.tsv"
    table.write_text("sample\tPC1\na\t1\n")
    with pytest.raises(InputFormatError, match="cannot be joined with other files or filtered"):
        open_source(table, samples=["a"])
