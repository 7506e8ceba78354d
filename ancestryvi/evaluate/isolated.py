"""Fit an estimator in a process of its own, within limits of time and memory.

A fresh interpreter per fit: no method profits from what another has loaded or compiled, its peak
memory is its own, and one that crashes or hangs takes nothing with it. The process gets features
and no labels, and writes what it found to a file that is data only.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

_CHILD: Final = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from ancestryvi.evaluate.isolated import fit_and_write; fit_and_write(*sys.argv[1:3])"
)
_POLL_SECONDS: Final = 0.05
_MB: Final = 2**20
_LOG_CHARACTERS: Final = 4000
_THREADS: Final = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")  # the first is OpenBLAS's and MKL's, too


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a process found, or why it found nothing.

    Attributes
    ----------
    error : str or None
        Why there is no result.
    log : str
        The end of what the process wrote to its output and error streams.
    seconds : float
        Wall time of ``fit`` alone: starting Python, importing the method and reading the features
        come before, scoring after. What a method imports or compiles within ``fit`` counts.
    peak_mb : float
        Largest resident memory of the process up to the end of ``fit``, in units of 2^20 bytes,
        Python and its libraries included.
    log_density : float
        ``score(features)``, nats per sample; NaN for a method without.
    embedding : ndarray of shape (n_samples, 2) or None
    labels : ndarray of shape (n_samples,), int64, or None
    """

    error: str | None = None
    log: str = ""
    seconds: float = float("nan")
    peak_mb: float = float("nan")
    log_density: float = float("nan")
    embedding: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None


def fit_in_process(
    estimator: BaseEstimator,
    features_file: str | os.PathLike[str],
    *,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    n_threads: int | None = None,
    stop: threading.Event | None = None,
) -> Fit:
    """Fit an estimator in a process of its own; whatever happens there, this returns.

    Parameters
    ----------
    estimator : estimator
        Unfitted. It and its parameters are pickled, so its class must be importable.
    features_file : path
        A DataFrame of shape (n_samples, n_features) as `pandas.DataFrame.to_pickle` writes it.
    time_limit : float, optional
        Seconds after which the process is killed, counted from its start.
    memory_limit : float, optional
        GB of 2^30 bytes. The process is killed soon after its resident memory exceeds it.
    n_threads : int, optional
        Threads of numerical libraries, where the environment does not say how many. By default
        these take every core, and processes that share cores wait for each other's threads.
    stop : Event, optional
        The process is killed soon after this is set.

    Returns
    -------
    fit : Fit

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame({"PC1": [0.0, 1.0, 2.0]}).to_pickle(f"{folder}/features.pkl")
    ...     fit_in_process(KMeans(n_clusters=5), f"{folder}/features.pkl").error
    'ValueError: n_samples=3 should be >= n_clusters=5.'
    """
    with tempfile.TemporaryDirectory(prefix="ancestryvi-") as name:
        folder = Path(name)
        try:
            (folder / "estimator.pkl").write_bytes(pickle.dumps(estimator))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return Fit(error=f"cannot be sent to a process of its own ({error})")
        share = {} if n_threads is None else dict.fromkeys(_THREADS, str(n_threads))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, name, os.fspath(features_file), *map(str, sys.path)],
                stdin=subprocess.PIPE,  # held open as long as this process lives
                stdout=log,
                stderr=log,
                env={**share, **os.environ},
                start_new_session=True,  # so that all it starts can be killed, and Ctrl-C is ours
            )
            try:
                reason = _wait(process, time_limit, memory_limit, stop)
            finally:
                _kill(process)
        said = (folder / "log").read_text("utf-8", "replace")[-_LOG_CHARACTERS:]
        if reason is None and (folder / "result.npz").exists():
            return _read(folder / "result.npz", said, memory_limit)
        return Fit(error=reason or _how_it_ended(process.returncode, said), log=said)


