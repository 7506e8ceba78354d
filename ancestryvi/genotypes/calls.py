"""The calls of VCF records as dosages, many records at a time.

Nearly all calls are of three characters, ``0/0``, ``0|1``. With the tab before it such a call
fills a word of four bytes, and a record of nothing else is an array of words, on which a few
operations of numpy give all dosages. Any other record has its tabs searched, and any call that is
none of ``0`` and ``1`` around the separator of its record goes through `decode_calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ancestryvi.genotypes.dosage import UnreadableCallError, decode_calls

_BATCH_BYTES = 1 << 19  # stays in the cache of the processor
_TAB, _COLON = ord("\t"), ord(":")
_WORD, _EIGHT = np.dtype("<u4"), np.dtype("<u8")
_PHASED, _UNPHASED = np.frombuffer(b"\t0|0\t0/0", _WORD)
_EACH = np.uint64(0x0101010101010101)
_NO_ALLELE = np.uint32(0xFEFFFEFF)  # the bits that neither allele 0 nor allele 1 has set


class UnreadableCellError(ValueError):
    """A cell, of the `row`-th record and the `column`-th sample, holds no readable call."""

    def __init__(self, reason: str, row: int, column: int) -> None:
        super().__init__(reason)
        self.row, self.column = row, column


class WrongColumnsError(ValueError):
    """A record, the `row`-th of those given, has not one cell for each sample."""

    def __init__(self, row: int) -> None:
        super().__init__(f"record {row} has another number of cells than there are samples")
        self.row = row


def decode_cells(records: Sequence[bytes | memoryview], n_samples: int) -> NDArray[np.int8]:
    r"""Decode the cells of records whose first field is GT.

    Parameters
    ----------
    records : sequence of bytes or memoryview
        For each record the cells of its samples, a tab *before* each, no line end.
    n_samples : int

    Returns
    -------
    dosages : ndarray of shape (n_records, n_samples), int8

    Raises
    ------
    WrongColumnsError
        If a record has more or fewer cells than there are samples.
    UnreadableCellError
        If a call has more than two alleles, or is no call.

    Examples
    --------
    >>> decode_cells([b"\t0/1\t1|1", b"\t.\t0/0:31", b"\t10/2:7,8:15\t0"], 2).tolist()
    [[1, 2], [-1, 0], [2, 0]]
    """
    dosages = np.empty((len(records), n_samples), dtype=np.int8)
    width = _WORD.itemsize * n_samples
    is_wide = np.fromiter((len(record) == width for record in records), bool, len(records))
    wide = np.flatnonzero(is_wide)
    step = max(1, _BATCH_BYTES // width)
    buffer = np.empty(min(step, len(wide)) * width, dtype=np.uint8)
    for start in range(0, len(wide), step):
        rows = wide[start : start + step]
        for place, row in enumerate(rows.tolist()):
            buffer.data[place * width : (place + 1) * width] = records[row]
        words = buffer[: len(rows) * width].view(_WORD).reshape(len(rows), n_samples)
        dosages[rows], is_wide[rows] = _decode_wide(words, rows)
    for rows in _batches(np.flatnonzero(~is_wide), records):
        dosages[rows] = _decode_any([records[row] for row in rows.tolist()], rows, n_samples)
    return dosages


def _decode_wide(
    words: NDArray[np.uint32], rows: NDArray[np.intp]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Decode records that are words throughout by their length, and say which ones truly are."""
    dosages, others = _decode_words(words)
    is_wide = np.ones(len(words), dtype=bool)
    if others.any():
        flat = np.flatnonzero(others)
        other_words = words.reshape(-1)[flat]
        before, *call = other_words.view(np.uint8).reshape(-1, _WORD.itemsize).T
        row = flat // words.shape[1]
        wrong = before != _TAB
        for characters in call:
            wrong |= (characters == _TAB) | (characters == _COLON)
        is_wide[row[wrong]] = False
        kept = is_wide[row]
        calls = (other_words[kept] >> 8).astype(_EIGHT).view("S8")
        dosages.reshape(-1)[flat[kept]] = _decode_at(calls, flat[kept], rows, words.shape[1])
    return dosages, is_wide


