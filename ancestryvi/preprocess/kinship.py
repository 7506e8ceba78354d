"""Relatives: the KING-robust kinship of all pairs of samples, by blocks of variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.passes import map_reduce, read_samples, variant_blocks

LEAST_VARIANTS = 2000
"""Below it, chance alone makes relatives: the standard deviation of an estimate is about
0.8 / sqrt(variants), here 0.018, and a cohort has many pairs."""

MOST_VARIANTS = 20_000
"""More, evenly spread, tell second-degree relatives no better: the standard deviation is 0.006."""

MOST_SAMPLES = 16_384
"""The two matrices of all pairs take 1 GiB each there, and as much again while they are added."""

PANEL = 512
"""Rows of these matrices that are computed at once."""

N_PLACES = 8
"""Parts of the variants that are summed apart. Few, since each has matrices of its own to add."""


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
    width = -(-len(columns) // N_PLACES)
    sums = map_reduce(
        _Comparison(columns, samples),
        source,
        [slice(start, start + width) for start in range(0, len(columns), width)],
        _Sums.join,
        name="kinship",
        partial_bytes=8 * n_samples**2,
    )
    found = []
    for start in range(0, n_samples, PANEL):
        rows = slice(start, min(start + PANEL, n_samples))
        distance, fewer = sums.of_pairs(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            kinship = np.where(fewer > 0, 0.5 - distance / (4 * fewer), 0.0)
        first, second = np.nonzero(kinship > max_kinship)
        upper = first + start < second
        first, second = first[upper], second[upper]
        found.append((first + start, second, kinship[first, second]))
    one, other, kinship = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.column_stack([one, other]), kinship


class _Sums(NamedTuple):
    """What kinship is made of, over some variants; a missing call counts as dosage 0.

    All are whole numbers, and exact in single precision: below 4 for each of `MOST_VARIANTS`.

    Attributes
    ----------
    squares, het : ndarray of shape (n_samples,), float32
        Squared dosages, and heterozygous calls.
    products : ndarray of shape (n_samples, n_samples), float32
        Added to its transpose: twice the products of dosages, and the squares of either sample
        where the other is not called.
    het_alone : ndarray of shape (n_samples, n_samples) or (0, 0), float32
        Heterozygous calls of the first where the second is not called; (0, 0) if all are.
    """

    squares: NDArray[np.float32]
    het: NDArray[np.float32]
    products: NDArray[np.float32]
    het_alone: NDArray[np.float32]

    def join(self, other: _Sums) -> _Sums:
        """Add those of other variants, in place; the others stay as they are."""
        for mine, theirs in zip(self[:3], other[:3], strict=True):
            mine += theirs
        if not self.het_alone.size:
            return self._replace(het_alone=other.het_alone.copy())
        if other.het_alone.size:
            np.add(self.het_alone, other.het_alone, out=self.het_alone)
        return self

    def of_pairs(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Squared differences of some samples and all, and the smaller number of `het`."""
        distance = self.squares[rows, None] + self.squares
        distance -= self.products[rows] + self.products[:, rows].T
        if not self.het_alone.size:
            return distance, np.minimum(self.het[rows, None], self.het)
        mine = self.het[rows, None] - self.het_alone[rows]
        return distance, np.minimum(mine, self.het - self.het_alone[:, rows].T)


@dataclass(frozen=True)
class _Comparison:
    """The sums of a block of variants, a panel of rows and some variants at a time."""

    columns: NDArray[np.intp]
    samples: NDArray[np.intp]

    def __call__(self, source: IndexedDosages, block: slice) -> _Sums:
        calls = read_samples(source, self.columns[block], self.samples)
        n_samples = len(calls)
        any_gap = bool((calls < 0).any())
        sums = _Sums(
            np.zeros(n_samples, np.float32),
            np.zeros(n_samples, np.float32),
            np.zeros((n_samples, n_samples), np.float32),
            np.zeros((n_samples, n_samples) if any_gap else (0, 0), np.float32),
        )
        for part in variant_blocks(n_samples, calls.shape[1]):
            _compare(calls[:, part], sums)
        return sums


def _compare(calls: NDArray[np.int8], sums: _Sums) -> None:
    """Add the sums of some variants."""
    dosages = np.maximum(calls, 0).astype(np.float32)
    sums.squares[:] += np.einsum("ij,ij->i", dosages, dosages)
    sums.het[:] += (calls == 1).sum(axis=1)
    gaps = np.flatnonzero((calls < 0).any(axis=0))
    missing = (calls[:, gaps] < 0).astype(np.float32)
    squares, het = np.square(dosages[:, gaps]), (calls[:, gaps] == 1).astype(np.float32)
    for start in range(0, len(calls), PANEL):
        here, after = slice(start, start + PANEL), slice(start + PANEL, None)
        sums.products[here, here] += dosages[here] @ dosages[here].T
        sums.products[here, after] += 2.0 * dosages[here] @ dosages[after].T
        if len(gaps):
            sums.products[here] += squares[here] @ missing.T
            sums.het_alone[here] += het[here] @ missing.T


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
