"""How sure a model is of the cluster of a sample."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr


def assignment_entropy(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Entropy of the cluster of each sample, nats: 0 when it is certain, log K for a guess.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_clusters)
        Probability of each cluster; rows add up to 1, or are NaN for samples without a place.

    Returns
    -------
    entropy : ndarray of shape (n_samples,)
        -sum_k p_k log p_k with 0 log 0 = 0; NaN for samples without a place.

    Examples
    --------
    >>> assignment_entropy([[1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]]).round(3)
    array([0.   , 0.693,   nan])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    return entr(p).sum(axis=1) + 0.0  # not -0 for a certain sample
