"""Every method on the same features, each run scored alike, kept in a file and never run twice."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from ancestryvi import __version__
from ancestryvi.evaluate.isolated import Fit, fit_in_process
from ancestryvi.evaluate.metrics import (
    clustering_metrics,
    confidence_interval,
    label_codes,
    map_metrics,
)
from ancestryvi.exceptions import InputFormatError, LabelError, OutputError, SampleError

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

_FOLDS: Final = 5


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


def run_benchmark(
    features: pd.DataFrame,
    labels: pd.Series | ArrayLike,
    methods: Mapping[str, BaseEstimator],
    *,
    seeds: int | Sequence[int] = 3,
    folder: str | os.PathLike[str],
    time_limit: float | None = 600,
    memory_limit: float | None = None,
    jobs: int = 1,
    conditions: Mapping[str, object] | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Run]:
    """Fit every method with every seed on the same features, each in a process of its own.

    A finished run is a file of the folder, and a call with the same data and parameters only does
    what is missing or has failed; so a benchmark that was stopped goes on where it was, and
    methods and seeds can be added. The methods never see the labels.

    Parameters
    ----------
    features : DataFrame of shape (n_samples, n_features)
        Usually PC scores, indexed by sample id.
    labels : Series or array-like of length n_samples
        Known label of each sample in the order of the features, None, NaN or -1 where there is
        none. Samples without one are fitted but not scored.
    methods : mapping of str to estimator
        Unfitted; each is cloned, and its ``random_state`` is set to the seed if it has one. After
        ``fit(features)`` it has ``embedding_`` of shape (n_samples, 2) and ``labels_``; if it has
        ``score(features)``, that is taken for its mean log density or ELBO. Any class will do that
        another process can import.
    seeds : int or sequence of int, default=3
        A number n stands for 0 to n - 1.
    folder : path
        Where the runs are kept, one JSON file each.
    time_limit : float or None, default=600
        Seconds after which a run is killed, counted from the start of its process.
    memory_limit : float, optional
        GB of 2^30 bytes of resident memory above which a run is killed.
    jobs : int, default=1
        Runs at the same time. With more than 1 they slow each other down.
    conditions : mapping of str to object, optional
        Whatever else must be equal for runs to be compared, such as the number of clusters.
    force : bool, default=False
        Drop runs of other data, conditions or parameters instead of raising.
    progress : callable, optional
        Called with one line per finished run; on a terminal there is a bar too.

    Returns
    -------
    runs : list of Run
        All in the folder: the methods asked for in that order, then earlier ones by name.

    Raises
    ------
    LabelError
        If fewer than two labels are present.
    SampleError
        If the labels are not those of the samples of the features.
    InputFormatError
        If a feature is not finite.
    ValueError
        If a class is defined in the script that runs, which no other process can import.
    OutputError
        If the folder holds runs of other data or parameters, or a damaged file.

    Examples
    --------
    >>> runs = run_benchmark(
    ...     scores, populations, {"mine": MyMethod(n_clusters=26)}, folder="runs"
    ... )  # doctest: +SKIP
    >>> summary_table(runs)[["method", "nmi_mean", "nmi_half_width"]]  # doctest: +SKIP
    """
    truth = _checked_labels(features, labels)
    common = {
        "version of ancestryvi": __version__,
        "features": _fingerprint(features),
        "labels": _digest(repr([None if pd.isna(x) else str(x) for x in truth]).encode()),
        **{name: str(value) for name, value in (conditions or {}).items()},
    }
    planned = [
        Run(
            method=name,
            seed=seed,
            estimator=f"{type(method).__module__}.{type(method).__qualname__}",
            parameters=_parameters(method),
            conditions=common,
            machine=_machine(),
        )
        for name, method in methods.items()
        for seed in (range(seeds) if isinstance(seeds, int) else seeds)
    ]
    _refuse_unimportable(methods)
    runs = RunFolder(Path(folder))
    runs.admit(planned, common, force)
    missing = runs.missing(planned)
    with tempfile.TemporaryDirectory(prefix="ancestryvi-") as scratch:
        features_file = Path(scratch, "features.pkl")
        features.to_pickle(features_file)
        work = partial(
            _run_once,
            methods=methods,
            features_file=features_file,
            features=features,
            truth=truth,
            limits={"time_limit": time_limit, "memory_limit": memory_limit},
        )
        for run in _all_of(missing, work, jobs, progress):
            runs.write(run)
    order = list(methods)
    return sorted(
        runs.read(),
        key=lambda run: (
            order.index(run.method) if run.method in methods else len(order),
            run.method,
            run.seed,
        ),
    )


def _checked_labels(features: pd.DataFrame, labels: pd.Series | ArrayLike) -> NDArray[np.object_]:
    """The labels as an array, if they are those of the features."""
    if isinstance(labels, pd.Series) and not labels.index.equals(features.index):
        raise SampleError(
            "the index of the labels is not that of the features; "
            "give labels.reindex(features.index), or an array in the order of the features."
        )
    truth = np.asarray(labels, dtype=object)
    if truth.shape != (len(features),):
        raise SampleError(
            f"{len(features)} samples but labels of shape {truth.shape}; give one per sample."
        )
    bad = ~np.isfinite(features.to_numpy(dtype=np.float64)).all(axis=1)
    if bad.any():
        raise InputFormatError(
            f"{bad.sum()} of {len(features)} samples have a feature that is not finite, the first "
            f"is {features.index[bad.argmax()]!r}; leave them out."
        )
    codes, is_labelled = label_codes(truth)
    n_labels = len(np.unique(codes[is_labelled]))
    if n_labels < 2:
        raise LabelError(
            f"the samples have {n_labels} distinct labels; methods can be compared by 2 or more."
        )
    return truth


def _refuse_unimportable(methods: Mapping[str, BaseEstimator]) -> None:
    for name, method in methods.items():
        if type(method).__module__ == "__main__":
            raise ValueError(
                f"the class of {name!r}, {type(method).__qualname__}, is defined in the script or "
                "notebook that runs, where no other process finds it; move it to a module (a .py "
                "file) and import it."
            )


# ---- one run -----------------------------------------------------------------------------------


def _all_of(
    missing: Sequence[Run],
    work: Callable[[Run, threading.Event], Run],
    jobs: int,
    progress: Callable[[str], None] | None,
) -> Iterator[Run]:
    """Do runs, some at a time, and yield each when it is done; leaving early kills the rest."""
    from tqdm import tqdm

    stop = threading.Event()
    quiet = True if progress is None else None  # None: only on a terminal
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(missing), desc="runs", unit="run", disable=quiet) as bar,
    ):
        futures = [pool.submit(work, run, stop) for run in missing]
        try:
            for future in as_completed(futures):
                run = future.result()
                yield run
                if progress is not None:
                    with bar.external_write_mode():
                        progress(str(run))
                bar.update()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _run_once(
    run: Run,
    stop: threading.Event,
    *,
    methods: Mapping[str, BaseEstimator],
    features_file: Path,
    features: pd.DataFrame,
    truth: NDArray[np.object_],
    limits: Mapping[str, float | None],
) -> Run:
    """Fit in a process of its own, and score here."""
    estimator = clone(methods[run.method])
    names = [name for name in estimator.get_params() if _is_seed(name)]
    estimator.set_params(**dict.fromkeys(names, run.seed))
    fit = fit_in_process(estimator, features_file, stop=stop, **limits)
    if fit.error is not None:
        return replace(run, error=fit.error, log=fit.log)
    return replace(
        run,
        scores=_scores(fit, features.to_numpy(dtype=np.float64), truth),
        embedding=fit.embedding,
        labels=fit.labels,
        log=fit.log,
    )


def _scores(
    fit: Fit, features: NDArray[np.float64], truth: NDArray[np.object_]
) -> dict[str, float]:
    assert fit.embedding is not None
    assert fit.labels is not None
    is_placed = (fit.labels >= 0) & np.isfinite(fit.embedding).all(axis=1)
    found = {
        **clustering_metrics(truth, fit.labels),
        **map_metrics(fit.embedding, features, truth),
        "log_density": fit.log_density,
        "n_clusters": len(np.unique(fit.labels[fit.labels >= 0])),
        "n_unplaced": int((~is_placed).sum()),
        "seconds": fit.seconds,
        "peak_mb": fit.peak_mb,
    }
    return {name: found[name] for name in SCORES}


def _is_seed(parameter: str) -> bool:
    return parameter == "random_state" or parameter.endswith("__random_state")


# ---- what a run is known by --------------------------------------------------------------------


def _parameters(method: BaseEstimator) -> dict[str, str]:
    """Parameters as text that is the same in every process."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        return {
            name: re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
            for name, value in sorted(method.get_params().items())
            if not _is_seed(name)
        }


