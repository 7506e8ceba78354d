"""How many principal components carry structure, told from the eigenvalues alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TRACY_WIDOM_95 = 0.9793
"""95th percentile of the Tracy-Widom law of order 1."""


def count_significant(
    eigenvalues: NDArray[np.float64], trace: float, trace_of_square: float, n_samples: int
) -> int:
    """Number of leading eigenvalues that exceed what unstructured samples would show, at 5 %.

    The first eigenvalue is tested against the Tracy-Widom law of a Wishart matrix with as many
    samples and with the effective number of variants that the spectrum itself implies; if it
    exceeds, it is removed and the next one tested, until one does not exceed.

    Parameters
    ----------
    eigenvalues : ndarray, decreasing
        Leading eigenvalues of the n x n relationship matrix of centred genotypes, at any scale.
    trace, trace_of_square : float
        Sum, and sum of squares, of all its eigenvalues.
    n_samples : int
        Number n of samples; one degree of freedom goes to centring.

    Returns
    -------
    count : int
        From 0 to ``len(eigenvalues)``.

    References
    ----------
    Patterson, Price and Reich (2006), PLoS Genetics 2(12):e190, equations 5 to 10.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = np.linalg.svd(rng.normal(size=(50, 2000)), compute_uv=False) ** 2
    >>> count_significant(noise, noise.sum(), (noise**2).sum(), 51)
    0
    """
    for index, value in enumerate(eigenvalues):
        n_left = n_samples - 1 - index
        if n_left < 3:
            return index
        spread = n_left * trace_of_square - trace**2
        if spread <= 0:
            return index
        n_effective = (n_left + 2) * trace**2 / spread
        outer, inner = np.sqrt(n_effective - 1), np.sqrt(n_left)
        centre = (outer + inner) ** 2 / n_effective
        width = (outer + inner) / n_effective * (1 / outer + 1 / inner) ** (1 / 3)
        if (n_left * value / trace - centre) / width < TRACY_WIDOM_95:
            return index
        trace -= value
        trace_of_square -= value**2
    return len(eigenvalues)
