"""What a fitted tool is made of: a linear map, votes and places of neighbours, a mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.neighbors import KNeighborsRegressor

N_NEIGHBOURS = 15
"""Training samples that place a new one."""

ROWS_AT_ONCE = 4096
"""Samples that are placed at once, which bounds memory."""


@dataclass(frozen=True)
class Axes:
    """A linear map.

    Parameters
    ----------
    mean : ndarray of shape (n_features,)
        What is at the origin.
    axes : ndarray of shape (n_components, n_features)
        Orthonormal rows; beyond the rank of the features, 0.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]

    def at(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their places, of shape (n_samples, n_components)."""
        return (rows - self.mean) @ self.axes.T


@dataclass(frozen=True)
class Neighbours:
    """Values of new rows from the nearest known ones, weighted by inverse distance.

    A row that is known has its own value.

    Parameters
    ----------
    rows : ndarray of shape (n_known, n_features)
        No two of them equal.
    values : ndarray of shape (n_known, n_values)
    """

    rows: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def voting(cls, rows: NDArray[np.float64], labels: NDArray[np.int64]) -> Neighbours:
        """Votes of labelled rows for their clusters; equal rows vote as one, in equal shares."""
        distinct, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        votes = np.zeros((len(distinct), labels.max() + 1))
        np.add.at(votes, (inverse.reshape(-1), labels), 1.0)
        return cls(distinct, votes / counts[:, None])

    def at(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values there, of shape (n_samples, n_values)."""
        # A tree sums squared differences: unlike x² - 2xy + y², they are 0 for a known row.
        known = KNeighborsRegressor(
            min(N_NEIGHBOURS, len(self.rows)), weights="distance", algorithm="kd_tree"
        ).fit(self.rows, self.values)
        return by_blocks(known.predict, rows, self.values.shape[1:])

    def keep(self, order: NDArray[np.intp]) -> Neighbours:
        """These columns of votes alone; rows without a vote left are known no more."""
        votes = self.values[:, order]
        total = votes.sum(axis=1)
        heard = total > 0
        return Neighbours(self.rows[heard], votes[heard] / total[heard, None])


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians.

    Parameters
    ----------
    weights : ndarray of shape (n_clusters,)
    means : ndarray of shape (n_clusters, n_features)
    scales : ndarray of shape (n_clusters, n_features) or (n_clusters, n_features, n_features)
        Standard deviations, or lower Cholesky factors of the covariances.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]

    def log_joint(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """log p(row, component) in nats, of shape (n_samples, n_clusters)."""
        result = np.empty((len(rows), len(self.weights)))
        for k, (mean, scale) in enumerate(zip(self.means, self.scales, strict=True)):
            if scale.ndim == 1:
                noise, diagonal = (rows - mean) / scale, scale
            else:
                noise = solve_triangular(scale, (rows - mean).T, lower=True).T
                diagonal = np.diag(scale)
            log_unit = np.log(diagonal).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
            result[:, k] = np.log(self.weights[k]) - log_unit - 0.5 * (noise**2).sum(axis=1)
        return result

    def at(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Responsibilities, of shape (n_samples, n_clusters)."""

        def responsibilities(block: NDArray[np.float64]) -> NDArray[np.float64]:
            joint = self.log_joint(block)
            shares = np.exp(joint - joint.max(axis=1, keepdims=True))
            return shares / shares.sum(axis=1, keepdims=True)

        return by_blocks(responsibilities, rows, (len(self.weights),))

    def log_density(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density in nats, of shape (n_samples,)."""
        return by_blocks(lambda block: logsumexp(self.log_joint(block), axis=1), rows, ())

    def draw(
        self, n_samples: int, random: np.random.RandomState
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Rows, and the component of each."""
        component = random.choice(len(self.weights), size=n_samples, p=self.weights)
        rows = random.normal(size=(n_samples, self.means.shape[1]))
        for k, (mean, scale) in enumerate(zip(self.means, self.scales, strict=True)):
            own = component == k
            rows[own] = mean + (rows[own] * scale if scale.ndim == 1 else rows[own] @ scale.T)
        return rows, component

    def keep(self, order: NDArray[np.intp]) -> Mixture:
        """These components alone, in this order."""
        weights = self.weights[order]
        return Mixture(weights / weights.sum(), self.means[order], self.scales[order])


def by_blocks(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    rows: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """A function of rows, NaN for those with a NaN."""
    result = np.full((len(rows), *shape), np.nan)
    usable = np.flatnonzero(~np.isnan(rows).any(axis=1))
    for start in range(0, len(usable), ROWS_AT_ONCE):
        block = usable[start : start + ROWS_AT_ONCE]
        result[block] = function(rows[block])
    return result
