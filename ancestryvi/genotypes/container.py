"""`Genotypes`: the dosage matrix with its sample table and its variant table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes.dosage import CODING, MISSING, as_dosages
from ancestryvi.genotypes.source import Columns

if TYPE_CHECKING:
    from anndata import AnnData

VARIANT_COLUMNS = ("contig", "position", "id", "ref", "alt")
"""The columns that every variant table has, in this order."""

UNKNOWN_CONTIG = "unknown"
"""The contig of variants that came without coordinates."""

UNS = {"ancestryvi": {"X": CODING, "missing": MISSING}}
"""What an AnnData object says of its dosages."""

_BLOCK_CALLS = 1 << 24


@dataclass(frozen=True, eq=False, repr=False)
class Genotypes:
    """Dosages of one cohort, copies of the counted allele (ALT) per call, 0 to 2.

    Parameters
    ----------
    dosages : ndarray of shape (n_samples, n_variants), int8
        0, 1 or 2 copies of ALT; -1 marks a missing call. Any memory order is fine: the readers
        hand over a transposed view, because files hold one variant after the other.
    samples : DataFrame of n_samples rows
        Indexed by sample id (unique strings); any columns.
    variants : DataFrame of n_variants rows
        Columns ``contig`` (string), ``position`` (1-based base pairs), ``id``, ``ref``, ``alt``.

    Raises
    ------
    SampleError
        If a sample id occurs twice.
    InputFormatError
        If shapes disagree, a column is missing, or a dosage is not -1, 0, 1 or 2.

    Examples
    --------
    >>> import numpy as np
    >>> genotypes = Genotypes.from_dosages(np.array([[0, 2, -1], [1, 1, 0]]))
    >>> genotypes
    Genotypes(n_samples=2, n_variants=3)
    >>> genotypes.variants["contig"].tolist()
    ['unknown', 'unknown', 'unknown']
    """

    dosages: NDArray[np.int8]
    samples: pd.DataFrame
    variants: pd.DataFrame

    def __post_init__(self) -> None:
        dosages = self.dosages
        if dosages.ndim != 2 or dosages.dtype != np.int8:
            raise InputFormatError(
                f"dosages must be an int8 matrix of (samples, variants), not {dosages.dtype} of "
                f"shape {dosages.shape}; Genotypes.from_dosages converts other arrays"
            )
        if dosages.shape != (len(self.samples), len(self.variants)):
            raise InputFormatError(
                f"dosages of shape {dosages.shape} do not fit a sample table of "
                f"{len(self.samples)} rows and a variant table of {len(self.variants)} rows"
            )
        absent = [name for name in VARIANT_COLUMNS if name not in self.variants]
        if absent:
            raise InputFormatError(
                f"the variant table lacks the columns {absent}; it needs {list(VARIANT_COLUMNS)}"
            )
        if not self.samples.index.is_unique:
            twice = self.samples.index[self.samples.index.duplicated()][0]
            raise SampleError(f"sample id {twice!r} occurs twice in the sample table; rename one")
        if dosages.size:
            # Whole-matrix minimum and maximum stream over memory in either order, with no copy.
            for value in (dosages.min(), dosages.max()):
                if not MISSING <= value <= 2:
                    raise InputFormatError(
                        f"dosage {value} is none of 0, 1, 2 and {MISSING} (missing); if it codes "
                        "a missing call, replace it before building Genotypes"
                    )

    def __repr__(self) -> str:
        return f"Genotypes(n_samples={self.n_samples}, n_variants={self.n_variants})"

    @property
    def n_samples(self) -> int:
        """Number of samples, the rows of the matrix."""
        return int(self.dosages.shape[0])

    @property
    def n_variants(self) -> int:
        """Number of variants, the columns of the matrix."""
        return int(self.dosages.shape[1])

    @property
    def sample_ids(self) -> list[str]:
        """The sample ids, in the order of the rows."""
        return [str(sample) for sample in self.samples.index]

    @property
    def n_missing(self) -> int:
        """Number of missing calls in the whole matrix."""
        return sum(int(np.count_nonzero(block == MISSING)) for block in self._column_blocks())

    def _column_blocks(self) -> Iterator[NDArray[np.int8]]:
        """Views of some variants each, so that a comparison never allocates a whole matrix."""
        step = max(1, _BLOCK_CALLS // max(1, self.n_samples))
        for start in range(0, self.n_variants, step):
            yield self.dosages[:, start : start + step]

    @classmethod
    def from_dosages(cls, array: ArrayLike, sample_ids: Sequence[str] | None = None) -> Genotypes:
        """Wrap a plain matrix of dosages whose variants have no names or coordinates.

        Parameters
        ----------
        array : array-like of shape (n_samples, n_variants), integer or float
            0, 1 or 2 copies of the counted allele; -1 or NaN marks a missing call.
        sample_ids : sequence of n_samples str, optional
            Unique ids of the rows; ``sample_0``, ``sample_1``, ... when left out.

        Returns
        -------
        genotypes : Genotypes
            Every contig is ``"unknown"``, every position 0, every allele ``"."``.

        Raises
        ------
        InputFormatError
            If the array is no matrix or holds anything but dosages.
        SampleError
            If a sample id occurs twice, or there are not as many ids as rows.

        Examples
        --------
        >>> genotypes = Genotypes.from_dosages([[0.0, float("nan")], [2.0, 1.0]], ["ann", "bo"])
        >>> genotypes.dosages.tolist(), genotypes.sample_ids
        ([[0, -1], [2, 1]], ['ann', 'bo'])
        """
        dosages = as_dosages(np.asarray(array), "the array")
        n_samples, n_variants = dosages.shape
        if sample_ids is None:
            sample_ids = [f"sample_{row}" for row in range(n_samples)]
        if len(sample_ids) != n_samples:
            raise SampleError(
                f"{len(sample_ids)} sample ids were given for the {n_samples} rows of the matrix"
            )
        return cls(dosages, sample_frame(sample_ids), _unknown_variants(n_variants))

    def select(self, samples: Any = None, variants: Any = None) -> Genotypes:
        """Keep some samples, some variants, or both, in the order asked for.

        Parameters
        ----------
        samples, variants : boolean mask, index array or slice, optional
            What to keep; everything when left out.

        Returns
        -------
        genotypes : Genotypes
            A new object; the dosages are copied except for slices.

        Raises
        ------
        IndexError
            If a mask has not the right length, or an index is out of range.

        Examples
        --------
        >>> genotypes = Genotypes.from_dosages([[0, 1, 2], [2, 1, 0]])
        >>> genotypes.select(samples=[1], variants=[True, False, True]).dosages.tolist()
        [[2, 0]]
        """
        rows = _indexer(samples, self.n_samples)
        columns = _indexer(variants, self.n_variants)
        return Genotypes(
            _take(_take(self.dosages, columns, axis=1), rows, axis=0),
            self.samples.iloc[rows],
            self.variants.iloc[columns].reset_index(drop=True),
        )

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, as `source.IndexedDosages` asks; see `select`."""
        return _take(self.dosages, columns, axis=1)

    def variant_keys(self) -> pd.Index:
        """Name each variant ``contig:position:ref:alt``; duplicated records share a key.

        Examples
        --------
        >>> Genotypes.from_dosages([[0]]).variant_keys().tolist()
        ['unknown:0:.:.']
        """
        return _variant_keys(self.variants)

    def to_anndata(self) -> AnnData:
        """Hand the genotypes over as an AnnData object.

        Returns
        -------
        adata : AnnData of shape (n_samples, n_variants)
            ``X`` int8 dosages with -1 for a missing call; ``obs`` the sample table; ``var`` the
            variant table, indexed by variant key (``-1``, ``-2``, ... appended to repeated keys);
            ``uns["ancestryvi"]`` says how dosages are coded. ``write_h5ad`` stores it.

        Examples
        --------
        >>> adata = Genotypes.from_dosages([[0, 2]]).to_anndata()
        >>> adata.var_names.tolist(), adata.uns["ancestryvi"]["missing"]
        (['unknown:0:.:.', 'unknown:0:.:.-1'], -1)
        """
        from anndata import AnnData

        var = var_from_variants(self.variants)
        return AnnData(X=self.dosages, obs=self.samples.copy(), var=var, uns=dict(UNS))

    @classmethod
    def from_anndata(cls, adata: AnnData) -> Genotypes:
        """Take the dosages of an AnnData object, whoever made it.

        Parameters
        ----------
        adata : AnnData of shape (n_samples, n_variants)
            ``X`` holds dosages 0, 1, 2, with -1 or NaN for a missing call, dense or sparse.
            Columns that ``var`` lacks are filled in: contig ``"unknown"``, position 0, alleles
            ``"."``, and the name of the variant as its id.

        Returns
        -------
        genotypes : Genotypes

        Raises
        ------
        InputFormatError
            If there is no ``X`` or it holds anything but dosages.
        SampleError
            If a sample name occurs twice.

        Examples
        --------
        >>> import anndata, numpy as np
        >>> Genotypes.from_anndata(anndata.AnnData(np.array([[0.0, 1.0], [2.0, np.nan]])))
        Genotypes(n_samples=2, n_variants=2)
        """
        if adata.X is None:
            raise InputFormatError("the AnnData object has no X; put the dosages there")
        matrix = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
        samples = adata.obs.copy()
        samples.index = samples.index.astype(str)
        return cls(as_dosages(matrix, "X"), samples, variants_from_var(adata.var))


