"""VCF-Zarr: the arrays of a VCF as a Zarr store, a directory or a zip file, read and written.

Czech et al. (2025), GigaScience 14, giaf049; arrays and names as in version 0.4 of the
specification, https://github.com/sgkit-dev/vcf-zarr-spec.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi import __version__
from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.dosage import UnreadableCallError, decode_alleles
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    PerThread,
    as_indices,
    block_columns,
    call_error,
    check_sample_ids,
    iter_indexed,
)
from ancestryvi.genotypes.writing import Outgoing, even_blocks, vcf_variants

_MAX_CHUNK_CALLS = 1 << 27  # decoded chunks are kept up to this size
_CHUNK_SHAPE = (1000, 10_000)  # variants and samples of the chunks that are written
# The alleles of a call for dosages -1, 0, 1, 2: two bytes, one 16-bit word.
_CALLS = np.array([[-1, -1], [0, 0], [0, 1], [1, 1]], dtype=np.int8).view(np.uint16)[:, 0]
_NEEDED = (
    "call_genotype",
    "sample_id",
    "contig_id",
    "variant_contig",
    "variant_position",
    "variant_allele",
)


class VczSource:
    """The calls of a VCF-Zarr store as dosages, decoded as `ancestryvi.genotypes.dosage` says.

    Every record is kept, multiallelic ones in one column with ALT ``"A,T"``. A chunk of variants
    is decoded once and kept until another is asked for.

    Parameters
    ----------
    path : Path
        The directory, or a zip file of it; Zarr format 2 or 3, as bio2zarr and sgkit write them.

    Raises
    ------
    InputFormatError
        If an array is missing or does not fit the others, chunks were lost, or, while reading, a
        call has more than two alleles.
    SampleError
        If a sample id occurs twice.
    """

    content: Content = "dosages"

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (path,)
        group = _open(path)
        absent = [name for name in _NEEDED if name not in group]
        if absent:
            raise InputFormatError(
                f"{path} is no VCF-Zarr with genotypes: it lacks {', '.join(absent)}; write it "
                "with vcf2zarr or ancestryvi convert"
            )
        self.sample_ids = check_sample_ids(_text(group, "sample_id").tolist(), path)
        self.variants = _read_variants(group, path)
        calls = group["call_genotype"]
        shape = (len(self.variants), len(self.sample_ids))
        if calls.ndim != 3 or calls.shape[:2] != shape or calls.dtype.kind != "i":
            raise InputFormatError(
                f"{path}: call_genotype is {calls.dtype} of shape {calls.shape}, but there are "
                f"{shape[0]} variants and {shape[1]} samples; it should be integers of shape "
                "(variants, samples, ploidy)"
            )
        # Zarr fills in for chunks that are not there; without a fill value none may be missing.
        if calls.metadata.fill_value is None and calls.nchunks_initialized < calls.nchunks:
            raise InputFormatError(
                f"{path} is incomplete: {calls.nchunks - calls.nchunks_initialized} of "
                f"{calls.nchunks} chunks of call_genotype are missing; copy it again"
            )
        self._chunk_variants = calls.chunks[0]
        self._calls = PerThread(partial(_Calls, path))

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in order."""
        return iter_indexed(self)

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, (n_samples, n_columns)."""
        indices = as_indices(columns, len(self.variants))
        dosages = np.empty((len(indices), len(self.sample_ids)), np.int8)
        chunks = indices // self._chunk_variants
        for chunk in np.unique(chunks):
            first, last = np.searchsorted(chunks, [chunk, chunk + 1])
            self._calls.get().read(int(chunk), indices[first:last], self, dosages[first:last])
        return dosages.T

    def unreadable(self, variant: int, error: UnreadableCallError) -> InputFormatError:
        """Say where a call has no dosage; its place in `error` counts from `variant` on."""
        row, sample = error.index
        place = [
            self.variants.at[variant + row, key] for key in ("contig", "position", "ref", "alt")
        ]
        return call_error(self.paths[0], place, self.sample_ids[sample], error)


class _Calls:
    """The open array of calls, and the dosages of the chunk that was read last."""

    def __init__(self, path: Path) -> None:
        self._array = _open(path)["call_genotype"]
        self._chunk = -1
        self._dosages = np.empty((0, 0), np.int8)

    def read(
        self, chunk: int, indices: NDArray[np.intp], source: VczSource, out: NDArray[np.int8]
    ) -> None:
        """Put the dosages of variants that lie in one chunk into `out`, one row for each."""
        length = self._array.chunks[0]
        start, stop = chunk * length, min((chunk + 1) * length, self._array.shape[0])
        if length * self._array.shape[1] > _MAX_CHUNK_CALLS:
            start, stop = int(indices[0]), int(indices[-1]) + 1
            out[:] = self._decode(start, stop, source)[indices - start]
            return
        if self._chunk != chunk:
            self._dosages, self._chunk = self._decode(start, stop, source), chunk
        np.take(self._dosages, indices - start, axis=0, out=out)

    def _decode(self, start: int, stop: int, source: VczSource) -> NDArray[np.int8]:
        """Read dosages of (variants, samples)."""
        path = source.paths[0]
        try:
            self._check_lengths(path, start, stop)
            return decode_alleles(self._array[start:stop])
        except UnreadableCallError as error:
            raise source.unreadable(start, error) from error
        except Exception as error:  # codecs raise many kinds on a damaged chunk
            raise InputFormatError(
                f"{path} is damaged: variants {start} to {stop - 1} cannot be read ({error}); "
                "copy it again"
            ) from error

    def _check_lengths(self, path: Path, start: int, stop: int) -> None:
        """Compare the files of chunks with the length that Blosc notes at their beginning.

        Blosc itself reads on where a chunk was cut, and may take what lies there in memory for
        calls.

        Raises
        ------
        ValueError
            If a file is shorter or longer.
        """
        array = self._array
        codecs = array.compressors
        if not path.is_dir() or not codecs or "Blosc" not in type(codecs[-1]).__name__:
            return
        first, last = start // array.chunks[0], (stop - 1) // array.chunks[0]
        others = (
            range(-(-n // step)) for n, step in zip(array.shape[1:], array.chunks[1:], strict=True)
        )
        for place in product(range(first, last + 1), *others):
            file = path / "call_genotype" / array.metadata.encode_chunk_key(place)
            if not file.is_file():
                continue  # a chunk of the fill value
            size = file.stat().st_size
            with file.open("rb") as opened:
                noted = int.from_bytes(opened.read(16)[12:], "little")
            if size != noted:
                raise ValueError(f"chunk {file.name} has {size} bytes of {noted}")


def is_store(path: Path) -> bool:
    """Tell whether a directory is a Zarr store."""
    return any((path / name).exists() for name in (".zgroup", "zarr.json"))


def _open(path: Path) -> Any:
    """Open the store for reading; what zarr's types say of its items is too wide to be of use."""
    import zarr
    from zarr.storage import ZipStore

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the two formats of Zarr do not share
            return zarr.open_group(str(path) if path.is_dir() else ZipStore(path), mode="r")
    except Exception as error:  # zarr raises a dozen kinds on a damaged store
        raise InputFormatError(
            f"{path} cannot be read as Zarr ({error}); copy or write it again"
        ) from error


