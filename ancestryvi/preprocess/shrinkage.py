"""How much smaller PC scores of new samples are than those of fitted ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ancestryvi.preprocess.spectrum import SpikedModel

N_ROUNDS = 20
"""Repeats of what noise follows from shrinkage, and shrinkage from noise."""


def shrinkage(
    model: SpikedModel,
    eigenvalues: NDArray[np.float64],
    vectors: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    trace: float,
    trace_of_square: float,
) -> NDArray[np.float64]:
    """Scores of new samples over those of fitted ones, for each component, in (0, 1).

    A component partly follows the noise of the samples that it was computed from, which new
    samples do not share. With G = Z Z' and G u = L u, row i of this equation, solved for the rest
    of u by the rows without i, says what the score would be on the component of the others:

        score without i = score with i times 1 - (g_ii + sum_jk g_ij R_jk g_ki) / L,

    where R is (L - G)^-1 among the others, less the component itself. Only noise is in both the
    row and the others by chance: g_ii counts with d_i, which is what true signal leaves of it, and
    the second term is d_i r sum_j L_j / (L - L_j) over the eigenvalues L_j of noise, with r the
    mean squared correlation of the noise of two samples, one over the number of variants if these
    are independent. The factor is 1 less the mean of d_i (1 + r sum_j L_j / (L - L_j)) / L over
    the samples, weighted by u_i^2. Samples of a diverse population have more noise, since
    Patterson scaling goes by the frequencies of the whole cohort, and axes within it shrink more.

    The true part of the signal of a component is its eigenvalue times the square of its factor,
    so that both are found in turn. Eigenvalues beyond those given are known by their sum and the
    sum of their squares. Below the edge of noise, where nothing is true, the factor of the edge is
    taken.

    Parameters
    ----------
    model : SpikedModel
    eigenvalues : ndarray of shape (n_components,), decreasing
    vectors : ndarray of shape (n_samples, n_components)
        Of length 1.
    diagonal : ndarray of shape (n_samples,)
        That of the relationship matrix.
    trace, trace_of_square : float
        Sum, and sum of squares, of all its eigenvalues.

    Returns
    -------
    factors : ndarray of shape (n_components,)

    References
    ----------
    Where all samples have the same noise, this is l / (1 + l) of Lee, Zou and Wright (2010), Annals
    of Statistics 38(6):3605-3629, theorem 3. The step from a matrix to the one without a row is in
    Bai and Silverstein (2010), Spectral Analysis of Large Dimensional Random Matrices, section 3.3.

    Examples
    --------
    An axis of strength 2 in 100 samples, with 400 independent variants:

    >>> rng = np.random.default_rng(0)
    >>> axis = np.repeat([0.1, -0.1], 50)
    >>> Z = rng.normal(size=(100, 400)) + np.sqrt(2) * np.outer(axis, rng.normal(size=400))
    >>> values, vectors = np.linalg.eigh(Z @ Z.T)
    >>> values, vectors = values[::-1], vectors[:, ::-1]
    >>> sums = values.sum(), (values**2).sum()
    >>> model = SpikedModel.of(values, *sums, 100, 400)
    >>> factors = shrinkage(model, values, vectors, (Z**2).sum(axis=1), *sums)
    >>> round(float(factors[0]), 1)  # 2 / (1 + 2)
    0.7
    """
    n_samples, n_signal = len(diagonal), min(model.n_signal, len(eigenvalues))
    n_rest = n_samples - 1 - len(eigenvalues)
    mean = max(trace - eigenvalues.sum(), 0.0) / max(n_rest, 1)
    square = (trace_of_square - (eigenvalues**2).sum()) / max(n_rest, 1)
    echo = np.empty(len(eigenvalues))
    for k, value in enumerate(eigenvalues):
        noise = eigenvalues[max(n_signal, k + 1) :]
        echo[k] = np.sum(noise / np.maximum(value - noise, 1e-9 * value))
        if n_rest > 0:  # to second order about their mean
            gap = max(value - mean, 1e-9 * value)
            echo[k] += n_rest * (mean / gap + value * max(square - mean**2, 0.0) / gap**3)
    weights = vectors**2
    level = diagonal - weights[:, :n_signal] @ eigenvalues[:n_signal]
    pairs = trace_of_square - np.sum(eigenvalues[:n_signal] ** 2) - np.sum(level**2)
    correlation = max(pairs / (level.sum() ** 2 - np.sum(level**2)), 0.0)
    share = (1.0 + echo * correlation) / eigenvalues
    edge = np.sqrt(model.ratio)
    factors = np.ones(len(eigenvalues))
    for _ in range(N_ROUNDS):
        signal = factors[:n_signal] ** 2 * eigenvalues[:n_signal]
        noise = np.maximum(diagonal - weights[:, :n_signal] @ signal, 0.0)
        factors = np.clip(1.0 - share * (noise @ weights), edge / (1.0 + edge), 1.0)
    return factors
