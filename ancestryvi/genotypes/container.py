"""`Genotypes`: the dosage matrix with its sample table and its variant table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError, SampleError

if TYPE_CHECKING:
    from anndata import AnnData

MISSING = -1
"""The code of a missing call in a dosage matrix."""

VARIANT_COLUMNS = ("contig", "position", "id", "ref", "alt")
"""The columns that every variant table has, in this order."""


@dataclass(frozen=True, eq=False)
class Genotypes:
    """Dosages of one cohort, copies of the counted allele (ALT) per call, 0 to 2.

    Parameters
    ----------
    dosages : ndarray of shape (n_samples, n_variants), int8
        0, 1 or 2 copies of ALT; -1 marks a missing call.
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
    >>> genotypes.n_samples, genotypes.n_variants
    (2, 3)
    >>> genotypes.variants["contig"].tolist()
    ['unknown', 'unknown', 'unknown']
    """

    dosages: NDArray[np.int8]
    samples: pd.DataFrame
    variants: pd.DataFrame
