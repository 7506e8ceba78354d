"""Text files, plain or compressed, with errors that a user can act on."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import pandas as pd
from isal import igzip
from isal.igzip_lib import IsalError  # the stub has it as an instance

from ancestryvi.exceptions import InputFormatError

GZIP_MAGIC = b"\x1f\x8b"
BLANKS = r"\s+"


def is_gzip(path: Path) -> bool:
    """Tell by the first two bytes, since names lie."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def open_binary(path: Path) -> BufferedIOBase:
    """Open a file for reading bytes, inflating gzip and BGZF."""
    return igzip.open(path, "rb") if is_gzip(path) else path.open("rb")


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn what gzip and text decoding raise on a damaged file into an InputFormatError."""
    try:
        yield
    except (EOFError, zlib.error, IsalError, gzip.BadGzipFile) as error:  # type: ignore[misc]
        raise InputFormatError(
            f"{path} is truncated or damaged ({error}); copy or download the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputFormatError(
            f"{path} is no UTF-8 text ({error}); is it another format?"
        ) from error


def first_bytes(path: Path, n: int = 4096) -> bytes:
    """Return the first bytes of the content, inflated as far as a damaged file allows."""
    with path.open("rb") as file:
        raw = file.read(1 << 16)
    if not raw.startswith(GZIP_MAGIC):
        return raw[:n]
    with damage_reported(path):
        return zlib.decompressobj(wbits=31).decompress(raw, n)


def read_strings(path: Path, delimiter: str | None = None) -> pd.DataFrame:
    """Read a delimited table with every cell as a stripped string and no header line taken.

    Without a delimiter it is the first of tab, comma, semicolon that the first line has, or else
    runs of blanks. Short rows are filled up with empty strings.

    Raises
    ------
    InputFormatError
        If the file is empty, damaged, no text, or a row is longer than the first.
    """
    with damage_reported(path), open_binary(path) as file:
        header = file.readline().decode("utf-8-sig")
        if not header.strip():
            raise InputFormatError(f"{path} is empty or begins with a blank line; give a table")
    if delimiter is None:
        delimiter = next((mark for mark in "\t,;" if mark in header.strip("\r\n")), BLANKS)
    try:
        with damage_reported(path), open_binary(path) as file:
            table = pd.read_csv(
                file,
                sep=delimiter,
                header=None,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except pd.errors.ParserError as error:
        raise InputFormatError(
            f"{path} is no regular table: {str(error).strip()}. Every line must have as many cells "
            "as the header, separated by tabs or commas."
        ) from error
    table = table.fillna("")
    return table if delimiter == BLANKS else table.apply(lambda column: column.str.strip())