def _text(group: Any, name: str) -> NDArray[np.object_]:
    """Read an array of strings, however they are stored."""
    values: NDArray[Any] = group[name][:]
    return (np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values).astype(object)


def _read_variants(group: Any, path: Path) -> pd.DataFrame:
    """Make the variant table; alleles that a variant does not have are empty or a dot."""
    contig_ids = _text(group, "contig_id")
    contigs, positions = group["variant_contig"][:], group["variant_position"][:]
    alleles = _text(group, "variant_allele")
    n_variants = len(positions)
    if len(contigs) != n_variants or alleles.ndim != 2 or len(alleles) != n_variants:
        raise InputFormatError(
            f"{path}: {n_variants} positions, {len(contigs)} contigs and {len(alleles)} rows of "
            "alleles do not fit; write it again"
        )
    if n_variants and not 0 <= contigs.min() <= contigs.max() < len(contig_ids):
        raise InputFormatError(f"{path}: variant_contig points outside contig_id; write it again")
    alt = np.full(n_variants, ".", dtype=object)
    for column in range(1, alleles.shape[1]):
        present = ~np.isin(alleles[:, column], ["", "."])
        first = present & (alt == ".")
        further = present & ~first
        alt[first] = alleles[first, column]
        alt[further] = alt[further] + "," + alleles[further, column]
    ids = _text(group, "variant_id") if "variant_id" in group else np.full(n_variants, "", object)
    ids[ids == ""] = "."
    columns = {
        "contig": contig_ids[contigs],
        "position": positions.astype(np.int64),
        "id": ids,
        "ref": alleles[:, 0],
        "alt": alt,
    }
    return pd.DataFrame(columns)


