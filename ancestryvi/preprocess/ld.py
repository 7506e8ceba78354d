"""Thinning of variants in linkage disequilibrium."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CHUNK = 256
"""Variants whose correlations are taken at once."""

ROUNDING = 1e-5
"""How far a squared correlation in single precision is off at most, at 20,000 samples."""


def standardise(dosages: NDArray[np.int8]) -> NDArray[np.float32]:
    """Columns of mean 0 and length 1, missing calls at the mean; constant columns are all 0."""
    present = dosages >= 0
    values = np.where(present, dosages, 0).astype(np.float32)
    n_called = np.maximum(present.sum(axis=0), 1)
    values -= values.sum(axis=0, dtype=np.float64) / n_called
    values[~present] = 0.0
    length = np.sqrt(np.square(values).sum(axis=0, dtype=np.float64))
    return (values / np.where(length > 0, length, 1.0)).astype(np.float32)


def locate_unlinked(
    dosages: NDArray[np.int8],
    variants: pd.DataFrame,
    *,
    max_r2: float = 0.2,
    window_kb: float = 500.0,
) -> NDArray[np.bool_]:
    """Variants that are kept when each is compared with those kept before it nearby.

    From the start of each contig, a variant is kept if its squared correlation with every kept
    variant at most `window_kb` before it is at most `max_r2`. Unlike pruning in steps of a fixed
    number of variants, this leaves no linked pair within the window.

    Parameters
    ----------
    dosages : ndarray of shape (n_samples, n_variants), int8
        -1 marks a missing call, which counts as the variant's mean.
    variants : DataFrame of n_variants rows
        With ``contig`` and ``position``; any order of rows.
    max_r2 : float, default=0.2
        Largest squared correlation of dosages, in (0, 1].
    window_kb : float, default=500
        Distance within which variants are compared, in thousands of base pairs. With `max_r2` it
        follows the default of bigsnpr (100 kb / r2; Prive et al. 2018, Bioinformatics 34(16)).

    Returns
    -------
    keep : ndarray of shape (n_variants,), bool

    Examples
    --------
    >>> dosages = np.array([[0, 0, 2], [1, 1, 0], [2, 2, 1], [0, 0, 0]], np.int8)
    >>> variants = pd.DataFrame({"contig": ["1"] * 3, "position": [100, 200, 300]})
    >>> locate_unlinked(dosages, variants)
    array([ True, False,  True])
    """
    keep = np.zeros(dosages.shape[1], bool)
    contigs = variants["contig"].to_numpy()
    positions = variants["position"].to_numpy(np.int64)
    reach = round(window_kb * 1000)
    for contig in pd.unique(contigs):
        members = np.flatnonzero(contigs == contig)
        members = members[np.argsort(positions[members], kind="stable")]
        keep[members] = _unlinked_on_contig(dosages, members, positions[members], max_r2, reach)
    return keep


def _unlinked_on_contig(
    dosages: NDArray[np.int8],
    members: NDArray[np.intp],
    positions: NDArray[np.int64],
    max_r2: float,
    reach: int,
) -> NDArray[np.bool_]:
    """The rule of `locate_unlinked` on the columns `members`, sorted by position."""
    keep = np.zeros(len(members), bool)
    kept_positions = np.zeros(0, np.int64)
    kept_values = np.zeros((dosages.shape[0], 0), np.float32)
    for start in range(0, len(members), CHUNK):
        chunk = slice(start, min(start + CHUNK, len(members)))
        values, place = standardise(dosages[:, members[chunk]]), positions[chunk]
        near = kept_positions >= place[0] - reach
        kept_positions, kept_values = kept_positions[near], kept_values[:, near]
        width = place.size
        others = np.concatenate([kept_positions, place])
        linked = np.square(values.T @ np.hstack([kept_values, values])) > max_r2 + ROUNDING
        linked &= place[:, None] - others[None, :] <= reach
        usable = np.concatenate([np.ones(len(kept_positions), bool), np.zeros(width, bool)])
        for row in range(width):
            usable[len(kept_positions) + row] = not np.any(linked[row] & usable)
        chosen = usable[len(kept_positions) :]
        keep[chunk] = chosen
        kept_positions = np.concatenate([kept_positions, place[chosen]])
        kept_values = np.hstack([kept_values, values[:, chosen]])
    return keep
