"""Where the scores of samples are, told from the clusters of those that were fitted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

PSEUDO_SAMPLES = 10.0
"""Samples of the common variance that every cluster is given, as in the mixture of features."""

MIN_SHARE = 0.05
"""Variance within a cluster besides that of noise, over the latter, at least."""


@dataclass(frozen=True)
class ScorePrior:
    """Where scores are before any call is seen: a mixture of Gaussians.

    Parameters
    ----------
    weights : ndarray of shape (n_parts,)
        They sum to 1.
    means : ndarray of shape (n_parts, n_components)
    covariance : ndarray of shape (n_components, n_components)
        Within parts, in the mean over samples.
    widths : ndarray of shape (n_parts,)
        Variance of each part over that mean.
    reach : ndarray of shape ()
        Largest of the `distances` of the samples that it was made of.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]
    widths: NDArray[np.float64]
    reach: NDArray[np.float64] = field(default_factory=lambda: np.array(np.inf))

    @classmethod
    def of_clusters(
        cls, scores: NDArray[np.float64], codes: NDArray[np.int64], noise: NDArray[np.float64]
    ) -> Self:
        """That of samples in clusters.

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_components)
        codes : ndarray of shape (n_samples,)
            Cluster of each sample.
        noise : ndarray of shape (n_components,)
            Variance that the scores of new samples have by noise, above 0. The covariance is no
            less: components follow the noise of the samples that they were computed from, which
            therefore seem closer together.

        Examples
        --------
        >>> scores = np.array([[0.0, 1.0], [0.0, 3.0], [9.0, 5.0]])
        >>> prior = ScorePrior.of_clusters(scores, np.array([0, 0, 4]), np.full(2, 0.1))
        >>> prior.means.tolist()
        [[0.0, 2.0], [9.0, 5.0]]
        """
        _, part, sizes = np.unique(codes, return_inverse=True, return_counts=True)
        members = np.eye(len(sizes))[part].T
        means = members @ scores / sizes[:, None]
        off = scores - means[part]
        unit = np.sqrt(noise)
        squares, axes = np.linalg.eigh((off / unit).T @ (off / unit) / len(scores))
        covariance = axes * squares.clip(min=1.0) @ axes.T * np.outer(unit, unit)
        variances = np.diag(covariance)
        sums = members @ (off**2 / variances).mean(axis=1)
        widths = (sums + PSEUDO_SAMPLES) / (sizes + PSEUDO_SAMPLES)
        prior = cls(sizes / len(scores), means, covariance, widths)
        return replace(prior, reach=np.array(prior.distances(scores).max()))

    def distances(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of each score from the nearest part, shape (n_samples,).

        NaN for a sample without scores.
        """
        white = np.linalg.inv(np.linalg.cholesky(self.covariance)).T
        nearest = np.full(len(scores), np.inf)
        for mean, width in zip(self.means, self.widths, strict=True):
            off = np.square((scores - mean) @ white).sum(axis=1) / width
            nearest = np.minimum(nearest, off)
        return nearest

    def beside_noise(self, units: NDArray[np.float64], variance: float) -> Self:
        """That of the scores times units, of shape (n_components,), less noise of this variance."""
        squares, axes = np.linalg.eigh(self.covariance * np.outer(units, units))
        left = np.maximum(squares - variance, MIN_SHARE * variance)
        return replace(self, means=self.means * units, covariance=axes * left @ axes.T)
