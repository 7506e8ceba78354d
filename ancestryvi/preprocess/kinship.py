"""Relatives: the KING-robust kinship of all pairs of samples, by blocks of variants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.passes import add, map_reduce, read_samples, variant_blocks

LEAST_VARIANTS = 2000
"""Below it, chance alone makes relatives: the standard deviation of an estimate is about
0.8 / sqrt(variants), here 0.018, and a cohort has many pairs."""

MOST_VARIANTS = 20_000
"""More, evenly spread, tell second-degree relatives no better: the standard deviation is 0.006."""

MOST_SAMPLES = 16_384
"""The matrices of all pairs take 2 GiB there."""


def related_pairs(
    source: IndexedDosages,
    samples: NDArray[np.intp],
    columns: NDArray[np.intp],
    max_kinship: float,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Pairs of samples whose KING-robust kinship exceeds a limit.

    For samples i and j, over the variants called in both, with d the sum of squared differences of
    dosage and h the smaller of the two numbers of heterozygous calls, it is 1/2 - d / (4 h). It
    needs no allele frequencies: structure does not make relatives of the members of a population,
    and pairs of two populations have negative estimates. (Admixed samples of very different
    ancestry can hide a relation in part; they do not feign one.) Expected values: 0.5 for
    duplicates and twins, 0.25 for parents, children and siblings, 0.125 for the second degree, each
    told from the next at the geometric mean, as 0.0884.

    Parameters
    ----------
    source : IndexedDosages
    samples : ndarray of shape (n_samples,), int
        Rows to compare.
    columns : ndarray of int, increasing
        Variants to compare at; unlinked ones say most.
    max_kinship : float

    Returns
    -------
    pairs : ndarray of shape (n_pairs, 2), int
        Places in `samples`, the lower first.
    kinship : ndarray of shape (n_pairs,)

    References
    ----------
    Manichaikul et al. (2010), Bioinformatics 26(22):2867-2873, equation 11.

    Examples
    --------
    >>> from ancestryvi import Genotypes
    >>> rng = np.random.default_rng(0)
    >>> parents = rng.binomial(1, 0.5, size=(2, 2, 4000))  # two haplotypes each
    >>> child = np.take_along_axis(parents, rng.integers(2, size=(2, 1, 4000)), axis=1)[:, 0]
    >>> family = Genotypes.from_dosages(np.vstack([parents.sum(axis=1), child.sum(axis=0)]))
    >>> pairs, kinship = related_pairs(family, np.arange(3), np.arange(4000), 0.0884)
    >>> pairs.tolist(), bool(np.all(abs(kinship - 0.25) < 0.02))
    ([[0, 2], [1, 2]], True)
    """
    if len(columns) > MOST_VARIANTS:
        columns = columns[np.linspace(0, len(columns) - 1, MOST_VARIANTS).astype(np.intp)]
    n_samples = len(samples)
    differences, het = map_reduce(
        _Comparison(columns, samples),
        source,
        variant_blocks(n_samples, len(columns)),
        add,
        name="kinship",
        partial_bytes=16 * n_samples**2,
    )
    found = []
    for start in range(0, n_samples, 1024):  # a strip of rows at a time
        rows = slice(start, min(start + 1024, n_samples))
        fewer = np.minimum(het[rows], het[:, rows].T)
        distance = differences[rows] + differences[:, rows].T
        with np.errstate(divide="ignore", invalid="ignore"):
            kinship = np.where(fewer > 0, 0.5 - distance / (4 * fewer), 0.0)
        first, second = np.nonzero(kinship > max_kinship)
        upper = first + start < second
        first, second = first[upper], second[upper]
        found.append((first + start, second, kinship[first, second]))
    one, other, kinship = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.column_stack([one, other]), kinship


@dataclass(frozen=True)
class _Comparison:
    """Two matrices over pairs (i, j) of samples, of a block of variants.

    Added to its transpose, the first is the sum of squared differences where both are called; the
    second counts heterozygous calls of i where j is called. Both are whole numbers, exact in single
    precision: a block has at most 2^14 variants.
    """

    columns: NDArray[np.intp]
    samples: NDArray[np.intp]

    def __call__(
        self, source: IndexedDosages, block: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        calls = read_samples(source, self.columns[block], self.samples)
        dosages = np.maximum(calls, 0).astype(np.float32)
        het = (calls == 1).astype(np.float32)
        differences = -(dosages @ dosages.T)
        squares = np.square(dosages)
        differences += squares.sum(axis=1)[:, None]
        hets = np.repeat(het.sum(axis=1)[:, None], len(calls), axis=1)
        gaps = np.flatnonzero((calls < 0).any(axis=0))
        if len(gaps):  # where j is not called, what i has there does not count
            missing = (calls[:, gaps] < 0).astype(np.float32)
            differences -= squares[:, gaps] @ missing.T
            hets -= het[:, gaps] @ missing.T
        return differences, hets


def largest_unrelated(pairs: NDArray[np.intp], call_rate: NDArray[np.float64]) -> NDArray[np.intp]:
    """Samples to set aside so that no pair is left, few of them.

    Greedy: the one with the most relatives goes first; among equals the one with the lower call
    rate, then the later one.

    Parameters
    ----------
    pairs : ndarray of shape (n_pairs, 2), int
    call_rate : ndarray of shape (n_samples,)

    Returns
    -------
    removed : ndarray of int, increasing

    Examples
    --------
    >>> largest_unrelated(np.array([[0, 1], [1, 2], [3, 4]]), np.array([1, 1, 1, 0.9, 1]))
    array([1, 3])
    """
    relatives: dict[int, set[int]] = {}
    for one, other in pairs.tolist():
        relatives.setdefault(one, set()).add(other)
        relatives.setdefault(other, set()).add(one)
    removed = []
    while relatives:
        worst = max(relatives, key=lambda i: (len(relatives[i]), -call_rate[i], i))
        removed.append(worst)
        for other in relatives.pop(worst):
            relatives[other].discard(worst)
            if not relatives[other]:
                del relatives[other]
    return np.sort(np.array(removed, dtype=np.intp))
