"""Matches the variants of two data sets by position and alleles, never by order alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.container import UNKNOWN_CONTIG
from ancestryvi.genotypes.dosage import MISSING
from ancestryvi.genotypes.source import IndexedDosages

STATUSES = ("same", "flipped", "strand", "strand_flipped", "ambiguous", "absent")
"""What can become of a reference variant; of several candidates the leftmost wins."""

_SAME, _FLIPPED, _STRAND, _STRAND_FLIPPED, _AMBIGUOUS, _ABSENT = range(6)
_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
_UNKNOWN = 0  # the code of an allele "." or "0", which agrees with any
_NO_COMPLEMENT = -1


@dataclass(frozen=True, eq=False)
class VariantMatch:
    """Where each reference variant is found in another data set.

    Parameters
    ----------
    index : ndarray of shape (n_reference,), int
        The column of the other data set to use, or -1.
    flip : ndarray of shape (n_reference,), bool
        The other data set counts the other allele, so its dosage d means 2 - d.
    status : ndarray of shape (n_reference,), str
        ``"same"``, ``"flipped"`` (REF and ALT swapped), ``"strand"`` (complemented),
        ``"strand_flipped"`` (both), ``"ambiguous"`` (A/T or C/G with REF and ALT swapped: the
        other strand or the other allele, nobody can tell; not used), ``"absent"``.
    palindromic : ndarray of shape (n_reference,), bool
        The alleles are A/T or C/G. Such a variant is used only as ``"same"``, which trusts that
        both data sets are on one strand.
    """

    index: NDArray[np.intp]
    flip: NDArray[np.bool_]
    status: NDArray[np.str_]
    palindromic: NDArray[np.bool_]

    @property
    def n_matched(self) -> int:
        """Reference variants that can be used."""
        return int(np.count_nonzero(self.index >= 0))

    def counts(self) -> dict[str, int]:
        """Count the reference variants by status.

        Returns
        -------
        counts : dict
            The six statuses, which add up to n_reference, and ``same_palindromic``: those of
            ``same`` whose alleles are A/T or C/G.
        """
        counts = {status: int(np.count_nonzero(self.status == status)) for status in STATUSES}
        same_palindromic = np.count_nonzero((self.status == "same") & self.palindromic)
        return counts | {"same_palindromic": int(same_palindromic)}

    def aligned_dosages(
        self, genotypes: IndexedDosages, variants: slice = slice(None)
    ) -> NDArray[np.int8]:
        """Bring the dosages of the other data set into the order and alleles of the reference.

        Parameters
        ----------
        genotypes : Genotypes or another IndexedDosages
            The other data set.
        variants : slice, optional
            The reference variants wanted; all when left out. Blocks keep memory bounded.

        Returns
        -------
        dosages : ndarray of shape (n_samples, n_wanted), int8
            Copies of the ALT allele of the reference; -1 where a call is missing or the variant
            cannot be used.
        """
        index, flip = self.index[variants], self.flip[variants]
        present = index >= 0
        aligned = np.full((len(index), len(genotypes.sample_ids)), MISSING, dtype=np.int8)
        columns, place = np.unique(index[present], return_inverse=True)
        aligned[present] = genotypes.read_dosages(columns).T[place]
        swapped = aligned[flip]
        aligned[flip] = np.where(swapped == MISSING, MISSING, 2 - swapped)
        return aligned.T


def match_variants(reference: pd.DataFrame, other: pd.DataFrame) -> VariantMatch:
    """Find each variant of a reference in another data set.

    Variants match at the same contig (``chr1`` and ``1`` are the same) and position with the same
    two alleles, in either order, on either strand. Of several records at a position the one whose
    alleles agree best is taken, the first of equals. An unknown allele (``.`` or the ``0`` of a
    monomorphic .bim line) agrees with any, if the other allele of the pair is known and agrees. A
    position of 0 matches nothing, except that two tables of equal length, all of whose contigs
    are ``"unknown"``, match row by row.

    Parameters
    ----------
    reference : DataFrame of n_reference rows
        The variant table to follow.
    other : DataFrame
        The variant table to look in.

    Returns
    -------
    match : VariantMatch

    Raises
    ------
    InputFormatError
        If both tables are without coordinates and differ in length.

    Examples
    --------
    >>> reference = pd.DataFrame(
    ...     {"contig": ["1", "1", "1"], "position": [5, 7, 9],
    ...      "ref": ["A", "C", "A"], "alt": ["G", "T", "T"]})
    >>> other = pd.DataFrame(
    ...     {"contig": ["chr1", "chr1"], "position": [7, 9],
    ...      "ref": ["T", "T"], "alt": ["C", "A"]})
    >>> match = match_variants(reference, other)
    >>> match.status.tolist(), match.index.tolist(), match.flip.tolist()
    (['absent', 'flipped', 'ambiguous'], [-1, 0, -1], [False, True, False])
    """
    n_reference = len(reference)
    if _without_coordinates(reference) and _without_coordinates(other):
        if n_reference != len(other):
            raise InputFormatError(
                f"neither data set has coordinates, and they have {n_reference} and {len(other)} "
                "variants; they match by order only if the numbers are equal"
            )
        return VariantMatch(
            np.arange(n_reference),
            np.zeros(n_reference, dtype=bool),
            np.full(n_reference, "same"),
            np.zeros(n_reference, dtype=bool),
        )
    pairs = _pairs_by_position(reference, other)
    status, palindromic, guessed = _compare_alleles(reference, other, pairs)
    pairs = pairs.assign(status=status, palindromic=palindromic, guessed=guessed)
    pairs = pairs[pairs["status"] != _ABSENT]
    pairs = pairs.sort_values(["reference", "status", "guessed", "other"])
    best = pairs.drop_duplicates("reference")
    rows = best["reference"].to_numpy()
    codes = np.full(n_reference, _ABSENT)
    codes[rows] = best["status"].to_numpy()
    index = np.full(n_reference, -1, dtype=np.intp)
    index[rows] = np.where(best["status"] == _AMBIGUOUS, -1, best["other"])
    is_palindromic = np.zeros(n_reference, dtype=bool)
    is_palindromic[rows] = best["palindromic"].to_numpy()
    flip = (codes == _FLIPPED) | (codes == _STRAND_FLIPPED)
    return VariantMatch(index, flip, np.array(STATUSES)[codes], is_palindromic)


def _without_coordinates(variants: pd.DataFrame) -> bool:
    return bool((variants["contig"] == UNKNOWN_CONTIG).all())


def _pairs_by_position(reference: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return every (reference, other) pair of rows at one place."""

    def places(variants: pd.DataFrame, name: str) -> pd.DataFrame:
        table = pd.DataFrame(
            {
                "contig": variants["contig"].astype(str).str.removeprefix("chr").to_numpy(),
                "position": variants["position"].to_numpy(),
                name: np.arange(len(variants)),
            }
        )
        return table[table["position"] > 0]

    pairs = places(reference, "reference").merge(
        places(other, "other"), on=["contig", "position"], sort=False
    )
    return pairs[["reference", "other"]]


