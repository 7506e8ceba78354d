"""What each cluster holds, in a table."""

from __future__ import annotations

import pandas as pd


def cluster_table(
    clusters: pd.Series, names: pd.Index, known: pd.Series, labels: pd.Series | None
) -> pd.DataFrame:
    """Clusters with their samples and the label that is most frequent in each.

    Parameters
    ----------
    clusters : Series of shape (n_samples,)
        Cluster of each sample; missing for one without a place.
    names : Index of n_clusters entries
        Of all clusters, in order.
    known : Series of shape (n_known,)
        Clusters of samples that may have a label: the same, or those of a reference map.
    labels : Series of shape (n_known,), optional
        Their labels; missing where there is none.

    Returns
    -------
    table : DataFrame of n_clusters rows
        ``cluster``, ``samples``; with labels also ``labelled``, the number of samples with one,
        ``label``, the most frequent (the first by name of several), and its ``share`` of them.

    Examples
    --------
    >>> clusters = pd.Series([0, 0, 0, 1])
    >>> labels = pd.Series(["GBR", "GBR", "YRI", None])
    >>> cluster_table(clusters, pd.RangeIndex(3), clusters, labels)
       cluster  samples  labelled label     share
    0        0        3         3   GBR  0.666667
    1        1        1         0  None       NaN
    2        2        0         0  None       NaN
    """
    table = pd.DataFrame(
        {
            "cluster": names,
            "samples": clusters.value_counts().reindex(names, fill_value=0).to_numpy(),
        }
    )
    if labels is None:
        return table
    counts = pd.crosstab(known, labels).reindex(names, fill_value=0)
    labelled = counts.sum(axis=1)
    some = labelled > 0
    first = counts.idxmax(axis=1) if counts.shape[1] else pd.Series(index=names, dtype=object)
    table["labelled"] = labelled.to_numpy()
    table["label"] = first.astype(object).where(some, None).to_numpy()
    table["share"] = (counts.max(axis=1) / labelled.where(some)).to_numpy()
    return table