def write_vcz(genotypes: Outgoing, path: Path) -> None:
    """Write a store of unphased diploid calls, in format 2 of Zarr, which every reader takes.

    Raises
    ------
    OutputError
        If a variant cannot be written; see `vcf_variants`.
    """
    import zarr

    n_samples = len(genotypes.sample_ids)
    length = min(_CHUNK_SHAPE[0], block_columns(n_samples))
    group = zarr.open_group(path, mode="w-", zarr_format=2)
    group.attrs.update({"vcf_zarr_version": "0.4", "source": f"ancestryvi-{__version__}"})
    calls = _create(
        group,
        "call_genotype",
        np.empty((0, n_samples, 2), np.int8),
        ["variants", "samples", "ploidy"],
        (length, min(n_samples, _CHUNK_SHAPE[1]), 2),
    )
    tables = []
    for block in even_blocks(genotypes.blocks, length):
        variants = vcf_variants(block, path)
        words = np.take(_CALLS, np.ascontiguousarray(block.values.T) + np.int8(1))
        calls.append(words.view(np.int8).reshape(*words.shape, 2))
        tables.append(variants)
    variants = pd.concat(tables, ignore_index=True)
    contigs, contig_ids = pd.factorize(variants["contig"])
    lengths = np.array([len(ref) for ref in variants["ref"]], dtype=np.int32)
    alleles = variants[["ref", "alt"]].to_numpy(dtype=str)
    alleles[alleles[:, 1] == ".", 1] = ""
    for name, values, dimensions in (
        ("sample_id", np.array(genotypes.sample_ids, dtype=str), ["samples"]),
        ("contig_id", contig_ids.to_numpy(dtype=str), ["contigs"]),
        ("filter_id", np.array(["PASS"]), ["filters"]),
        ("variant_contig", contigs.astype(np.int32), ["variants"]),
        ("variant_position", variants["position"].to_numpy(np.int32), ["variants"]),
        ("variant_id", variants["id"].to_numpy(dtype=str), ["variants"]),
        ("variant_id_mask", (variants["id"] == ".").to_numpy(), ["variants"]),
        ("variant_allele", alleles, ["variants", "alleles"]),
        ("variant_filter", np.ones((len(variants), 1), dtype=bool), ["variants", "filters"]),
        ("variant_length", lengths, ["variants"]),
        ("region_index", _region_index(variants, contigs, lengths, length), ["regions", "fields"]),
    ):
        _create(group, name, values, dimensions, (10_000, *values.shape[1:]))
    group.create_array(  # no call is phased, which needs no chunk
        "call_genotype_phased",
        shape=calls.shape[:2],
        dtype=bool,
        chunks=calls.chunks[:2],
        fill_value=False,
        attributes={"_ARRAY_DIMENSIONS": ["variants", "samples"]},
    )


def _region_index(
    variants: pd.DataFrame, contigs: NDArray[np.intp], lengths: NDArray[np.int32], chunk: int
) -> NDArray[np.int32]:
    """Make the index by which vcztools finds regions: a row for each contig in each chunk.

    Its columns are chunk, contig, first and last position, last position of any REF, and count.
    """
    chunks = np.arange(len(variants)) // chunk
    starts = np.flatnonzero(np.diff(chunks, prepend=-1) | np.diff(contigs, prepend=-1))
    stops = np.append(starts[1:], len(variants))
    positions = variants["position"].to_numpy(np.int32)
    ends = positions + lengths - 1
    columns = (chunks[starts], contigs[starts], positions[starts], positions[stops - 1])
    counts = (np.maximum.reduceat(ends, starts), stops - starts)
    return np.column_stack([*columns, *counts]).astype(np.int32)


def _create(
    group: Any, name: str, values: NDArray[Any], dimensions: list[str], chunks: tuple[int, ...]
) -> Any:
    """Make an array; `dimensions` are their names, which xarray needs."""
    from numcodecs import Blosc

    text = values.dtype.kind == "U"
    shuffle = Blosc.BITSHUFFLE if name == "call_genotype" else Blosc.SHUFFLE
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=str if text else values.dtype,
        chunks=chunks,
        compressors=Blosc("zstd", clevel=5, shuffle=shuffle),
        fill_value="" if text else None,  # a chunk that was lost is an error, not a value
        attributes={"_ARRAY_DIMENSIONS": dimensions},
        config={"write_empty_chunks": True},
    )
    if len(values):
        array[:] = values
    return array
