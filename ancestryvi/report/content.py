"""What a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from numpy.typing import ArrayLike

from ancestryvi.report.table import COORDINATES


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What a report shows; a section without content is left out.

    Parameters
    ----------
    title : str
        Heading of the report.
    table : DataFrame of shape (n_samples, n_columns)
        Embedding table: ``sample_id``, the coordinates (NaN for samples that were not placed),
        ``cluster``, ``probability``, the label columns and any numeric column to colour by, such
        as ``call_rate``. What ``spread`` and ``entropy`` mean is explained where they are given.
    label_columns : sequence of str
        Columns of the table that hold labels. ``metrics`` are taken to be against the first, and
        the first usable one colours the map.
    probabilities : DataFrame of shape (n_samples, n_clusters), optional
        Probability of each cluster, rows as in the table, columns the names of the clusters; NaN
        for samples that were not placed.
    coordinates : tuple of (str, str), default=("ddvi1", "ddvi2")
        Columns of the horizontal and the vertical coordinate.
    command : str, optional
        Command line that made the map.
    n_variants : int, optional
        Variants that the principal components were computed from.
    n_components : int, optional
        Principal components that the model was given.
    scree : array-like of shape (n_computed,), optional
        Share of the variance explained by each principal component, in [0, 1].
    history : mapping of str to sequence of float
        Curves by epoch, in nats where they are terms of the ELBO.
    qc : DataFrame, optional
        Columns ``scope``, ``step``, ``before``, ``dropped``, ``kept``, ``detail``.
    metrics : mapping of str to float, optional
        Scores of `ancestryvi.evaluate.clustering_metrics` and `ancestryvi.evaluate.map_metrics`.
    provenance : mapping of str to object
        Versions, parameters, inputs with checksums; may be nested.
    notes : sequence of str
        Warnings in words, shown at the top.
    voted : bool, default=False
        Whether probabilities are votes of the nearest samples, not those of a model.
    background : DataFrame, optional
        Embedding table of a reference map on which the samples were projected.
    """

    title: str
    table: pd.DataFrame
    label_columns: Sequence[str] = ()
    probabilities: pd.DataFrame | None = None
    coordinates: tuple[str, str] = COORDINATES
    command: str | None = None
    n_variants: int | None = None
    n_components: int | None = None
    scree: ArrayLike | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    qc: pd.DataFrame | None = None
    metrics: Mapping[str, float] | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    voted: bool = False
    background: pd.DataFrame | None = None
