"""Which samples and variants to read: regions, lists of samples, lists of variants."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError, NoVariantsError, SampleError
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    GenotypeSource,
    IndexedSource,
    StrPath,
    as_indices,
    is_indexed,
    iter_indexed,
)
from ancestryvi.genotypes.text import damage_reported, open_binary

_INTERVAL = re.compile(r"(?P<contig>.+):(?P<start>[\d,]*\d)(?P<open>-(?P<stop>[\d,]*))?")
_N_SHOWN = 5


@dataclass(frozen=True)
class Region:
    """Positions of one contig, 1-based and inclusive; `stop` None is its end."""

    text: str
    contig: str
    start: int = 1
    stop: int | None = None

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``CHR``, ``CHR:POS``, ``CHR:FROM-`` or ``CHR:FROM-TO``, with or without commas.

        Raises
        ------
        InputFormatError
            If it is empty or ends before it begins.

        Examples
        --------
        >>> Region.parse("chr2:5-9"), Region.parse("HLA*01:01:01")
        (Region(text='chr2:5-9', contig='chr2', start=5, stop=9),
         Region(text='HLA*01:01:01', contig='HLA*01:01', start=1, stop=1))
        """
        text = text.strip()
        match = _INTERVAL.fullmatch(text)
        if match is None:
            if not text:
                raise InputFormatError("a region is empty; write CHR or CHR:FROM-TO")
            return cls(text, text)
        start = int(match["start"].replace(",", ""))
        end = (match["stop"] or "").replace(",", "")
        stop = int(end) if end else None if match["open"] else start
        if stop is not None and stop < start:
            raise InputFormatError(f"region {text} ends before it begins; write CHR:FROM-TO")
        return cls(text, match["contig"], start, stop)

    def holds(
        self, contigs: NDArray[np.object_], positions: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Mark the variants that lie in the region; names like HLA*01:01 are contigs as well."""
        inside = (contigs == self.contig) & (positions >= self.start)
        if self.stop is not None:
            inside &= positions <= self.stop
        return inside | (contigs == self.text)


def parse_regions(region: str | Sequence[str] | None) -> tuple[Region, ...]:
    """Read one region or several."""
    texts = [region] if isinstance(region, str) else region or ()
    return tuple(Region.parse(text) for text in texts)


class VariantFilter:
    """Marks wanted variants block by block, and says at the end what was asked for in vain.

    Parameters
    ----------
    regions : sequence of Region
        A variant lies in one of them if its position does; none keeps all.
    wanted : sequence of str, optional
        Ids, ``contig:position`` or ``contig:position:ref:alt``; None keeps all.
    where : str
        What `wanted` comes from, for messages.
    """

    def __init__(
        self, regions: Sequence[Region], wanted: Sequence[str] | None = None, where: str = ""
    ) -> None:
        self._regions = tuple(regions)
        self._wanted = None if wanted is None else pd.Index(list(dict.fromkeys(wanted)))
        self._where = where
        self.restart()

    def restart(self, contigs: Sequence[str] = ()) -> None:
        """Begin a new pass over a source of which these contigs are known to exist."""
        self._contigs = dict.fromkeys(contigs)
        self._found = np.zeros(0 if self._wanted is None else len(self._wanted), dtype=bool)
        self._any = False

    def __call__(self, variants: pd.DataFrame) -> NDArray[np.bool_]:
        """Mark the rows to keep."""
        keep = np.ones(len(variants), dtype=bool)
        if self._regions:
            contigs = variants["contig"].to_numpy(dtype=object)
            positions = variants["position"].to_numpy()
            self._contigs |= dict.fromkeys(pd.unique(contigs))
            keep = np.logical_or.reduce([r.holds(contigs, positions) for r in self._regions])
        if self._wanted is not None:
            listed = np.zeros(len(variants), dtype=bool)
            for names in _names(variants):
                places = self._wanted.get_indexer(names)
                listed |= places >= 0
                self._found[places[(places >= 0) & keep]] = True
            keep &= listed
        self._any |= bool(keep.any())
        return keep

    def finish(self, paths: Sequence[Path]) -> None:
        """End a pass.

        Raises
        ------
        NoVariantsError
            If a region is of a contig that does not exist, or nothing was kept.

        Warns
        -----
        UserWarning
            If some of `wanted` were not met.
        """
        files = ", ".join(map(str, paths))
        for region in self._regions:
            if region.contig not in self._contigs and region.text not in self._contigs:
                raise NoVariantsError(
                    f"region {region.text}: {files} has no variant on contig {region.contig!r}; "
                    f"its contigs are {_some(list(self._contigs), 30)}"
                )
        missed = [] if self._wanted is None else self._wanted[~self._found].tolist()
        if not self._any:
            asked = [region.text for region in self._regions]
            asked += [] if self._wanted is None else [f"the {len(self._wanted)} of {self._where}"]
            raise NoVariantsError(
                f"no variant of {files} is among those asked for ({', '.join(asked)}"
                + (f", such as {_some(missed)}" if missed else "")
                + "); compare the names with those of `ancestryvi info`"
            )
        if missed:
            warnings.warn(
                f"Not met in {files}: {len(missed)} of the {len(self._found)} variants in "
                f"{self._where}, such as {_some(missed)}.",
                UserWarning,
                stacklevel=2,
            )


def _names(variants: pd.DataFrame) -> Iterator[pd.Index]:
    """Every name that a list may give the variants."""
    yield pd.Index(variants["id"].where(variants["id"] != ".", None), dtype=object)
    place = variants["contig"].astype(str) + ":" + variants["position"].astype(str)
    yield pd.Index(place, dtype=object)
    yield pd.Index(place + ":" + variants["ref"] + ":" + variants["alt"], dtype=object)


def _some(names: Sequence[str], n_shown: int = _N_SHOWN) -> str:
    """Show the first few names."""
    more = f" and {len(names) - n_shown} more" if len(names) > n_shown else ""
    return ", ".join(map(str, names[:n_shown])) + more


def read_list(values: StrPath | Sequence[str]) -> tuple[list[str], str]:
    """Return the entries of a list, one a line of a file, and what to call it in messages.

    Raises
    ------
    InputFormatError
        If the file is missing or lists nothing.
    """
    if not isinstance(values, str | os.PathLike):
        return list(values), "the list"
    path = Path(values)
    if not path.is_file():
        raise InputFormatError(f"{path} is no file; give a list with one entry a line")
    with damage_reported(path), open_binary(path) as file:
        lines = file.read().decode("utf-8-sig").splitlines()
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise InputFormatError(f"{path} is empty; give a list with one entry a line")
    return entries, str(path)


def select(
    source: GenotypeSource,
    region: str | Sequence[str] | None = None,
    samples: StrPath | Sequence[str] | None = None,
    variants: StrPath | Sequence[str] | None = None,
) -> GenotypeSource:
    """Keep some samples and variants of a source; see `open_source`.

    Raises
    ------
    SampleError
        If a sample asked for is not there.
    NoVariantsError
        If no variant is left; where it takes reading the file to know, while reading.
    """
    rows = None
    if samples is not None:
        ids, where = read_list(samples)
        rows = _sample_rows(source, ids, where)
    keep = None
    if region is not None or variants is not None:
        wanted, where = (None, "") if variants is None else read_list(variants)
        keep = VariantFilter(parse_regions(region), wanted, where)
    return restrict(source, rows, keep) if rows is not None or keep is not None else source


def restrict(
    source: GenotypeSource,
    rows: NDArray[np.intp] | None = None,
    keep: Callable[[pd.DataFrame], NDArray[np.bool_]] | None = None,
) -> GenotypeSource:
    """Keep some rows, and the variants that a function of the variant table marks."""
    if is_indexed(source):
        return SelectedIndexed(source, rows, keep)
    return SelectedSource(source, rows, keep)


def _sample_rows(source: GenotypeSource, ids: Sequence[str], where: str) -> NDArray[np.intp]:
    """Find the samples; their order stays that of the source, as with plink --keep."""
    known = set(source.sample_ids)
    if ids and ids[0] not in known and ids[0].split()[:1] in (["#FID"], ["#IID"]):
        ids = ids[1:]  # the header of PLINK 2
    wanted = {_sample_id(entry, known) for entry in ids}
    unknown = sorted(wanted - known)
    if unknown:
        raise SampleError(
            f"{len(unknown)} of the samples in {where} are not in {source.paths[0]}: "
            f"{_some(unknown)}; give one id a line, such as {source.sample_ids[0]}"
        )
    return np.flatnonzero(np.isin(source.sample_ids, list(wanted)))


def _sample_id(entry: str, known: Container[str]) -> str:
    """The id that an entry stands for: itself, or in columns the family's and the sample's own."""
    fields = entry.split()
    if entry in known or len(fields) < 2:
        return entry
    return next((name for name in ("_".join(fields[:2]), fields[1]) if name in known), entry)


class SelectedSource:
    """Some samples and variants of a source.

    Parameters
    ----------
    source : GenotypeSource
    rows : ndarray of int, optional
        The samples to keep, increasing.
    keep : callable, optional
        Marks the variants to keep in a variant table; a `VariantFilter` is told when a pass
        begins and ends.

    Attributes
    ----------
    n_samples_there : int
        Samples of the source.
    n_variants_there : int or None
        Variants of the source: known when all have been read, and not if an index spared it.
    """

    content: Content = "dosages"

    def __init__(
        self,
        source: GenotypeSource,
        rows: NDArray[np.intp] | None,
        keep: Callable[[pd.DataFrame], NDArray[np.bool_]] | None,
    ) -> None:
        self._source = source
        self._rows = rows
        self._keep = keep
        self.paths = source.paths
        ids = source.sample_ids
        self.sample_ids = ids if rows is None else [ids[row] for row in rows]
        self.n_samples_there = len(ids)
        self.n_variants_there: int | None = None

    def iter_blocks(self) -> Iterator[Block]:
        """Yield what is kept of each block."""
        if isinstance(self._keep, VariantFilter):
            self._keep.restart(getattr(self._source, "contigs", ()))
        n_variants = 0
        for block in self._source.iter_blocks():
            values, columns = block.values, block.columns
            n_variants += len(columns)
            if self._keep is not None:
                mask = self._keep(columns)
                if not mask.any():
                    continue
                if not mask.all():
                    values = values.T[mask].T
                    columns = columns[mask].reset_index(drop=True)
            yield Block(self._take_rows(values), columns)
        if not getattr(self._source, "is_part", False):
            self.n_variants_there = n_variants
        if isinstance(self._keep, VariantFilter):
            self._keep.finish(self.paths)

    def _take_rows(self, values: NDArray[np.int8]) -> NDArray[np.int8]:
        return values if self._rows is None else np.take(values.T, self._rows, axis=1).T


class SelectedIndexed(SelectedSource):
    """Some samples and variants of a source of which any columns can be read."""

    def __init__(
        self,
        source: IndexedSource,
        rows: NDArray[np.intp] | None,
        keep: Callable[[pd.DataFrame], NDArray[np.bool_]] | None,
    ) -> None:
        super().__init__(source, rows, keep)
        self._indexed = source
        self.n_variants_there = len(source.variants)
        self._columns = np.arange(len(source.variants))
        self.variants = source.variants
        if keep is not None:
            self._columns = np.flatnonzero(keep(source.variants))
            self.variants = source.variants.iloc[self._columns].reset_index(drop=True)
        if isinstance(keep, VariantFilter):
            keep.finish(self.paths)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield what is kept, in order; nothing else is read."""
        return iter_indexed(self)

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, (n_samples, n_columns)."""
        wanted = self._columns[as_indices(columns, len(self._columns))]
        return self._take_rows(self._indexed.read_dosages(wanted))
