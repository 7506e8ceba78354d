"""How many principal components carry structure, told from the eigenvalues alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SIGNAL = 0.5
"""Share of a component that must be signal: its squared cosine with the axis it estimates."""

TRACY_WIDOM = 3.27
"""What the largest eigenvalue of noise exceeds once in a thousand, in units of its edge."""

N_EDGE, LEAST_EDGE = 25, 10
"""Eigenvalues that the edge of noise is told from."""


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


def n_outstanding(eigenvalues: NDArray[np.float64], n_most: int) -> int:
    """Number of leading eigenvalues down to the last that stands out from those after it.

    At the edge of noise, eigenvalues lie along a - b z_k, with z_k the zeros of the Airy function.
    Both numbers are fitted to the `N_EDGE` eigenvalues after the one in question, which stands out
    if it is above a + `TRACY_WIDOM` b. Nothing is assumed about the level of the noise, so linked
    variants, which make the edge wide and its eigenvalues more than a model of independent ones
    expects, are not taken for structure.

    Parameters
    ----------
    eigenvalues : ndarray, decreasing
        At any scale.
    n_most : int
        Eigenvalues that may count. Those with fewer than `LEAST_EDGE` after them do.

    References
    ----------
    Johnstone (2001), Annals of Statistics 29(2):295-327, theorem 1; for several eigenvalues
    Soshnikov (2002), Journal of Statistical Physics 108:1033-1056.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(100, 1000))
    >>> axis = np.where(np.arange(100) < 50, 1.0, -1.0)[:, None]
    >>> for data in (noise, noise + 0.5 * axis):
    ...     w = np.linalg.svd(data - data.mean(axis=0), compute_uv=False)[:50] ** 2
    ...     print(n_outstanding(w, 10))
    0
    1
    """
    for count in range(min(n_most, len(eigenvalues)), 0, -1):
        after = eigenvalues[count : count + N_EDGE]
        if len(after) < LEAST_EDGE:
            return count
        order = np.arange(2, len(after) + 2)
        airy = (3.0 * np.pi * (4 * order - 1) / 8.0) ** (2 / 3)
        slope, edge = np.polyfit(airy, after, 1)
        if eigenvalues[count - 1] > edge - TRACY_WIDOM * slope:
            return count
    return 0


@dataclass(frozen=True)
class SpikedModel:
    """Noise and signal in a spectrum, by the spiked covariance model.

    An axis of strength l (its population eigenvalue is 1 + l times that of noise) seen with noise
    ratio g = samples / effective variants gives a sample eigenvalue (1 + l)(1 + g / l) times the
    noise level, whose component has squared cosine (1 - g / l^2) / (1 + g / l) with the axis.

    Attributes
    ----------
    noise : float
        Mean eigenvalue of what is no signal.
    ratio : float
        The noise ratio g.
    n_signal : int
        Number of leading components that are at least half signal: whose squared cosine is at
        least `MIN_SIGNAL`. Weaker ones move samples more by chance than by ancestry. Without
        structure it is 0.

    References
    ----------
    Johnstone (2001), Annals of Statistics 29(2):295-327; Paul (2007), Statistica Sinica
    17:1617-1642, theorems 1 and 4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(50, 2000))
    >>> axis = np.where(np.arange(50) < 25, 1.0, -1.0)[:, None]
    >>> for data in (noise, noise + 0.5 * axis):
    ...     w = np.linalg.svd(data - data.mean(axis=0), compute_uv=False)[:49] ** 2
    ...     print(SpikedModel.of(w, w.sum(), (w**2).sum(), 50, 2000).n_signal)
    0
    1
    """

    noise: float
    ratio: float
    n_signal: int

    @classmethod
    def of(
        cls,
        eigenvalues: NDArray[np.float64],
        trace: float,
        trace_of_square: float,
        n_samples: int,
        n_variants: int,
    ) -> SpikedModel:
        """Fit the model to a spectrum; parameters as for `effective_variants`."""
        n_effective = effective_variants(eigenvalues, trace, trace_of_square, n_samples, n_variants)
        ratio = (n_samples - 1) / n_effective
        threshold = signal_threshold(ratio)
        count, noise = 0, trace / (n_samples - 1)
        while True:  # the noise level falls as components leave it
            raised = int(np.sum(eigenvalues > threshold * noise))
            n_left, left = n_samples - 1 - raised, trace - float(eigenvalues[:raised].sum())
            if raised == count or n_left < 1 or left <= 0:
                return cls(noise, ratio, count)
            count, noise = raised, left / n_left


def signal_threshold(ratio: float) -> float:
    """Sample eigenvalue, in units of noise, at which the squared cosine is `MIN_SIGNAL`.

    Parameters
    ----------
    ratio : float
        Samples over effective variants.

    Examples
    --------
    >>> round(signal_threshold(0.1), 3)
    1.8
    """
    linear = MIN_SIGNAL * ratio
    strength = (linear + np.sqrt(linear**2 + 4 * (1 - MIN_SIGNAL) * ratio)) / (2 * (1 - MIN_SIGNAL))
    return float((1 + strength) * (1 + ratio / strength))
