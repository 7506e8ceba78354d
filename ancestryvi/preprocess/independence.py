"""What is left out of a fit after quality control: linked variants and related samples.

Each step changes the report of quality control and adds its row to the account. Parameters are
those of `GenotypePCA`.
"""

from __future__ import annotations

import numpy as np

from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.kinship import (
    LEAST_VARIANTS,
    MOST_SAMPLES,
    largest_unrelated,
    related_pairs,
)
from ancestryvi.preprocess.ld import locate_unlinked
from ancestryvi.preprocess.long_range_ld import REGIONS, in_long_range_ld
from ancestryvi.preprocess.quality import QualityReport, count_calls


def leave_out_long_range(source: IndexedDosages, report: QualityReport, build: str | None) -> None:
    """Remove variants of regions that thinning by windows does not thin; none without a build."""
    if build is not None:
        report.drop_variants(
            "long-range LD",
            in_long_range_ld(source.variants, build),
            f"in one of {len(REGIONS[build])} regions of {build}",
            "Check the build, or leave out --exclude-long-range-ld (long_range_ld).",
        )


def thin(
    source: IndexedDosages, report: QualityReport, max_r2: float | None, window_kb: float
) -> None:
    """Remove linked variants among those that passed; none without a limit."""
    placed = np.flatnonzero(report.variants & (source.variants["position"].to_numpy() > 0))
    if max_r2 is None or len(placed) == 0:
        reason = "not asked for" if max_r2 is None else "variants have no positions"
        n_passed = int(report.variants.sum())
        report.rows.append(("variants", "linked", n_passed, 0, n_passed, f"skipped: {reason}"))
        return
    unlinked = locate_unlinked(
        source,
        samples=None if report.samples.all() else np.flatnonzero(report.samples),
        columns=placed,
        max_r2=max_r2,
        window_kb=window_kb,
    )
    linked = np.zeros(len(report.variants), bool)
    linked[placed[~unlinked]] = True
    report.drop_variants(
        "linked",
        linked,
        f"r2 above {max_r2:g} with a kept variant within {window_kb:g} kb",
        "Raise --max-ld-r2 (max_ld_r2).",
    )


def set_aside_relatives(
    source: IndexedDosages, report: QualityReport, max_kinship: float | None
) -> None:
    """Keep relatives out of the fit, and judge again whether variants vary without them.

    None are looked for without a limit.
    """
    samples, columns = np.flatnonzero(report.samples), np.flatnonzero(report.variants)
    skipped = None
    if max_kinship is None:
        skipped = "not asked for"
    elif len(columns) < LEAST_VARIANTS:
        skipped = f"{len(columns)} variants, and {LEAST_VARIANTS} are needed"
    elif len(samples) > MOST_SAMPLES:
        skipped = f"{len(samples)} samples, and at most {MOST_SAMPLES} are compared"
    if skipped is not None or max_kinship is None:
        n = len(samples)
        report.rows.append(("samples", "related", n, 0, n, f"skipped ({skipped})"))
        return
    pairs, _ = related_pairs(source, samples, columns, max_kinship)
    related = np.zeros(len(report.samples), bool)
    related[samples[largest_unrelated(pairs, report.sample_call_rate[samples])]] = True
    report.set_aside_samples(
        "related",
        related,
        f"kinship above {max_kinship:g} with a fitted sample; placed on the map, not fitted",
        "Raise --max-kinship (max_kinship).",
        source.sample_ids,
    )
    if related.any():
        gone = count_calls(source, related, report.variants)
        report.counts = report.counts.without(gone, report.variants)
        report.frequency = report.counts.frequency
        minor = np.minimum(report.counts.alt, 2 * report.counts.called - report.counts.alt)
        report.drop_variants(
            "monomorphic without relatives",
            minor == 0,
            "one allele only",
            "Raise --max-kinship (max_kinship).",
        )
