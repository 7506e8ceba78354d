"""Clusters of features before any network is trained: the best of several mixtures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from ancestryvi.estimators.leiden import communities, mutual_graph
from ancestryvi.estimators.tool_parts import Mixture

N_NEIGHBOURS = 8
MOST_NEIGHBOURS = 15
"""Nearest samples that smoothing takes the mean with, and that judge clusters; half a cluster
where that is less."""

PSEUDO_SAMPLES = 10.0
"""Samples of the common variance that every cluster is given, so that a small one does not shrink
onto its few samples."""

MIN_VARIANCE = 1e-6
"""Least variance of a cluster, in units of the mean variance of the features."""

MAX_ITERATIONS = 300
TOLERANCE = 1e-4
"""EM ends when the log-likelihood changes less, in nats per sample."""

MOST_STARTED = 3_000
MOST_FITTED = 20_000
"""Samples that starts are made from, and that EM sees: a random choice of more than these, so that
memory and time are bounded."""

MOST_CLUSTERS = 100
PATIENCE = 8
"""`choose_n_clusters` tries no more, and stops after so many without improvement."""


def fit_feature_mixture(features: NDArray[np.float64], n_clusters: int) -> Mixture:
    """A mixture of Gaussians with diagonal covariances, the best found from two starts.

    EM climbs to the nearest of many peaks, so where it starts decides what it finds. The starts are
    Ward's clusters of means over nearest neighbours, and Leiden's communities of the graph of
    neighbours: both follow where samples are dense. Of the two mixtures that they lead to, the one
    is taken whose samples have more of their nearest ones in the same cluster. The likelihood would
    favour clusters that cut large populations and join small ones, and starts from KMeans or Ward
    on the features themselves lead there. Random choices are the same every time, so that clusters
    do not depend on a seed.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        At least 2 samples; centred, in one unit for all features.
    n_clusters : int
        No more than there are samples.

    References
    ----------
    Ding and He (2004), K-nearest-neighbor consistency in data clustering, ACM SAC, 584-589.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> features, truth = make_blobs(90, centers=3, n_features=5, random_state=0)
    >>> features = features - features.mean(axis=0)
    >>> mixture = fit_feature_mixture(features, 3)
    >>> found = mixture.at(features).argmax(axis=1)
    >>> [len(np.unique(found[truth == k])) for k in range(3)]
    [1, 1, 1]
    """
    random = np.random.RandomState(0)
    rows = some_rows(features, MOST_FITTED, random)
    if n_clusters == 1:
        return expectation_maximisation(rows, np.zeros(len(rows), dtype=np.int64), 1)[0]
    few = some_rows(rows, MOST_STARTED, random)
    nearest = _nearest(few, _n_within(len(few), n_clusters, MOST_NEIGHBOURS))
    best, highest = None, -np.inf
    for start in _starts(few, nearest, n_clusters, random):
        mixture, _ = expectation_maximisation(few, start, n_clusters)
        found = consistency(mixture.at(few).argmax(axis=1), nearest[:, 1:])
        if found > highest:
            best, highest = mixture, found
    assert best is not None
    if len(few) < len(rows):
        best, _ = expectation_maximisation(rows, best.at(rows).argmax(axis=1), n_clusters)
    return best


def choose_n_clusters(features: NDArray[np.float64]) -> int:
    """The number of clusters of smallest Bayesian information criterion; 1 without structure.

    Mixtures as in `fit_feature_mixture`, started from cuts of two Ward trees.

    Parameters
    ----------
    features
        As for `fit_feature_mixture`.

    References
    ----------
    Schwarz (1978), Annals of Statistics 6(2):461-464; for mixtures Fraley and Raftery (2002),
    JASA 97:611-631.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(200, 3))
    >>> groups = noise + 9.0 * np.eye(4)[np.arange(200) % 4, :3]
    >>> [choose_n_clusters(x - x.mean(axis=0)) for x in (noise, groups)]
    [1, 4]
    """
    rows = some_rows(features, MOST_STARTED, np.random.RandomState(0))
    n_samples, n_features = rows.shape
    if n_features == 0 or n_samples < 3:
        return 1
    smoothed = _smoothed(rows, _nearest(rows, N_NEIGHBOURS))
    trees = [linkage(pdist(space), "ward") for space in (rows, smoothed)]
    best, lowest, since = 1, np.inf, 0
    for n_clusters in range(1, min(MOST_CLUSTERS, n_samples) + 1):
        criterion = np.inf
        for tree in trees:
            labels = fcluster(tree, n_clusters, "maxclust").astype(np.int64) - 1
            mixture, fit = expectation_maximisation(rows, labels, n_clusters)
            sizes = mixture.weights * n_samples
            free = sizes / (sizes + PSEUDO_SAMPLES)  # of a variance that is drawn to the common one
            n_parameters = n_clusters - 1 + n_features * (n_clusters + 1 + (free.sum() - 1))
            criterion = min(criterion, n_parameters * np.log(n_samples) - 2 * n_samples * fit)
        if criterion < lowest:
            best, lowest, since = n_clusters, criterion, 0
        else:
            since += 1
            if since == PATIENCE:
                break
    return best


def expectation_maximisation(
    rows: NDArray[np.float64], labels: NDArray[np.int64], n_clusters: int
) -> tuple[Mixture, float]:
    """The mixture that EM reaches from a partition, and its log-likelihood in nats per sample.

    Variances are those of largest posterior density when each cluster has `PSEUDO_SAMPLES` samples
    of the common variance besides its own. That is the geometric mean over clusters, each weighted
    by how far its variance is its own, as in empirical Bayes; the pooled variance would be that of
    the widest clusters, beside which the narrow ones vanish. A cluster that no sample is in stays
    empty.

    References
    ----------
    Smyth (2004), Statistical Applications in Genetics and Molecular Biology 3(1):3, for a common
    variance by the mean of logarithms.
    """
    n_samples = len(rows)
    floor = MIN_VARIANCE * (float(rows.var(axis=0).mean()) or 1.0)
    squares = rows**2
    shares = np.eye(n_clusters)[labels]
    common, before = None, -np.inf
    for _ in range(MAX_ITERATIONS):
        sizes = shares.sum(axis=0) + np.finfo(float).tiny
        means = shares.T @ rows / sizes[:, None]
        scatter = np.maximum(shares.T @ squares - sizes[:, None] * means**2, 0.0)
        if common is None:
            common = scatter.sum(axis=0) / n_samples
        variances = (scatter + PSEUDO_SAMPLES * common) / (sizes + PSEUDO_SAMPLES)[:, None] + floor
        own = sizes / (sizes + PSEUDO_SAMPLES)
        common = np.exp(own @ np.log(variances) / own.sum())
        weight, linear, constant = quadratic_form(sizes / sizes.sum(), means, variances)
        joint = squares @ weight + rows @ linear + constant
        highest = joint.max(axis=1, keepdims=True)
        shares = np.exp(joint - highest)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        fit = float((highest + np.log(total)).mean())
        if abs(fit - before) < TOLERANCE:
            break
        before = fit
    return Mixture(sizes / sizes.sum(), means, np.sqrt(variances)), fit


def consistency(labels: NDArray[np.int64], nearest: NDArray[np.intp]) -> float:
    """Share of the nearest samples of all, one row for each, that are in the same cluster.

    Examples
    --------
    >>> nearest = np.array([[1], [0], [3], [2]])
    >>> [consistency(np.array(labels), nearest) for labels in ([0, 0, 1, 1], [0, 0, 0, 1])]
    [1.0, 0.5]
    """
    return float((labels[nearest] == labels[:, None]).mean())


def quadratic_form(
    weights: NDArray[np.float64], means: NDArray[np.float64], variances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The a, b and c of log p(x, k) = ``x**2 @ a + x @ b + c``; a, b (n_features, n_clusters)."""
    log_unit = 0.5 * (np.log(2 * np.pi * variances) + means**2 / variances).sum(axis=1)
    return -0.5 / variances.T, (means / variances).T, np.log(weights) - log_unit