def _wait(
    process: subprocess.Popen[bytes],
    time_limit: float | None,
    memory_limit: float | None,
    stop: threading.Event | None,
) -> str | None:
    """Wait for the end of a process; the reason if it has to be killed."""
    deadline = None if time_limit is None else time.monotonic() + time_limit
    while True:
        try:
            process.wait(_POLL_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                return "stopped"
            if deadline is not None and time.monotonic() > deadline:
                return f"over the time limit of {time_limit:g} s"
            if memory_limit is not None and _peak_mb(process.pid) > 1024 * memory_limit:
                return _over_memory(memory_limit)


def _over_memory(limit: float) -> str:
    return f"over the memory limit of {limit:g} GB"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left; also macOS
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _how_it_ended(code: int, said: str) -> str:
    """A crash in words: the signal or the exit status, and the last line that was printed."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    more = f": {last[:200]}" if last else ""
    if code >= 0:
        return f"ended with exit status {code} before it was done{more}"
    name = signal.Signals(-code).name
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"crashed: killed by {name}{hint}{more}"


def _peak_mb(pid: int) -> float:
    """Largest resident memory of another process so far; where there is no /proc, the present."""
    peak = _status_mb(Path(f"/proc/{pid}/status"))
    if peak is not None:
        return peak
    if Path("/proc/self/status").exists():
        return 0.0  # it has just ended
    done = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return int(done.stdout.strip() or 0) / 1024


def _own_peak_mb() -> float:
    """Largest resident memory of this process so far.

    Not from getrusage where there is another way: on Linux that starts at the peak of the process
    that started this one.
    """
    peak = _status_mb(Path("/proc/self/status"))
    if peak is not None:
        return peak
    units = _MB if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def _status_mb(path: Path) -> float | None:
    """The high-water mark of resident memory in a status file of Linux."""
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _read(path: Path, said: str, memory_limit: float | None) -> Fit:
    with np.load(path, allow_pickle=False) as arrays:
        record: dict[str, Any] = json.loads(str(arrays["record"]))
        if record["error"] is not None:
            return Fit(error=record["error"], log=said)
        if memory_limit is not None and record["peak_mb"] > 1024 * memory_limit:
            return Fit(error=_over_memory(memory_limit), log=said)  # a peak between two looks
        return Fit(**record, log=said, embedding=arrays["embedding"], labels=arrays["labels"])


# ---- inside the process ----------------------------------------------------------------------


def fit_and_write(folder: str, features_file: str) -> None:
    """Fit the estimator of a folder and write ``result.npz``; the process ends with this."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    arrays: dict[str, Any] = {}
    try:
        arrays = _fit(Path(folder), features_file)
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        arrays["record"] = json.dumps({"error": reason})
    partial = Path(folder, "partial.npz")
    np.savez(partial, **arrays)
    partial.replace(Path(folder, "result.npz"))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # no library gets to hang or crash on its way out


def _fit(folder: Path, features_file: str) -> dict[str, Any]:
    estimator = pickle.loads((folder / "estimator.pkl").read_bytes())
    features: pd.DataFrame = pd.read_pickle(features_file)
    start = time.perf_counter()
    estimator.fit(features)
    seconds = time.perf_counter() - start
    peak = _own_peak_mb()
    embedding = np.asarray(estimator.embedding_, dtype=np.float64)
    labels = np.asarray(estimator.labels_)
    n = len(features)
    if embedding.shape != (n, 2) or labels.shape != (n,):
        raise ValueError(
            f"embedding_ has shape {embedding.shape} and labels_ {labels.shape}; "
            f"they should be ({n}, 2) and ({n},)."
        )
    density = float(estimator.score(features)) if hasattr(estimator, "score") else float("nan")
    record = {"error": None, "seconds": seconds, "peak_mb": peak, "log_density": density}
    return {
        "record": json.dumps(record),
        "embedding": embedding,
        "labels": labels.astype(np.int64, casting="same_kind"),
    }


def _end_with_parent() -> None:
    """The pipe closes when the parent is gone, however it went: then nobody wants the result."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
