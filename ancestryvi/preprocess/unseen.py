"""What missing calls leave open about the scores of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ancestryvi.preprocess.passes import BLOCK_BYTES
from ancestryvi.preprocess.score_prior import ScorePrior

NOTICEABLE = 0.05
"""Share of the squared loadings of a component that is unseen from which on it counts. With less,
the standard deviation of a score by its noise is hardly a fortieth larger."""

N_DRAWS = 64
"""Scores that are drawn for a sample; the same noise for all, so that a sample's do not depend on
the others. The second half mirrors the first."""


@dataclass(frozen=True)
class Unseen:
    """What is known of the scores of the samples that noticeably much is missing of.

    With loadings V, whose rows o are seen, and u unseen, a sample's scaled dosages are
    z = V t + e, with variance s of e in every variant. Its score V'z is V_o'z_o + V_u'z_u.

    Parameters
    ----------
    variance : float
        s, above 0.
    axes : ndarray of shape (n_components,)
        Variance of t along each component.
    units : ndarray of shape (n_components,)
        What draws of scores are divided by.
    groups : sequence of tuple of three ndarrays
        Rows, of shape (n_rows,); V_o'z_o of each, of shape (n_rows, n_components); and V_o'V_o, of
        shape (n_rows or 1, n_components, n_components): one is that of all rows.
    """

    variance: float = 1.0
    axes: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    units: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    groups: Sequence[tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float32]]] = ()

    def with_more(
        self,
        rows: NDArray[np.intp],
        sums: NDArray[np.float64],
        seen: NDArray[np.float64],
    ) -> Self:
        """This and other samples, as in `groups`, if much is missing of them."""
        unseen = 1.0 - np.diagonal(seen, axis1=1, axis2=2)
        noticeable = unseen.max(axis=1) > NOTICEABLE
        if not len(rows) or not noticeable.any():
            return self
        own = noticeable if len(seen) > 1 or len(rows) == 1 else slice(None)
        group = (rows[own], sums[own], seen[noticeable].astype(np.float32))
        return replace(self, groups=[*self.groups, group])

    def over(self, units: NDArray[np.float64]) -> Self:
        """That of scores divided by these, of shape (n_components,)."""
        return replace(self, units=self.units * units)

    def draws(
        self, prior: ScorePrior | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Rows, and scores drawn for them, of shape (N_DRAWS, n_rows, n_components).

        Given part k of the prior, with mean m_k and covariance W of t, t has covariance
        C = (W^-1 + S / s)^-1 with S = V_o'V_o, and mean c_k = C (W^-1 m_k + V_o'z_o / s). With
        G = V_u'V_u = 1 - S the score then has mean V_o'z_o + G c_k and covariance G C G + s G. The
        part has probability in proportion to its weight times
        exp(c_k'C^-1 c_k / 2 - m_k'W^-1 m_k / 2). Parts have one W, so that a sample takes one
        inversion, and draws from part k are as much wider as it is: in many dimensions draws that
        are a little too wide for a narrow cluster are all in wide ones.

        Parameters
        ----------
        prior : ScorePrior, optional
            Of the scores in their units; W is its covariance less s, which all scores have by e.
            Without it, one Gaussian about 0 with the variances of the axes; then the mean of the
            draws is that of `preprocess.project.place`, and their covariance exact for up to half
            as many components as there are draws.

        Yields
        ------
        rows, scores : ndarray
        """
        if not self.groups:
            return
        if prior is None:
            middle = np.zeros((1, len(self.axes)))
            prior = ScorePrior(np.ones(1), middle, np.diag(self.axes), np.ones(1))
        else:
            prior = prior.beside_noise(self.units, self.variance)
        precision = np.linalg.inv(prior.covariance)
        pull = prior.means @ precision
        own = np.log(prior.weights) - 0.5 * (pull * prior.means).sum(axis=1)
        identity = np.eye(len(self.axes))
        noise, ranks = _fixed_noise(len(self.axes))
        step = max(1, BLOCK_BYTES // (8 * (noise.size + prior.means.size + 4 * identity.size)))
        for rows, sums, seen in self.groups:
            for start in range(0, len(rows), step):
                some = slice(start, start + step)
                of_each = seen if len(seen) == 1 else seen[some]
                covariance = np.linalg.inv(precision + of_each / self.variance)
                force = pull + sums[some, None] / self.variance
                given = force @ covariance
                chance = softmax(own + 0.5 * (force * given).sum(axis=-1), axis=1)
                part = (chance.cumsum(axis=1) < ranks[:, None, None]).sum(axis=-1)
                unseen = identity - of_each
                means = sums[some, None] + given @ unseen
                spread = unseen @ covariance @ unseen + self.variance * unseen
                squares, axes = np.linalg.eigh(spread)
                factors = axes * np.sqrt(squares.clip(min=0.0))[:, None, :]
                off = np.einsum("nij,dj->dni", factors, noise)
                off = off * np.sqrt(prior.widths)[part][..., None]
                yield rows[some], (means[np.arange(len(means)), part] + off) / self.units


def _fixed_noise(n_components: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal noise with mean 0 and covariance 1, of shape (N_DRAWS, n_components), and ranks."""
    random = np.random.RandomState(0)
    noise = random.normal(size=(N_DRAWS // 2, n_components))
    left, _, right = np.linalg.svd(noise, full_matrices=False)
    half = np.sqrt(max(noise.shape)) * left @ right
    ranks = (random.permutation(N_DRAWS) + 0.5) / N_DRAWS
    return np.concatenate([half, -half]), ranks
