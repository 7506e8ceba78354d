"""Passes over a cohort: one pure function of a block of variants, and one reduction.

Everything that looks at all genotypes (counts, thinning, kinship, relationship matrix, components,
placement) is such a pair, and `map_reduce` runs it: here in threads, or on a Dask cluster. No pass
holds more than a few blocks.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.inflate import n_threads
from ancestryvi.genotypes.memory import keep_freed
from ancestryvi.genotypes.source import IndexedDosages

BLOCK_BYTES = 16 * 2**20
"""Working memory of one block of variants, in bytes of float32. Allocators keep blocks of this size
for the next one; twice that goes back to the system, and every page of the next costs time."""

MAX_BLOCK = 2**14
"""Most variants in a block, which bounds the rounding of sums in single precision."""

MAX_THREADS = 8
"""Most blocks worked on at once; BLAS takes the other cores."""

PARTIAL_BYTES = 2**30
"""Memory for the results of blocks that wait to be combined."""

N_RUNS, FAN_IN = 32, 4
"""On a cluster: runs of blocks that are reduced each in one task, and results combined at once."""

Part = TypeVar("Part")
Place = TypeVar("Place")


@dataclass(frozen=True)
class _Setting:
    client: Any = None
    progress: bool = False


_HERE = _Setting()
_setting: ContextVar[_Setting] = ContextVar("setting", default=_HERE)


@contextmanager
def passes_on(client: Any = None, *, progress: bool = False) -> Iterator[None]:
    """Run the passes of what is fitted inside the block on a Dask cluster.

    Parameters
    ----------
    client : dask.distributed.Client, optional
        The cluster; threads of this process when left out. Its workers read the genotype files
        themselves, by the same paths. A worker that is lost costs what it had computed, which the
        others compute again.
    progress : bool, default=False
        Show a progress bar for each pass if standard error is a terminal.

    Notes
    -----
    Blocks have the same bounds everywhere. Here their results are added in their order, on a
    cluster in a tree that does not depend on the workers: double precision rounds the two
    differently, in the 15th digit or so.

    Examples
    --------
    >>> from ancestryvi import GenotypePCA
    >>> X = np.random.default_rng(0).binomial(2, 0.4, size=(20, 200))
    >>> with passes_on(None):  # or a Client
    ...     GenotypePCA(2).fit_transform(X).shape
    (20, 2)
    """
    token = _setting.set(_Setting(client, progress))
    try:
        yield
    finally:
        _setting.reset(token)


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """A client of the Dask scheduler at this address for as long as the block runs; or None.

    Raises
    ------
    InputFormatError
        If dask.distributed is not installed, or nothing answers at the address within 10 seconds.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise InputFormatError(
            'A Dask cluster needs dask.distributed; install it: pip install "ancestryvi[dask]"'
        ) from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise InputFormatError(
            f"No Dask scheduler answers at {address} ({error}); check the address, or start one "
            "with `dask scheduler`."
        ) from error
    with client:
        yield client


