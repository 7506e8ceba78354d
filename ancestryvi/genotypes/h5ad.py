"""AnnData files (.h5ad) with dosages in X: samples are observations, variants are variables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ancestryvi.exceptions import AncestryVIError, InputFormatError
from ancestryvi.genotypes.container import variants_from_var
from ancestryvi.genotypes.dosage import as_dosages
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    as_indices,
    block_columns,
    check_sample_ids,
    iter_indexed,
)

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix


class H5adSource:
    """The dosages of an AnnData file, written by `Genotypes.to_anndata` or by anybody else.

    A sparse X is held in memory, because on disk its columns come slowly.

    Parameters
    ----------
    path : Path
        The .h5ad file; its X holds 0, 1, 2, and -1 or NaN for a missing call, dense or sparse.

    Raises
    ------
    InputFormatError
        If the file cannot be read as AnnData, has no X or no variants; while reading, if X holds
        anything but dosages.
    SampleError
        If a sample name occurs twice.
    """

    content: Content = "dosages"

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (path,)
        import anndata

        with _damage_reported(path):
            adata = anndata.read_h5ad(path, backed="r")
            try:
                if "X" not in adata.file or adata.n_vars == 0:
                    raise InputFormatError(f"{path} has no X with variants; put the dosages there")
                self.sample_ids = check_sample_ids(adata.obs_names.astype(str).tolist(), path)
                self.variants = variants_from_var(adata.var)
            finally:
                adata.file.close()

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        return iter_indexed(self)

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, (n_samples, n_columns)."""
        (path,) = self.paths
        indices = as_indices(columns, len(self.variants))
        if self._sparse is not None:
            values = self._sparse[:, indices].toarray()
            return as_dosages(values, f"{path}: X from column {indices.min(initial=0)} on")
        dosages = np.empty((len(self.sample_ids), len(indices)), np.int8, order="F")
        step = block_columns(len(self.sample_ids))
        for chunk in np.unique(indices // step):
            first, last = np.searchsorted(indices, [chunk * step, (chunk + 1) * step])
            wanted = indices[first:last]
            start, stop = int(wanted[0]), int(wanted[-1]) + 1
            with _damage_reported(path):
                values = self._read_dense(start, stop)
            values = as_dosages(values, f"{path}: X from column {start} on")
            dosages[:, first:last] = values[:, wanted - start]
        return dosages

    def _read_dense(self, start: int, stop: int) -> NDArray[Any]:
        """Read a range of columns of a dense X as it is stored."""
        import h5py

        with h5py.File(self.paths[0]) as file:
            values: NDArray[Any] = file["X"][:, start:stop]
            return values

    @cached_property
    def _sparse(self) -> csc_matrix | None:
        """X by columns if it is sparse."""
        import h5py
        from anndata.io import read_elem

        (path,) = self.paths
        with _damage_reported(path), h5py.File(path) as file:
            return read_elem(file["X"]).tocsc() if isinstance(file["X"], h5py.Group) else None


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Turn what h5py and anndata raise on a damaged file, a dozen kinds, into ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # repeated sample names are our error, not a warning
            yield
    except AncestryVIError:
        raise
    except Exception as error:
        raise InputFormatError(
            f"{path} cannot be read as AnnData ({error}); copy or write the file again"
        ) from error
