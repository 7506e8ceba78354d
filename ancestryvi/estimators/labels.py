"""Labels of some samples, as indices."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def encode_labels(
    y: Any, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
    """Index of each label, -1 where it is missing, and the sorted labels; None without any label.

    Parameters
    ----------
    y : array-like of shape (n_samples,), or None
        Strings or integers; None, NaN and the integer -1 are missing.
    counted : ndarray of shape (n_samples,), bool
        Samples whose label counts; those of the others are as good as missing.

    Raises
    ------
    ValueError
        If y has another shape, holds fractions, mixes strings and numbers, or has another label for
        every sample.

    Examples
    --------
    >>> encode_labels(["YRI", None, "CEU", "YRI"], np.full(4, True))
    (array([ 1, -1,  0,  1]), array(['CEU', 'YRI'], dtype=object))
    >>> encode_labels([-1, -1], np.full(2, True))
    """
    if y is None:
        return None
    n_samples = len(counted)
    values = np.asarray(y, dtype=object)
    if values.shape != (n_samples,):
        raise ValueError(
            f"y must hold one label for each of the {n_samples} samples; got shape {values.shape}."
        )
    labels = pd.Series(values)
    missing = labels.isna() | (labels.map(lambda label: not isinstance(label, str) and label == -1))
    missing |= ~counted
    given = labels[~missing]
    if given.empty:
        return None
    is_text = given.map(lambda label: isinstance(label, str))
    if is_text.any() and not is_text.all():
        raise ValueError("y mixes strings and numbers; make its labels one or the other.")
    if not is_text.any():
        whole = given.map(_is_whole)
        if not whole.all():
            raise ValueError(
                f"y holds {given[~whole].iloc[0]!r}, which is no label; labels are strings or "
                "whole numbers, and None, NaN or -1 where there is none."
            )
        given = given.astype(np.int64)
    classes, found = np.unique(given.to_numpy(), return_inverse=True)
    if len(classes) == counted.sum() > 2:
        raise ValueError(
            f"Each of the {len(classes)} samples has a label of its own in y; labels are groups of "
            "samples, such as populations."
        )
    codes = np.full(n_samples, -1, np.int64)
    codes[(~missing).to_numpy()] = found
    return codes, classes


def _is_whole(label: Any) -> bool:
    """Whether a label is a whole number, of a size that integers of numpy hold."""
    return isinstance(label, Real) and float(label).is_integer() and abs(float(label)) < 2**63