def variant_blocks(n_samples: int, n_variants: int, n_bytes: int | None = None) -> list[slice]:
    """Consecutive ranges of variants whose float32 matrix fits `n_bytes`, or else `BLOCK_BYTES`.

    Examples
    --------
    >>> variant_blocks(2**18, 40)
    [slice(0, 16, None), slice(16, 32, None), slice(32, 40, None)]
    """
    width = min(MAX_BLOCK, max(1, (n_bytes or BLOCK_BYTES) // (4 * max(1, n_samples))))
    return [slice(i, min(i + width, n_variants)) for i in range(0, n_variants, width)]


def add(total: Any, part: Any) -> Any:
    """Sum arrays, or tuples of them; sums of float32 arrays are of double precision."""
    if isinstance(total, tuple):
        return tuple(add(a, b) for a, b in zip(total, part, strict=True))
    if total.dtype == np.float32:
        total = total.astype(np.float64)
    total += part
    return total


def read_samples(
    source: IndexedDosages, columns: NDArray[np.intp], samples: NDArray[np.intp] | None
) -> NDArray[np.int8]:
    """Dosages of some samples (all for None) at some variants, one variant after the other.

    Returns
    -------
    dosages : ndarray of shape (n_samples, n_columns), int8, Fortran-contiguous
    """
    by_variant = source.read_dosages(columns).T
    if samples is not None:
        by_variant = np.take(by_variant, samples, axis=1)
    return np.ascontiguousarray(by_variant).T


def map_reduce(
    function: Callable[[IndexedDosages, Place], Part],
    source: IndexedDosages,
    places: Sequence[Place],
    combine: Callable[[Part, Part], Part],
    *,
    name: str,
    partial_bytes: int = 0,
) -> Part:
    """One pass: the function of every place, combined in their order.

    Parameters
    ----------
    function : callable
        A pure function of the source and a place, which it reads by itself; pickled for a cluster.
    source : IndexedDosages
    places : sequence
        At least one; blocks of variants, as a rule.
    combine : callable
        Associative; it may overwrite its first argument.
    name : str
        What the progress bar says.
    partial_bytes : int, optional
        Size of what the function returns, where it is large: how many exist at once is chosen so
        that they fit `PARTIAL_BYTES`.

    Returns
    -------
    total : what the function returns
    """
    client = _setting.get().client
    if client is not None:
        most = max(FAN_IN, PARTIAL_BYTES // max(1, partial_bytes))
        n_runs = min(len(places), N_RUNS, most)
        return _on_cluster(client, function, source, places, combine, n_runs)
    parts = map_here(function, source, places, name=name, partial_bytes=partial_bytes)
    return reduce(combine, parts)


def is_on_cluster() -> bool:
    """Whether `passes_on` has a cluster at present."""
    return _setting.get().client is not None


def map_here(
    function: Callable[[IndexedDosages, Place], Part],
    source: IndexedDosages,
    places: Sequence[Place],
    *,
    name: str,
    partial_bytes: int = 0,
) -> Iterator[Part]:
    """The function of every place in their order, in threads of this process.

    Parameters
    ----------
    function, source, places, name, partial_bytes
        As for `map_reduce`.
    """
    keep_freed(3 * BLOCK_BYTES // 2)
    n_cores = n_threads()
    most = max(1, PARTIAL_BYTES // max(1, partial_bytes))
    at_once = min(n_cores, MAX_THREADS, most, len(places))
    with threadpool_limits(max(1, n_cores // at_once), user_api="blas"):
        parts = _in_threads(function, source, places, at_once)
        yield from _with_progress(parts, len(places), name, _setting.get().progress)


def _in_threads(
    function: Callable[[IndexedDosages, Place], Part],
    source: IndexedDosages,
    places: Sequence[Place],
    at_once: int,
) -> Iterator[Part]:
    """The results in order, computed a little ahead of what is asked for."""
    if at_once == 1:
        yield from (function(source, place) for place in places)
        return
    with ThreadPoolExecutor(at_once) as pool:
        waiting = iter(places)
        pending = deque(pool.submit(function, source, next(waiting)) for _ in range(at_once))
        try:
            while pending:
                part = pending.popleft().result()
                for place in waiting:
                    pending.append(pool.submit(function, source, place))
                    break
                yield part
                del part
        finally:
            for future in pending:
                future.cancel()


def _with_progress(
    parts: Iterator[Part], n_parts: int, name: str, progress: bool
) -> Iterator[Part]:
    """Pass results on and count them on a terminal."""
    if not progress:
        yield from parts
        return
    from tqdm import tqdm

    yield from tqdm(parts, total=n_parts, unit=" blocks", desc=name, disable=None, leave=False)


def _on_cluster(
    client: Any,
    function: Callable[[IndexedDosages, Place], Part],
    source: IndexedDosages,
    places: Sequence[Place],
    combine: Callable[[Part, Part], Part],
    n_runs: int,
) -> Part:
    """The same by futures; tasks that were lost with their worker are run again by the scheduler.

    What all tasks need is a task too: data scattered to a worker would be lost with it.
    """
    work = client.submit(_hold, function, source, combine, pure=False)
    bounds = np.linspace(0, len(places), n_runs + 1).astype(int)
    parts = [
        client.submit(_reduce_run, work, list(places[start:stop]), pure=False)
        for start, stop in pairwise(bounds)
    ]
    while len(parts) > 1:
        parts = [
            client.submit(_combine, work, parts[i : i + FAN_IN], pure=False)
            for i in range(0, len(parts), FAN_IN)
        ]
    return parts[0].result()


def _hold(*work: Any) -> tuple[Any, ...]:
    """What every task needs, as the result of a task."""
    return work


def _reduce_run(work: tuple[Any, ...], places: list[Any]) -> Any:
    """The reduction of consecutive places, on a worker."""
    function, source, combine = work
    return reduce(combine, (function(source, place) for place in places))


def _combine(work: tuple[Any, ...], parts: list[Any]) -> Any:
    """The reduction of results, which another task may need again."""
    return reduce(work[2], parts[1:], copy.deepcopy(parts[0])) if len(parts) > 1 else parts[0]
