"""Every method on the same features, each run scored alike, kept in a file and never run twice."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

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
    label_codes,
    map_metrics,
)
from ancestryvi.evaluate.runs import SCORES, Run, RunFolder
from ancestryvi.exceptions import InputFormatError, LabelError, SampleError
from ancestryvi.genotypes.inflate import n_threads

_FOLDS: Final = 5


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
        Runs at the same time, each with its share of the cores. With more than 1 they still slow
        each other down.
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
            limits={
                "time_limit": time_limit,
                "memory_limit": memory_limit,
                "n_threads": None if jobs == 1 else max(1, n_threads() // jobs),
            },
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
    limits: Mapping[str, Any],
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
