"""Metrics of clusters and maps that need no model, only coordinates and labels.

A missing true label is None, NaN or the integer -1, as in ``fit(X, y)``; such samples are left out.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn import metrics
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from ancestryvi.exceptions import LabelError, SampleError

MAX_QUERY_SAMPLES: Final = 3000
"""Above this number of samples, trustworthiness is averaged over a random subset of this size."""

_BLOCK_ELEMENTS: Final = 4_000_000  # distances held at once: 32 MB, and three such arrays


def clustering_metrics(
    labels_true: Iterable[object], labels_pred: Iterable[object]
) -> dict[str, float]:
    """Agreement of clusters with labels, every score in [0, 1] but ARI and AMI (at most 1).

    Parameters
    ----------
    labels_true : iterable of length n_samples
        Known label of each sample, None, NaN or -1 where there is none.
    labels_pred : iterable of length n_samples
        Cluster of each sample; None or NaN for a sample that was not placed. -1 (the noise of
        HDBSCAN) counts as one more cluster.

    Returns
    -------
    scores : dict
        ``purity`` (the share of samples that carry the commonest label of their cluster),
        ``homogeneity``, ``completeness``, ``nmi`` (arithmetic mean), ``ari``, ``ami``, and
        ``n_labelled``, the number of samples that were scored.

    Raises
    ------
    SampleError
        If the two differ in length.
    LabelError
        If no sample has both a label and a cluster.

    Examples
    --------
    >>> scores = clustering_metrics(["a", "a", "b", "b", None], [0, 0, 0, 1, 1])
    >>> scores["purity"], scores["n_labelled"]
    (0.75, 4)
    """
    true, is_labelled = label_codes(labels_true)
    pred, is_placed = label_codes(labels_pred, missing_code=None)
    if len(true) != len(pred):
        raise SampleError(
            f"{len(true)} labels but {len(pred)} clusters; give one of each per sample."
        )
    kept = is_labelled & is_placed
    if not kept.any():
        raise LabelError(
            f"none of the {len(true)} samples has both a label and a cluster; "
            "check that the ids of the sample table are those of the genotypes."
        )
    true, pred = true[kept], pred[kept]
    homogeneity, completeness, nmi = metrics.homogeneity_completeness_v_measure(true, pred)
    return {
        "purity": float(contingency_matrix(true, pred).max(axis=0).sum() / len(true)),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        "nmi": float(nmi),  # the V-measure is the NMI with the arithmetic mean
        "ari": float(metrics.adjusted_rand_score(true, pred)),
        "ami": float(metrics.adjusted_mutual_info_score(true, pred)),
        "n_labelled": len(true),
    }


def reference_line(labels: Iterable[object], groups: Iterable[object]) -> dict[str, float]:
    """Scores of a perfect split into coarser groups, judged against the finer labels.

    It puts a score into proportion: clusters that only find the superpopulations have a
    completeness of 1 and an NMI that may look high.

    Parameters
    ----------
    labels : iterable of length n_samples
        Fine label (population) of each sample, missing as in `clustering_metrics`.
    groups : iterable of length n_samples
        Coarse label (superpopulation) of each sample, None or NaN where there is none.

    Returns
    -------
    scores : dict
        As `clustering_metrics`.

    Raises
    ------
    SampleError, LabelError
        As `clustering_metrics`.

    Examples
    --------
    >>> scores = reference_line(["GBR", "TSI", "YRI", "LWK"], ["EUR", "EUR", "AFR", "AFR"])
    >>> round(scores["purity"], 3), round(scores["completeness"], 3)
    (0.5, 1.0)
    """
    return clustering_metrics(labels, groups)


def map_metrics(
    embedding: ArrayLike,
    features: ArrayLike,
    labels: Iterable[object] | None = None,
    *,
    n_neighbors: int = 20,
    random_state: int = 0,
) -> dict[str, float]:
    """How well a map keeps the neighbours of the features, and of the labels, in [0, 1].

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_components)
        Coordinates on the map; samples with a NaN coordinate were not placed and are left out.
    features : array-like of shape (n_samples, n_features)
        What the map was made from, usually PC scores.
    labels : iterable of length n_samples, optional
        Known label of each sample, None, NaN or -1 where there is none.
    n_neighbors : int, default=20
        K, lowered to less than half of the samples where there are few.
    random_state : int, default=0
        Seed of the subset over which trustworthiness is averaged when more than
        `MAX_QUERY_SAMPLES` samples were placed. Their neighbours are ranked among all samples,
        so that the subset estimates the full score and memory grows with n_samples only.

    Returns
    -------
    scores : dict
        ``trustworthiness`` (Venna and Kaski, 2001; NaN for fewer than 3 samples) with the K it
        used as ``trustworthiness_neighbors`` and, with labels, ``knn_accuracy``: the share of
        labelled samples whose K nearest labelled neighbours on the map, themselves left out, vote
        for their label (NaN for fewer than 3), with ``knn_neighbors``.

    Raises
    ------
    SampleError
        If the inputs differ in length.

    Examples
    --------
    >>> line = [[0.0], [1.0], [3.0], [10.0], [11.0], [13.0]]
    >>> scores = map_metrics(line, line, ["a", "a", "a", "b", "b", "b"], n_neighbors=1)
    >>> scores["trustworthiness"], scores["knn_accuracy"]
    (1.0, 1.0)
    """
    Z = np.asarray(embedding, dtype=np.float64)
    X = np.asarray(features, dtype=np.float64)
    if len(Z) != len(X):
        raise SampleError(
            f"the map has {len(Z)} samples but the features have {len(X)}; give the same rows."
        )
    is_placed = np.isfinite(Z).all(axis=1)
    k = _lowered(n_neighbors, int(is_placed.sum()))
    scores: dict[str, float] = {
        "trustworthiness": _trustworthiness(X[is_placed], Z[is_placed], k, random_state),
        "trustworthiness_neighbors": k,
    }
    if labels is not None:
        codes, is_labelled = label_codes(labels)
        if len(codes) != len(Z):
            raise SampleError(
                f"the map has {len(Z)} samples but there are {len(codes)} labels; "
                "give one per sample."
            )
        kept = is_placed & is_labelled
        k = _lowered(n_neighbors, int(kept.sum()))
        scores["knn_accuracy"] = _knn_accuracy(Z[kept], codes[kept], k)
        scores["knn_neighbors"] = k
    return scores


def reference_accuracy(
    embedding: ArrayLike,
    labels: Iterable[object],
    reference: ArrayLike,
    reference_labels: Iterable[object],
    *,
    n_neighbors: int = 20,
) -> dict[str, float]:
    """How well samples that were placed on a reference map are labelled by their neighbours there.

    Parameters
    ----------
    embedding, reference : array-like of shape (n_samples, n_components)
        Coordinates of the samples and of those of the map; NaN for one that was not placed.
    labels, reference_labels : iterable of length n_samples
        As for `map_metrics`.
    n_neighbors : int, default=20
        K, lowered to less than half of the labelled reference samples.

    Returns
    -------
    scores : dict
        ``knn_accuracy``, the share of labelled samples whose K nearest labelled reference samples
        vote for their label (NaN without any of either), with ``knn_neighbors``.

    Examples
    --------
    >>> line = [[0.0], [1.0], [3.0], [10.0], [11.0], [13.0]]
    >>> reference_accuracy([[2.0], [9.0]], ["a", "a"], line, ["a", "a", "a", "b", "b", "b"])
    {'knn_accuracy': 0.5, 'knn_neighbors': 2}
    """
    new, old = (np.asarray(points, dtype=np.float64) for points in (embedding, reference))
    own, known = list(labels), list(reference_labels)
    codes, is_labelled = label_codes([*own, *known])
    usable = is_labelled & np.isfinite(np.concatenate([new, old])).all(axis=1)
    of_new, of_old = usable[: len(new)], usable[len(new) :]
    k = _lowered(n_neighbors, int(of_old.sum()))
    accuracy = float("nan")
    if k and of_new.any():
        votes = KNeighborsClassifier(k).fit(old[of_old], codes[len(new) :][of_old])
        accuracy = float(np.mean(votes.predict(new[of_new]) == codes[: len(new)][of_new]))
    return {"knn_accuracy": accuracy, "knn_neighbors": k}


def confidence_interval(values: ArrayLike) -> tuple[float, float]:
    """Mean and half width of the 95 % t-interval, in the unit of the values.

    Parameters
    ----------
    values : array-like of shape (n_seeds,)
        One score per seed.

    Returns
    -------
    mean, half_width : float
        The interval is mean ± half_width; half_width is NaN for a single value.

    Raises
    ------
    ValueError
        If there is no value.

    Examples
    --------
    >>> mean, half_width = confidence_interval([0.8, 0.9])
    >>> round(mean, 2), round(half_width, 3)
    (0.85, 0.635)
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0:
        raise ValueError("0 values have no confidence interval; give one score per seed.")
    if x.size == 1:
        return float(x[0]), float("nan")
    standard_error = x.std(ddof=1) / np.sqrt(x.size)
    return float(x.mean()), float(stats.t.ppf(0.975, x.size - 1) * standard_error)


