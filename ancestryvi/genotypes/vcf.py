"""VCF: text, gzip or BGZF.

Lines are cut and decoded in pieces, some at a time in threads. Python sees the nine fixed columns
of a record; its calls are decoded by `ancestryvi.genotypes.calls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.bgzf import check_end
from ancestryvi.genotypes.calls import UnreadableCellError, WrongColumnsError, decode_cells
from ancestryvi.genotypes.inflate import (
    Lines,
    in_order,
    iter_lines,
    iter_text,
    n_threads,
)
from ancestryvi.genotypes.source import Block, Content, call_error, check_sample_ids
from ancestryvi.genotypes.text import damage_reported, open_binary

FIXED_COLUMNS = 9
"""Columns of a record before the first sample: CHROM to FORMAT."""

MAX_ALT = 255
"""ALT alleles kept in the text of a variant; further ones still count in its dosages."""

_HEAD_BYTES = 512  # the fixed columns of most records
_TOO_MANY_DIGITS = 19  # for an int64
_CARRIAGE_RETURN = ord("\r")


class _Header(NamedTuple):
    """The line #CHROM, and the lines and the bytes of the file up to its end."""

    line: bytes
    n_lines: int
    n_bytes: int


class _Columns(NamedTuple):
    """The columns of a variant table as they stand in the file."""

    contig: list[bytes]
    position: list[bytes]
    id: list[bytes]
    ref: list[bytes]
    alt: list[bytes]


class _LineError(ValueError):
    """What is wrong with a line, the `row`-th of a piece."""

    def __init__(self, reason: str, row: int) -> None:
        super().__init__(reason)
        self.row = row


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
            self._header = _read_header(file, path)
            names = self._header.line.decode().split("\t")[FIXED_COLUMNS:]
            self.sample_ids = check_sample_ids(names, path)
        check_end(path)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        (path,) = self.paths
        n_lines, any_gt = self._header.n_lines, False
        with damage_reported(path), ThreadPoolExecutor(n_threads()) as pool:
            texts = _skip(iter_text(path, pool), self._header.n_bytes)
            blocks = in_order(pool, self._decode, iter_lines(texts))
            try:
                for block, has_gt in blocks:
                    n_lines += len(block.columns)
                    any_gt = any_gt or has_gt
                    yield block
            except _LineError as error:
                number = n_lines + 1 + error.row
                raise InputFormatError(f"{path}, line {number}: {error}") from error
        if n_lines == self._header.n_lines:
            raise InputFormatError(f"{path} has a header but no records; is it complete?")
        if not any_gt:
            raise InputFormatError(
                f"{path}: no record has GT in its FORMAT column; ancestryvi needs called "
                "genotypes, so call or convert likelihoods or dosages to GT first"
            )

    def _decode(self, piece: tuple[Lines, ...]) -> tuple[Block, bool]:
        """Decode whole lines, and say whether a record among them has GT."""
        columns, cells, has_gt = _split(piece)
        try:
            dosages = decode_cells(cells, len(self.sample_ids))
        except WrongColumnsError as error:
            lines = b"".join(text[start:stop] for text, start, stop in piece).split(b"\n")
            n_columns = lines[error.row].count(b"\t") + 1
            raise _LineError(
                f"{n_columns} columns, but the header has {FIXED_COLUMNS + len(self.sample_ids)}; "
                "the file is truncated or damaged, copy or write it again",
                error.row,
            ) from error
        except UnreadableCellError as error:
            texts = (column[error.row].decode(errors="replace") for column in columns)
            contig, position, _, ref, alt = texts
            sample = self.sample_ids[error.column]
            raise call_error(self.paths[0], (contig, position, ref, alt), sample, error) from error
        return Block(dosages.T, _variant_table(columns)), has_gt


