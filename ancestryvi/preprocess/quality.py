"""Which variants and samples are fit for principal components, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import NoVariantsError, SampleError
from ancestryvi.genotypes import Genotypes

BLOCK_BYTES = 64 * 2**20
"""Working memory of one block of variants, in bytes of float32."""

QC_COLUMNS = ["scope", "step", "before", "dropped", "kept", "detail"]
"""Columns of the account of filters, ``qc.tsv``."""


def variant_blocks(n_samples: int, n_variants: int) -> Iterator[slice]:
    """Consecutive ranges of variants whose float32 matrix fits `BLOCK_BYTES`.

    Examples
    --------
    >>> list(variant_blocks(2**20, 40))
    [slice(0, 16, None), slice(16, 32, None), slice(32, 40, None)]
    """
    width = max(1, BLOCK_BYTES // (4 * max(1, n_samples)))
    for start in range(0, n_variants, width):
        yield slice(start, min(start + width, n_variants))


@dataclass(frozen=True)
class CallCounts:
    """Called samples and ALT copies per variant, and called variants per sample."""

    called: NDArray[np.int64]
    alt: NDArray[np.int64]
    called_per_sample: NDArray[np.int64]

    @property
    def frequency(self) -> NDArray[np.float64]:
        """ALT allele frequency among the calls, in [0, 1]; 0 where nothing is called."""
        return self.alt / (2.0 * np.maximum(self.called, 1))


def count_calls(
    dosages: NDArray[np.int8], samples: NDArray[np.bool_], variants: NDArray[np.bool_]
) -> CallCounts:
    """Count calls block by block over the chosen samples and variants.

    Variants left out keep counts of 0; `called_per_sample` covers every sample.

    Parameters
    ----------
    dosages : ndarray of shape (n_samples, n_variants), int8
        -1 marks a missing call.
    samples : ndarray of shape (n_samples,), bool
    variants : ndarray of shape (n_variants,), bool
    """
    n_samples, n_variants = dosages.shape
    called = np.zeros(n_variants, np.int64)
    alt = np.zeros(n_variants, np.int64)
    per_sample = np.zeros(n_samples, np.int64)
    chosen = np.flatnonzero(variants)
    for block in variant_blocks(n_samples, len(chosen)):
        columns = chosen[block]
        values = dosages[:, columns]
        present = values >= 0
        per_sample += present.sum(axis=1)
        called[columns] = present[samples].sum(axis=0)
        alt[columns] = np.where(present, values, 0)[samples].sum(axis=0, dtype=np.int64)
    return CallCounts(called, alt, per_sample)


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
    table : DataFrame with the columns `QC_COLUMNS`
        One row per filter; within a scope, each row starts where the one before ended.
    """

    variants: NDArray[np.bool_]
    samples: NDArray[np.bool_]
    sample_call_rate: NDArray[np.float64]
    frequency: NDArray[np.float64]
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


def is_multiallelic(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Records with two or more ALT alleles."""
    return variants["alt"].astype(str).str.contains(",", regex=False).to_numpy(bool)


def is_snv(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Variants whose alleles are one character each; an unknown allele ('.') is no objection."""
    ref, alt = variants["ref"].astype(str), variants["alt"].astype(str)
    return ((ref.str.len() == 1) & (alt.str.len() == 1) & (alt != "*")).to_numpy(bool)


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
    genotypes: Genotypes,
    *,
    min_maf: float = 0.02,
    min_mac: int = 2,
    min_variant_call_rate: float = 0.95,
    min_sample_call_rate: float = 0.9,
    snvs_only: bool = True,
) -> QualityReport:
    """Choose the variants and samples for principal components; nothing is chosen by label.

    Samples without any call are set aside first, then variants are judged on the other samples,
    then samples on the variants that are left, and allele counts on the samples that are left: one
    bad sample costs no variants, and the variants of one array in a merge cost no samples.

    Parameters
    ----------
    genotypes : Genotypes
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
    >>> genotypes = Genotypes.from_dosages(np.array([[0, 2, 1], [1, 2, 0], [2, 2, 1]]))
    >>> report = quality_control(genotypes)
    >>> report.variants
    array([ True, False,  True])
    >>> report.table.query("dropped > 0")[["scope", "step", "before", "dropped", "kept"]]
          scope         step  before  dropped  kept
    8  variants  monomorphic       3        1     2
    """
    n_samples, n_variants = genotypes.n_samples, genotypes.n_variants
    ids = genotypes.sample_ids
    if n_variants == 0:
        raise NoVariantsError("The genotypes hold no variant; check the input.")
    if n_samples < 2:
        raise SampleError(
            f"The genotypes hold {n_samples} sample, and principal components need at least 2. To "
            "place one sample on an existing map use `ancestryvi project`."
        )
    report = QualityReport(
        variants=np.ones(n_variants, bool),
        samples=np.ones(n_samples, bool),
        sample_call_rate=np.zeros(n_samples),
        frequency=np.zeros(n_variants),
    )
    report.rows.append(("variants", "read", n_variants, 0, n_variants, ""))
    counts = count_calls(genotypes.dosages, report.samples, report.variants)
    report.rows.append(("samples", "read", n_samples, 0, n_samples, ""))
    report.set_aside_samples(
        "no calls",
        counts.called_per_sample == 0,
        "not one called variant",
        "Check that the calls are in the GT field and are not all './.'.",
        ids,
    )
    report.drop_variants(
        "multiallelic",
        is_multiallelic(genotypes.variants),
        "more than one ALT allele",
        "Split them with `bcftools norm -m-any`.",
    )
    if snvs_only:
        report.drop_variants(
            "not an SNV",
            ~is_snv(genotypes.variants),
            "insertion, deletion or symbolic allele",
            "Keep them with --keep-indels (snvs_only=False).",
        )
    report.drop_variants(
        "duplicate",
        is_duplicate(genotypes.variants),
        "same contig, position and alleles as an earlier record",
        "",
    )
    counts = count_calls(genotypes.dosages, report.samples, report.variants)
    n_fit = int(report.samples.sum())
    report.drop_variants(
        "variant call rate",
        counts.called / n_fit < min_variant_call_rate,
        f"called in less than {min_variant_call_rate:g} of {n_fit} samples",
        "Lower --min-variant-call-rate (min_variant_call_rate).",
    )
    counts = count_calls(genotypes.dosages, report.samples, report.variants)
    report.sample_call_rate = counts.called_per_sample / report.variants.sum()
    report.set_aside_samples(
        "sample call rate",
        report.sample_call_rate < min_sample_call_rate,
        f"less than {min_sample_call_rate:g} of variants called; placed on the map, not fitted",
        "Lower --min-sample-call-rate (min_sample_call_rate).",
        ids,
    )
    counts = count_calls(genotypes.dosages, report.samples, report.variants)
    report.frequency = counts.frequency
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
    return report
