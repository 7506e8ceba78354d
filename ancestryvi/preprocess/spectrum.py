"""How many principal components carry structure, told from the eigenvalues alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_SIGNAL = 0.5
"""Share of a component that must be signal: its squared cosine with the axis it estimates."""


def effective_variants(
    eigenvalues: NDArray[np.float64],
    trace: float,
    trace_of_square: float,
    n_samples: int,
    n_variants: int,
) -> float:
    """Number of independent variants whose noise has a spectrum as wide as this one's bulk.

    The moment estimate of Patterson et al. from all eigenvalues takes structure for a wide bulk.
    Here it is made after removing each possible number of leading eigenvalues, up to a quarter of
    the samples, and the largest is taken, which is at most `n_variants`.

    Parameters
    ----------
    eigenvalues : ndarray, decreasing
        Leading eigenvalues of the n x n relationship matrix of centred genotypes, at any scale.
    trace, trace_of_square : float
        Sum, and sum of squares, of all its eigenvalues.
    n_samples, n_variants : int

    References
    ----------
    Patterson, Price and Reich (2006), PLoS Genetics 2(12):e190, equation 10.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = np.linalg.svd(rng.normal(size=(50, 300)), compute_uv=False) ** 2
    >>> 250 < effective_variants(noise, noise.sum(), (noise**2).sum(), 51, 300) <= 300
    True
    """
    removed = np.concatenate([[0.0], np.cumsum(eigenvalues)])
    removed_squares = np.concatenate([[0.0], np.cumsum(eigenvalues**2)])
    sums, squares = trace - removed, trace_of_square - removed_squares
    n_left = n_samples - 1 - np.arange(len(sums))
    spread = n_left * squares - sums**2
    usable = (n_left >= max(2, 0.75 * (n_samples - 1))) & (spread > 1e-9 * sums**2)
    if not usable.any():
        return float(n_variants)
    estimates = (n_left + 2)[usable] * sums[usable] ** 2 / spread[usable]
    return float(min(estimates.max(), n_variants))


def count_signal(
    eigenvalues: NDArray[np.float64],
    trace: float,
    trace_of_square: float,
    n_samples: int,
    n_variants: int,
) -> int:
    """Number of leading components that are at least half signal.

    A component of finitely many variants is turned away from the axis of the population that it
    estimates. In the spiked covariance model an axis of strength l (its eigenvalue is 1 + l times
    that of noise), seen with noise ratio g = samples / effective variants, gives a sample
    eigenvalue (1 + l)(1 + g / l) and a squared cosine (1 - g / l^2) / (1 + g / l). Components are
    counted down to a squared cosine of `MIN_SIGNAL`; weaker ones move samples more by chance than
    by ancestry. Without structure the count is 0.

    Parameters
    ----------
    eigenvalues, trace, trace_of_square, n_samples, n_variants
        As for `effective_variants`.

    Returns
    -------
    count : int
        From 0 to ``len(eigenvalues)``.

    References
    ----------
    Paul (2007), Statistica Sinica 17:1617-1642, theorems 1 and 4; Johnstone (2001), Annals of
    Statistics 29(2):295-327, for the model.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(50, 2000))
    >>> axis = np.where(np.arange(50) < 25, 1.0, -1.0)[:, None]
    >>> for data in (noise, noise + 0.5 * axis):
    ...     w = np.linalg.svd(data - data.mean(axis=0), compute_uv=False)[:49] ** 2
    ...     print(count_signal(w, w.sum(), (w**2).sum(), 50, 2000))
    0
    1
    """
    threshold = signal_threshold(
        (n_samples - 1)
        / effective_variants(eigenvalues, trace, trace_of_square, n_samples, n_variants)
    )
    count = 0
    for _ in range(len(eigenvalues)):  # the noise level falls as components leave it
        n_left = n_samples - 1 - count
        left = trace - float(eigenvalues[:count].sum())
        if n_left < 1 or left <= 0:
            break
        raised = int(np.sum(eigenvalues > threshold * left / n_left))
        if raised == count:
            break
        count = raised
    return count


def signal_threshold(ratio: float) -> float:
    """Sample eigenvalue, in units of noise, at which the squared cosine is `MIN_SIGNAL`.

    Parameters
    ----------
    ratio : float
        Samples over effective variants.

    Examples
    --------
    >>> round(signal_threshold(0.1), 3)
    1.799
    """
    linear = MIN_SIGNAL * ratio
    strength = (linear + np.sqrt(linear**2 + 4 * (1 - MIN_SIGNAL) * ratio)) / (2 * (1 - MIN_SIGNAL))
    return float((1 + strength) * (1 + ratio / strength))
