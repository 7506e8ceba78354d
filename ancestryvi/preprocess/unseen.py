"""What missing calls leave open about the scores of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ancestryvi.preprocess.passes import BLOCK_BYTES

NOTICEABLE = 0.05
"""Share of the squared loadings of a component that is unseen from which on it counts. With less,
the standard deviation of a score by its noise is hardly a fortieth larger."""

N_DRAWS = 64
"""Scores that are drawn for a sample; the same noise for all, so that a sample's do not depend on
the others. The second half mirrors the first."""


@dataclass(frozen=True)
class Unseen:
    """Gaussian uncertainty of scores, of the samples where it is noticeable.

    Parameters
    ----------
    groups : sequence of tuple of two ndarrays
        Rows, of shape (n_rows,), and factors L of covariances L L', of shape
        (n_rows or 1, n_components, n_components); one factor is that of all its rows.
    """

    groups: Sequence[tuple[NDArray[np.intp], NDArray[np.float32]]] = ()

    @classmethod
    def of_loadings(
        cls,
        rows: NDArray[np.intp],
        seen: NDArray[np.float64],
        noise: NDArray[np.float64],
        variance: float,
    ) -> Self:
        """Where so much of the loadings is seen.

        The score is V_o'z_o + V_u'z_u with unknown z_u = V_u t + e_u. Given z_o, t has covariance
        s (V_o'V_o + diag(s / v))^-1, so that with G = V_u'V_u = 1 - V_o'V_o the score has
        s (G (V_o'V_o + diag(s / v))^-1 G + G).

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Samples.
        seen : ndarray of shape (n_rows or 1, n_components, n_components)
            V_o'V_o of each, or of all.
        noise : ndarray of shape (n_components,)
            s / v, as for `preprocess.project.place`.
        variance : float
            s, the variance of a scaled variant beside the components.
        """
        unknown = np.eye(seen.shape[-1]) - seen
        noticeable = np.diagonal(unknown, axis1=1, axis2=2).max(axis=1) > NOTICEABLE
        if not len(rows) or not noticeable.any():
            return cls()
        seen, unknown = seen[noticeable], unknown[noticeable]
        spread = unknown @ np.linalg.solve(seen + np.diag(noise), unknown) + unknown
        squares, axes = np.linalg.eigh(spread)
        factors = axes * np.sqrt(variance * squares.clip(min=0.0))[:, None, :]
        own = rows if len(noticeable) == 1 else rows[noticeable]
        return cls([(own, factors.astype(np.float32))])

    def with_more(self, other: Unseen) -> Self:
        """This and what is known of other samples."""
        return replace(self, groups=[*self.groups, *other.groups])

    def over(self, units: NDArray[np.float64]) -> Self:
        """That of scores divided by these, of shape (n_components,)."""
        by = units.astype(np.float32)[:, None]
        return replace(self, groups=[(rows, factors / by) for rows, factors in self.groups])

    def draws(
        self, scores: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Rows, and scores drawn for them, of shape (N_DRAWS, n_rows, n_components).

        Parameters
        ----------
        scores : ndarray of shape (n_samples, n_components)
            Those to expect, of all samples. They are the mean of the draws of a sample, whose
            covariance is exact as well for up to half as many components as there are draws.
        """
        noise = np.random.RandomState(0).normal(size=(N_DRAWS // 2, scores.shape[1]))
        left, _, right = np.linalg.svd(noise, full_matrices=False)
        half = np.sqrt(max(noise.shape)) * left @ right
        both = np.concatenate([half, -half])
        step = max(1, BLOCK_BYTES // (8 * both.size))
        for rows, factors in self.groups:
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                own = factors if len(factors) == 1 else factors[start : start + step]
                yield some, scores[some] + np.einsum("nij,dj->dni", own, both)
