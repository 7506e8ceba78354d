"""VCF: text, gzip or BGZF, through scikit-allel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.dosage import UnreadableCallError, decode_calls
from ancestryvi.genotypes.source import Block, Content, block_columns, check_sample_ids
from ancestryvi.genotypes.text import damage_reported, open_binary

FIXED_COLUMNS = 9
"""Columns of a record before the first sample: CHROM to FORMAT."""

MAX_ALT = 255
"""ALT alleles kept in the text of a variant; further ones still count in its dosages."""

_CHUNK_RECORDS = 1024  # scikit-allel allocates a chunk whole, however few records come
# scikit-allel needs to be told what GT is, and many a file does not declare it.
_PREAMBLE = b'##fileformat=VCFv4.3\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
_BGZF_START = b"\x1f\x8b\x08\x04"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_BUFFER_BYTES = 1 << 18


class VcfSource:
    """The calls of a VCF file as dosages, decoded as `ancestryvi.genotypes.dosage` says.

    Every record is kept: multiallelic ones in one column with ALT ``"A,T"``, indels, symbolic
    alleles, duplicates. Contig names are opaque.

    Parameters
    ----------
    path : Path
        VCF text, gzip or BGZF, told apart by content.

    Raises
    ------
    InputFormatError
        If the file is no VCF, has no samples, or is damaged. Records are checked while they are
        read: a line that has not as many columns as the header, a call of more than two alleles,
        a file without records or without GT.
    SampleError
        If a sample id occurs twice.
    """

    content: Content = "dosages"

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (path,)
        with damage_reported(path), open_binary(path) as file:
            header, _ = _read_header(file, path)
            self.sample_ids = check_sample_ids(header.decode().split("\t")[FIXED_COLUMNS:], path)
        _check_bgzf_end(path)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        (path,) = self.paths
        any_record = any_call = False
        with damage_reported(path), open_binary(path) as file:
            header, n_lines = _read_header(file, path)
            records = _CheckedRecords(file, header, n_lines, path)
            length = min(_CHUNK_RECORDS, block_columns(len(self.sample_ids)))
            for chunk in _iter_chunks(records, length, path):
                calls = chunk["calldata/GT"]
                columns = _variant_table(chunk)
                any_record = True
                any_call = any_call or bool((calls != b"").any())
                yield Block(self._decode(calls, columns).T, columns)
        if not any_record:
            raise InputFormatError(f"{path} has a header but no records; is it complete?")
        if not any_call:
            raise InputFormatError(
                f"{path}: no record has GT in its FORMAT column; ancestryvi needs called "
                "genotypes, so call or convert likelihoods or dosages to GT first"
            )

    def _decode(self, calls: NDArray[np.bytes_], columns: pd.DataFrame) -> NDArray[np.int8]:
        """Decode the calls of one chunk; an error names the variant and the sample."""
        try:
            return decode_calls(calls)
        except UnreadableCallError as error:
            row, sample = (int(index) for index in np.argwhere(calls == error.call)[0])
            variant = columns.loc[row, ["contig", "position", "ref", "alt"]]
            raise InputFormatError(
                f"{self.paths[0]}: variant {':'.join(map(str, variant))}, sample "
                f"{self.sample_ids[sample]!r}: {error}; ancestryvi reads haploid and diploid calls"
            ) from error


class _CheckedRecords:
    """The records of a VCF as the file that scikit-allel reads, counting columns on the way.

    scikit-allel fills a line that is too short with missing calls and says nothing, so a cut file
    would pass for one with missing data.
    """

    def __init__(self, file: BufferedIOBase, header: bytes, n_lines: int, path: Path) -> None:
        self._file = file
        self._path = path
        self._n_tabs = header.count(b"\t")
        self._n_lines = n_lines
        self._tabs_so_far = 0
        self._in_line = False
        self._preamble = _PREAMBLE + header + b"\n"

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer and return how many bytes were put there, 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._preamble:
            n = min(len(view), len(self._preamble))
            view[:n] = self._preamble[:n]
            self._preamble = self._preamble[n:]
            return n
        with damage_reported(self._path):
            n = self._file.readinto(view)
        if n:
            self._check_columns(np.frombuffer(view[:n], dtype=np.uint8))
        elif self._in_line:
            self._check_line(self._tabs_so_far)
        return int(n)

    def _check_columns(self, text: NDArray[np.uint8]) -> None:
        """Compare the tabs of every line that ends in this piece with those of the header."""
        ends = np.flatnonzero(text == ord("\n"))
        tabs = np.flatnonzero(text == ord("\t"))
        until_end = np.searchsorted(tabs, ends)
        per_line = np.diff(until_end, prepend=-self._tabs_so_far)
        wrong = per_line != self._n_tabs
        if wrong.any():
            first = int(np.argmax(wrong))
            self._n_lines += first
            self._check_line(int(per_line[first]))
        self._n_lines += len(ends)
        in_piece = len(tabs) - (int(until_end[-1]) if len(ends) else -self._tabs_so_far)
        self._tabs_so_far = in_piece
        self._in_line = bool(text[-1] != ord("\n"))

    def _check_line(self, n_tabs: int) -> None:
        if n_tabs != self._n_tabs:
            raise InputFormatError(
                f"{self._path}, line {self._n_lines + 1}: {n_tabs + 1} columns, but the header has "
                f"{self._n_tabs + 1}; the file is truncated or damaged, copy or write it again"
            )


def _read_header(file: BufferedIOBase, path: Path) -> tuple[bytes, int]:
    """Return the #CHROM line and its number; the file stands at the first record then."""
    line = file.readline(1 << 16)
    if not line:
        raise InputFormatError(f"{path} is empty; it should begin with ##fileformat=VCF")
    if not line.startswith((b"##", b"#CHROM")):
        raise InputFormatError(
            f"{path} is no VCF: it begins with {line[:40]!r}, not with ##fileformat=VCF"
        )
    n_lines = 1
    while line.startswith(b"##"):
        line = file.readline()
        n_lines += 1
    if not line.startswith(b"#CHROM"):
        raise InputFormatError(
            f"{path}, line {n_lines}: the header ends without a line #CHROM; the file is "
            "truncated or is no VCF"
        )
    header = line.rstrip(b"\r\n")
    n_columns = header.count(b"\t") + 1
    if n_columns <= FIXED_COLUMNS:
        raise InputFormatError(
            f"{path}, line {n_lines}: {n_columns} tab-separated columns leave no samples after "
            "FORMAT; ancestryvi needs genotypes, not sites alone"
        )
    return header, n_lines


