"""`GenotypeSource`: the one protocol that every file format implements."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError, SampleError

StrPath = str | os.PathLike[str]
"""A path as a user may give it."""

Content = Literal["dosages", "scores"]
"""What a source holds: dosages of variants, or PC scores computed elsewhere."""

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


def block_columns(n_samples: int) -> int:
    """Return how many variants make a block."""
    return max(1, BLOCK_CALLS // max(1, n_samples))


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
