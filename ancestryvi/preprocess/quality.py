"""Which variants and samples are fit for principal components, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from ancestryvi.exceptions import NoVariantsError, SampleError
from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.genotypes.writing import is_multiallelic
from ancestryvi.preprocess.passes import map_reduce, read_samples, variant_blocks

QC_COLUMNS = ["scope", "step", "before", "dropped", "kept", "detail"]
"""Columns of the account of filters, ``qc.tsv``."""

NO_AUTOSOMES = {"X", "Y", "Z", "W", "XY", "PAR", "PAR1", "PAR2", "M", "MT", "MITO"}
PLINK_CODES = {"23", "24", "25", "26"}
"""Names of sex chromosomes and mitochondria; X, Y, pseudo-autosomal and mitochondrial in human
files of PLINK."""


class CallCounts(NamedTuple):
    """Called samples, ALT copies and heterozygotes per variant, and called variants per sample."""

    called: NDArray[np.int64]
    alt: NDArray[np.int64]
    het: NDArray[np.int64]
    called_per_sample: NDArray[np.int64]

    @property
    def frequency(self) -> NDArray[np.float64]:
        """ALT allele frequency among the calls, in [0, 1]; 0 where nothing is called."""
        return self.alt / (2.0 * np.maximum(self.called, 1))

    def total_variance(self, variants: NDArray[np.bool_]) -> float:
        """Sum of squares of the Patterson-scaled dosages of the chosen variants."""
        called, alt, het = self.called[variants], self.alt[variants], self.het[variants]
        p = self.frequency[variants]
        return float(np.sum((2 * alt - het - called * (2 * p) ** 2) / (p * (1 - p))))

    def without(self, others: CallCounts, variants: NDArray[np.bool_]) -> CallCounts:
        """The counts per chosen variant less those of some of the samples."""
        called, alt, het = (
            np.where(variants, mine - theirs, 0)
            for mine, theirs in zip(self[:3], others[:3], strict=True)
        )
        return CallCounts(called, alt, het, self.called_per_sample)


def count_calls(
    source: IndexedDosages, samples: NDArray[np.bool_], variants: NDArray[np.bool_]
) -> CallCounts:
    """Count calls block by block over the chosen samples and variants.

    Variants and samples left out keep counts of 0.

    Parameters
    ----------
    source : IndexedDosages
    samples : ndarray of shape (n_samples,), bool
    variants : ndarray of shape (n_variants,), bool
    """
    columns = np.flatnonzero(variants)
    per_variant = np.zeros((3, len(variants)), np.int64)
    per_sample = np.zeros(len(samples), np.int64)
    if len(columns) and samples.any():
        counter = _Counter(columns, None if samples.all() else np.flatnonzero(samples))
        blocks = variant_blocks(int(samples.sum()), len(columns))
        counts, gaps = map_reduce(counter, source, blocks, _join_counts, name="counting calls")
        per_variant[:, columns] = np.concatenate(counts, axis=1)
        per_sample[samples] = len(columns) - gaps
    called, alt, het = per_variant
    return CallCounts(called, alt, het, per_sample)


@dataclass(frozen=True)
class _Counter:
    """Counts per variant of a block, in a list of one, and missing calls per sample."""

    columns: NDArray[np.intp]
    samples: NDArray[np.intp] | None

    def __call__(
        self, source: IndexedDosages, block: slice
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        calls = read_samples(source, self.columns[block], self.samples).T
        missing = _count(calls < 0)
        het, hom = _count(calls == 1), _count(calls == 2)
        gaps = (calls[missing > 0] < 0).sum(axis=0)
        return [np.stack([calls.shape[1] - missing, het + 2 * hom, het])], gaps


def _count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """True entries of each row; counting bits is several times as fast as summing."""
    return np.bitwise_count(np.packbits(mask, axis=1)).sum(axis=1, dtype=np.int64)


def _join_counts(total: Any, part: Any) -> Any:
    return total[0] + part[0], total[1] + part[1]


@dataclass
class QualityReport:
    """The outcome of quality control.

    Attributes
    ----------
    variants : ndarray of shape (n_variants,), bool
        Variants kept.
    samples : ndarray of shape (n_samples,), bool
        Samples that principal components and models are fitted on. The others are set aside,
        not dropped: they are placed afterwards.
    sample_call_rate : ndarray of shape (n_samples,)
        Share of kept variants that are called, in [0, 1].
    frequency : ndarray of shape (n_variants,)
        ALT allele frequency among the samples kept, in [0, 1].
    counts : CallCounts
        Of the samples kept, at the variants that were left before allele counts were judged.
    table : DataFrame with the columns `QC_COLUMNS`
        One row per filter; within a scope, each row starts where the one before ended.
    """

    variants: NDArray[np.bool_]
    samples: NDArray[np.bool_]
    sample_call_rate: NDArray[np.float64]
    frequency: NDArray[np.float64]
    counts: CallCounts
    rows: list[tuple[str, str, int, int, int, str]] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """The account of every filter."""
        return pd.DataFrame(self.rows, columns=QC_COLUMNS)

    def drop_variants(self, step: str, drop: NDArray[np.bool_], detail: str, remedy: str) -> None:
        """Remove variants and account for it.

        Raises
        ------
        NoVariantsError
            If nothing is left.
        """
        before = int(self.variants.sum())
        self.variants &= ~drop
        kept = int(self.variants.sum())
        self.rows.append(("variants", step, before, before - kept, kept, detail))
        if kept == 0:
            raise NoVariantsError(
                f"No variant is left: the filter '{step}' ({detail}) removed the last "
                f"{before} of {len(self.variants)}. {remedy}"
            )

    def set_aside_samples(
        self, step: str, drop: NDArray[np.bool_], detail: str, remedy: str, ids: list[str]
    ) -> None:
        """Keep samples out of the fit and account for it, by name.

        Raises
        ------
        SampleError
            If fewer than 2 samples are left.
        """
        before = int(self.samples.sum())
        dropped = np.flatnonzero(self.samples & drop)
        self.samples &= ~drop
        kept = int(self.samples.sum())
        if len(dropped):
            detail = f"{detail}: {', '.join(ids[i] for i in dropped)}"
        self.rows.append(("samples", step, before, len(dropped), kept, detail))
        if kept < 2:
            raise SampleError(
                f"{kept} of {len(ids)} samples are left after the filter '{step}', and principal "
                f"components need at least 2. {remedy}"
            )


def is_snv(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Variants whose alleles are one character each; an unknown allele ('.') is no objection."""
    ref, alt = variants["ref"].astype(str), variants["alt"].astype(str)
    return ((ref.str.len() == 1) & (alt.str.len() == 1) & (alt != "*")).to_numpy(bool)


