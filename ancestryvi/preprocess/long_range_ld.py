"""Regions of the human genome where linkage disequilibrium reaches over megabases.

Inversions, selection and centromeres keep them together, so that they make principal components of
their own that thinning by windows does not prevent.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Build = Literal["GRCh37", "GRCh38"]

REGIONS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "GRCh37": (
        ("1", 48_000_000, 52_000_000),
        ("2", 86_000_000, 100_500_000),
        ("2", 134_500_000, 138_000_000),  # LCT
        ("2", 183_000_000, 190_000_000),
        ("3", 47_500_000, 50_000_000),
        ("3", 83_500_000, 87_000_000),
        ("3", 89_000_000, 97_500_000),
        ("5", 44_500_000, 50_500_000),
        ("5", 98_000_000, 100_500_000),
        ("5", 129_000_000, 132_000_000),
        ("5", 135_500_000, 138_500_000),
        ("6", 25_000_000, 35_000_000),  # MHC
        ("6", 57_000_000, 64_000_000),
        ("6", 140_000_000, 142_500_000),
        ("7", 55_000_000, 66_000_000),
        ("8", 7_000_000, 13_000_000),  # the inversion of 8p23
        ("8", 43_000_000, 50_000_000),
        ("8", 112_000_000, 115_000_000),
        ("10", 37_000_000, 43_000_000),
        ("11", 46_000_000, 57_000_000),
        ("11", 87_500_000, 90_500_000),
        ("12", 33_000_000, 40_000_000),
        ("12", 109_500_000, 112_000_000),
        ("20", 32_000_000, 34_500_000),
    ),
    "GRCh38": (
        ("1", 47_534_328, 51_534_328),
        ("2", 85_772_877, 99_883_538),
        ("2", 133_742_429, 137_242_430),
        ("2", 182_135_273, 189_135_274),
        ("3", 47_458_510, 49_962_567),
        ("3", 83_450_849, 86_950_850),
        ("3", 88_950_850, 97_781_156),
        ("5", 44_499_898, 51_204_166),
        ("5", 98_664_296, 101_164_296),
        ("5", 129_664_307, 132_664_308),
        ("5", 136_164_311, 139_164_311),
        ("6", 24_999_772, 35_032_223),
        ("6", 57_135_202, 63_290_095),
        ("6", 139_678_863, 142_178_863),
        ("7", 54_932_307, 66_535_013),
        ("8", 7_142_478, 13_142_491),
        ("8", 43_144_857, 49_087_441),
        ("8", 110_987_771, 113_987_771),
        ("10", 36_711_072, 42_504_552),
        ("11", 45_978_449, 57_232_526),
        ("11", 87_789_108, 90_766_832),
        ("12", 32_847_066, 39_606_198),
        ("12", 109_062_195, 111_562_196),
        ("20", 33_412_194, 35_912_078),
    ),
}
"""Contig, first and last position, of the autosomes.

GRCh37: Price et al. (2008), American Journal of Human Genetics 83(1):132-135, and Anderson et al.
(2010), Nature Protocols 5(9):1564-1573, as listed by the Genome Analysis Wiki of the University of
Michigan ("Regions of high linkage disequilibrium"). GRCh38: both ends of each of these, lifted over
by themselves with UCSC's chain hg19ToHg38.over.chain.gz (MD5 35887f73fe5e2231656504d1f6430900); all
48 lie in it and lift back to where they were. Regions lifted as wholes break up at centromeres: of
LCT the list for GRCh38 on that page has 119 base pairs, of the inversion of 8p23 two thirds.
"""


def in_long_range_ld(variants: pd.DataFrame, build: str) -> NDArray[np.bool_]:
    """Variants inside a region, ends included.

    Parameters
    ----------
    variants : DataFrame
        With ``contig`` ("2" or "chr2") and ``position``.
    build : {"GRCh37", "GRCh38"}

    Examples
    --------
    >>> lactase = pd.DataFrame({"contig": ["2", "chr2", "4"], "position": [136_608_646] * 3})
    >>> in_long_range_ld(lactase, "GRCh37")
    array([ True,  True, False])
    """
    contig = variants["contig"].astype(str).str.removeprefix("chr").to_numpy()
    position = variants["position"].to_numpy()
    inside = np.zeros(len(variants), bool)
    for name, first, last in REGIONS[build]:
        inside |= (contig == name) & (position >= first) & (position <= last)
    return inside
