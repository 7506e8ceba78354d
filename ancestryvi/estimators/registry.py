"""Every method by name: what `--method` and `ancestryvi benchmark` know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ancestryvi.estimators.autoencoder import AncestryAutoencoder
from ancestryvi.estimators.base import AncestryEstimator
from ancestryvi.estimators.ddvi import AncestryDDVI
from ancestryvi.estimators.systems import SYSTEMS
from ancestryvi.estimators.tool import TOOLS, AncestryTool

_WORDS = {
    "pca": "PCA",
    "tsne": "t-SNE",
    "umap": "UMAP",
    "kmeans": "KMeans",
    "mixture": "mixture",
    "ward": "Ward",
    "hdbscan": "HDBSCAN",
    "leiden": "Leiden",
}


@dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes
    ----------
    title, summary : str
        Its name in figures, and what it is in one line.
    make : callable
        From parameters to an unfitted estimator.
    """

    title: str
    summary: str
    make: Callable[..., AncestryEstimator]


def _tool(name: str) -> Method:
    map_name, clusterer = (_WORDS[word] for word in name.split("-"))
    where = "PCs" if "leiden" in name or "pca" in name else "the map"
    summary = f"{map_name} map, {clusterer} clusters of {where}"
    return Method(f"{map_name} + {clusterer}", summary, partial(AncestryTool, name))


METHODS: dict[str, Method] = {
    name: Method(
        system.title,
        system.summary,
        AncestryDDVI if name == "ddvi" else partial(AncestryAutoencoder, name),
    )
    for name, system in SYSTEMS.items()
} | {name: _tool(name) for name in TOOLS}
"""By name."""


def make_estimator(method: str, **parameters: Any) -> AncestryEstimator:
    """The unfitted estimator of a method.

    Parameters
    ----------
    method : str
        A name in `METHODS`.
    **parameters
        Of the estimator, such as `n_clusters` and `random_state`.

    Raises
    ------
    ValueError
        If there is no such method; lists them.
    TypeError
        If its estimator has no such parameter.

    Examples
    --------
    >>> make_estimator("umap-ward", n_clusters=12, random_state=0)
    AncestryTool(method='umap-ward', n_clusters=12, random_state=0)
    """
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}; choose from {', '.join(METHODS)}.")
    return METHODS[method].make(**parameters)