def _check_bgzf_end(path: Path) -> None:
    """Refuse BGZF without its end marker: cut between two blocks it would look complete."""
    with path.open("rb") as file:
        start = file.read(18)
        if start.startswith(_BGZF_START) and start[12:14] == b"BC":
            file.seek(-min(len(_BGZF_END), path.stat().st_size), 2)
            if file.read() != _BGZF_END:
                raise InputFormatError(
                    f"{path} is truncated: the BGZF end-of-file block is missing; copy the file "
                    "again, or, if it is complete, write it anew with bgzip"
                )


def _iter_chunks(records: _CheckedRecords, length: int, path: Path) -> Iterator[dict[str, Any]]:
    """Let scikit-allel parse the records, with GT as text.

    As integers a half call ``1/.`` and a haploid call ``1`` come out alike, ``[1, -1]``; as text
    they stay apart, and scikit-allel is three times as fast.
    """
    import allel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, _, _, chunks = allel.iter_vcf_chunks(
            records,
            fields=["CHROM", "POS", "ID", "REF", "ALT", "numalt", "calldata/GT"],
            types={"calldata/GT": "S8"},
            numbers={"calldata/GT": 1},
            alt_number=MAX_ALT,
            buffer_size=_BUFFER_BYTES,
            chunk_length=length,
        )
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            item = next(chunks, None)
        damage = [text for text in (str(entry.message) for entry in caught) if "field:" in text]
        if damage:
            raise InputFormatError(f"{path} is damaged: {damage[0].strip()}")
        if item is None:
            return
        yield item[0]


def _variant_table(chunk: dict[str, Any]) -> pd.DataFrame:
    """Make the variant table of a chunk, all ALT alleles of a record in one string."""
    alleles, n_alt = chunk["variants/ALT"], chunk["variants/numalt"]
    alt = alleles[:, 0].copy()
    alt[n_alt == 0] = "."
    for row in np.flatnonzero(n_alt > 1):
        alt[row] = ",".join(alleles[row, : n_alt[row]])
    return pd.DataFrame(
        {
            "contig": chunk["variants/CHROM"],
            "position": chunk["variants/POS"].astype(np.int64),
            "id": chunk["variants/ID"],
            "ref": chunk["variants/REF"],
            "alt": alt,
        }
    )
