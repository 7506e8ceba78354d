"""What a call counts for: the one place where calls become dosages, whatever the format.

The policy of ancestryvi:

- The dosage is the number of non-REF alleles of a diploid call: 0, 1 or 2. Phasing is ignored.
- A missing call (``./.``, ``.``) is -1, and so is a half call (``0/.``, ``.|1``): one seen allele
  does not say what the other is.
- A haploid call (``0``, ``1``: X and Y of males, mitochondria) counts as homozygous, 0 or 2, the
  way PLINK stores it. Counted as 0 or 1, sex would become an axis of the map.
- At a multiallelic record every ALT allele counts alike, so ``1/2`` is 2. Nothing is dropped
  here; quality control counts and drops such records.
- More than two alleles in a call, or anything that is no call at all, is an error.

A BED file and a matrix hold dosages already, so only the range remains to be checked.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError

MISSING = -1
"""The code of a missing call in a dosage matrix."""

CODING = "copies of alt per call: 0, 1 or 2; -1 is a missing call"
"""The coding of a dosage matrix in words, for files that carry one."""

_BLOCK_CALLS = 1 << 22
_NO_ALLELE = -2  # fills the allele numbers of a call that has fewer than the others
_SEPARATOR = re.compile(rb"[/|]")
_DOT = np.uint8(ord(".") - ord("0") & 0xFF)  # a dot after subtracting b"0" in uint8


class UnreadableCallError(ValueError):
    """A call has no dosage; `call` is its text and `reason` says why.

    `index` is its place in the array that was decoded, where that is known.
    """

    def __init__(self, call: bytes, reason: str, index: tuple[int, ...] = ()) -> None:
        super().__init__(f"call {call.decode(errors='replace')!r} {reason}")
        self.call = call
        self.index = index


def call_dosage(call: bytes) -> int:
    """Decode one call as VCF writes it; the policy is in the text of this module.

    Parameters
    ----------
    call : bytes
        The GT value of one sample at one record; empty when the record has none.

    Returns
    -------
    dosage : int
        0, 1, 2, or -1 for a missing call.

    Raises
    ------
    UnreadableCallError
        If the call has more than two alleles, or is no call.

    Examples
    --------
    >>> [call_dosage(call) for call in (b"0/0", b"0/.", b"1/.", b"./.", b"1")]
    [0, -1, -1, -1, 2]
    >>> [call_dosage(call) for call in (b"1|0", b"10/12", b"0", b"")]
    [1, 2, 0, -1]
    """
    if not call:
        return MISSING
    # VCF 4.4 allows the phasing of the first allele to be written in front of it.
    alleles = _SEPARATOR.split(call[1:] if call[:1] in (b"/", b"|") else call)
    if len(alleles) > 2:
        raise UnreadableCallError(call, "has more than two alleles")
    if not all(allele == b"." or allele.isdigit() for allele in alleles):
        raise UnreadableCallError(call, "is no genotype")
    if b"." in alleles:
        return MISSING
    non_ref = sum(int(allele) > 0 for allele in alleles)
    return non_ref if len(alleles) == 2 else 2 * non_ref


def decode_calls(calls: NDArray[np.bytes_]) -> NDArray[np.int8]:
    """Decode many calls at once, with the result of `call_dosage` for each.

    Parameters
    ----------
    calls : ndarray of any shape, fixed-width bytes of 8 characters
        GT values. A longer call is cut, which does not change its dosage: either it has more than
        two alleles, which shows in 8 characters, or a number of four digits, which is no REF.

    Returns
    -------
    dosages : ndarray of the same shape, int8

    Raises
    ------
    UnreadableCallError
        If a call has more than two alleles, or is no call.

    Examples
    --------
    >>> import numpy as np
    >>> decode_calls(np.array([b"0/0", b"0|1", b"./1", b"10/12", b"1"], dtype="S8"))
    array([ 0,  1, -1,  2,  2], dtype=int8)
    """
    calls = np.ascontiguousarray(calls, dtype="S8")
    characters = calls.view(np.uint8).reshape(*calls.shape, 8)
    numbers = calls.view("<u8")
    # Nearly every call is one character, or two around a separator: those are decoded here ...
    alone = numbers >> 8 == 0
    separator = characters[..., 1]
    first = characters[..., 0] - np.uint8(ord("0"))
    second = np.where(alone, first, characters[..., 2] - np.uint8(ord("0")))
    missing = (first == _DOT) | (second == _DOT)
    plain = (separator == ord("/")) | (separator == ord("|"))
    plain &= numbers >> 24 == 0
    plain |= alone
    plain &= ((first < 10) | (first == _DOT)) & ((second < 10) | (second == _DOT))
    dosages = (first > 0).astype(np.int8)
    dosages += second > 0
    dosages[missing] = MISSING
    # ... and the others once per distinct call. Sorting integers is faster than sorting bytes.
    other = ~plain
    if other.any():
        distinct, inverse = np.unique(numbers[other], return_inverse=True)
        decoded = [call_dosage(call) for call in distinct.view("S8").tolist()]
        dosages[other] = np.array(decoded, dtype=np.int8)[inverse]
    return dosages


def decode_alleles(alleles: NDArray[np.signedinteger[Any]]) -> NDArray[np.int8]:
    """Decode calls given as allele numbers, with the result of `call_dosage` for each.

    Parameters
    ----------
    alleles : ndarray of shape (..., ploidy), signed integer
        The allele numbers of each call, 0 for REF; -1 is a missing allele and -2 fills calls of
        fewer alleles, as in BCF and VCF-Zarr.

    Returns
    -------
    dosages : ndarray of shape (...), int8

    Raises
    ------
    UnreadableCallError
        If a call has more than two alleles; `index` says where.

    Examples
    --------
    >>> calls = np.array([[0, 0], [0, -1], [1, -1], [-1, -1], [1, -2], [2, 1]], dtype=np.int8)
    >>> decode_alleles(calls)
    array([ 0, -1, -1, -1,  2,  2], dtype=int8)
    """
    ploidy = alleles.shape[-1]
    if ploidy > 2:
        many = np.argwhere((alleles > _NO_ALLELE).sum(axis=-1) > 2)
        if len(many):
            index = tuple(int(i) for i in many[0])
            text = "/".join("." if a < 0 else str(a) for a in alleles[index] if a > _NO_ALLELE)
            raise UnreadableCallError(text.encode(), "has more than two alleles", index)
    if ploidy == 2:
        # Two flags as one 16-bit word: six times as fast as reducing the last axis.
        non_ref = np.greater(alleles, 0, order="C").view(np.uint16)[..., 0]
        dosages = (non_ref + (non_ref >> 8)).astype(np.int8)
        other = np.less(alleles, 0, order="C").view(np.uint16)[..., 0] != 0
    else:
        dosages = np.count_nonzero(alleles > 0, axis=-1).astype(np.int8) * (2 if ploidy == 1 else 1)
        other = (alleles < 0).any(axis=-1)
    # Few calls are other than diploid and complete: those are decoded again.
    places = np.unravel_index(np.flatnonzero(other), other.shape)
    if len(places[0]):
        calls = alleles[places]
        n_alleles = (calls > _NO_ALLELE).sum(axis=-1)
        again = np.where(n_alleles == 1, 2, 1) * (calls > 0).sum(axis=-1)
        again[(calls == MISSING).any(axis=-1) | (n_alleles == 0)] = MISSING
        dosages[places] = again
    return dosages


def as_dosages(values: NDArray[Any], where: str) -> NDArray[np.int8]:
    """Check a numeric matrix of dosages and bring it to int8 with -1 for a missing call.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_variants), integer or float
        0, 1 or 2; -1 or NaN marks a missing call.
    where : str
        What the matrix is, for the message of the error.

    Returns
    -------
    dosages : ndarray of shape (n_samples, n_variants), int8
        `values` itself if it is int8 already.

    Raises
    ------
    InputFormatError
        If a value is no dosage; the message shows it and its row and column.

    Examples
    --------
    >>> as_dosages(np.array([[0.0, np.nan, 2.0]]), "the array")
    array([[ 0, -1,  2]], dtype=int8)
    """
    if values.dtype.kind not in "iuf":
        raise InputFormatError(f"{where} holds {values.dtype}, not dosages 0, 1, 2 and -1 or NaN")
    if values.ndim != 2:
        raise InputFormatError(
            f"{where} has shape {values.shape}; dosages are a matrix of (samples, variants)"
        )
    dosages = values if values.dtype == np.int8 else np.empty(values.shape, dtype=np.int8)
    step = max(1, _BLOCK_CALLS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        if block.dtype.kind == "f":
            block = np.where(np.isnan(block), block.dtype.type(MISSING), block)
        valid = (block >= MISSING) & (block <= 2) & (block == np.trunc(block))
        if not valid.all():
            row, column = (int(index) for index in np.argwhere(~valid)[0])
            raise InputFormatError(
                f"{where} is no dosage matrix: row {start + row}, column {column} (from 0) hold "
                f"{block[row, column]}, not 0, 1, 2, or -1 or NaN for a missing call; round "
                "imputed dosages to hard calls and recode other missing values first"
            )
        if dosages is not values:
            dosages[start : start + step] = block
    return dosages
