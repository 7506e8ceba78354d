"""The text of a file in pieces of whole lines, inflated on all cores.

BGZF, which bgzip and bcftools write, is gzip in blocks that can be inflated apart; the blocks of a
piece are one task of a pool of threads. Other gzip is one stream, which the calling thread inflates
while the pool works on the pieces before.
"""

from __future__ import annotations

import gzip
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from isal import igzip

from ancestryvi.genotypes.bgzf import HEADER_BYTES, starts_block
from ancestryvi.genotypes.memory import keep_freed
from ancestryvi.genotypes.text import is_gzip

_BLOCK_TEXT = 1 << 16  # the most that a block may hold
_NO_BLOCK = "a BGZF block is not as long as it says"
_PIECE_BYTES = 1 << 22

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Lines(NamedTuple):
    """Whole lines: those between two places of a text, the place after a line end each."""

    text: bytes
    start: int
    stop: int


def n_threads() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
) -> Iterator[_Result]:
    """Yield `function` of each item in order while the next ones are computed in the pool.

    The items are drawn in the calling thread, one for each two cores before they are asked for:
    two such stages keep all cores busy, and what is held in memory is bounded.

    Examples
    --------
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(in_order(pool, str, range(3)))
    ['0', '1', '2']
    """
    ahead = (n_threads() + 1) // 2
    waiting: deque[Future[_Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def iter_text(path: Path, pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """Yield the text of a file, plain, gzip or BGZF, in pieces cut anywhere.

    Raises
    ------
    EOFError, gzip.BadGzipFile, isal.igzip_lib.IsalError
        If the file is truncated or damaged; see `ancestryvi.genotypes.text.damage_reported`.
    """
    keep_freed(2 * _PIECE_BYTES)
    with path.open("rb") as file:
        yield from in_order(pool, _inflate, _bgzf_pieces(file))
        # What is left is all of a file that is no BGZF, or nothing.
        with igzip.open(file) if is_gzip(path) else file as rest:
            while text := rest.read(_PIECE_BYTES):
                yield text


def iter_lines(texts: Iterable[bytes]) -> Iterator[tuple[Lines, ...]]:
    r"""Cut texts at line ends, with only the line that crosses their border copied.

    Examples
    --------
    >>> texts = [b"a\nb", b"", b"c", b"\nd\ne\nf"]
    >>> [[lines.text[lines.start : lines.stop] for lines in piece] for piece in iter_lines(texts)]
    [[b'a\n', b''], [b'bc\n', b'd\ne\n'], [b'f\n']]
    """
    begun: list[bytes] = []
    for text in texts:
        first, last = text.find(b"\n") + 1, text.rfind(b"\n") + 1
        if not first:
            begun.append(text)
            continue
        line = b"".join([*begun, text[:first]])
        yield Lines(line, 0, len(line)), Lines(text, first, last)
        begun = [text[last:]]
    line = b"".join(begun)
    if line:
        yield (Lines(line + b"\n", 0, len(line) + 1),)


def _bgzf_pieces(file: BinaryIO) -> Iterator[tuple[list[bytes], int]]:
    """Yield the next blocks, unread ones, and the size of their text, until one is no BGZF."""
    blocks: list[bytes] = []
    size = 0
    while starts_block(header := file.read(HEADER_BYTES)):
        n_left = int.from_bytes(header[16:], "little") + 1 - len(header)
        block = header + file.read(max(0, n_left))
        n_bytes = int.from_bytes(block[-4:], "little")
        if n_bytes > _BLOCK_TEXT:
            raise gzip.BadGzipFile(_NO_BLOCK)
        blocks.append(block)
        size += n_bytes
        if size >= _PIECE_BYTES:
            yield blocks, size
            blocks, size = [], 0
    file.seek(-len(header), os.SEEK_CUR)
    if blocks:
        yield blocks, size


def _inflate(piece: tuple[list[bytes], int]) -> bytes:
    blocks, size = piece
    with igzip.open(BytesIO(b"".join(blocks))) as file:
        # One byte more than there is, so that the checksum of the last block is compared, too.
        text: bytes = file.read(size + 1)
    if len(text) != size:
        raise gzip.BadGzipFile(_NO_BLOCK)
    return text
