"""The files of a run: tables, figures, report, AnnData, provenance."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi import __version__
from ancestryvi.cli.clusters import cluster_table
from ancestryvi.cli.inputs import Cohort
from ancestryvi.evaluate import (
    assignment_entropy,
    clustering_metrics,
    map_metrics,
    reference_accuracy,
    reference_line,
)
from ancestryvi.report import (
    ReportContent,
    embedding_figure,
    nested_group,
    save_figure,
    trailing_labels,
    write_report,
)

OUTPUTS = (
    "embedding.tsv",
    "responsibilities.tsv",
    "clusters.tsv",
    "pcs.tsv",
    "qc.tsv",
    "embedding.png",
    "embedding.pdf",
    "report.html",
    "embedding.h5ad",
    "metrics.json",
    "provenance.json",
    "model",
)
"""Everything that a verb may write into its output directory."""

MODULES = {
    "anndata": "anndata",
    "cyvcf2": "cyvcf2",
    "distributed": "distributed",
    "h5py": "h5py",
    "igraph": "igraph",
    "isal": "isal",
    "matplotlib": "matplotlib",
    "numcodecs": "numcodecs",
    "numpy": "numpy",
    "pandas": "pandas",
    "Pgenlib": "pgenlib",
    "plotly": "plotly",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "torch": "torch",
    "umap-learn": "umap",
    "zarr": "zarr",
}
"""Packages whose versions are recorded if a run has loaded them, and their modules."""


SHOWN = (
    "purity",
    "homogeneity",
    "completeness",
    "nmi",
    "ari",
    "ami",
    "n_labelled",
    "trustworthiness",
    "trustworthiness_neighbors",
    "knn_accuracy",
    "knn_neighbors",
)
"""The metrics that the report tabulates."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `embed` and `project` have in common when the model has spoken.

    `labels` are indices of clusters, -1 for samples without a place; `class_names` are the names
    of the clusters of a model that was fitted with labels, and `fitted_labels` says whether it was
    with these.
    """

    title: str
    cohort: Cohort
    map_name: str
    embedding: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    qc: pd.DataFrame
    spread: NDArray[np.float64]
    voted: bool = False
    class_names: Sequence[str] | None = None
    fitted_labels: bool = False
    call_rate: NDArray[np.float64] | None = None
    variants: pd.DataFrame | None = None
    loadings: NDArray[np.float32] | None = None
    scree: NDArray[np.float64] | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    background: pd.DataFrame | None = None

    @property
    def coordinates(self) -> list[str]:
        """Names of the columns that hold the map."""
        return [f"{self.map_name}{i + 1}" for i in range(self.embedding.shape[1])]

    def table(self) -> pd.DataFrame:
        """The embedding table: one row per sample, in input order."""
        if self.class_names is None:
            clusters: pd.Series = pd.Series(range(self.probabilities.shape[1]), dtype="Int64")
        else:
            clusters = pd.Series(self.class_names, dtype="string")
        columns = {
            "sample_id": self.cohort.sample_ids,
            **dict(zip(self.coordinates, self.embedding.T, strict=True)),
            "cluster": clusters.reindex(self.labels).array,  # there is no -1: missing
            "probability": self.probabilities.max(axis=1),
            "spread": self.spread,
            "entropy": assignment_entropy(self.probabilities),
        }
        table = pd.DataFrame(columns)
        for name in self.cohort.labels.columns:
            table[name] = self.cohort.labels[name].to_numpy()
        return table

    def cluster_table(self, table: pd.DataFrame) -> pd.DataFrame:
        """What each cluster holds, by the labels of the reference map if it has some."""
        known, column = table, self.cohort.label_column
        if self.background is not None and (kept := trailing_labels(self.background)):
            known, column = self.background, kept[0]
        numbers = pd.RangeIndex(self.probabilities.shape[1])
        names = numbers if self.class_names is None else pd.Index(self.class_names)
        labels = None if column is None else known[column]
        return cluster_table(table["cluster"], names, known["cluster"], labels)

    def responsibilities(self, prefix: str = "") -> pd.DataFrame:
        """Probability of every cluster, by its class or by its number after the prefix."""
        numbers = [f"{prefix}{k}" for k in range(self.probabilities.shape[1])]
        return pd.DataFrame(self.probabilities, columns=list(self.class_names or numbers))

    def metrics(self) -> dict[str, Any] | None:
        """Scores of clusters and map against the labels; None without labels."""
        column = self.cohort.label_column
        if column is None:
            return None
        placed = self.labels >= 0
        truth = self.cohort.labels[column].to_numpy(object)[placed]
        found: dict[str, Any] = {
            "label_column": column,
            "labels_were_fitted": self.fitted_labels,
            "n_clusters": self.probabilities.shape[1],
        }
        found |= clustering_metrics(truth, self.labels[placed])
        found |= map_metrics(self.embedding[placed], self.scores[placed], truth)
        if self.background is not None:
            found |= self._among_reference(truth, placed)
        group = nested_group(self.cohort.labels, self.cohort.label_columns)
        if group is not None:
            groups = self.cohort.labels[group].to_numpy(object)[placed]
            found[f"perfect_split_into_{group}"] = reference_line(truth, groups)
        return found

    def _among_reference(
        self, truth: NDArray[np.object_], placed: NDArray[np.bool_]
    ) -> dict[str, float]:
        """Neighbour accuracy by the labels of the reference map; NaN if it has none of these."""
        assert self.background is not None
        column = self.cohort.label_column
        if column not in self.background:
            column = "cluster"
        known = self.background[column]
        if column == "cluster" and self.class_names is None:
            known = pd.Series([None] * len(known))
        places = self.background[self.coordinates]
        return reference_accuracy(self.embedding[placed], truth, places, known)


def write_result(
    directory: Path,
    result: Result,
    provenance: Mapping[str, Any],
    notes: Sequence[str],
) -> dict[str, Any] | None:
    """Write every file but the model; return the metrics."""
    table = result.table()
    ids = table["sample_id"]
    write_tsv(directory / "embedding.tsv", table)
    responsibilities = result.responsibilities("cluster")
    write_tsv(directory / "responsibilities.tsv", pd.concat([ids, responsibilities], axis=1))
    write_tsv(directory / "clusters.tsv", result.cluster_table(table))
    names = [f"PC{i + 1}" for i in range(result.scores.shape[1])]
    scores = pd.DataFrame(result.scores, columns=names)
    write_tsv(directory / "pcs.tsv", pd.concat([ids, scores], axis=1))
    write_tsv(directory / "qc.tsv", result.qc)
    metrics = result.metrics()
    if metrics is not None:
        write_json(directory / "metrics.json", metrics)
    write_json(directory / "provenance.json", provenance)
    _anndata(result, table, provenance).write_h5ad(directory / "embedding.h5ad")

    label_columns = result.cohort.label_columns
    first, second = result.coordinates
    figure = embedding_figure(
        table, label_columns, coordinates=(first, second), background=result.background
    )
    save_figure(figure, directory / "embedding.png")
    save_figure(figure, directory / "embedding.pdf")
    shown = table if result.call_rate is None else table.assign(call_rate=result.call_rate)
    write_report(
        directory / "report.html",
        ReportContent(
            title=result.title,
            table=shown,
            label_columns=label_columns,
            coordinates=(first, second),
            probabilities=result.responsibilities(),
            command=str(provenance["command"]),
            n_variants=None if result.variants is None else len(result.variants),
            n_components=result.scores.shape[1],
            scree=result.scree,
            history=result.history,
            qc=result.qc,
            metrics=None
            if metrics is None
            else {name: metrics[name] for name in SHOWN if name in metrics},
            provenance=provenance,
            notes=notes,
            voted=result.voted,
            background=result.background,
        ),
    )
    return metrics


def provenance_record(
    *,
    inputs: Sequence[str],
    parameters: Mapping[str, Any],
    counts: Mapping[str, Any],
    seconds: Mapping[str, float],
    device: str | None = None,
) -> dict[str, Any]:
    """Versions, parameters, inputs with checksums, and what the run cost.

    `device` is the one that a model was trained on, if it was.
    """
    return {
        "program": "ancestryvi",
        "version": __version__,
        "command": " ".join(["ancestryvi", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": dict(parameters),
        "inputs": [_checksum(Path(path)) for path in inputs],
        "counts": dict(counts),
        "seconds": dict(seconds),
        "peak_memory_mb": round(_peak_bytes() / 2**20),
        **({} if device is None else {"device": device}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {
            name: metadata.version(name)
            for name, module in MODULES.items()
            if module in sys.modules
        },
    }


def _peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _checksum(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a file."""
    if not path.is_file():
        return {"path": str(path)}
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def write_tsv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, sep="\t", index=False, float_format="%.8g")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(_finite(content), indent=1, default=float, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    """The same with None, which JSON has, for NaN, which it has not."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _anndata(result: Result, table: pd.DataFrame, provenance: Mapping[str, Any]) -> Any:
    """The result as AnnData: obs = samples, var = the variants of the components."""
    from anndata import AnnData

    name = result.map_name
    obs = table.set_index("sample_id").drop(columns=result.coordinates)
    own = ("cluster", "probability", "spread", "entropy")
    obs = obs.rename(columns={column: f"{name}_{column}" for column in own})
    obs[f"{name}_cluster"] = obs[f"{name}_cluster"].astype("string").astype("category")
    if result.call_rate is not None:
        obs["call_rate"] = result.call_rate
    for column in result.cohort.labels.columns:
        obs[column] = obs[column].astype("category")
    obs.columns = [str(column).replace("/", "_") for column in obs.columns]
    var = pd.DataFrame(index=pd.Index([], dtype=str))
    varm = {}
    if result.variants is not None and result.loadings is not None:
        keys = result.variants[["contig", "position", "ref", "alt"]].astype(str)
        var = result.variants.set_index(keys.agg(":".join, axis=1))
        varm["PCs"] = result.loadings.T
    obsm = {
        "X_pca": result.scores,
        f"X_{name}": result.embedding,
        f"{name}_responsibilities": result.probabilities,
    }
    uns = {"ancestryvi": json.dumps(provenance, default=float)}
    return AnnData(obs=obs, var=var, obsm=obsm, varm=varm, uns=uns)
