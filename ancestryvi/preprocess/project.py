"""New samples on fitted components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ancestryvi.exceptions import InputFormatError, OverlapError
from ancestryvi.genotypes import match_variants
from ancestryvi.genotypes.alleles import VariantMatch
from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.fingerprints import fingerprints, hash_weights
from ancestryvi.preprocess.passes import BLOCK_BYTES, add, map_reduce, variant_blocks
from ancestryvi.preprocess.scaling import patterson_scale
from ancestryvi.preprocess.unseen import Unseen

MIN_OVERLAP = 0.5
"""Smallest share of a model's variants that new genotypes must have. Below it, scores rest on a
sample of the genome that the model was not fitted on, and their error exceeds what a map shows."""


def align(
    reference: pd.DataFrame, genotypes: IndexedDosages, kept: NDArray[np.bool_]
) -> VariantMatch:
    """Find the fitted variants among those of new genotypes.

    Parameters
    ----------
    reference : DataFrame of n_variants_kept rows
        The fitted variants.
    genotypes : IndexedDosages
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
        n_variants = len(genotypes.variants)
        if n_variants != len(kept):
            raise InputFormatError(
                f"X has {n_variants} features, but GenotypePCA is expecting {len(kept)} "
                "features as input: variants without positions need the fitted columns, in order."
            )
        index = np.flatnonzero(kept)
        nowhere = np.zeros(len(index), bool)
        return VariantMatch(index, nowhere, np.full(len(index), "same"), nowhere)
    match = match_variants(reference, genotypes.variants)
    n_usable, n_reference = int((match.index >= 0).sum()), len(reference)
    if n_usable < MIN_OVERLAP * n_reference:
        counts = match.counts()
        raise OverlapError(
            f"Only {n_usable:,} of the model's {n_reference:,} variants can be used: "
            f"{counts['absent']:,} are absent, and {counts['ambiguous']:,} ambiguous (A/T or C/G "
            f"with alleles swapped). At least {MIN_OVERLAP:.0%} are needed. Read all of the file "
            "if --region or --variants left some out, check that both use the same genome build "
            "and real alleles (not placeholders), or fit the model on the variants both have."
        )
    return match


@dataclass(frozen=True)
class Placement:
    """Samples on fitted components.

    Attributes
    ----------
    scores : ndarray of shape (n_samples, n_components)
        NaN for a sample without any call at the variants present.
    fitted : ndarray of shape (n_samples,), bool
        Whether the calls are all those of a fitted sample.
    unseen : Unseen
        How uncertain the scores are, of samples that much is missing of.
    """

    scores: NDArray[np.float64]
    fitted: NDArray[np.bool_]
    unseen: Unseen

    @classmethod
    def whole(cls, scores: NDArray[np.float64]) -> Self:
        """Scores of which nothing else is known."""
        return cls(scores, np.zeros(len(scores), bool), Unseen())


