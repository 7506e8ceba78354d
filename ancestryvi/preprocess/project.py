"""New samples on fitted components."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import pinvh

from ancestryvi.exceptions import InputFormatError, OverlapError
from ancestryvi.genotypes import Genotypes, match_variants
from ancestryvi.genotypes.alleles import VariantMatch
from ancestryvi.preprocess.quality import variant_blocks
from ancestryvi.preprocess.scaling import patterson_scale

MIN_OVERLAP = 0.5
"""Smallest share of a model's variants that new genotypes must have. Below it, scores rest on a
sample of the genome that the model was not fitted on, and their error exceeds what a map shows."""


def align(reference: pd.DataFrame, genotypes: Genotypes, kept: NDArray[np.bool_]) -> VariantMatch:
    """Find the fitted variants among those of new genotypes.

    Parameters
    ----------
    reference : DataFrame of n_variants_kept rows
        The fitted variants.
    genotypes : Genotypes
    kept : ndarray of bool
        Which columns of the fitted genotypes `reference` holds: all that identifies the variants
        of a bare matrix, which has no positions.

    Raises
    ------
    InputFormatError
        If a bare matrix has another number of columns than the fitted one.
    OverlapError
        If fewer than `MIN_OVERLAP` of the variants are usable.
    """
    if (genotypes.variants["contig"] == "unknown").all():
        if genotypes.n_variants != len(kept):
            raise InputFormatError(
                f"X has {genotypes.n_variants} features, but GenotypePCA is expecting {len(kept)} "
                "features as input: variants without positions need the fitted columns, in order."
            )
        index = np.flatnonzero(kept)
        nowhere = np.zeros(len(index), bool)
        return VariantMatch(index, nowhere, np.full(len(index), "same"), nowhere)
    match = match_variants(reference, genotypes.variants)
    n_usable, n_reference = int((match.index >= 0).sum()), len(reference)
    if n_usable < MIN_OVERLAP * n_reference:
        counts = ", ".join(f"{n} {name}" for name, n in match.counts().items()).replace("_", " ")
        raise OverlapError(
            f"Only {n_usable} of the model's {n_reference} variants can be used ({counts}), and at "
            f"least {MIN_OVERLAP:.0%} are needed. Check that both use the same genome build "
            "and real alleles (not placeholders), or fit the model on the variants both have."
        )
    return match


def least_squares_scores(
    genotypes: Genotypes,
    match: VariantMatch,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    components: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Scores s that minimise |z - V s|^2 over the variants present, z the scaled dosages.

    With all variants present V has orthonormal columns and s = V'z, the ordinary PC scores. A
    single missing call counts as the variant's mean; a sample without any call has no place.

    Parameters
    ----------
    genotypes : Genotypes
    match : VariantMatch
        Which variant of `genotypes` each loading belongs to.
    mean, scale : ndarray of shape (n_variants,)
    components : ndarray of shape (n_components, n_variants), float32

    Returns
    -------
    scores : ndarray of shape (n_samples, n_components)
        NaN for a sample without any call at the variants present.
    """
    n_components, n_variants = components.shape
    scores = np.zeros((genotypes.n_samples, n_components))
    called = np.zeros(genotypes.n_samples, bool)
    for block in variant_blocks(genotypes.n_samples, n_variants):
        dosages = match.aligned_dosages(genotypes, block)
        called |= (dosages >= 0).any(axis=1)
        scaled = patterson_scale(dosages, mean[block], scale[block])
        scores += scaled.astype(np.float64) @ components[:, block].T.astype(np.float64)
    present = components[:, match.index >= 0].astype(np.float64)
    if present.shape[1] < n_variants:
        # The pseudo-inverse: fewer variants than components leave many solutions, it the shortest.
        scores = scores @ pinvh(present @ present.T)
    scores[~called] = np.nan
    return scores


def fingerprints(genotypes: Genotypes, match: VariantMatch) -> NDArray[np.uint64]:
    """One number per sample, equal for samples with the same call at every variant matched.

    It tells whether a sample is one of those that components were fitted on, without keeping their
    genotypes: 64 bits of a BLAKE2 hash of the dosages in the order and alleles of the model.

    Parameters
    ----------
    genotypes : Genotypes
    match : VariantMatch

    Returns
    -------
    fingerprints : ndarray of shape (n_samples,), uint64
    """
    hashes = [blake2b(digest_size=8) for _ in range(genotypes.n_samples)]
    for block in variant_blocks(genotypes.n_samples, len(match.index)):
        dosages = np.ascontiguousarray(match.aligned_dosages(genotypes, block))
        for row, state in zip(dosages, hashes, strict=True):
            state.update(row)
    return np.array([int.from_bytes(state.digest()) for state in hashes], dtype=np.uint64)