def label_codes(
    labels: Iterable[object], missing_code: int | None = -1
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Integer codes of any kind of labels, and which are present."""
    values = pd.Series(list(labels), dtype=object)
    is_present = values.notna().to_numpy()
    if missing_code is not None:
        is_present[is_present] = [value != missing_code for value in values[is_present]]
    codes, _ = pd.factorize(values.map(str), sort=True)  # sorted: the order of rows plays no part
    return codes.astype(np.int64), is_present


def _lowered(n_neighbors: int, n_samples: int) -> int:
    """K below half of the samples, where trustworthiness is defined and a vote means something."""
    return max(0, min(n_neighbors, (n_samples - 1) // 2))


def _trustworthiness(
    features: NDArray[np.float64], embedding: NDArray[np.float64], k: int, random_state: int
) -> float:
    """1 minus the normalised excess rank, in the features, of the k neighbours on the map."""
    if k == 0:
        return float("nan")
    n = len(features)
    queries = np.arange(n)
    if n > MAX_QUERY_SAMPLES:
        rng = np.random.default_rng(random_state)
        queries = np.sort(rng.choice(n, MAX_QUERY_SAMPLES, replace=False))
    neighbours = _neighbours(embedding, queries, k)
    excess = 0
    for block in np.array_split(np.arange(len(queries)), -(-len(queries) * n // _BLOCK_ELEMENTS)):
        distances = metrics.pairwise_distances(features[queries[block]], features)
        distances[np.arange(len(block)), queries[block]] = -1.0  # rank 0 is the sample itself
        order = np.argsort(distances, axis=1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(n)[None, :], axis=1)
        rank = np.take_along_axis(ranks, neighbours[block], axis=1)
        excess += int(np.maximum(rank - k, 0).sum())
    return 1.0 - 2.0 * excess / (len(queries) * k * (2.0 * n - 3.0 * k - 1.0))


def _neighbours(
    points: NDArray[np.float64], queries: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """The k nearest other points of each query, also where several points coincide."""
    found = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points[queries])[1]
    is_other = found != queries[:, None]
    is_other[is_other.all(axis=1), -1] = False  # duplicates hid the query: drop the farthest
    return found[is_other].reshape(len(queries), k)


def _knn_accuracy(points: NDArray[np.float64], codes: NDArray[np.int64], k: int) -> float:
    """Share of points whose k nearest others vote for their label (ties: the first by name)."""
    if k == 0:
        return float("nan")
    _, codes = np.unique(codes, return_inverse=True)
    votes = np.zeros((len(points), codes.max() + 1), dtype=np.int64)
    neighbours = _neighbours(points, np.arange(len(points)), k)
    np.add.at(votes, (np.arange(len(points))[:, None], codes[neighbours]), 1)
    return float(np.mean(votes.argmax(axis=1) == codes))