def sample_frame(sample_ids: Sequence[str]) -> pd.DataFrame:
    """Build a sample table that holds only the ids."""
    return pd.DataFrame(index=pd.Index(list(sample_ids), dtype=object, name="sample_id"))


def _variant_keys(variants: pd.DataFrame) -> pd.Index:
    contig, position, ref, alt = (
        variants[name].astype(str) for name in ("contig", "position", "ref", "alt")
    )
    return pd.Index(contig + ":" + position + ":" + ref + ":" + alt, dtype=object)


def var_from_variants(variants: pd.DataFrame) -> pd.DataFrame:
    """Make the ``var`` table of an AnnData object, the reverse of `variants_from_var`."""
    from anndata.utils import make_index_unique

    return variants.set_index(make_index_unique(_variant_keys(variants)))


def variants_from_var(var: pd.DataFrame) -> pd.DataFrame:
    """Bring the ``var`` table of an AnnData object into the form of a variant table."""
    variants = _unknown_variants(len(var)).assign(id=var.index.astype(str).to_numpy(dtype=object))
    for name in var.columns:
        known = var[name].notna().to_numpy()
        values = var[name].astype(object).to_numpy()
        if name == "position":
            position = pd.to_numeric(pd.Series(values), errors="coerce").fillna(0)
            variants[name] = position.to_numpy(dtype=np.int64)
        elif name in VARIANT_COLUMNS:
            text = [str(value) for value in values]
            variants[name] = np.where(known, np.array(text, dtype=object), variants[name])
        else:
            variants[name] = var[name].to_numpy()
    return variants


