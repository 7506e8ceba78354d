"""The table of regions, row by row, and its use."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.long_range_ld import REGIONS, in_long_range_ld

LENGTHS = {  # of the chromosomes with regions, from the assemblies' own reports
    "GRCh37": {
        "1": 249_250_621, "2": 243_199_373, "3": 198_022_430, "5": 180_915_260,
        "6": 171_115_067, "7": 159_138_663, "8": 146_364_022, "10": 135_534_747,
        "11": 135_006_516, "12": 133_851_895, "20": 63_025_520,
    },
    "GRCh38": {
        "1": 248_956_422, "2": 242_193_529, "3": 198_295_559, "5": 181_538_259,
        "6": 170_805_979, "7": 159_345_973, "8": 145_138_636, "10": 133_797_422,
        "11": 135_086_622, "12": 133_275_309, "20": 64_444_167,
    },
}  # fmt: skip

INSIDE = {  # genes that such regions are known by: contig, position in GRCh37, in GRCh38
    "LCT": ("2", 136_545_415, 135_787_845),
    "MCM6, rs4988235": ("2", 136_608_646, 135_851_076),
    "HLA-A": ("6", 29_910_247, 29_942_470),
    "HLA-DRB1": ("6", 32_546_546, 32_578_769),
    "BLK, in the inversion of 8p23": ("8", 11_351_510, 11_494_001),
    "SERPING1, just outside": ("11", 57_364_860, 57_597_387),
}


@pytest.mark.parametrize("build", REGIONS)
def test_every_region_is_whole(build):
    regions = REGIONS[build]
    assert len(regions) == 24
    for contig, first, last in regions:
        assert last - first > 500_000
        assert 0 < first < last <= LENGTHS[build][contig]
    assert list(regions) == sorted(regions, key=lambda r: (int(r[0]), r[1]))
    for before, after in pairwise(regions):
        assert before[0] != after[0] or before[2] < after[1]


def test_the_builds_have_the_same_regions():
    for old, new in zip(REGIONS["GRCh37"], REGIONS["GRCh38"], strict=True):
        assert old[0] == new[0]
        assert abs(new[1] - old[1]) < 1_500_000
        length, lifted = old[2] - old[1], new[2] - new[1]
        assert lifted == pytest.approx(length, abs=1_200_000)  # gaps of centromeres were filled


@pytest.mark.parametrize("gene", INSIDE)
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("prefix", ["", "chr"])
def test_genes_are_where_they_should_be(gene, column, prefix):
    contig, *positions = INSIDE[gene]
    place = pd.DataFrame({"contig": [prefix + contig], "position": [positions[column]]})
    expected = "outside" not in gene
    assert in_long_range_ld(place, list(REGIONS)[column]).tolist() == [expected]


@pytest.mark.parametrize("build", REGIONS)
def test_ends_belong_to_a_region_and_contigs_count(build):
    contig, first, last = REGIONS[build][1]
    positions = [first - 1, first, last, last + 1]
    table = pd.DataFrame({"contig": contig, "position": positions})
    assert in_long_range_ld(table, build).tolist() == [False, True, True, False]
    assert not in_long_range_ld(table.assign(contig="4"), build).any()
    assert not in_long_range_ld(table.assign(contig="unknown"), build).any()


def test_variants_are_left_out_and_counted(drifted, make_genotypes):
    dosages, _ = drifted(np.random.default_rng(0), [20, 20], 200, fst=0.1)
    genotypes = make_genotypes(
        dosages, contig=["chr2"] * 100 + ["4"] * 100, position=np.tile(range(1, 101), 2) * 2_000_000
    )
    inside = in_long_range_ld(genotypes.variants, "GRCh38")
    assert 0 < inside.sum() < 100
    options = {"max_ld_r2": None, "min_maf": 0}
    model = GenotypePCA(2, long_range_ld="GRCh38", **options).fit(genotypes)
    assert not model.kept_variants_[inside].any()
    row = model.qc_.set_index("step").loc["long-range LD"]
    assert row["dropped"] == inside.sum()
    assert row["detail"] == "in one of 24 regions of GRCh38"
    assert "long-range LD" not in set(GenotypePCA(2, **options).fit(genotypes).qc_["step"])


def test_an_unknown_build_is_refused():
    with pytest.raises(ValueError, match=r"'long_range_ld' .* None, GRCh37, GRCh38\. Got 'hg19'"):
        GenotypePCA(2, long_range_ld="hg19").fit("no-such-file.bed")
