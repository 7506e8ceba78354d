"""`GenotypeSource`: the one protocol that every file format implements."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeGuard, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError, SampleError

T = TypeVar("T")

StrPath = str | os.PathLike[str]
"""A path as a user may give it."""

Content = Literal["dosages", "scores"]
"""What a source holds: dosages of variants, or PC scores computed elsewhere."""

Columns = slice | NDArray[np.intp]
"""Which variants to read."""

BLOCK_CALLS = 1 << 22
"""Calls in one block, about: small enough to stay cheap in memory at any number of samples."""


@dataclass(frozen=True)
class Block:
    """Some columns of a source, for all of its samples.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_columns)
        int8 dosages (-1 marks a missing call), or float64 PC scores.
    columns : DataFrame of n_columns rows
        The variant table of the block, or one column ``name`` for scores.
    """

    values: NDArray[Any]
    columns: pd.DataFrame


class GenotypeSource(Protocol):
    """Samples and blocks of columns, read from one or more files as often as asked.

    Attributes
    ----------
    paths : tuple of Path
        The files, in the order of their columns.
    content : {"dosages", "scores"}
        What the values are.
    sample_ids : list of str
        The rows, unique.
    """

    paths: tuple[Path, ...]
    content: Content
    sample_ids: list[str]

    def iter_blocks(self) -> Iterator[Block]:
        """Yield the columns in file order; each call starts from the front."""
        ...


class IndexedDosages(Protocol):
    """Dosages of which any columns can be read at any time: `Genotypes`, or an indexed file.

    What passes over a cohort more than once, and must not hold it whole, asks for this.

    Attributes
    ----------
    sample_ids : list of str
    variants : DataFrame of n_variants rows
        The variant table.
    """

    @property
    def sample_ids(self) -> list[str]: ...

    @property
    def variants(self) -> pd.DataFrame: ...

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants for all samples, (n_samples, n_columns), int8.

        `columns` is a slice without a step, or increasing indices. Calls from several threads or
        processes do not disturb one another.
        """
        ...


class IndexedSource(GenotypeSource, IndexedDosages, Protocol):
    """A file of which any columns can be read at any time."""


def is_indexed(source: GenotypeSource) -> TypeGuard[IndexedSource]:
    """Tell whether a source is an `IndexedDosages` too."""
    return hasattr(source, "read_dosages")


class PerThread(Generic[T]):
    """What each thread of each process opens for itself, once.

    Readers of other libraries keep a place in their file, which threads and forked processes
    would share. Pickled, it travels without what was opened.

    Parameters
    ----------
    make : callable
        Opens it; must be picklable.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._local = threading.local()

    def __reduce__(self) -> tuple[type[PerThread[T]], tuple[Callable[[], T]]]:
        return PerThread, (self._make,)

    def get(self) -> T:
        """Return what this thread has open."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.value, self._local.pid = self._make(), os.getpid()
        value: T = self._local.value
        return value


def as_indices(columns: Columns, n_variants: int) -> NDArray[np.intp]:
    """Write out a slice of variants."""
    return np.arange(*columns.indices(n_variants)) if isinstance(columns, slice) else columns


def call_error(
    path: Path, variant: Sequence[Any], sample: str, error: ValueError
) -> InputFormatError:
    """Say where a call that has no dosage is; `variant` is contig, position, REF, ALT."""
    return InputFormatError(
        f"{path}: variant {':'.join(map(str, variant))}, sample {sample!r}: {error}; ancestryvi "
        "reads haploid and diploid calls"
    )


def block_columns(n_samples: int) -> int:
    """Return how many variants make a block."""
    return max(1, BLOCK_CALLS // max(1, n_samples))


def iter_indexed(source: IndexedDosages) -> Iterator[Block]:
    """Yield all columns of an indexed source, in order."""
    step = block_columns(len(source.sample_ids))
    for start in range(0, len(source.variants), step):
        columns = source.variants.iloc[start : start + step].reset_index(drop=True)
        yield Block(source.read_dosages(slice(start, start + len(columns))), columns)


def runs(columns: NDArray[np.intp]) -> Iterator[tuple[int, slice]]:
    """Split increasing indices into runs, so that a file is read in few pieces.

    Yields
    ------
    start, columns : int, slice
        The place of the run's first index among `columns`, and what to read.

    Examples
    --------
    >>> list(runs(np.array([3, 4, 9])))
    [(0, slice(3, 5, None)), (2, slice(9, 10, None))]
    """
    breaks = np.flatnonzero(np.diff(columns) > 1) + 1
    for part in np.split(np.arange(len(columns)), breaks) if len(columns) else ():
        yield int(part[0]), slice(int(columns[part[0]]), int(columns[part[-1]]) + 1)


def check_sample_ids(sample_ids: Sequence[str], path: Path) -> list[str]:
    """Refuse a file without samples or with a repeated sample id.

    Raises
    ------
    InputFormatError
        If there is no sample.
    SampleError
        If an id is blank or occurs twice; the message names it and the file.
    """
    if not sample_ids:
        raise InputFormatError(f"{path} holds no samples; ancestryvi needs one genotype per sample")
    seen: set[str] = set()
    for row, sample in enumerate(sample_ids):
        if not sample.strip():
            raise SampleError(f"{path}: sample {row + 1} has a blank id; name it")
        if sample in seen:
            raise SampleError(
                f"{path}: sample id {sample!r} occurs twice; rename or remove one of the two"
            )
        seen.add(sample)
    return list(sample_ids)


def plink_sample_ids(family_ids: Sequence[str], individual_ids: Sequence[str]) -> list[str]:
    """Name samples by IID, or by FID_IID when families number their members alike.

    Examples
    --------
    >>> plink_sample_ids(["f1", "f2"], ["a", "b"]), plink_sample_ids(["f1", "f2"], ["1", "1"])
    (['a', 'b'], ['f1_1', 'f2_1'])
    """
    if len(set(individual_ids)) == len(individual_ids):
        return list(individual_ids)
    pairs = zip(family_ids, individual_ids, strict=True)
    return [f"{family}_{individual}" for family, individual in pairs]