def is_autosomal(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Variants on none of the contigs that are known by name to be no autosomes.

    These are X, Y, Z, W, XY, PAR, PAR1, PAR2, M, MT and Mito, in any case and with or without
    "chr", and PLINK's 23 to 26 unless there is a number above, as in species with more autosomes.
    Next to IX, X is a Roman ten.

    Examples
    --------
    >>> is_autosomal(pd.DataFrame({"contig": ["chr1", "chrX", "23"]})).tolist()
    [True, False, False]
    >>> is_autosomal(pd.DataFrame({"contig": ["23", "38", "IX", "X"]})).tolist()
    [True, True, True, True]
    """
    contigs = variants["contig"].astype(str).str.upper().str.removeprefix("CHR")
    names = set(contigs.unique())
    others = NO_AUTOSOMES - ({"X"} if "IX" in names else set())
    if not any(name.isdecimal() and int(name) > 26 for name in names):
        others = others | PLINK_CODES
    return ~contigs.isin(others).to_numpy(bool)


def is_duplicate(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Later records of a contig, position and pair of alleles in either order.

    Variants without a position (dosages given as a bare matrix) are never duplicates.
    """
    ref, alt = variants["ref"].astype(str), variants["alt"].astype(str)
    swapped = ref > alt
    key = pd.DataFrame(
        {
            "contig": variants["contig"].to_numpy(),
            "position": variants["position"].to_numpy(),
            "first": np.where(swapped, alt, ref),
            "second": np.where(swapped, ref, alt),
        }
    )
    return key.duplicated().to_numpy(bool) & (variants["position"].to_numpy() > 0)


def quality_control(
    genotypes: IndexedDosages,
    *,
    min_maf: float = 0.02,
    min_mac: int = 2,
    min_variant_call_rate: float = 0.95,
    min_sample_call_rate: float = 0.9,
    snvs_only: bool = True,
    autosomes_only: bool = True,
    min_hwe_p: float = 0.0,
) -> QualityReport:
    """Choose the variants and samples for principal components; nothing is chosen by label.

    Samples without any call are set aside first, then variants are judged on the other samples,
    then samples on the variants that are left, and allele counts on the samples that are left: one
    bad sample costs no variants, and the variants of one array in a merge cost no samples.

    It takes one pass over the genotypes, and part of a second and third where calls are missing.

    Parameters
    ----------
    genotypes : Genotypes or another IndexedDosages
    min_maf : float, default=0.02
        Smallest minor allele frequency, in [0, 0.5].
    min_mac : int, default=2
        Smallest minor allele count. A variant seen once says nothing about shared ancestry.
    min_variant_call_rate : float, default=0.95
        Smallest share of samples called, in [0, 1].
    min_sample_call_rate : float, default=0.9
        Smallest share of kept variants called, in [0, 1], for a sample to take part in the fit.
    snvs_only : bool, default=True
        Leave out insertions, deletions and symbolic alleles.
    autosomes_only : bool, default=True
        Leave out sex chromosomes and mitochondria (`is_autosomal`), which tell the sexes apart and
        one line of descent.
    min_hwe_p : float, default=0
        Smallest p-value of the exact test of Hardy-Weinberg equilibrium (`hwe_p`). Off, because
        structure itself breaks the equilibrium: the filter would take the variants that tell
        populations apart. For a cohort of one population 1e-6 removes genotyping errors.

    Returns
    -------
    report : QualityReport

    Raises
    ------
    NoVariantsError
        If a filter removes the last variant; the message names the filter.
    SampleError
        If fewer than 2 samples are fit.

    Examples
    --------
    >>> from ancestryvi import Genotypes
    >>> genotypes = Genotypes.from_dosages(np.array([[0, 2, 1], [1, 2, 0], [2, 2, 1]]))
    >>> report = quality_control(genotypes)
    >>> report.variants
    array([ True, False,  True])
    >>> report.table.query("dropped > 0")[["scope", "step", "before", "dropped", "kept"]]
          scope         step  before  dropped  kept
    9  variants  monomorphic       3        1     2
    """
    ids, table = genotypes.sample_ids, genotypes.variants
    n_samples, n_variants = len(ids), len(table)
    if n_variants == 0:
        raise NoVariantsError("The genotypes hold no variant; check the input.")
    if n_samples < 2:
        raise SampleError(
            f"The genotypes hold {n_samples} sample, and principal components need at least 2. To "
            "place one sample on an existing map use `ancestryvi project`."
        )
    counts = count_calls(genotypes, np.ones(n_samples, bool), np.ones(n_variants, bool))
    report = QualityReport(
        variants=np.ones(n_variants, bool),
        samples=np.ones(n_samples, bool),
        sample_call_rate=np.zeros(n_samples),
        frequency=np.zeros(n_variants),
        counts=counts,
    )
    report.rows.append(("variants", "read", n_variants, 0, n_variants, ""))
    called_per_sample = counts.called_per_sample
    report.rows.append(("samples", "read", n_samples, 0, n_samples, ""))
    report.set_aside_samples(
        "no calls",
        called_per_sample == 0,
        "not one called variant",
        "Check that the calls are in the GT field and are not all './.'.",
        ids,
    )
    if autosomes_only:
        report.drop_variants(
            "not autosomal",
            ~is_autosomal(table),
            "on a sex chromosome or mitochondrial, by the name of the contig",
            "Keep them with --keep-sex-chromosomes (autosomes_only=False).",
        )
    report.drop_variants(
        "multiallelic",
        is_multiallelic(table),
        "more than one ALT allele",
        "Split them with `bcftools norm -m-any`.",
    )
    if snvs_only:
        report.drop_variants(
            "not an SNV",
            ~is_snv(table),
            "insertion, deletion or symbolic allele",
            "Keep them with --keep-indels (snvs_only=False).",
        )
    report.drop_variants(
        "duplicate",
        is_duplicate(table),
        "same contig, position and alleles as an earlier record",
        "",
    )
    n_fit = int(report.samples.sum())
    report.drop_variants(
        "variant call rate",
        counts.called / n_fit < min_variant_call_rate,
        f"called in less than {min_variant_call_rate:g} of {n_fit} samples",
        "Leave out samples with few calls (--samples), or lower --min-variant-call-rate "
        "(min_variant_call_rate).",
    )
    called_per_sample = _called_at(genotypes, report.variants, counts, report.samples)
    report.sample_call_rate = called_per_sample / report.variants.sum()
    with_calls = report.samples.copy()
    report.set_aside_samples(
        "sample call rate",
        report.sample_call_rate < min_sample_call_rate,
        f"less than {min_sample_call_rate:g} of variants called; placed on the map, not fitted",
        "Lower --min-sample-call-rate (min_sample_call_rate).",
        ids,
    )
    counts = counts.without(
        count_calls(genotypes, with_calls & ~report.samples, report.variants), report.variants
    )
    report.frequency, report.counts = counts.frequency, counts
    minor = np.minimum(counts.alt, 2 * counts.called - counts.alt)
    report.drop_variants(
        "monomorphic",
        minor == 0,
        "one allele only",
        "The samples do not differ at any variant; check the input.",
    )
    report.drop_variants(
        "minor allele count",
        minor < min_mac,
        f"fewer than {min_mac} minor alleles",
        "Lower --min-mac (min_mac).",
    )
    report.drop_variants(
        "minor allele frequency",
        minor / (2.0 * np.maximum(counts.called, 1)) < min_maf,
        f"frequency below {min_maf:g}",
        "Lower --min-maf (min_maf).",
    )
    if min_hwe_p > 0:
        report.drop_variants(
            "Hardy-Weinberg",
            report.variants & (hwe_p(counts.called, counts.alt, counts.het) < min_hwe_p),
            f"p below {min_hwe_p:g} in the exact test of equilibrium",
            "Lower --min-hwe-p (min_hwe_p).",
        )
    return report


def _called_at(
    source: IndexedDosages,
    variants: NDArray[np.bool_],
    counts: CallCounts,
    samples: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Called variants per sample, of the chosen variants, told from the counts at all variants.

    Only variants with gaps have to be read again: those chosen or the others, whichever are fewer.
    The samples given are those with any call at all.
    """
    gaps = counts.called < samples.sum()
    inside, outside = variants & gaps, ~variants & gaps
    everyone = np.ones(len(samples), bool)
    if inside.sum() < outside.sum():
        called = count_calls(source, everyone, inside).called_per_sample
        return called + np.where(samples, (variants & ~gaps).sum(), 0)
    called = counts.called_per_sample - count_calls(source, everyone, outside).called_per_sample
    return called - np.where(samples, (~variants & ~gaps).sum(), 0)


def hwe_p(
    called: NDArray[np.int64], alt: NDArray[np.int64], het: NDArray[np.int64]
) -> NDArray[np.float64]:
    """P-values of the exact test of Hardy-Weinberg equilibrium.

    The probability, given the allele counts, of a number of heterozygotes that is at most as likely
    as the one observed; 1 where nothing is called.

    Parameters
    ----------
    called, alt, het : ndarray of shape (n_variants,)
        Called samples, copies of ALT and heterozygotes of each variant.

    References
    ----------
    Wigginton, Cutler and Abecasis (2005), American Journal of Human Genetics 76(5):887-893.

    Examples
    --------
    >>> hwe_p(np.array([100, 100]), np.array([100, 100]), np.array([50, 0])).round(4)
    array([1., 0.])
    """
    p = np.ones(len(called))
    minor = np.minimum(alt, 2 * called - alt)
    for j, (n, rare, observed) in enumerate(zip(called, minor, het, strict=True)):
        hets = np.arange(rare % 2, rare + 1, 2)
        hom_rare, hom_common = (rare - hets) // 2, n - (rare + hets) // 2
        log = hets * np.log(2.0) - gammaln(hets + 1) - gammaln(hom_rare + 1)
        log -= gammaln(hom_common + 1)
        share = np.exp(log - log.max())
        p[j] = share[share <= share[(observed - rare % 2) // 2] * (1 + 1e-9)].sum() / share.sum()
    return p
