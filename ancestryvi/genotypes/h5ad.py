"""AnnData files (.h5ad) with dosages in X: samples are observations, variants are variables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.container import variants_from_var
from ancestryvi.genotypes.dosage import as_dosages
from ancestryvi.genotypes.source import Block, Content, block_columns, check_sample_ids

if TYPE_CHECKING:
    from anndata import AnnData


class H5adSource:
    """The dosages of an AnnData file, written by `Genotypes.to_anndata` or by anybody else.

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
        with _backed(path) as adata:
            if "X" not in adata.file or adata.n_vars == 0:
                raise InputFormatError(f"{path} has no X with variants; put the dosages there")
            self.sample_ids = check_sample_ids(adata.obs_names.astype(str).tolist(), path)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        (path,) = self.paths
        with _backed(path) as adata:
            variants = variants_from_var(adata.var)
            matrix = adata.X
            if hasattr(matrix, "to_memory"):
                matrix = matrix.to_memory().tocsc()  # columns of a sparse X on disk come slowly
            step = block_columns(len(self.sample_ids))
            for start in range(0, adata.n_vars, step):
                block = matrix[:, start : start + step]
                block = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
                columns = variants.iloc[start : start + step].reset_index(drop=True)
                yield Block(as_dosages(block, f"{path}: X from column {start} on"), columns)


@contextmanager
def _backed(path: Path) -> Iterator[AnnData]:
    """Open the file without reading X."""
    import anndata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # repeated sample names are our error, not a warning
            adata = anndata.read_h5ad(path, backed="r")
    except Exception as error:  # h5py and anndata raise a dozen kinds on a damaged file
        raise InputFormatError(
            f"{path} cannot be read as AnnData ({error}); copy or write the file again"
        ) from error
    try:
        yield adata
    finally:
        adata.file.close()
