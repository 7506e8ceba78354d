"""How far the evidence for a class is to be trusted: one factor of its logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ancestryvi.estimators.feature_mixture import MOST_STARTED, fit_feature_mixture, some_rows

LEAST_POWER = 0.15
"""Least power of the likelihood that halves of a cohort lead to; also that of clusters which are
not the same in both, of which the halves say nothing."""

N_TRIED = 9
"""Factors, evenly spaced in their logarithm, the best of which is refined."""

LEAST_PROBABILITY = 1e-4
"""What a cluster is given at least when halves are compared, so that the few samples that both are
sure of, and differ in, do not decide."""


def calibrate_on_halves(features: NDArray[np.float64], n_clusters: int) -> float:
    """Power of the likelihood under which half the samples tell the clusters of the other half.

    Populations are no Gaussians with independent components, so evidence from many components is
    counted more than once, and assignments would be too sure of themselves; a power below 1 of the
    likelihood, as in the coarsened posterior, amends this. How low it has to be differs between
    cohorts, and needs no labels to be found. Samples, 3,000 of them at most, are cut into random
    halves. A mixture of each says how probable each cluster is for the samples of the other half,
    and the power is that under which the clusters that the other half has made of these samples are
    most likely. Only clusters count that both halves have: more than half of the samples of each
    are in the other. The fewer samples these hold, the closer the result is to `LEAST_POWER` (as a
    weighted mean of logarithms), which it is where a half has fewer samples than clusters.

    Parameters
    ----------
    features, n_clusters
        As for `fit_feature_mixture`.

    Returns
    -------
    power : float
        From 0.15 to 1; the same for every call. A factor of the logits.

    References
    ----------
    Tibshirani and Walther (2005), Cluster Validation by Prediction Strength, JCGS 14(3):511-528.
    Miller and Dunson (2019), Robust Bayesian Inference via Coarsening, JASA 114:1113-1125.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> heights = rng.normal(size=(600, 1)) + 3.0 * (np.arange(600)[:, None] % 2)
    >>> copies = np.repeat(heights, 3, axis=1)  # which say no more, and would count three times
    >>> [round(calibrate_on_halves(x - x.mean(axis=0), 2), 1) for x in (heights, copies)]
    [0.8, 0.3]
    """
    if n_clusters == 1:
        return 1.0
    random = np.random.RandomState(0)
    rows = some_rows(features, MOST_STARTED, random)
    halves = np.array_split(rows[random.permutation(len(rows))], 2)
    if len(halves[1]) < n_clusters:
        return LEAST_POWER
    mixtures = [fit_feature_mixture(half, n_clusters) for half in halves]
    logits, clusters = [], []
    for mixture, other, half in zip(mixtures, mixtures[::-1], halves[::-1], strict=True):
        joint = mixture.log_joint(half)
        theirs = other.at(half).argmax(axis=1)
        shared = np.zeros((n_clusters, n_clusters))
        np.add.at(shared, (joint.argmax(axis=1), theirs), 1)
        same = shared > 0.5 * np.maximum(shared.sum(axis=1, keepdims=True), shared.sum(axis=0))
        agreed = same.any(axis=0)[theirs]
        logits.append(joint[agreed])
        clusters.append(same.argmax(axis=0)[theirs[agreed]])
    stacked, known = np.concatenate(logits), np.concatenate(clusters)
    if len(known) == 0:
        return LEAST_POWER
    share = len(known) / len(rows)
    power = most_likely_factor(stacked, known, LEAST_POWER, LEAST_PROBABILITY)
    return float(power**share * LEAST_POWER ** (1 - share))


def most_likely_factor(
    logits: NDArray[np.float64],
    classes: NDArray[np.int64],
    least: float,
    least_probability: float = 0.0,
) -> float:
    """The factor of logits, from `least` to 1, under which the classes are most likely.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
    classes : ndarray of shape (n_samples,)
        Index of the class of each sample.
    least : float
    least_probability : float
        Lower probabilities of a class count as this.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, ICML:
    temperature scaling.
    """
    lowest = np.log(least_probability) if least_probability else -np.inf

    def loss(log_factor: float) -> float:
        log_p = log_softmax(np.exp(log_factor) * logits, axis=1)[np.arange(len(classes)), classes]
        return -float(np.maximum(log_p, lowest).mean())

    grid = np.linspace(np.log(least), 0.0, N_TRIED)  # a least probability may leave several minima
    best = int(np.argmin([loss(value) for value in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, N_TRIED - 1)]
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
