"""What labels of some samples say of the others, before any network is trained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from ancestryvi.estimators.calibration import most_likely_factor

N_FOLDS = 10
"""Of the labelled samples, for calibration."""

LEAST_FACTOR = 0.01
"""Of the logits, in calibration."""

MAX_ITERATIONS = 50
TOLERANCE = 1e-3
"""EM ends when no responsibility changes by more."""


class Discriminant(NamedTuple):
    """A linear classifier: log p(class | x) = log softmax(x @ weights + bias).

    Attributes
    ----------
    weights : ndarray of shape (n_features, n_classes)
    bias : ndarray of shape (n_classes,)
    responsibilities : ndarray of shape (n_samples, n_classes)
        Probabilities of the classes of the samples it was fitted on; certain where labelled.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    responsibilities: NDArray[np.float64]


def fit_discriminant(features: NDArray[np.float64], codes: NDArray[np.int64]) -> Discriminant:
    """Linear discriminant analysis by EM over labelled and unlabelled samples.

    Gaussian classes of one covariance. Unlabelled samples weigh as much as labelled ones in all,
    and never more each: many of them would otherwise outvote the labels (Nigam et al. 2000, EM with
    weighted unlabelled data).

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
    codes : ndarray of shape (n_samples,)
        Class index, each from 0 on present; -1 where there is no label.

    References
    ----------
    Nigam, McCallum, Thrun and Mitchell (2000), Text Classification from Labeled and Unlabeled
    Documents using EM, Machine Learning 39.

    Examples
    --------
    >>> features = np.array([[0.0], [0.2], [0.1], [3.0], [3.2], [3.1]])
    >>> found = fit_discriminant(features, np.array([0, -1, -1, 1, -1, -1]))
    >>> found.responsibilities.argmax(axis=1)
    array([0, 0, 0, 1, 1, 1])
    """
    labelled = codes >= 0
    n_classes = int(codes.max()) + 1
    given = np.zeros((len(codes), n_classes))
    given[labelled, codes[labelled]] = 1.0
    weight = min(1.0, labelled.sum() / max(1, (~labelled).sum()))
    responsibilities = given
    for _ in range(MAX_ITERATIONS):
        weights, bias = linear_discriminant(features, responsibilities)
        found = np.exp(log_softmax(features @ weights + bias, axis=1))
        found[labelled] = given[labelled]
        counted = np.where(labelled[:, None], found, weight * found)
        change = np.abs(counted - responsibilities).max()
        responsibilities = counted
        if change < TOLERANCE:
            break
    return Discriminant(weights, bias, found)


def calibrate_on_labels(features: NDArray[np.float64], codes: NDArray[np.int64]) -> float:
    """Factor of the logits of `fit_discriminant` under which held-out labels are most likely.

    Discriminants of few labelled samples are too sure of themselves. Labels are hidden fold by
    fold; folds are cut along the classes, so that most classes stay in every fit.

    Returns
    -------
    factor : float
        In [0.01, 1]; 1 where no class has two labels.
    """
    by_class = np.argsort(codes, kind="stable")[np.count_nonzero(codes < 0) :]
    logits, truth = [], []
    for fold in range(min(N_FOLDS, len(by_class))):
        hidden = by_class[fold::N_FOLDS]
        present, seen = np.unique(np.delete(codes, hidden), return_inverse=True)
        if present[0] < 0:
            present, seen = present[1:], seen - 1
        hidden = hidden[np.isin(codes[hidden], present)]
        if len(hidden) == 0 or len(present) < 2:
            continue
        kept = np.full(len(codes), -1)
        kept[np.setdiff1d(np.arange(len(codes)), by_class[fold::N_FOLDS])] = seen
        found = fit_discriminant(features, kept)
        logits.append(np.full((len(hidden), codes.max() + 1), -np.inf))
        logits[-1][:, present] = features[hidden] @ found.weights + found.bias
        truth.append(codes[hidden])
    if not logits:
        return 1.0
    return most_likely_factor(np.concatenate(logits), np.concatenate(truth), LEAST_FACTOR)


def linear_discriminant(
    features: NDArray[np.float64], responsibilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias of the discriminant of classes with these shares of the samples.

    The pooled covariance is drawn towards its diagonal by as many pseudo-samples as there are
    features, and every class counts one sample more than it has.
    """
    n_features = features.shape[1]
    sizes = responsibilities.sum(axis=0)
    total = sizes.sum()
    means = responsibilities.T @ features / sizes[:, None]
    second = (features * responsibilities.sum(axis=1)[:, None]).T @ features
    scatter = second - (means * sizes[:, None]).T @ means
    diagonal = np.diag(scatter)
    floor = 1e-6 * (features.var() or 1.0) * total
    pooled = (scatter + n_features * np.diag(diagonal) / total + floor * np.eye(n_features)) / (
        total + n_features
    )
    weights = np.linalg.solve(pooled, means.T)
    shares = (sizes + 1.0) / (sizes + 1.0).sum()
    bias = np.log(shares) - 0.5 * (means.T * weights).sum(axis=0)
    return weights, bias