def _fingerprint(features: pd.DataFrame) -> str:
    values = np.ascontiguousarray(features.to_numpy(dtype=np.float64))
    names = [list(map(str, axis)) for axis in features.axes]
    return _digest(repr((values.shape, names)).encode(), values.tobytes())


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _machine() -> str:
    """Processor and system."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = next(named, platform.processor() or platform.machine())
    return f"{os.cpu_count()} x {processor}, {platform.system()} {platform.release()}"


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


# ---- tables ------------------------------------------------------------------------------------


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


def supervised_ceiling(
    features: ArrayLike, labels: Iterable[Hashable], *, random_state: int = 0
) -> dict[str, float] | None:
    """What a linear discriminant that learns the labels scores on samples that it did not see.

    No clustering of the same features is likely to agree better with the labels. Predictions are
    by 5-fold cross-validation, stratified by label; labels of fewer than 5 samples are in as many
    folds as they have samples, and the sole sample of a label cannot be predicted.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
    labels : iterable of length n_samples
        Known label of each sample, None, NaN or -1 where there is none; such samples are left out.
    random_state : int, default=0
        Seed of the folds.

    Returns
    -------
    scores : dict or None
        As `clustering_metrics`; None where no label has two samples, or there is only one label.

    Examples
    --------
    >>> line = [[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]
    >>> supervised_ceiling(line, ["a", "a", "a", "b", "b", "b"])["nmi"]
    1.0
    """
    X = np.asarray(features, dtype=np.float64)
    codes, is_labelled = label_codes(labels)
    if len(codes) != len(X):
        raise SampleError(f"{len(X)} samples but {len(codes)} labels; give one per sample.")
    X, codes = X[is_labelled], codes[is_labelled]
    counts = np.unique(codes, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        return None
    folds = StratifiedKFold(min(_FOLDS, int(counts.max())), shuffle=True, random_state=random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small labels, components of no variance
        predicted = cross_val_predict(LinearDiscriminantAnalysis(), X, codes, cv=folds)
    return clustering_metrics(codes, predicted)
