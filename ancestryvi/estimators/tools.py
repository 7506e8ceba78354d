"""The ordinary tools: PCA, t-SNE or UMAP for the map, and clusters by the usual algorithms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.manifold import TSNE
from sklearn.mixture import GaussianMixture
from sklearn.utils.extmath import svd_flip

from ancestryvi.estimators.tool_parts import Axes, Mixture, Neighbours, by_blocks

MAPS = ("pca", "tsne", "umap")
CLUSTERERS = ("kmeans", "mixture", "ward", "hdbscan", "leiden")

MOST_PAIRED = 10_000
"""Samples that Ward and HDBSCAN compare pair by pair; see `_of_some`."""

N_SIZES = 16
"""Smallest cluster sizes that HDBSCAN is tried with."""

MIN_VARIANCE = 1e-6
"""What the mixture adds to variances, in units of the mean variance."""


# --------------------------------------------------------------------------------- a fitted tool


@dataclass(frozen=True)
class FittedTool:
    """A map with clusters. Rows of features with NaN have no place: all NaN.

    Parameters
    ----------
    map_name : {"pca", "tsne", "umap"}
    clusterer : {"kmeans", "mixture", "ward", "hdbscan", "leiden"}
    map : Axes or Neighbours
        From features to places. t-SNE and UMAP place samples by the nearest training samples.
    clusters : Neighbours or Mixture
        From features, or places where `on_map`, to probabilities.
    centers : ndarray of shape (n_clusters, n_components)
        On the map: means of the components, or of the samples of each cluster.
    weights : ndarray of shape (n_clusters,)
        Of the components, or shares of the samples.
    """

    map_name: str
    clusterer: str
    map: Axes | Neighbours
    clusters: Neighbours | Mixture
    centers: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def n_clusters(self) -> int:
        """Number of clusters; HDBSCAN and Leiden come as near as they can to the one asked for."""
        return len(self.weights)

    @property
    def on_map(self) -> bool:
        """Whether clusters are those of places on the map; if not, of features."""
        return _on_map(self.map_name, self.clusterer)

    @property
    def learned(self) -> bool:
        """Clusters are always learned."""
        return True

    def place(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places on the map, of shape (n_samples, n_components).

        t-SNE and UMAP have no rule for new samples: these get the mean of the 15 nearest training
        samples, weighted by inverse distance. A training sample keeps its place.
        """
        if isinstance(self.map, Neighbours):
            return self.map.at(features)
        return by_blocks(self.map.at, features, (self.centers.shape[1],))

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each cluster, of shape (n_samples, n_clusters).

        Responsibilities of a mixture; else votes of the 15 nearest training samples, weighted by
        inverse distance, so that a training sample is sure of its own cluster.
        """
        return self.clusters.at(self.place(features) if self.on_map else features)

    def spread(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """NaN, of shape (n_samples,): there is no posterior."""
        return np.full(len(features), np.nan)

    def decode(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features at places of a linear map, of shape (n_samples, n_features)."""
        assert isinstance(self.map, Axes)
        return z @ self.map.axes + self.map.mean

    def elbo(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density of the features under the mixture, nats, shape (n_samples,)."""
        assert isinstance(self.clusters, Mixture)
        return self.clusters.log_density(features)

    def draw_samples(
        self, n_samples: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Features drawn from the mixture, and the component of each."""
        assert isinstance(self.clusters, Mixture)
        return self.clusters.draw(n_samples, np.random.RandomState(seed))

    def keep_clusters(self, order: NDArray[np.intp]) -> FittedTool:
        """A tool with these clusters alone, in this order.

        Samples of the others are shared out to the clusters kept, as new samples are.
        """
        weights = self.weights[order]
        return replace(
            self,
            clusters=self.clusters.keep(order),
            centers=self.centers[order],
            weights=weights / weights.sum(),
        )

    def record(self) -> dict[str, Any]:
        """What `restore` needs besides `arrays`; JSON."""
        return {"map_name": self.map_name, "clusterer": self.clusterer}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array, by name."""
        result = {"centers": self.centers, "weights": self.weights}
        for name in ("map", "clusters"):
            part = getattr(self, name)
            for field in fields(part):
                result[f"{name}.{field.name}"] = getattr(part, field.name)
        return result

    @classmethod
    def restore(cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedTool:
        """The tool that `record` and `arrays` describe."""
        kinds: dict[str, type[Any]] = {
            "map": Axes if record["map_name"] == "pca" else Neighbours,
            "clusters": Mixture if record["clusterer"] == "mixture" else Neighbours,
        }
        parts = {
            name: kind(*(arrays[f"{name}.{field.name}"] for field in fields(kind)))
            for name, kind in kinds.items()
        }
        return cls(
            record["map_name"],
            record["clusterer"],
            parts["map"],
            parts["clusters"],
            arrays["centers"],
            arrays["weights"],
        )


def _on_map(map_name: str, clusterer: str) -> bool:
    """PCA shows what it clusters, all of it; Leiden has a graph of its own."""
    return map_name != "pca" and clusterer != "leiden"


# --------------------------------------------------------------------------------------- fitting


def fit_tool(
    features: NDArray[np.float64],
    *,
    map_name: str,
    clusterer: str,
    n_clusters: int,
    n_components: int,
    random: np.random.RandomState,
) -> FittedTool:
    """Fit a map and clusters.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Finite, in units of their own: they are not scaled. At least 2 samples.
    map_name : {"pca", "tsne", "umap"}
    clusterer : {"kmeans", "mixture", "ward", "hdbscan", "leiden"}
        What makes clusters: of all features with PCA, of the map with t-SNE and UMAP; Leiden always
        of the graph of nearest neighbours among features.
    n_clusters : int
        No more than there are distinct samples are found. HDBSCAN and Leiden come as near to it as
        their own parameter lets them.
    n_components : int
        Dimension of the map.
    random : RandomState

    Raises
    ------
    ValueError
        If t-SNE is to have more than 3 dimensions.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> features, _ = make_blobs(60, centers=3, n_features=5, random_state=0)
    >>> tool = fit_tool(
    ...     features,
    ...     map_name="pca",
    ...     clusterer="ward",
    ...     n_clusters=3,
    ...     n_components=2,
    ...     random=np.random.RandomState(0),
    ... )
    >>> tool.place(features).shape, tool.probabilities(features).shape
    ((60, 2), (60, 3))
    """
    fitted_map: Axes | Neighbours = principal_axes(features, n_components)
    if map_name != "pca":
        fitted_map = neighbour_map(features, map_name, n_components, random)
    embedding = fitted_map.at(features)
    space = embedding if _on_map(map_name, clusterer) else features
    clusters: Neighbours | Mixture
    if clusterer == "mixture":
        clusters = fit_mixture(space, n_clusters, random, full=map_name != "pca")
        centers = clusters.means if map_name != "pca" else fitted_map.at(clusters.means)
        weights = clusters.weights
    else:
        clusters = Neighbours.voting(space, cluster(space, clusterer, n_clusters, random))
        shares = clusters.at(space)
        weights = shares.mean(axis=0)
        centers = shares.T @ embedding / shares.sum(axis=0)[:, None]
    return FittedTool(map_name, clusterer, fitted_map, clusters, centers, weights)


def principal_axes(features: NDArray[np.float64], n_components: int) -> Axes:
    """The first principal axes of the features, with scikit-learn's signs."""
    mean = features.mean(axis=0)
    left, lengths, axes = np.linalg.svd(features - mean, full_matrices=False)
    axes = svd_flip(left, axes, u_based_decision=False)[1]
    rounding = np.finfo(float).eps * max(features.shape) * np.linalg.norm(features)
    found = axes[lengths > rounding][:n_components]
    return Axes(mean, np.pad(found, ((0, n_components - len(found)), (0, 0))))


def neighbour_map(
    features: NDArray[np.float64],
    name: str,
    n_components: int,
    random: np.random.RandomState,
) -> Neighbours:
    """t-SNE or UMAP of the distinct samples, which new samples can be placed by."""
    if name == "tsne" and n_components > 3:
        raise ValueError(
            f"t-SNE maps have 1, 2 or 3 dimensions, not {n_components}; set n_components to 2, or "
            "choose UMAP."
        )
    distinct = np.unique(features, axis=0)
    start = principal_axes(distinct, n_components).at(distinct)
    if len(distinct) < n_components + 3 or not start.any():  # too few, or too alike, for neighbours
        return Neighbours(distinct, start)
    fit = fit_tsne if name == "tsne" else fit_umap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Neighbours(distinct, fit(distinct, start, random).astype(np.float64))


def fit_tsne(
    rows: NDArray[np.float64], start: NDArray[np.float64], random: np.random.RandomState
) -> NDArray[np.float64]:
    """t-SNE from principal components, which are brought to the size that it starts from."""
    start = start / start[:, 0].std()
    start[:, ~start.any(axis=0)] = random.normal(size=(len(rows), 1))  # or they stay at 0
    return TSNE(
        start.shape[1],
        perplexity=min(30.0, max(1.0, (len(rows) - 1) / 3)),
        init=1e-4 * start,
        learning_rate="auto",
        random_state=random,
    ).fit_transform(rows)


def fit_umap(
    rows: NDArray[np.float64], start: NDArray[np.float64], random: np.random.RandomState
) -> NDArray[np.float64]:
    """UMAP with its own defaults."""
    from umap import UMAP  # seconds

    return UMAP(
        n_neighbors=min(15, len(rows) - 1),
        n_components=start.shape[1],
        random_state=random,
        n_jobs=1,  # what a seed makes of it anyway
    ).fit_transform(rows)


def fit_mixture(
    rows: NDArray[np.float64], n_clusters: int, random: np.random.RandomState, *, full: bool
) -> Mixture:
    """A mixture of Gaussians, in units in which the mean variance is 1.

    With full covariances on a map; diagonal ones on many PCs, where a cluster has fewer samples
    than a covariance has entries.
    """
    centre = rows.mean(axis=0)
    unit = float(np.sqrt(rows.var(axis=0).mean())) or 1.0
    mixture = GaussianMixture(
        min(n_clusters, len(np.unique(rows, axis=0))),
        covariance_type="full" if full else "diag",
        reg_covar=MIN_VARIANCE,
        max_iter=500,
        n_init=5,
        random_state=random,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit((rows - centre) / unit)
    covariances = mixture.covariances_
    scales = np.linalg.cholesky(covariances) if full else np.sqrt(covariances)
    return Mixture(mixture.weights_, mixture.means_ * unit + centre, scales * unit)


def cluster(
    rows: NDArray[np.float64], name: str, n_clusters: int, random: np.random.RandomState
) -> NDArray[np.int64]:
    """A cluster for each row, from 0 without gaps, by any clusterer but the mixture."""
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    n_clusters = min(n_clusters, len(distinct))
    if n_clusters == 1:
        return np.zeros(len(rows), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "leiden":
            from ancestryvi.estimators.leiden import leiden  # imports UMAP: seconds

            return leiden(distinct, n_clusters, random)[inverse.reshape(-1)]
        if name == "kmeans":
            labels = KMeans(n_clusters, n_init=10, random_state=random).fit_predict(rows)
            return np.unique(labels, return_inverse=True)[1]
        return _of_some(ward if name == "ward" else hdbscan, rows, n_clusters, random)


def _of_some(
    function: Callable[[NDArray[np.float64], int], NDArray[np.int64]],
    rows: NDArray[np.float64],
    n_clusters: int,
    random: np.random.RandomState,
) -> NDArray[np.int64]:
    """Clusters of all rows from those of `MOST_PAIRED` at random, the rest by their votes.

    Time or memory is quadratic. Of the other ways, a graph of neighbours costs scikit-learn as much
    where it is in pieces, and centres of KMeans would stand for any number of samples alike.
    """
    labels = np.full(len(rows), -1, dtype=np.int64)
    if len(rows) <= MOST_PAIRED:
        labels[:] = function(rows, n_clusters)
    else:
        some = random.choice(len(rows), MOST_PAIRED, replace=False)
        labels[some] = function(rows[some], n_clusters)
    outside = labels < 0
    if outside.any():
        known = Neighbours.voting(rows[~outside], labels[~outside])
        labels[outside] = known.at(rows[outside]).argmax(axis=1)
    return labels


def ward(rows: NDArray[np.float64], n_clusters: int) -> NDArray[np.int64]:
    """Ward's clusters."""
    return AgglomerativeClustering(n_clusters, linkage="ward").fit_predict(rows)


def hdbscan(rows: NDArray[np.float64], n_clusters: int) -> NDArray[np.int64]:
    """HDBSCAN's clusters, -1 for noise, at the smallest size that makes about as many.

    Sizes are tried from 2 to half the samples; of two whose numbers of clusters are as near, that
    with more clusters is taken. Noise alone is one cluster.
    """
    best, rank = np.zeros(len(rows), dtype=np.int64), (abs(1 - n_clusters), -1)
    for size in np.unique(np.geomspace(2, max(2, len(rows) // 2), N_SIZES).astype(int)):
        labels = HDBSCAN(min_cluster_size=int(size), copy=True).fit_predict(rows)
        n_found = int(labels.max()) + 1
        if n_found > 0 and (abs(n_found - n_clusters), -n_found) < rank:
            best, rank = labels.astype(np.int64), (abs(n_found - n_clusters), -n_found)
    return best
