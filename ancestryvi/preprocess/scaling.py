"""Patterson scaling of dosages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def patterson_parameters(
    frequency: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre 2p and scale sqrt(p (1 - p)) of each variant.

    Parameters
    ----------
    frequency : ndarray of shape (n_variants,)
        Allele frequency p of the counted allele, strictly between 0 and 1.

    Raises
    ------
    ValueError
        If a variant is monomorphic, since its scale is 0.

    References
    ----------
    Patterson, Price and Reich (2006), PLoS Genetics 2(12):e190, equations 1 to 3, without their
    constant: the binomial standard deviation of a diploid call is sqrt(2) times this scale.

    Examples
    --------
    >>> patterson_parameters(np.array([0.5, 0.1]))
    (array([1. , 0.2]), array([0.5, 0.3]))
    """
    if not np.all((frequency > 0) & (frequency < 1)):
        raise ValueError(
            f"{int(np.sum((frequency <= 0) | (frequency >= 1)))} variants are monomorphic; drop "
            "them before scaling."
        )
    return 2.0 * frequency, np.sqrt(frequency * (1.0 - frequency))


def patterson_scale(
    dosages: NDArray[np.int8], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(C - 2p) / sqrt(p (1 - p)), with missing calls at the mean, which is 0.

    Parameters
    ----------
    dosages : ndarray of shape (n_samples, n_variants), int8
        0, 1, 2, and -1 for a missing call.
    mean, scale : ndarray of shape (n_variants,)
        As `patterson_parameters` gives them.

    Returns
    -------
    scaled : ndarray of shape (n_samples, n_variants), float32

    Examples
    --------
    >>> patterson_scale(np.array([[0, 2], [-1, 1]], np.int8), np.ones(2), np.full(2, 0.5))
    array([[-2.,  2.],
           [ 0.,  0.]], dtype=float32)
    """
    scaled = dosages.astype(np.float32)
    scaled -= mean.astype(np.float32)
    scaled *= (1.0 / scale).astype(np.float32)
    if dosages.size and dosages.min() < 0:
        np.copyto(scaled, 0.0, where=dosages < 0)
    return scaled
