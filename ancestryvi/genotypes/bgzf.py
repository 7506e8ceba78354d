"""BGZF: gzip in blocks of up to 64 KiB that tell their own length, so that they can be indexed.

Source: section 4.1 of the SAM specification, https://samtools.github.io/hts-specs.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from isal import isal_zlib

from ancestryvi.exceptions import InputFormatError

END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that marks the end of a file."""

HEADER_BYTES = 18
"""Bytes before the deflated ones of a block."""

_START = b"\x1f\x8b\x08\x04"
_BLOCK_BYTES = 0xFF00  # as bgzip does: even what does not shrink fits a block


def compress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress bytes into blocks; `END` is left to the caller, since files can be put together."""
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK_BYTES):
            yield _block(piece[start : start + _BLOCK_BYTES])


def _block(data: bytes) -> bytes:
    deflate = isal_zlib.compressobj(isal_zlib.ISAL_DEFAULT_COMPRESSION, wbits=-15)
    body = deflate.compress(data) + deflate.flush()
    size = len(body) + 25  # 18 bytes of header and 8 at the end, minus 1
    header = _START + b"\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size)
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


def starts_block(header: bytes) -> bool:
    """Tell whether these first bytes of a gzip member carry its length."""
    return header.startswith(_START) and header[12:16] == b"BC\x02\0"


def is_bgzf(path: Path) -> bool:
    """Tell BGZF from other gzip, by its first block."""
    with path.open("rb") as file:
        return starts_block(file.read(HEADER_BYTES))


def check_end(path: Path) -> None:
    """Refuse a BGZF file without its end marker: cut between two blocks it would look complete.

    Raises
    ------
    InputFormatError
        If the marker is missing.
    """
    if not is_bgzf(path):
        return
    with path.open("rb") as file:
        file.seek(-min(len(END), path.stat().st_size), 2)
        if file.read() != END:
            raise InputFormatError(
                f"{path} is truncated: the BGZF end-of-file block is missing; copy the file "
                "again, or, if it is complete, write it anew with bgzip"
            )