def some_rows(
    rows: NDArray[np.float64], most: int, random: np.random.RandomState
) -> NDArray[np.float64]:
    """All rows, or a random choice of so many."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(random.choice(len(rows), most, replace=False))]


def _starts(
    rows: NDArray[np.float64],
    nearest: NDArray[np.intp],
    n_clusters: int,
    random: np.random.RandomState,
) -> Iterator[NDArray[np.int64]]:
    """Partitions into so many clusters, given each sample and its nearest ones."""
    n_neighbours = _n_within(len(rows), n_clusters, N_NEIGHBOURS)
    smoothed = _smoothed(rows, nearest[:, : n_neighbours + 1])
    yield fcluster(linkage(pdist(smoothed), "ward"), n_clusters, "maxclust").astype(int) - 1
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) <= n_clusters:
        return
    found = communities(mutual_graph(distinct), n_clusters, random)
    if found.max() + 1 == n_clusters:
        yield found[inverse.reshape(-1)]


def _n_within(n_samples: int, n_clusters: int, most: int) -> int:
    """So many neighbours, or half a cluster of mean size where that is less."""
    return int(np.clip(n_samples // (2 * n_clusters), 1, most))


def _nearest(rows: NDArray[np.float64], n_neighbours: int) -> NDArray[np.intp]:
    """Each sample and its nearest ones."""
    search = NearestNeighbors(n_neighbors=min(n_neighbours + 1, len(rows))).fit(rows)
    index: NDArray[np.intp] = search.kneighbors(rows, return_distance=False)
    return index


def _smoothed(rows: NDArray[np.float64], nearest: NDArray[np.intp]) -> NDArray[np.float64]:
    """Means over each sample and its nearest ones, taken twice."""
    return rows[nearest].mean(axis=1)[nearest].mean(axis=1)
