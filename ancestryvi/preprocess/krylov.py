"""Leading eigenpairs of a matrix that is never formed, by block-Krylov iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_PROBES = 16
"""Random vectors that the sum of squares of the eigenvalues is estimated from."""

MAX_PASSES = 8
"""Most passes of the randomised solver."""

TOLERANCE = 1e-4
"""Residual, relative to its eigenvalue, at which a component counts as found."""


@dataclass(frozen=True)
class KrylovResult:
    """What `block_krylov` found.

    Attributes
    ----------
    eigenvalues : ndarray of shape (n_leading,)
        Decreasing.
    vectors : ndarray of shape (n_samples, n_leading)
        Orthonormal.
    trace_of_square : float
        Estimate of the sum of squares of all eigenvalues.
    n_passes : int
    """

    eigenvalues: NDArray[np.float64]
    vectors: NDArray[np.float64]
    trace_of_square: float
    n_passes: int


def block_krylov(
    multiply: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    start: NDArray[np.float64],
    n_leading: int,
    n_wanted: int,
) -> KrylovResult:
    """Leading eigenpairs of a symmetric matrix G that can only be multiplied by.

    From a block B, random or a guess, each pass adds G times the block before it, orthogonal to all
    before it; the pairs are the best ones in the span (Rayleigh-Ritz). The residuals |G v - l v|
    come for free and end the passes when those wanted are below `TOLERANCE` times l.

    The sum of squares of all eigenvalues is |G|^2. With P the projection on the vectors found, two
    of its parts, |P G P|^2 and 2 |(1 - P) G P|^2, are known, and |(1 - P) G (1 - P)|^2 is estimated
    without bias from `N_PROBES` random vectors that are multiplied along in the first pass
    (Hutchinson's estimator); the relative error of the sum is about
    sqrt(2 / (`N_PROBES` n_samples)).

    Parameters
    ----------
    multiply : callable
        Gives G times a matrix of shape (n_samples, any).
    start : ndarray of shape (n_samples, width)
        Of full rank, and somewhat wider than the pairs that must converge.
    n_leading : int
        Pairs to return, at most n_samples and at most `MAX_PASSES` times the width.
    n_wanted : int
        Of these, how many must have converged.

    References
    ----------
    Musco and Musco (2015), Randomized block Krylov methods for stronger and faster approximate
    singular value decomposition, NeurIPS 28, algorithm 2; Meyer, Musco, Musco and Woodruff (2021),
    Hutch++, SOSA, for the estimate of what is left.

    Examples
    --------
    >>> G = np.diag(np.arange(200.0) ** 3)
    >>> start = np.random.default_rng(0).normal(size=(200, 16))
    >>> found = block_krylov(lambda Q: G @ Q, start, 3, 3)
    >>> (found.eigenvalues / 199**3).round(4)
    array([1.    , 0.985 , 0.9702])
    """
    n_samples, width = start.shape
    n_columns = min(n_samples, width * MAX_PASSES)
    basis = np.empty((n_samples, n_columns), order="F")
    images = np.empty_like(basis)
    small = np.zeros((n_columns, n_columns))
    probes = np.random.default_rng(1).normal(size=(n_samples, N_PROBES))
    block = orthonormal(orthonormal(start))
    for first in range(0, n_columns, width):
        here = slice(first, min(first + width, n_columns))
        basis[:, here] = block[:, -(here.stop - first) :]
        if first == 0:
            images[:, here], probed = np.split(
                multiply(np.hstack([block, probes])), [width], axis=1
            )
        else:
            images[:, here] = multiply(basis[:, here])
        span, image = basis[:, : here.stop], images[:, : here.stop]
        small[: here.stop, here] = span.T @ images[:, here]
        small[here, : here.stop] = small[: here.stop, here].T
        values, weights = np.linalg.eigh(small[: here.stop, : here.stop])
        values, weights = values[::-1][:n_leading], weights[:, ::-1][:, :n_leading]
        vectors = span @ weights
        turned = image @ weights
        residuals = np.linalg.norm(turned - vectors * values, axis=0)
        found = residuals <= TOLERANCE * np.abs(values)
        if len(found) == n_leading and found[:n_wanted].all():
            break
        block = image[:, here]
        for _ in range(2):  # once is not enough in floating point
            block = orthonormal(block - span @ (span.T @ block))
    rest = probed - turned @ (vectors.T @ probes)
    rest -= vectors @ (vectors.T @ rest)
    trace_of_square = np.sum(values**2) + 2 * np.sum(residuals**2) + np.sum(rest**2) / N_PROBES
    return KrylovResult(values, vectors, float(trace_of_square), -(-here.stop // width))


def orthonormal(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of length 1 at right angles that span those of a tall matrix.

    By the eigenvectors of its Gram matrix, which takes two products where Householder's method
    goes through the columns one by one; directions that rounding made up stay short, and are
    scaled up in a second call.

    References
    ----------
    Stathopoulos and Wu (2002), SIAM Journal on Scientific Computing 23(6):2165-2182 (SVQB).
    """
    values, vectors = np.linalg.eigh(block.T @ block)
    return block @ (vectors / np.sqrt(np.maximum(values, 1e-15 * values[-1])))