def _compare_alleles(
    reference: pd.DataFrame, other: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each pair its status, whether it is A/T or C/G, and whether an allele is unknown.

    Alleles become integer codes first, so that all comparisons are of integers.
    """
    left, right = pairs["reference"].to_numpy(), pairs["other"].to_numpy()
    columns = [reference["ref"], reference["alt"], other["ref"], other["alt"]]
    taken = [
        column.astype(str).str.upper().to_numpy(dtype=object)[rows]
        for column, rows in zip(columns, (left, left, right, right), strict=True)
    ]
    first = np.array([".", *_COMPLEMENT], dtype=object)  # gives "." the code 0, and each base one
    codes, names = pd.factorize(np.concatenate([first, *taken]))
    codes = np.where(np.isin(codes, np.flatnonzero(names == "0")), _UNKNOWN, codes)
    r_ref, r_alt, o_ref, o_alt = np.split(codes[len(first) :], 4)
    code_of = {name: code for code, name in enumerate(names)}
    complement = np.array(
        [code_of.get(_COMPLEMENT.get(name, ""), _NO_COMPLEMENT) for name in names], dtype=np.intp
    )
    complement[_UNKNOWN] = _UNKNOWN
    c_ref, c_alt = complement[o_ref], complement[o_alt]

    def agree(ref: NDArray[np.intp], alt: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the reference alleles are these: none conflicts, and a known one is equal."""
        equal_ref, equal_alt = r_ref == ref, r_alt == alt
        unknown_ref = (r_ref == _UNKNOWN) | (ref == _UNKNOWN)
        unknown_alt = (r_alt == _UNKNOWN) | (alt == _UNKNOWN)
        known_equal = (equal_ref & ~unknown_ref) | (equal_alt & ~unknown_alt)
        return (equal_ref | unknown_ref) & (equal_alt | unknown_alt) & known_equal

    single_bases = (c_ref != _NO_COMPLEMENT) & (c_alt != _NO_COMPLEMENT)
    strand = agree(c_ref, c_alt) & single_bases
    strand_flipped = agree(c_alt, c_ref) & single_bases
    flipped = agree(o_alt, o_ref)
    palindromic = ((complement[r_ref] == r_alt) & (r_ref != _UNKNOWN)) | (
        (c_ref == o_alt) & (o_ref != _UNKNOWN)
    )
    status = np.select(
        [
            agree(o_ref, o_alt),
            palindromic & (flipped | strand | strand_flipped),
            flipped,
            strand,
            strand_flipped,
        ],
        [_SAME, _AMBIGUOUS, _FLIPPED, _STRAND, _STRAND_FLIPPED],
        default=_ABSENT,
    )
    guessed = (np.minimum(r_ref, r_alt) == _UNKNOWN) | (np.minimum(o_ref, o_alt) == _UNKNOWN)
    return status, palindromic, guessed
