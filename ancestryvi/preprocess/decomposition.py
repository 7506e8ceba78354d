"""Leading components of scaled dosages, exact or randomised, by passes over blocks of variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from threadpoolctl import threadpool_limits

from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess import passes
from ancestryvi.preprocess.fingerprints import fingerprints, hash_weights
from ancestryvi.preprocess.krylov import KrylovResult, block_krylov, orthonormal
from ancestryvi.preprocess.passes import add, map_reduce, read_samples, variant_blocks
from ancestryvi.preprocess.scaling import patterson_scale

EXACT_BYTES = 2**31
"""Largest relationship matrix that `solver="auto"` makes: that of 16,384 samples."""

OVERSAMPLING = 14
"""Columns of the random block beyond the components asked for."""

LEAST_WIDTH = 20 + OVERSAMPLING
"""Columns of the random block at least, so that the spectrum is known beyond a few components."""

SHARES = (32, 32, 16, 8, 4, 2)
"""The first pass of the randomised solver multiplies by a 32nd of the variants, another, and so
on."""

LEAST_PART = 128
"""Variants that are scaled and multiplied by few columns at once, at least: fewer take longer than
what they are added to."""

PANEL = 512
"""Rows of the relationship matrix that are computed at once."""

DIRECT_SAMPLES = 4096
"""Up to here eigenvectors are found by reducing the matrix to tridiagonal form, whose time grows
with the cube of the samples; Lanczos iteration takes over."""

LANCZOS_TOLERANCE = 1e-6
"""Of an eigenvalue, relative to itself, in single precision."""


@dataclass(frozen=True)
class ScaledDosages:
    """The matrix Z that is decomposed, of which any block can be read.

    Attributes
    ----------
    columns : ndarray of shape (n_variants,), int
        The variants, as columns of the source.
    samples : ndarray of shape (n_samples,), int
        The rows of the source.
    mean, scale : ndarray of shape (n_variants,)
        As `patterson_parameters` gives them.
    """

    columns: NDArray[np.intp]
    samples: NDArray[np.intp]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and variants."""
        return len(self.samples), len(self.columns)

    def calls(self, source: IndexedDosages, block: slice) -> NDArray[np.int8]:
        """The dosages of a block of variants."""
        everyone = len(self.samples) == len(source.sample_ids)
        return read_samples(source, self.columns[block], None if everyone else self.samples)

    def product_bytes(self) -> int:
        """Working memory of products with few columns, which are fast in the cache of a core."""
        return max(passes.BLOCK_BYTES // 4, 4 * LEAST_PART * len(self.samples))

    def blocks(self, n_bytes: int | None = None) -> list[slice]:
        """Blocks whose calls, of one byte each, fit `n_bytes` or else the working memory."""
        n_samples, n_variants = self.shape
        return variant_blocks(-(-n_samples // 4), n_variants, n_bytes)

    def scaled(
        self, calls: NDArray[np.int8], block: slice, n_bytes: int | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """A block of Z, of which the calls are given, in parts that fit as many bytes."""
        mean, scale = self.mean[block], self.scale[block]
        for part in variant_blocks(len(calls), calls.shape[1], n_bytes):
            yield patterson_scale(calls[:, part], mean[part], scale[part])


def relationship_matrix(source: IndexedDosages, matrix: ScaledDosages) -> NDArray[np.float64]:
    """Z Z', by blocks of variants.

    Products are summed in single precision within a block of K variants and in double precision
    over blocks, so that an entry is off by at most K u sum |z z'| with u = 2^-24 and K <= 16,384
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1), and in practice by
    about the square root of K in place of K. PC scores then agree with double precision to 1e-5 of
    the largest.

    Parameters
    ----------
    source : IndexedDosages
    matrix : ScaledDosages

    Returns
    -------
    gram : ndarray of shape (n_samples, n_samples), float64
    """
    n_samples, _ = matrix.shape
    gram = map_reduce(
        _Gram(matrix),
        source,
        matrix.blocks(),
        add,
        name="relationship matrix",
        partial_bytes=8 * n_samples**2,
    )
    gram = gram.astype(np.float64, copy=False)
    for start in range(0, n_samples, 1024):  # mirror the upper triangle, without a second matrix
        stop = min(start + 1024, n_samples)
        corner = gram[start:stop, start:stop]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
        gram[stop:, start:stop] = gram[start:stop, stop:].T
    return gram


@dataclass(frozen=True)
class _Gram:
    """Upper triangle of Z Z' of a block, a panel of rows at a time.

    BLAS has a function for half a product, but SciPy holds the interpreter's lock while it runs,
    and threads would wait for each other.
    """

    matrix: ScaledDosages

    def __call__(self, source: IndexedDosages, block: slice) -> NDArray[np.float32]:
        n_samples, _ = self.matrix.shape
        gram = np.zeros((n_samples, n_samples), np.float32)
        for scaled in self.matrix.scaled(self.matrix.calls(source, block), block):
            for start in range(0, n_samples, PANEL):
                here, after = slice(start, start + PANEL), slice(start + PANEL, None)
                gram[here, here] += scaled[here] @ scaled[here].T
                gram[here, after] += scaled[here] @ scaled[after].T
        return gram


def exact_eigenpairs(
    source: IndexedDosages, matrix: ScaledDosages, n_leading: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Leading eigenvalues and vectors of Z Z', and the sum of squares of all eigenvalues.

    Parameters
    ----------
    source : IndexedDosages
    matrix : ScaledDosages
    n_leading : int

    Returns
    -------
    eigenvalues, vectors : ndarray
        As `leading_eigenpairs` gives them.
    trace_of_square : float
    """
    gram = relationship_matrix(source, matrix)
    trace_of_square = float(np.einsum("ij,ij", gram, gram))
    return *leading_eigenpairs(gram, n_leading), trace_of_square


def leading_eigenpairs(
    gram: NDArray[np.float64], n_leading: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest eigenvalues, decreasing, and their vectors; the matrix may be overwritten.

    Parameters
    ----------
    gram : ndarray of shape (n_samples, n_samples)
        Symmetric.
    n_leading : int

    Returns
    -------
    eigenvalues : ndarray of shape (n_leading,)
    vectors : ndarray of shape (n_samples, n_leading)
    """
    n_samples = len(gram)
    if n_leading < n_samples // 10:
        # Single precision halves the time, and one step of Rayleigh and Ritz makes up for it. All
        # runs at the speed of memory, and threads that wait for each other take twice as long, and
        # many times on a machine that is busy.
        with threadpool_limits(1, user_api="blas"):
            rough = _rough_vectors(gram.astype(np.float32), n_leading)
            basis = orthonormal(orthonormal(rough.astype(np.float64)))
            values, weights = np.linalg.eigh(basis.T @ gram @ basis)
            vectors = basis @ weights
    else:
        values, vectors = eigh(gram, driver="evd", overwrite_a=True)
    order = np.argsort(-values)[:n_leading]
    return values[order], vectors[:, order]


def _rough_vectors(gram: NDArray[np.float32], n_leading: int) -> NDArray[np.float32]:
    """Leading eigenvectors in single precision, in any order."""
    n_samples = len(gram)
    if n_samples > DIRECT_SAMPLES:
        start = np.random.default_rng(0).normal(size=n_samples).astype(np.float32)
        found = eigsh(gram, n_leading, v0=start, ncv=3 * n_leading, tol=LANCZOS_TOLERANCE)[1]
        return np.asarray(found, dtype=np.float32)
    last = [n_samples - n_leading, n_samples - 1]
    return np.asarray(
        eigh(gram, subset_by_index=last, driver="evx", overwrite_a=True)[1], dtype=np.float32
    )


def randomised_eigenpairs(
    source: IndexedDosages,
    matrix: ScaledDosages,
    n_leading: int,
    n_wanted: int,
    multiply: Callable[..., NDArray[np.float64]],
) -> KrylovResult:
    """`block_krylov` of Z Z', which is never formed: each pass reads all blocks once.

    One more pass comes before and finds where to start: a random block is multiplied by a part of
    the variants, what comes out by another part, and so on, by parts that grow as the block nears
    the components. That saves about two passes over all variants.

    Memory is a few matrices of (n_samples, `n_wanted` + 14) and grows, like the time of a pass, in
    proportion to the samples. The random numbers are the same every time.

    Parameters
    ----------
    source : IndexedDosages
    matrix : ScaledDosages
    n_leading, n_wanted : int
        As for `block_krylov`.
    multiply : callable
        `product`, or another with its parameters.

    References
    ----------
    Li, Meisner and Albrechtsen (2023), Genome Research 33:1599-1608 (PCAone), who update within a
    pass too.
    """
    n_samples, _ = matrix.shape
    width = min(n_samples, max(n_wanted + OVERSAMPLING, LEAST_WIDTH))
    blocks = matrix.blocks(matrix.product_bytes())
    rng = np.random.default_rng(0)
    start = rng.normal(size=(n_samples, width))
    order = rng.permutation(len(blocks))
    # What happens between the passes is little, and on a machine that is busy threads that wait for
    # each other would take many times as long; passes set their own number.
    with threadpool_limits(1, user_api="blas"):
        for part in np.split(order, np.cumsum([len(order) // share for share in SHARES]))[:-1]:
            if len(part):
                block = orthonormal(orthonormal(start))
                start = multiply(source, matrix, block, [blocks[i] for i in sorted(part)])
        return block_krylov(
            lambda block: multiply(source, matrix, block, blocks), start, n_leading, n_wanted
        )


def product(
    source: IndexedDosages,
    matrix: ScaledDosages,
    factor: NDArray[np.float64],
    blocks: list[slice],
) -> NDArray[np.float64]:
    """Z Z' B over some blocks of variants, for B of shape (n_samples, any)."""
    total = map_reduce(
        _Product(matrix, factor.astype(np.float32)),
        source,
        blocks,
        add,
        name="components",
        partial_bytes=4 * factor.size,
    )
    return total.astype(np.float64, copy=False)


@dataclass(frozen=True)
class _Product:
    """Z Z' B of a block of variants."""

    matrix: ScaledDosages
    factor: NDArray[np.float32]

    def __call__(self, source: IndexedDosages, block: slice) -> NDArray[np.float32]:
        product = np.zeros_like(self.factor)
        calls = self.matrix.calls(source, block)
        for scaled in self.matrix.scaled(calls, block, self.matrix.product_bytes()):
            product += scaled @ (scaled.T @ self.factor)
        return product


@dataclass(frozen=True)
class Loadings:
    """What one more pass finds when the components are known.

    Attributes
    ----------
    components : ndarray of shape (n_components, n_variants), float32
        B'Z for a matrix B of (n_samples, n_components).
    squares : ndarray of shape (n_samples,)
        Sum of squares of each row of Z.
    fingerprints : ndarray of shape (n_samples,), uint64
    """

    components: NDArray[np.float32]
    squares: NDArray[np.float64]
    fingerprints: NDArray[np.uint64]


def loadings(source: IndexedDosages, matrix: ScaledDosages, basis: NDArray[np.float32]) -> Loadings:
    """One pass for all that `Loadings` holds, of B = `basis`."""
    function = _Loadings(matrix, basis, hash_weights(matrix.shape[1]))
    blocks = matrix.blocks(matrix.product_bytes())
    parts, sums = map_reduce(function, source, blocks, _join, name="loadings")
    return Loadings(np.concatenate(parts, axis=1), *sums)


@dataclass(frozen=True)
class _Loadings:
    """Loadings of a block in a list, and two sums over blocks."""

    matrix: ScaledDosages
    basis: NDArray[np.float32]
    weights: NDArray[np.uint8]

    def __call__(
        self, source: IndexedDosages, block: slice
    ) -> tuple[list[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.uint64]]]:
        calls = self.matrix.calls(source, block)
        parts, squares = [], np.zeros(len(self.basis))
        for scaled in self.matrix.scaled(calls, block, self.matrix.product_bytes()):
            parts.append(self.basis.T @ scaled)
            squares += np.einsum("ij,ij->i", scaled, scaled)
        return parts, (squares, fingerprints(calls, self.weights[block]))


def _join(total: Any, part: Any) -> Any:
    return total[0] + part[0], add(total[1], part[1])
