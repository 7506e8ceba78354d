"""What training starts from: clusters, and pairs of neighbours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ancestryvi.estimators.blueprint import Blueprint
from ancestryvi.estimators.discriminant import fit_discriminant
from ancestryvi.estimators.feature_mixture import fit_feature_mixture, quadratic_form
from ancestryvi.estimators.tool_parts import Mixture
from ancestryvi.models.latent_class import LatentClassModel
from ancestryvi.models.latent_variable import Autoencoder
from ancestryvi.models.priors import MixturePrior
from ancestryvi.training.wake_sleep import Pairs

N_NEIGHBOURS = 15
MOST_PAIRED = 20_000
"""Neighbours that the neighbour term draws from, and samples that it knows: a random choice of more
than these, so that the search stays affordable."""

MIN_VARIANCE = 1e-4
"""Added to the variance of every component that a mixture starts from, in units of the map."""

N_DRAWS = 4
"""Draws from the belief of each sample that offsets and noise start from."""

SMALLEST_NOISE = 0.05
"""Least starting standard deviation of p(x | z), in units of the features' overall one."""

EMPTY = 1e-6
"""Samples that a cluster without any counts for, so that its weight has a logarithm."""


def start_clusters(
    model: Autoencoder,
    x: Tensor,
    labels: NDArray[np.int64] | None,
    blueprint: Blueprint,
    random: np.random.RandomState,
    mixture: Mixture | None,
    *,
    match_parts: bool = False,
) -> None:
    """Give prior and classes their start from what the warm start has found.

    Each sample is shared out to clusters: by the labels and a discriminant of them, by the
    `mixture` of the features where classes are explicit (it is fitted if it is None), or else by
    one fitted to the latents. A prior
    that is to be learned gets one component for each, with the mean and covariance of its samples,
    widened by the spread of their beliefs. Classes get q(c | x) from the discriminant or the
    mixture, and as offset what the decoder leaves of their samples, their beliefs considered; the
    noise of p(x | z, c) is no more than what both leave.
    With `match_parts`, each label gets the part of a fixed prior where most of its samples are.
    """
    features = as_array(x)
    with torch.no_grad():
        mean, scale = model.posterior.draw_belief(x, x.new_zeros(1))
    latents = as_array(mean)
    squared = np.zeros((features.shape[1], blueprint.n_clusters))
    if labels is not None:
        weights, bias, responsibilities = fit_discriminant(features, labels)
    elif blueprint.classes:
        found = mixture or fit_feature_mixture(features, blueprint.n_clusters)
        squared, weights, bias = quadratic_form(found.weights, found.means, found.scales**2)
        responsibilities = found.at(features)
    else:
        of_latents = GaussianMixture(
            blueprint.n_clusters,
            reg_covar=MIN_VARIANCE,
            max_iter=500,
            n_init=5,
            random_state=random,
        )
        responsibilities = of_latents.fit(latents).predict_proba(latents)
    sizes = responsibilities.sum(axis=0) + EMPTY
    share = responsibilities / sizes
    if match_parts:
        with torch.no_grad():
            belonging = as_array(model.prior.responsibilities(mean))
        _, parts = linear_sum_assignment(responsibilities.T @ belonging, maximize=True)
        model.prior = model.prior.keep(torch.as_tensor(parts, device=x.device))
    if blueprint.learned:
        spread = as_array(scale.square()).mean(axis=0) + MIN_VARIANCE
        model.prior = component_prior(sizes, share, latents, spread).to(x.device)
    if isinstance(model, LatentClassModel):
        with torch.no_grad():
            head = model.posterior.class_head
            head.weight.copy_(torch.as_tensor(np.concatenate([weights, squared]).T))
            head.bias.copy_(torch.as_tensor(bias))
            left, square = np.zeros_like(features), np.zeros(features.shape[1])
            for _ in range(N_DRAWS):
                noise = torch.as_tensor(random.normal(size=tuple(mean.shape))).to(mean)
                of_draw = features - as_array(model.decoder(mean + scale * noise))
                left += of_draw / N_DRAWS
                square += (of_draw**2).mean(axis=0) / N_DRAWS
            offsets = share.T @ left
            variance = np.maximum(square - sizes / len(x) @ offsets**2, SMALLEST_NOISE**2)
            model.offsets.copy_(torch.as_tensor(offsets))
            model.log_noise.clamp_(max=torch.as_tensor(0.5 * np.log(variance)).to(x))


def component_prior(
    sizes: NDArray[np.float64],
    share: NDArray[np.float64],
    latents: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> MixturePrior:
    """Components with the weighted means and covariances of latents; `spread` is added to these.

    Weights follow `sizes` of shape (n_clusters,), moments the columns of `share` of shape
    (n_samples, n_clusters), which sum to 1.
    """
    means = share.T @ latents
    centred = latents[:, None, :] - means
    covariances = np.einsum("nk,nki,nkj->kij", share, centred, centred) + np.diag(spread)
    factors = torch.linalg.inv(torch.linalg.cholesky(torch.as_tensor(covariances)))
    return MixturePrior(
        torch.as_tensor(sizes / sizes.sum()).float(),
        torch.as_tensor(means).float(),
        factors.float(),
    )


def neighbour_pairs(x: Tensor, random: np.random.RandomState) -> tuple[Pairs, float]:
    """The nearest samples of each, and the median distance to them.

    Of all samples, or of a random choice of `MOST_PAIRED`.
    """
    if len(x) > MOST_PAIRED:
        x = x[torch.as_tensor(random.choice(len(x), MOST_PAIRED, replace=False), device=x.device)]
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(x) - 1)).fit(as_array(x))
    apart, nearest = search.kneighbors()
    return Pairs(x, torch.as_tensor(nearest, device=x.device)), float(np.median(apart))


def as_array(tensor: Tensor) -> NDArray[np.float64]:
    """A tensor in double precision, in numpy."""
    return tensor.cpu().double().numpy()  # the double precision is the CPU's: MPS has none
