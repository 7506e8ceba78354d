"""PLINK 1 binary files: .bed with its .bim and .fam, read and written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.dosage import MISSING
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    check_sample_ids,
    iter_indexed,
    plink_sample_ids,
    runs,
)
from ancestryvi.genotypes.text import BLANKS, read_strings
from ancestryvi.genotypes.writing import Outgoing, check_sample_names, check_variant_names

_VARIANT_MAJOR = b"\x6c\x1b\x01"
_SAMPLE_MAJOR = b"\x6c\x1b\x00"

# Two bits a call: 00 homozygous A1, 01 missing, 10 heterozygous, 11 homozygous A2.
_A1_COPIES = np.array([2, MISSING, 1, 0], dtype=np.int8)
# The two bits for dosages -1, 0, 1, 2.
_BITS = np.array([0b01, 0b11, 0b10, 0b00], dtype=np.uint8)
# A byte holds four calls, the first in its lowest bits. The eight dosages of every two bytes are
# kept as one 64-bit word: looking up few long words is many times as fast as looking up rows.
_TWO_BYTES = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
_UNPACKED = (
    _A1_COPIES[_TWO_BYTES[:, :, None] >> np.array([0, 2, 4, 6]) & 3]
    .reshape(-1, 8)
    .view(np.uint64)[:, 0]
)


class BedSource:
    """The calls of a PLINK 1 file set as dosages.

    A1, the fifth column of the .bim, is the counted allele and becomes ALT; A2 becomes REF. PLINK
    makes A1 the minor allele unless told otherwise, so REF need not be the reference base.

    Parameters
    ----------
    path : Path
        The .bed file; .bim and .fam lie beside it.

    Raises
    ------
    InputFormatError
        If one of the three files is missing, not in its format, or their sizes disagree.
    SampleError
        If a sample id occurs twice (FID and IID both).
    """

    content: Content = "dosages"

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (path,)
        fam = _read_columns(path.with_suffix(".fam"), path)
        self.sample_ids = check_sample_ids(
            plink_sample_ids(fam[0].tolist(), fam[1].tolist()), path.with_suffix(".fam")
        )
        bim = _read_columns(path.with_suffix(".bim"), path)
        positions = pd.to_numeric(bim[3], errors="coerce")
        if positions.isna().any():
            line = int(np.argmax(positions.isna()))
            raise InputFormatError(
                f"{path.with_suffix('.bim')}, line {line + 1}: position {bim[3][line]!r} in "
                "column 4 is no number"
            )
        self.variants = pd.DataFrame(
            {
                "contig": bim[0],
                "position": positions.astype(np.int64),
                "id": bim[1],
                "ref": bim[5],
                "alt": bim[4],
            }
        )
        self._bytes_per_variant = (len(self.sample_ids) + 3) // 4
        self._check_size()

    def _check_size(self) -> None:
        """Compare magic bytes and length of the .bed with what .bim and .fam announce."""
        (path,) = self.paths
        with path.open("rb") as file:
            start = file.read(3)
        if start == _SAMPLE_MAJOR:
            raise InputFormatError(
                f"{path} is sample-major; write it anew with plink --make-bed, which makes it "
                "variant-major"
            )
        if start != _VARIANT_MAJOR:
            raise InputFormatError(
                f"{path} is no PLINK 1 .bed: it begins with {start!r}; a BED file of genome "
                "intervals holds no genotypes"
            )
        expected = 3 + len(self.variants) * self._bytes_per_variant
        found = path.stat().st_size
        if found != expected:
            state = "truncated" if found < expected else "too long"
            raise InputFormatError(
                f"{path} is {state}: {len(self.sample_ids)} samples in the .fam and "
                f"{len(self.variants)} variants in the .bim make {expected} bytes, found {found}; "
                "copy all three files again"
            )

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        return iter_indexed(self)

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, (n_samples, n_columns)."""
        with self.paths[0].open("rb") as file:
            if isinstance(columns, slice):
                start, stop, _ = columns.indices(len(self.variants))
                return unpack(self._read(file, start, stop), len(self.sample_ids)).T
            packed = np.empty((len(columns), self._bytes_per_variant), np.uint8)
            for place, run in runs(columns):
                packed[place : place + run.stop - run.start] = self._read(file, run.start, run.stop)
        return unpack(packed, len(self.sample_ids)).T

    def _read(self, file: BinaryIO, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the bytes of a range of variants, one row for each."""
        n_bytes = (stop - start) * self._bytes_per_variant
        packed = np.fromfile(
            file, np.uint8, n_bytes, offset=3 + start * self._bytes_per_variant - file.tell()
        )
        return packed.reshape(stop - start, self._bytes_per_variant)


def unpack(packed: NDArray[np.uint8], n_samples: int) -> NDArray[np.int8]:
    """Unpack variants of a .bed file.

    Parameters
    ----------
    packed : ndarray of shape (n_variants, ceil(n_samples / 4)), uint8
        Four calls a byte.
    n_samples : int
        Samples; the last byte may hold fewer than four.

    Returns
    -------
    dosages : ndarray of shape (n_variants, n_samples), int8
        Copies of A1; -1 marks a missing call.

    Examples
    --------
    >>> unpack(np.array([[0b11_10_01_00, 0b00]], dtype=np.uint8), 5)
    array([[ 2, -1,  1,  0,  2]], dtype=int8)
    """
    n_variants, n_bytes = packed.shape
    flat = np.ascontiguousarray(packed).reshape(-1)
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    dosages = np.take(_UNPACKED, flat.view(np.uint16)).view(np.int8)
    return dosages[: 4 * n_variants * n_bytes].reshape(n_variants, 4 * n_bytes)[:, :n_samples]


def pack(dosages: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack variants for a .bed file, the reverse of `unpack`.

    Parameters
    ----------
    dosages : ndarray of shape (n_variants, n_samples), int8

    Returns
    -------
    packed : ndarray of shape (n_variants, ceil(n_samples / 4)), uint8

    Examples
    --------
    >>> [f"{byte:08b}" for byte in pack(np.array([[2, -1, 1, 0, 1]], dtype=np.int8)).ravel()]
    ['11100100', '00000010']
    """
    n_variants, n_samples = dosages.shape
    bits = np.zeros((n_variants, -(-n_samples // 4) * 4), dtype=np.uint8)
    np.take(_BITS, dosages + np.int8(1), out=bits[:, :n_samples])
    return bits[:, 0::4] | bits[:, 1::4] << 2 | bits[:, 2::4] << 4 | bits[:, 3::4] << 6


def write_bed(genotypes: Outgoing, path: Path) -> None:
    """Write a file set in which A1 is ALT and A2 is REF; families and sexes are unknown.

    Raises
    ------
    OutputError
        If a sample id, a name or an allele has blanks.
    """
    check_sample_names(genotypes.sample_ids, path, " \t\r\n")
    fam = "".join(f"0\t{sample}\t0\t0\t0\t-9\n" for sample in genotypes.sample_ids)
    path.with_suffix(".fam").write_text(fam, encoding="utf-8")
    with path.open("wb") as bed, path.with_suffix(".bim").open("w", encoding="utf-8") as bim:
        bed.write(_VARIANT_MAJOR)
        for block in genotypes.blocks:
            check_variant_names(block.columns, path)
            bed.write(pack(block.values.T).tobytes())
            columns = (block.columns[name] for name in ("contig", "id", "position", "alt", "ref"))
            bim.writelines(
                f"{contig}\t{name}\t0\t{position}\t{alt}\t{ref}\n"
                for contig, name, position, alt, ref in zip(*columns, strict=True)
            )


def _read_columns(path: Path, bed: Path) -> pd.DataFrame:
    """Read a .bim or .fam file, six columns without a header."""
    if not path.is_file():
        raise InputFormatError(f"{path} is missing; {bed.name} needs it beside it")
    table = read_strings(path, BLANKS)
    if table.shape[1] < 6 or (table[5] == "").any():
        raise InputFormatError(f"{path} has fewer than the six columns of a {path.suffix} file")
    return table
