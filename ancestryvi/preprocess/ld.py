"""Thinning of variants in linkage disequilibrium."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.passes import map_reduce, read_samples

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
    source: IndexedDosages,
    *,
    samples: NDArray[np.intp] | None = None,
    columns: NDArray[np.intp] | None = None,
    max_r2: float = 0.2,
    window_kb: float = 500.0,
) -> NDArray[np.bool_]:
    """Variants that are kept when each is compared with those kept before it nearby.

    From the start of each contig, a variant is kept if its squared correlation with every kept
    variant at most `window_kb` before it is at most `max_r2`. Unlike pruning in steps of a fixed
    number of variants, this leaves no linked pair within the window.

    It prunes by position; clumping, which keeps of two linked variants the one with the higher
    frequency, needs the correlations of a window on both sides, and what it is preferred for,
    that no region is emptied (Prive et al. 2018), holds here too: a variant is only left out for
    one that stays.

    Parameters
    ----------
    source : IndexedDosages
        Dosages and, in its variant table, ``contig`` and ``position``; any order. A missing call
        counts as the variant's mean.
    samples : ndarray of int, optional
        Rows to correlate over; all when left out.
    columns : ndarray of int, increasing, optional
        Variants to choose from; all when left out.
    max_r2 : float, default=0.2
        Largest squared correlation of dosages, in (0, 1].
    window_kb : float, default=500
        Distance within which variants are compared, in thousands of base pairs. With `max_r2` it
        follows the default of bigsnpr (100 kb / r2; Prive et al. 2018, Bioinformatics 34(16)).

    Returns
    -------
    keep : ndarray of shape (n_columns,), bool

    Examples
    --------
    >>> from ancestryvi import Genotypes
    >>> dosages = np.array([[0, 0, 2], [1, 1, 0], [2, 2, 1], [0, 0, 0]], np.int8)
    >>> bare = Genotypes.from_dosages(dosages)
    >>> variants = bare.variants.assign(contig="1", position=[100, 200, 300])
    >>> locate_unlinked(Genotypes(dosages, bare.samples, variants))
    array([ True, False,  True])
    """
    chosen = np.arange(len(source.variants)) if columns is None else columns
    if len(chosen) == 0:
        return np.zeros(0, bool)
    contigs = source.variants["contig"].to_numpy()[chosen]
    positions = source.variants["position"].to_numpy(np.int64)[chosen]
    members = []
    for contig in pd.unique(contigs):
        of_contig = np.flatnonzero(contigs == contig)
        members.append(of_contig[np.argsort(positions[of_contig], kind="stable")])
    scan = _Scan(chosen, positions, samples, max_r2, round(window_kb * 1000))
    kept = map_reduce(scan, source, members, operator.iadd, name="thinning variants")
    keep = np.zeros(len(chosen), bool)
    keep[np.concatenate(members)] = np.concatenate(kept)
    return keep


@dataclass(frozen=True)
class _Scan:
    """The rule of `locate_unlinked` on one contig, in a list of one."""

    columns: NDArray[np.intp]
    positions: NDArray[np.int64]
    samples: NDArray[np.intp] | None
    max_r2: float
    reach: int

    def __call__(
        self, source: IndexedDosages, members: NDArray[np.intp]
    ) -> list[NDArray[np.bool_]]:
        """`members` index `columns` and are sorted by position."""
        keep = np.zeros(len(members), bool)
        n_samples = len(source.sample_ids) if self.samples is None else len(self.samples)
        kept_positions = np.zeros(0, np.int64)
        kept_values = np.zeros((n_samples, 0), np.float32)
        for start in range(0, len(members), CHUNK):
            chunk = slice(start, min(start + CHUNK, len(members)))
            place = self.positions[members[chunk]]
            values = standardise(self._read(source, self.columns[members[chunk]]))
            near = kept_positions >= place[0] - self.reach
            kept_positions, kept_values = kept_positions[near], kept_values[:, near]
            width, before = place.size, kept_positions.size
            others = np.concatenate([kept_positions, place])
            kept_values = np.hstack([kept_values, values])
            linked = np.square(values.T @ kept_values) > self.max_r2 + ROUNDING
            linked &= place[:, None] - others[None, :] <= self.reach
            usable = np.concatenate([np.ones(before, bool), np.zeros(width, bool)])
            for row in range(width):
                usable[before + row] = not np.any(linked[row] & usable)
            keep[chunk] = usable[before:]
            kept_positions, kept_values = others[usable], kept_values[:, usable]
        return [keep]

    def _read(self, source: IndexedDosages, columns: NDArray[np.intp]) -> NDArray[np.int8]:
        """Columns in any order; sources read them in their own."""
        order = np.argsort(columns)
        dosages = read_samples(source, columns[order], self.samples)
        return dosages if (np.diff(order) > 0).all() else dosages[:, np.argsort(order)]
