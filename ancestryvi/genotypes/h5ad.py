"""AnnData files (.h5ad) with dosages in X: samples are observations, variants are variables.

Read by columns, written by blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import AncestryVIError, InputFormatError
from ancestryvi.genotypes.container import (
    UNS,
    sample_frame,
    var_from_variants,
    variants_from_var,
)
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
from ancestryvi.genotypes.writing import Outgoing, even_blocks

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


def write_h5ad(genotypes: Outgoing, path: Path) -> None:
    """Write what `Genotypes.to_anndata` makes, block by block, so that no matrix is held."""
    import h5py
    from anndata.io import write_elem

    n_samples = len(genotypes.sample_ids)
    length = block_columns(n_samples)
    chunk = (min(n_samples, 4096), max(1, min(length, (1 << 20) // min(n_samples, 4096))))
    length -= length % chunk[1]
    tables = []
    with h5py.File(path, "w") as file:
        matrix = file.create_dataset(
            "X",
            shape=(n_samples, 0),
            maxshape=(n_samples, None),
            dtype=np.int8,
            chunks=chunk,
            compression="gzip",
            compression_opts=1,
        )
        for block in even_blocks(genotypes.blocks, length):
            n_written = matrix.shape[1]
            matrix.resize(n_written + len(block.columns), axis=1)
            matrix[:, n_written:] = block.values
            tables.append(block.columns)
        matrix.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "obs", sample_frame(genotypes.sample_ids))
        write_elem(file, "var", var_from_variants(pd.concat(tables, ignore_index=True)))
        write_elem(file, "uns", UNS)
        for name in ("obsm", "varm", "obsp", "varp", "layers"):
            write_elem(file, name, {})
