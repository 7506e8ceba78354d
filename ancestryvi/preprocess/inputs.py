"""What a user may hand to an estimator, brought to one of two forms: genotypes or features."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from ancestryvi.genotypes import Genotypes, open_source, read_genotypes
from ancestryvi.genotypes.source import IndexedDosages, is_indexed


def is_path(X: Any) -> bool:
    """Whether X names one file or a list of files."""
    if isinstance(X, str | PathLike):
        return True
    return isinstance(X, Sequence) and len(X) > 0 and all(isinstance(x, str | PathLike) for x in X)


def is_anndata(X: Any) -> bool:
    """Whether X is an AnnData, without importing anndata."""
    return any(cls.__module__.partition(".")[0] == "anndata" for cls in type(X).__mro__)


def looks_like_dosages(X: Any) -> bool:
    """Whether every entry of a matrix is 0, 1, 2 or missing (-1 or NaN), and 2 occurs.

    The last condition keeps indicator variables from passing for genotypes.

    Examples
    --------
    >>> looks_like_dosages([[0, 1, 2], [2, -1, 0]]), looks_like_dosages([[0, 1], [1, 0]])
    (True, False)
    """
    values = X.to_numpy() if isinstance(X, pd.DataFrame) else np.asarray(X)
    if values.ndim != 2 or values.dtype.kind not in "iuf" or values.size == 0:
        return False
    found = np.unique(values[~np.isnan(values)] if values.dtype.kind == "f" else values)
    return bool(np.isin(found, [-1, 0, 1, 2]).all() and 2 in found)


def as_genotypes(X: Any) -> Genotypes:
    """Genotypes from a container, a matrix of dosages, or path(s).

    Parameters
    ----------
    X : Genotypes, AnnData, DataFrame, ndarray of shape (n_samples, n_variants), path or paths

    Raises
    ------
    InputFormatError
        If the entries are not 0, 1, 2 or missing (-1 or NaN).
    TypeError, ValueError
        If a matrix is sparse, empty, not of numbers or not of two dimensions.
    """
    if isinstance(X, Genotypes):
        return X
    if is_path(X):
        return read_genotypes(X)
    if is_anndata(X):
        return Genotypes.from_anndata(X)
    sample_ids = [str(name) for name in X.index] if isinstance(X, pd.DataFrame) else None
    return Genotypes.from_dosages(check_array(X, ensure_all_finite=False), sample_ids)


def as_indexed(X: Any) -> IndexedDosages:
    """Dosages that can be read in part: an indexed file stays on disk, anything else is read.

    Parameters
    ----------
    X : IndexedDosages, or as for `as_genotypes`

    Raises
    ------
    InputFormatError, TypeError, ValueError
        As `as_genotypes`.
    """
    if is_path(X):
        source = open_source(X, "dosages")
        return source if is_indexed(source) else read_genotypes(X)
    return X if is_indexed(X) else as_genotypes(X)


def kind_of_input(X: Any) -> str:
    """What `input="auto"` takes X for."""
    if is_indexed(X) or is_path(X):
        return "genotypes"
    return "genotypes" if looks_like_dosages(X.X if is_anndata(X) else X) else "features"


def as_matrix(X: Any) -> Any:
    """The matrix of an AnnData with the ids and names of its axes; anything else as it is."""
    return X.to_df() if is_anndata(X) else X