def place(
    source: IndexedDosages,
    match: VariantMatch,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    components: NDArray[np.float32],
    of_fitted: NDArray[np.uint64],
    noise: NDArray[np.float64],
    variance: float | None = None,
) -> Placement:
    """The scores V'z to expect of each sample, given those of its scaled dosages z that are known.

    In the model z = V t + e, t of component k has variance v_k, and e has variance s in every
    variant. Of known entries o, t is expected to be t^ = (V_o'V_o + diag(s / v))^-1 V_o'z_o, an
    unknown entry its row of V t^, and so V'z = V_o'z_o + (1 - V_o'V_o) t^. With all calls that is
    the ordinary score. With many it is the least-squares solution (lsqproject of smartpca), which
    unlike the plain sum is not drawn towards 0 by what was not seen. With few, which say little, a
    sample is in the middle, where least squares would throw it anywhere. In a sample that was
    fitted a missing call counts as the mean, as it did in the fit: its scores are those it had.

    It takes one pass over the genotypes, and a second where new samples have missing calls.

    Parameters
    ----------
    source : IndexedDosages
    match : VariantMatch
        Which variant of `source` each loading belongs to.
    mean, scale : ndarray of shape (n_variants,)
    components : ndarray of shape (n_components, n_variants), float32
    of_fitted : ndarray of uint64
        Fingerprints of the fitted samples.
    noise : ndarray of shape (n_components,)
        s / v, above 0.
    variance : float, optional
        s; without it the uncertainty of scores is not worked out.

    Returns
    -------
    placement : Placement

    References
    ----------
    Tipping and Bishop (1999), Journal of the Royal Statistical Society B 61(3):611-622, for the
    model; Patterson, Price and Reich (2006), PLoS Genetics 2(12):e190, for smartpca.
    """
    n_samples = len(source.sample_ids)
    blocks = variant_blocks(2 * n_samples, len(match.index))  # of float64
    scores, known_by, called = map_reduce(
        _Projection(match, mean, scale, components, hash_weights(len(match.index))),
        source,
        blocks,
        add,
        name="placing samples",
    )
    here = match.index >= 0
    present = components[:, here].astype(np.float64)
    normal = present @ present.T
    fitted = np.isin(known_by, of_fitted)
    new = (called > 0) & ~fitted
    gappy = np.flatnonzero(new & (called < here.sum()))
    of_noise = 1.0 if variance is None else variance
    unseen = Unseen(of_noise, of_noise / noise, np.ones(len(noise)))
    if present.shape[1] < components.shape[1]:
        complete = np.flatnonzero(new & (called == here.sum()))
        if variance is not None:
            unseen = unseen.with_more(complete, scores[complete], normal[None])
        scores[complete] = _expected(scores[complete], normal, noise)
    if len(gappy):
        absent = map_reduce(
            _Gaps(match, components, gappy), source, blocks, add, name="missing calls"
        )
        upper = np.triu_indices(len(components))
        step = max(1, BLOCK_BYTES // normal.nbytes)
        for start in range(0, len(gappy), step):
            rows = gappy[start : start + step]
            seen = np.tile(normal, (len(rows), 1, 1))
            seen[:, *upper] -= absent[start : start + step]
            seen[:, *upper[::-1]] = seen[:, *upper]
            if variance is not None:
                unseen = unseen.with_more(rows, scores[rows], seen)
            scores[rows] = _expected(scores[rows], seen, noise)
    scores[called == 0] = np.nan
    return Placement(scores, fitted, unseen)


def _expected(
    sums: NDArray[np.float64], seen: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """V'z of each row, of V_o'z_o and V_o'V_o, the latter of each row or of all."""
    axes = np.linalg.solve(seen + np.diag(noise), sums[:, :, None])
    expected: NDArray[np.float64] = sums + (axes - seen @ axes)[:, :, 0]
    return expected


@dataclass(frozen=True)
class _Projection:
    """V'z, fingerprint and number of calls of each sample, of a block of variants."""

    match: VariantMatch
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float32]
    weights: NDArray[np.uint8]

    def __call__(self, source: IndexedDosages, block: slice) -> tuple[NDArray[Any], ...]:
        calls = self.match.aligned_dosages(source, block)
        scaled = patterson_scale(calls, self.mean[block], self.scale[block]).astype(np.float64)
        scores = scaled @ self.components[:, block].T.astype(np.float64)
        return scores, fingerprints(calls, self.weights[block]), (calls >= 0).sum(axis=1)


@dataclass(frozen=True)
class _Gaps:
    """Sums of v v' over the missing calls of each sample, upper triangles, of a block."""

    match: VariantMatch
    components: NDArray[np.float32]
    samples: NDArray[np.intp]

    def __call__(self, source: IndexedDosages, block: slice) -> NDArray[np.float64]:
        used = self.match.index[block] >= 0
        calls = self.match.aligned_dosages(source, block)[self.samples][:, used]
        vectors = self.components[:, block][:, used].T.astype(np.float64)
        first, second = np.triu_indices(vectors.shape[1])
        missing: Any = csr_array(calls < 0, dtype=np.float64)
        sums = np.zeros((len(calls), len(first)))
        step = max(1, BLOCK_BYTES // (8 * len(first)))
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step]
            sums += missing[:, start : start + step] @ (part[:, first] * part[:, second])
        return sums