def _split(piece: tuple[Lines, ...]) -> tuple[_Columns, list[bytes | memoryview], bool]:
    """Split records into the columns CHROM to ALT, and the cells with GT first in each.

    The third value says whether a record has GT. A line too short for cells has none.
    """
    columns = _Columns([], [], [], [], [])
    contigs, positions, ids, refs, alts = columns
    cells: list[bytes | memoryview] = []
    has_gt = False
    for text, start, stop in piece:
        view = memoryview(text)
        while start < stop:
            end = text.index(b"\n", start)
            last = end - 1 if text[end - 1] == _CARRIAGE_RETURN else end
            cut = min(start + _HEAD_BYTES, last)
            head = text[start:cut].split(b"\t", FIXED_COLUMNS)
            if len(head) <= FIXED_COLUMNS:
                cut = last
                head = text[start:cut].split(b"\t", FIXED_COLUMNS)
            if len(head) <= FIXED_COLUMNS:
                head = [b""] * (FIXED_COLUMNS + 1)
                cut = last + 1
            contig, position, id_, ref, alt, _, _, _, fields, rest = head
            contigs.append(contig)
            positions.append(position)
            ids.append(id_)
            refs.append(ref)
            alts.append(alt)
            tab = cut - len(rest) - 1  # behind FORMAT
            if fields == b"GT" or fields.startswith(b"GT:"):
                cells.append(view[tab:last])
                has_gt = True
            else:
                cells.append(_gt_cells(text[tab:last], fields))
                has_gt = has_gt or b"GT" in fields.split(b":")
            start = end + 1
    return columns, cells, has_gt


def _variant_table(columns: _Columns) -> pd.DataFrame:
    """Make the variant table of a piece, all ALT alleles of a record in one string."""
    for row, text in enumerate(columns.position):
        if not text.isdigit() or len(text) >= _TOO_MANY_DIGITS:
            raise _LineError(
                f"the line is damaged: POS {text.decode(errors='replace')!r} is no number",
                row,
            )
    alts = columns.alt
    if any(text.count(b",") >= MAX_ALT for text in alts):
        alts = [b",".join(text.split(b",")[:MAX_ALT]) for text in alts]
    return pd.DataFrame(
        {
            "contig": _strings(columns.contig),
            "position": np.array(list(map(int, columns.position)), dtype=np.int64),
            "id": _strings(columns.id),
            "ref": _strings(columns.ref),
            "alt": _strings(alts),
        },
        copy=False,
    )


def _gt_cells(cells: bytes, fields: bytes) -> bytes:
    """Leave only GT in cells that begin with another field, nothing where there is no GT."""
    names = fields.split(b":")
    if b"GT" not in names:
        return b"\t" * cells.count(b"\t")
    place = names.index(b"GT")
    values = (cell.split(b":", place + 1)[place : place + 1] for cell in cells.split(b"\t")[1:])
    return b"".join(b"\t" + (value[0] if value else b"") for value in values)


def _strings(values: Iterable[bytes]) -> NDArray[np.object_]:
    """Decode many short texts at once."""
    return np.array(b"\t".join(values).decode().split("\t"), dtype=object)


def _skip(texts: Iterable[bytes], n_bytes: int) -> Iterator[bytes]:
    """Leave out the first bytes of a text in pieces."""
    for text in texts:
        if n_bytes < len(text):
            yield text[n_bytes:] if n_bytes else text
        n_bytes = max(0, n_bytes - len(text))


def _read_header(file: BufferedIOBase, path: Path) -> _Header:
    line = file.readline(1 << 16)
    if not line:
        raise InputFormatError(f"{path} is empty; it should begin with ##fileformat=VCF")
    if not line.startswith((b"##", b"#CHROM")):
        raise InputFormatError(
            f"{path} is no VCF: it begins with {line[:40]!r}, not with ##fileformat=VCF"
        )
    n_lines, n_bytes = 1, len(line)
    while line.startswith(b"##"):
        line = file.readline()
        n_lines += 1
        n_bytes += len(line)
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
    return _Header(header, n_lines, n_bytes)
