"""`AncestryTool`: the ordinary tools, a map and clusters on top of it, by name."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestryvi.estimators.base import AncestryEstimator
from ancestryvi.estimators.tools import CLUSTERERS, MAPS, FittedTool, fit_tool
from ancestryvi.preprocess import GenotypePCA

TOOLS = tuple(
    f"{map_name}-{clusterer}"
    for map_name in MAPS
    for clusterer in CLUSTERERS
    if (map_name, clusterer) != ("tsne", "leiden")  # the clusters of the other two, and slow
)


class AncestryTool(AncestryEstimator):
    """Map and clusters of ancestry by what users run today, with the face of `AncestryDDVI`.

    Parameters
    ----------
    method : str, default="umap-kmeans"
        A map ("pca", "tsne", "umap"), a dash and clusters ("kmeans", "mixture", "ward", "hdbscan",
        "leiden", but not with "tsne"). Clusters are those of the map, with "pca" those of all
        features; Leiden's are those of the graph of nearest neighbours among features, as in
        scanpy. HDBSCAN and Leiden come as near to `n_clusters` as their own parameter lets them.
    n_clusters : int, default=20
    n_components : int, default=2
        Dimension of the map.
    input, pca, random_state
        As for `AncestryDDVI`.

    Attributes
    ----------
    embedding_, labels_, cluster_centers_, weights_, n_clusters_
        As for `AncestryDDVI`.
    elbo_ : float
        With "pca-mixture" only, and exact: mean log density of the features, in nats.
    pca_, input_, n_features_in_, feature_names_in_
        As for `AncestryDDVI`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(90, centers=3, n_features=5, random_state=0)
    >>> model = AncestryTool("pca-ward", n_clusters=3, random_state=0)
    >>> model.fit_transform(X).shape, model.predict_proba(X).shape
    ((90, 2), (90, 3))
    """

    fitted_type = FittedTool

    def __init__(
        self,
        method: str = "umap-kmeans",
        n_clusters: int = 20,
        *,
        n_components: int = 2,
        input: str = "auto",
        pca: GenotypePCA | None = None,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.input = input
        self.pca = pca
        self.random_state = random_state

    @property
    def map_name(self) -> str:
        """What makes the map."""
        return self.method.partition("-")[0]

    @property
    def voted(self) -> bool:
        """Whether probabilities are votes: for all clusters but those of a mixture."""
        return not self.method.endswith("mixture")

    def _can(self, ability: str) -> bool:
        if ability == "decode":
            return self.map_name == "pca"
        return ability in ("bound", "samples") and self.method == "pca-mixture"

    def _takes_labels(self) -> bool:
        return False

    def _learn(
        self,
        features: NDArray[np.float64],
        random: np.random.RandomState,
        labels: NDArray[np.int64] | None,
    ) -> FittedTool:
        map_name, _, clusterer = self.method.partition("-")
        return fit_tool(
            features,
            map_name=map_name,
            clusterer=clusterer,
            n_clusters=self.n_clusters,
            n_components=self.n_components,
            random=random,
        )

    def _check_parameters(self) -> None:
        self._check_choice("method", TOOLS)
        for name in ("n_clusters", "n_components"):
            self._check_range(name, Integral, 1)
        self._check_choice("input", ("auto", "genotypes", "features"))
