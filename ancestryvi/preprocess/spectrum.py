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

    def shrinkage(
        self,
        eigenvalues: NDArray[np.float64],
        level: NDArray[np.float64] | float = 1.0,
        mixing: NDArray[np.float64] | float = 1.0,
    ) -> NDArray[np.float64]:
        """How much smaller scores of new samples are than those of fitted ones, in (0, 1).

        A component partly follows the noise of the samples that it was computed from, which new
        samples do not share: their scores are l / (1 + l) as large. Below the edge of noise, where
        no l fits, the strength at the edge is taken.

        Noise is not the same for all: under Patterson scaling by the frequencies of the whole
        cohort, samples of a diverse population have more of it. To second order of perturbation, an
        axis within that population rises over the noise level of its own samples, h times the mean,
        and turns towards the others by how much the noise of its samples is correlated with theirs,
        m times the mean: l solves (1 + l)(1 + g m / (h^2 l)) = eigenvalue / (h noise).

        Parameters
        ----------
        eigenvalues : ndarray of shape (n_components,)
        level, mixing : ndarray of shape (n_components,), optional
            h and m of each component, 1 on average; see `uneven_noise`.

        References
        ----------
        Lee, Zou and Wright (2010), Annals of Statistics 38(6):3605-3629, theorem 3; applied to
        genotypes by Dey and Lee (2019), Journal of Multivariate Analysis 173:145-164.

        Examples
        --------
        >>> model = SpikedModel(noise=1.0, ratio=0.25, n_signal=1)
        >>> model.shrinkage(np.array([5.3125, 1.0])).round(3)
        array([0.8  , 0.333])
        """
        ratio = self.ratio * mixing / np.square(level)
        excess = eigenvalues / (self.noise * level) - 1.0 - ratio
        root = np.sqrt(np.maximum(excess**2 - 4.0 * ratio, 0.0))
        strength = np.maximum((np.maximum(excess, 0.0) + root) / 2.0, np.sqrt(ratio))
        return strength / (1.0 + strength)


def uneven_noise(
    diagonal: NDArray[np.float64],
    row_squares: NDArray[np.float64],
    eigenvalues: NDArray[np.float64],
    vectors: NDArray[np.float64],
    n_signal: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise of the samples that each component is made of, relative to that of all samples.

    What the signal components leave of the relationship matrix is noise: on the diagonal its level
    in each sample, beside it how much the noise of two samples is correlated by chance. A component
    weighs the samples by its squared entries.

    Parameters
    ----------
    diagonal, row_squares : ndarray of shape (n_samples,)
        The diagonal of the relationship matrix, and the sums of squares of its rows.
    eigenvalues : ndarray of shape (n_components,)
    vectors : ndarray of shape (n_samples, n_components)
        Of length 1.
    n_signal : int
        Leading components that are signal; those beyond n_components count as noise.

    Returns
    -------
    level : ndarray of shape (n_components,)
        Mean noise of the samples.
    mixing : ndarray of shape (n_components,)
        Mean sum of squares of their correlations with all others.

    Examples
    --------
    >>> vectors = np.array([[0.0], [0.0], [0.5**0.5], [-(0.5**0.5)]])
    >>> gram = np.diag([1.0, 1, 3, 3]) + 10 * vectors @ vectors.T
    >>> level, mixing = uneven_noise(
    ...     np.diag(gram), (gram**2).sum(axis=1), np.array([13.0]), vectors, 1
    ... )
    >>> level.round(2)
    array([1.2])
    """
    weights = vectors**2
    signal = weights[:, :n_signal]
    noise = diagonal - signal @ eigenvalues[:n_signal]
    beside = row_squares - signal @ eigenvalues[:n_signal] ** 2 - noise**2
    beside = np.maximum(beside, 0.0)
    return noise @ weights / noise.mean(), beside @ weights / max(beside.mean(), 1e-300)


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
