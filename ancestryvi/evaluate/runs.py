"""Runs of a benchmark: what one is, the folder that keeps them, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.evaluate.metrics import (
    confidence_interval,
)
from ancestryvi.exceptions import OutputError

SCORES: Final = (
    "nmi",
    "ari",
    "ami",
    "purity",
    "homogeneity",
    "completeness",
    "knn_accuracy",
    "trustworthiness",
    "log_density",
    "n_clusters",
    "n_unplaced",
    "seconds",
    "peak_mb",
)
"""What a run is scored by and costs, in the order of the tables."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method fitted with one seed.

    Attributes
    ----------
    method : str
    seed : int
    error : str or None
        Why the run has no result; all that follows is then empty.
    scores : dict of str to float
        `SCORES`: metrics against the labels, of all labelled samples (-1, for samples that the
        method did not place, counts as one more cluster); ``log_density`` is the ELBO or log
        density in nats per sample, NaN for methods without; ``n_clusters`` the clusters found;
        ``seconds`` the wall time of ``fit`` alone; ``peak_mb`` the peak memory of its process.
    embedding : ndarray of shape (n_samples, 2)
    labels : ndarray of shape (n_samples,)
    log : str
        The end of what its process printed.
    estimator : str
        Class of the estimator.
    parameters : dict of str to str
        Its parameters but the seed.
    conditions : dict of str to str
        What all runs of a benchmark have in common: version and fingerprints of the data.
    machine : str
    """

    method: str
    seed: int
    error: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    embedding: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    log: str = ""
    estimator: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""

    def __str__(self) -> str:
        """One line for a person."""
        head = f"{self.method}, seed {self.seed}: "
        if self.error is not None:
            return f"{head}failed, {self.error}"
        s = self.scores
        return f"{head}NMI {s['nmi']:.3f}, {s['seconds']:.1f} s, {s['peak_mb']:,.0f} MB"


class RunFolder:
    """Runs as files ``METHOD-SEED.json``, each written whole.

    Parameters
    ----------
    path : Path
        Made when the first run is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def file_of(self, run: Run) -> Path:
        """Where a run is kept."""
        return self.path / f"{quote(run.method, safe=' ')}-{run.seed}.json"

    def read(self) -> list[Run]:
        """All runs.

        Raises
        ------
        OutputError
            If a file is no run.
        """
        return [_from_json(path) for path in sorted(self.path.glob("*.json"))]

    def write(self, run: Run) -> None:
        """Keep a run, in the place of an earlier one.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        path = self.file_of(run)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(_to_json(run), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror or error}); choose another directory."
            ) from error

    def admit(self, planned: Sequence[Run], conditions: Mapping[str, str], force: bool) -> None:
        """Refuse, or with force remove, runs that cannot stand beside the planned ones.

        Raises
        ------
        OutputError
            If there are such runs.
        """
        by_key = {(run.method, run.seed): run for run in planned}
        for run in self.read():
            differing = _differing(run.conditions, conditions)
            same = by_key.get((run.method, run.seed))
            if same is not None:
                differing += _differing(
                    {"class": run.estimator, **run.parameters},
                    {"class": same.estimator, **same.parameters},
                )
            if not differing:
                continue
            if not force:
                raise OutputError(
                    f"{self.file_of(run)} was made otherwise (not the same: "
                    f"{', '.join(differing)}); choose another directory, or drop such runs and do "
                    "them again with --force (force=True)."
                )
            self.file_of(run).unlink()

    def missing(self, planned: Sequence[Run]) -> list[Run]:
        """The planned runs that have not succeeded yet."""
        done = {(run.method, run.seed) for run in self.read() if run.error is None}
        return [run for run in planned if (run.method, run.seed) not in done]


def _differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    names = [*expected, *(name for name in found if name not in expected)]
    return [name for name in names if found.get(name) != expected.get(name)]


def _to_json(run: Run) -> str:
    record: dict[str, Any] = dict(vars(run))
    record["scores"] = {k: None if np.isnan(v) else v for k, v in run.scores.items()}
    if run.embedding is not None and run.labels is not None:
        is_finite = np.isfinite(run.embedding)
        record["embedding"] = [
            [float(f"{x:.7g}") if ok else None for x, ok in zip(*row, strict=True)]
            for row in zip(run.embedding, is_finite, strict=True)
        ]
        record["labels"] = run.labels.tolist()
    return json.dumps(record, indent=None, allow_nan=False, default=dict) + "\n"


def _from_json(path: Path) -> Run:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["scores"] = {k: np.nan if v is None else v for k, v in record["scores"].items()}
        if record["error"] is None:
            record["embedding"] = np.array(record["embedding"], dtype=np.float64)
            record["labels"] = np.array(record["labels"], dtype=np.int64)
        return Run(**record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} is no run of a benchmark, or damaged ({error}); remove it."
        ) from error


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run: method, seed, `SCORES`, and why it failed if it did.

    Examples
    --------
    >>> run_table([Run(method="m", seed=0, error="broken")])[["method", "seed", "error"]].values
    array([['m', 0, 'broken']], dtype=object)
    """
    rows = [
        {
            "method": run.method,
            "seed": run.seed,
            **{name: run.scores.get(name, np.nan) for name in SCORES},
            "error": run.error or "",
            "machine": run.machine,
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def summary_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per method, best NMI first: mean and 95 % half width of every score over the seeds.

    Parameters
    ----------
    runs : iterable of Run

    Returns
    -------
    table : DataFrame
        Columns ``method``, ``n_runs`` (that succeeded), ``n_failed``, ``why`` they failed, then
        ``NAME_mean`` and ``NAME_half_width`` of each of `SCORES` (t-interval; NaN for one run).

    Examples
    --------
    >>> runs = [Run(method="m", seed=seed, scores={"nmi": 0.8 + seed / 10}) for seed in (0, 1)]
    >>> summary_table(runs)[["nmi_mean", "nmi_half_width"]].round(3).values.tolist()
    [[0.85, 0.635]]
    """
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    rows = []
    for method, its_runs in by_method.items():
        good = [run for run in its_runs if run.error is None]
        row: dict[str, Any] = {
            "method": method,
            "n_runs": len(good),
            "n_failed": len(its_runs) - len(good),
            "why": why_failed(its_runs),
        }
        for name in SCORES:
            values = np.array([run.scores.get(name, np.nan) for run in good])
            values = values[~np.isnan(values)]
            pair = confidence_interval(values) if len(values) else (np.nan, np.nan)
            row[f"{name}_mean"], row[f"{name}_half_width"] = pair
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.sort_values("nmi_mean", ascending=False, kind="stable", ignore_index=True)


def why_failed(runs: Iterable[Run]) -> str:
    """Each reason once, with the seeds that met it.

    Examples
    --------
    >>> why_failed([Run(method="m", seed=seed, error="broken") for seed in (0, 2)])
    'broken (seeds 0, 2)'
    """
    seeds: dict[str, list[str]] = {}
    for run in runs:
        if run.error is not None:
            seeds.setdefault(run.error, []).append(str(run.seed))
    return "; ".join(
        f"{reason} (seed{'s' * (len(by) > 1)} {', '.join(by)})" for reason, by in seeds.items()
    )


def median_run(runs: Iterable[Run]) -> Run | None:
    """The run of median NMI among those that succeeded, the lower of two middles; None if none.

    Examples
    --------
    >>> runs = [Run(method="m", seed=i, scores={"nmi": x}) for i, x in enumerate([0.9, 0.1, 0.5])]
    >>> median_run(runs).seed
    2
    """
    good = sorted((run for run in runs if run.error is None), key=lambda run: run.scores["nmi"])
    return good[(len(good) - 1) // 2] if good else None
