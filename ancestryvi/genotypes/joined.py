"""Several sources of the same samples as one, such as one per chromosome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import SampleError
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    GenotypeSource,
    IndexedSource,
    as_indices,
    is_indexed,
)


def join_sources(sources: Sequence[GenotypeSource]) -> GenotypeSource:
    """Join sources of the same samples; any columns can be read if they can of every source.

    Raises
    ------
    SampleError
        If the samples differ; the message names both files, the counts and some ids.
    """
    indexed = [source for source in sources if is_indexed(source)]
    return JoinedIndexed(indexed) if len(indexed) == len(sources) else JoinedSource(sources)


class JoinedSource:
    """Several sources, one after the other.

    Parameters
    ----------
    sources : sequence of GenotypeSource
        The first gives the order of the samples; the rows of the others are aligned by id.

    Raises
    ------
    SampleError
        If the samples differ; the message names both files, the counts and some ids.
    """

    content: Content = "dosages"

    def __init__(self, sources: Sequence[GenotypeSource]) -> None:
        self._sources = tuple(sources)
        self.paths = tuple(path for source in sources for path in source.paths)
        self.sample_ids = sources[0].sample_ids
        self.contigs = [name for source in sources for name in getattr(source, "contigs", ())]
        self.is_part = any(getattr(source, "is_part", False) for source in sources)
        for source in sources[1:]:
            _check_same_samples(sources[0], source)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield the blocks of the first source, then those of the second, and so on."""
        for source in self._sources:
            for block in source.iter_blocks():
                yield Block(self._aligned(source, block.values), block.columns)

    def _aligned(self, source: GenotypeSource, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """Put the rows of a source in the order of the samples."""
        if source.sample_ids == self.sample_ids:
            return values
        rows = pd.Index(source.sample_ids).get_indexer(pd.Index(self.sample_ids))
        return np.take(values.T, rows, axis=1).T


class JoinedIndexed(JoinedSource):
    """Several sources of which any columns can be read, one after the other; see `JoinedSource`."""

    def __init__(self, sources: Sequence[IndexedSource]) -> None:
        super().__init__(sources)
        self._indexed = tuple(sources)
        self.variants = pd.concat([source.variants for source in sources], ignore_index=True)
        self._starts = np.cumsum([0, *(len(source.variants) for source in sources)])

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, (n_samples, n_columns)."""
        indices = as_indices(columns, len(self.variants))
        places = np.searchsorted(indices, self._starts)
        parts = [
            self._aligned(source, source.read_dosages(indices[first:last] - start))
            for source, start, first, last in zip(
                self._indexed, self._starts[:-1], places[:-1], places[1:], strict=True
            )
            if first < last
        ]
        if len(parts) == 1:
            return parts[0]
        by_variant = np.empty((len(indices), len(self.sample_ids)), np.int8)
        return (
            np.concatenate([part.T for part in parts], out=by_variant).T if parts else by_variant.T
        )


def _check_same_samples(first: GenotypeSource, other: GenotypeSource) -> None:
    """Refuse two sources whose sets of samples differ."""
    only_first = sorted(set(first.sample_ids) - set(other.sample_ids))
    only_other = sorted(set(other.sample_ids) - set(first.sample_ids))
    if only_first or only_other:
        raise SampleError(
            f"{first.paths[0]} ({len(first.sample_ids)} samples) and {other.paths[0]} "
            f"({len(other.sample_ids)} samples) have different samples: {len(only_first)} only in "
            f"the first, {len(only_other)} only in the second, such as "
            f"{(only_first + only_other)[:5]}; keep the common ones in both files"
        )