def _decode_any(
    records: Sequence[bytes | memoryview], rows: NDArray[np.intp], n_samples: int
) -> NDArray[np.int8]:
    """Decode records of cells of any width."""
    # A tab after the last cell, and room for a call to be read beyond it.
    text = b"".join([*records, b"\t" * 9])
    characters = np.frombuffer(text, dtype=np.uint8)
    tabs = np.flatnonzero(characters[:-8] == _TAB)[:-1]
    ends = np.cumsum([len(record) for record in records])
    wrong = np.diff(np.searchsorted(tabs, ends), prepend=0) != n_samples
    if wrong.any():
        raise WrongColumnsError(int(rows[np.argmax(wrong)]))
    # Every place of the text is the start of a word here; words need not be aligned.
    words = np.ndarray(len(text) - 8, _WORD, text, strides=(1,))[tabs]
    dosages, others = _decode_words(words.reshape(-1, n_samples))
    after = characters[4:][tabs]
    others |= ((after != _TAB) & (after != _COLON)).reshape(others.shape)
    if others.any():
        flat = np.flatnonzero(others)
        eight = np.ndarray(len(text) - 8, _EIGHT, text, offset=1, strides=(1,))[tabs[flat]]
        calls = _cut(eight).view("S8")
        dosages.reshape(-1)[flat] = _decode_at(calls, flat, rows, n_samples)
    return dosages


def _decode_words(words: NDArray[np.uint32]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Decode the calls of alleles 0 and 1 and say which are others, whose dosages mean nothing.

    The bytes of a word are a tab, an allele, a separator, an allele. Compared by exclusive or with
    ``0/0``, or ``0|0`` where the record begins so, alleles 0 and 1 leave their own value and no
    other bit.
    """
    phased = words[:, :1] >> 16 & 0xFF == ord("|")
    left = words ^ np.where(phased, _PHASED, _UNPHASED)
    if np.bitwise_or.reduce(left, axis=None) & _NO_ALLELE:
        others = (left & _NO_ALLELE) != 0
    else:
        others = np.zeros(words.shape, dtype=bool)
    left *= np.uint32(0x00010001)  # adds byte 1 to byte 3
    left >>= np.uint32(24)
    return left.astype(np.int8), others


def _cut(eight: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Clear what follows the first tab or colon in each eight characters, and that itself.

    The marks are the upper bits of bytes that are one of the two: of ``x``, which is 0 there,
    ``(x - 1) & ~x`` has the upper bit set. Borrowing may mark bytes behind the first one wrongly.
    """
    marks = np.zeros_like(eight)
    for end in (_TAB, _COLON):
        x = eight ^ _EACH * np.uint64(end)
        marks |= (x - _EACH) & ~x & _EACH << np.uint64(7)
    first = marks & (~marks + np.uint64(1))
    # One less than the lowest bit of the byte that ends the call has the bits below set.
    return eight & ((first >> np.uint64(7)) - np.uint64(1))


def _batches(
    rows: NDArray[np.intp], records: Sequence[bytes | memoryview]
) -> Iterator[NDArray[np.intp]]:
    """Split rows so that the text of each part, but for one record, is within a batch."""
    n_bytes = np.cumsum([len(records[row]) for row in rows.tolist()], dtype=np.intp)
    breaks = np.flatnonzero(np.diff(n_bytes // _BATCH_BYTES)) + 1
    yield from (part for part in np.split(rows, breaks) if len(part))


def _decode_at(
    calls: NDArray[np.bytes_], flat: NDArray[np.intp], rows: NDArray[np.intp], n_samples: int
) -> NDArray[np.int8]:
    """Decode calls of these places among the records; an error says which."""
    try:
        return decode_calls(calls)
    except UnreadableCallError as error:
        row, column = divmod(int(flat[np.argmax(calls == error.call)]), n_samples)
        raise UnreadableCellError(str(error), int(rows[row]), column) from error
