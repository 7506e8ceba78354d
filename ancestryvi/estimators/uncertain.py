"""What a fitted model says of samples whose features are uncertain by what is missing of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ancestryvi.estimators.fitted import Fitted
from ancestryvi.preprocess.score_prior import ScorePrior
from ancestryvi.preprocess.unseen import Unseen


def expected_probabilities(
    fitted: Fitted, features: NDArray[np.float64], unseen: Unseen, prior: ScorePrior | None
) -> NDArray[np.float64]:
    """Probability of each cluster, mean over the features that a sample may have.

    That is under the assumption that it is of one of the clusters, as probabilities of them always
    are: features come from the prior, given what is seen.
    """
    probabilities = fitted.probabilities(features)
    for rows, draws in unseen.draws(prior):
        of_draws = fitted.probabilities(draws.reshape(-1, draws.shape[-1]))
        probabilities[rows] = of_draws.reshape(*draws.shape[:2], -1).mean(axis=0)
    return probabilities


def whole_spread(
    fitted: Fitted, features: NDArray[np.float64], places: NDArray[np.float64], unseen: Unseen
) -> NDArray[np.float64]:
    """How far from its place a sample may be: by the posterior, and by what is missing.

    Places assume nothing of clusters: a sample may be of an ancestry between them.
    """
    spread = fitted.spread(features)
    if np.isnan(spread).all():  # a method that cannot say
        return spread
    for rows, draws in unseen.draws():
        of_draws = fitted.place(draws.reshape(-1, draws.shape[-1]))
        off = of_draws.reshape(*draws.shape[:2], -1) - places[rows]
        spread[rows] = np.sqrt(spread[rows] ** 2 + np.square(off).sum(axis=-1).mean(axis=0))
    return spread
