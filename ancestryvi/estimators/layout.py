"""The layout that a map starts from, and is held near: the large distances, in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from ancestryvi.estimators.feature_mixture import quadratic_form
from ancestryvi.estimators.tool_parts import Mixture

MOST_AXES = 10
"""Dimensions that scaling starts in."""

PENALTIES = np.geomspace(0.01, 3.0, 20)
"""Weights, beside that of the stress, of the squares of coordinates beyond those of the map: from
hardly any to one at which such coordinates vanish."""

MOST_ITERATIONS = 50
"""Steps of scaling at each of these."""


@dataclass(frozen=True)
class ClusterLayout:
    """A place for every row of features: that of its cluster, and from there along the first PCs.

    Parameters
    ----------
    squared, linear, constant : Tensor
        Of the log density of each cluster, as `quadratic_form` gives them.
    axes : Tensor of shape (n_features, n_latent)
    shift : Tensor of shape (n_clusters, n_latent)
        What is added to ``x @ axes`` in each cluster.
    """

    squared: Tensor
    linear: Tensor
    constant: Tensor
    axes: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Places of shape (n_samples, n_latent)."""
        return x @ self.axes + self._belonging(x) @ self.shift

    def strain(self, x: Tensor, z: Tensor) -> Tensor:
        """Squared distance of the means of clusters from their places, by size, of shape ().

        Means are over the rows given, where x is and where it should be; samples may lie about
        them as they like.
        """
        belonging = self._belonging(x)
        sizes = belonging.sum(0)
        off = z - x @ self.axes - belonging @ self.shift
        means = belonging.T @ off / sizes.clamp(min=torch.finfo(x.dtype).eps)[:, None]
        return sizes @ means.square().sum(-1) / len(x)

    def _belonging(self, x: Tensor) -> Tensor:
        """Probability of each cluster, of shape (n_samples, n_clusters)."""
        return (x.square() @ self.squared + x @ self.linear + self.constant).softmax(-1)


def flat_layout(x: Tensor, n_latent: int) -> ClusterLayout:
    """The first PCs of x, each of unit variance; 0 beyond the rank.

    The largest entry of each column of `axes` is positive.
    """
    axes, lengths = principal_directions(x, n_latent)
    unit = np.divide(np.sqrt(len(x)), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    none = x.new_zeros(x.shape[1], 1)
    return ClusterLayout(
        none, none, x.new_zeros(1), torch.as_tensor(axes * unit).to(x), x.new_zeros(1, n_latent)
    )


def mixture_layout(x: Tensor, n_latent: int, mixture: Mixture) -> ClusterLayout:
    """Cluster means by multidimensional scaling, and samples about them along the first PCs.

    In one unit for all directions, in which the places of all samples have a mean square of 1 per
    coordinate; turned to agree with the first PCs as far as it goes.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
        Centred.
    n_latent : int
    mixture : Mixture
        Of the features.
    """
    axes, _ = principal_directions(x, n_latent)
    flat = mixture.means @ axes
    places = scaled_means(mixture.means, mixture.weights, n_latent)
    turn, _ = orthogonal_procrustes(places, flat)
    squared, linear, constant = quadratic_form(mixture.weights, mixture.means, mixture.scales**2)
    layout = ClusterLayout(
        *(
            torch.as_tensor(part).to(x)
            for part in (squared, linear, constant, axes, places @ turn - flat)
        )
    )
    z = layout(x)
    centre = z.mean(0)
    unit = float((z - centre).square().mean().sqrt()) or 1.0
    return ClusterLayout(
        layout.squared,
        layout.linear,
        layout.constant,
        layout.axes / unit,
        (layout.shift - centre) / unit,
    )


def principal_directions(
    x: Tensor, n_latent: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leading right singular vectors as columns, largest entry positive, and singular values.

    Of shape (n_features, n_latent) and (n_latent,); 0 beyond the rank.
    """
    _, singular, vectors = torch.linalg.svd(x.double().cpu(), full_matrices=False)
    n_axes = min(n_latent, int((singular > 1e-6 * singular[0]).sum()))
    axes = vectors[:n_axes].T
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    directions, lengths = np.zeros((x.shape[1], n_latent)), np.zeros(n_latent)
    directions[:, :n_axes], lengths[:n_axes] = axes, singular[:n_axes]
    return directions, lengths


def scaled_means(
    means: NDArray[np.float64], weights: NDArray[np.float64], n_latent: int
) -> NDArray[np.float64]:
    """Places whose distances are those of the means as nearly as can be: least raw stress.

    A pair of clusters counts by the product of their weights, as if every sample were at its mean,
    so that it does not matter into how many clusters a population is cut. There are many layouts
    that no small step improves, and which of them is the best changes with the sample. So the
    means start where they are, in more dimensions, and those beyond `n_latent` are made to cost
    more and more, step by step: that leads to one layout, whose stress is about the least, and to
    nearly the same for other samples. Centred, of shape (n_clusters, n_latent).

    References
    ----------
    Kruskal (1964), Psychometrika 29:1-27; Borg and Groenen (2005), Modern Multidimensional
    Scaling, chapter 8, and chapter 13 for local minima.

    Examples
    --------
    >>> means = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    >>> places = scaled_means(means, np.full(3, 1 / 3), 2)
    >>> pdist(places).round(3)
    array([3., 4., 5.])
    """
    wanted = pdist(means)
    first, second = np.triu_indices(len(means), 1)
    pairs = weights[first] * weights[second]
    least = 1e-12 * (wanted.max(initial=0.0) or 1.0)

    def stress(flat: NDArray[np.float64], penalty: float) -> tuple[float, NDArray[np.float64]]:
        places = flat.reshape(len(means), -1)
        found = pdist(places)
        off = found - wanted
        pull = squareform(2.0 * pairs * off / np.maximum(found, least))
        gradient = pull.sum(axis=1)[:, None] * places - pull @ places
        beyond = weights[:, None] * places[:, n_latent:]
        gradient[:, n_latent:] += 2.0 * penalty * beyond
        extra = penalty * np.vdot(beyond, places[:, n_latent:])
        return float(pairs @ off**2 + extra), gradient.ravel()

    def scaled(
        places: NDArray[np.float64], penalty: float, most: int = 15_000
    ) -> NDArray[np.float64]:
        found = minimize(
            stress,
            places.ravel(),
            (penalty,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": most},
        )
        flat: NDArray[np.float64] = found.x
        return flat.reshape(places.shape)

    places = _along_axes(means, weights)[:, : max(MOST_AXES, n_latent)]
    if places.shape[1] > n_latent:
        for penalty in PENALTIES:
            places = _along_axes(scaled(places, penalty, MOST_ITERATIONS), weights)
    places = np.pad(places[:, :n_latent], ((0, 0), (0, max(0, n_latent - places.shape[1]))))
    places = scaled(places, 0.0)
    return places - weights @ places


def _along_axes(points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred, and turned so that their principal axes are those of the coordinates, in order."""
    centred = points - weights @ points
    _, lengths, axes = np.linalg.svd(centred * np.sqrt(weights)[:, None], full_matrices=False)
    turned: NDArray[np.float64] = centred @ axes[lengths > 1e-6 * lengths[0]].T
    return turned