def _unknown_variants(n_variants: int) -> pd.DataFrame:
    """Make the variant table of variants that have neither names nor coordinates."""
    return pd.DataFrame(
        {
            "contig": pd.Series([UNKNOWN_CONTIG] * n_variants, dtype=object),
            "position": np.zeros(n_variants, dtype=np.int64),
            "id": pd.Series(["."] * n_variants, dtype=object),
            "ref": pd.Series(["."] * n_variants, dtype=object),
            "alt": pd.Series(["."] * n_variants, dtype=object),
        }
    )


def _indexer(selection: Any, length: int) -> slice | NDArray[np.intp]:
    """Make indices of a mask; None selects everything and a slice stays one."""
    if selection is None:
        return slice(None)
    if isinstance(selection, slice):
        return selection
    array = np.asarray(selection)
    if array.dtype != np.bool_:
        return array.astype(np.intp, casting="same_kind") if array.size else np.empty(0, np.intp)
    if array.shape != (length,):
        raise IndexError(f"a mask of shape {array.shape} cannot select from {length}")
    return np.flatnonzero(array)


def _take(matrix: NDArray[np.int8], selection: Any, axis: int) -> NDArray[np.int8]:
    """Select rows or columns in the memory order of the matrix, which is several times faster."""
    if isinstance(selection, slice):
        return matrix[selection] if axis == 0 else matrix[:, selection]
    if matrix.flags.f_contiguous:
        return np.take(matrix.T, selection, axis=1 - axis).T
    return np.take(matrix, selection, axis=axis)
