"""A perfect denoiser: noisy and deterministic chains both come to p(z) as steps grow many."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor, nn

from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_posterior import (
    MAX_LOG_CORRECTION,
    DiffusionEncoding,
    DiffusionPosterior,
)
from ancestryvi.models.reference import ReferenceDDVI
from ancestryvi.models.schedules import cosine_alpha_bar

N_STEPS = (5, 20, 100, 400)

WEIGHTS = np.array([0.3, 0.5, 0.2])
MEANS = np.array([-1.5, 0.2, 1.4])
SCALES = np.array([0.3, 0.2, 0.4])


def mixture_cdf(value, alpha_bar=1.0):
    """P(y_t <= value) where z is of the mixture; alpha_bar = 1 for z itself."""
    means = math.sqrt(alpha_bar) * MEANS
    scales = np.sqrt(alpha_bar * SCALES**2 + 1 - alpha_bar)
    return norm.cdf(np.expand_dims(value, -1), means, scales) @ WEIGHTS


def moments(y: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of z given y_t = y, by the conjugacy of each component."""
    weights, means, scales = (torch.from_numpy(array) for array in (WEIGHTS, MEANS, SCALES))
    total = alpha_bar * scales**2 + 1 - alpha_bar
    residual = y - alpha_bar.sqrt() * means  # over components on the last axis
    shares = (weights.log() - 0.5 * residual**2 / total - 0.5 * total.log()).softmax(-1)
    each = means + alpha_bar.sqrt() * scales**2 / total * residual
    variance = scales**2 * (1 - alpha_bar) / total
    mean = (shares * each).sum(-1, keepdim=True)
    return mean, (shares * (variance + (each - mean) ** 2)).sum(-1, keepdim=True)


class PerfectCorrection(nn.Module):
    """The belief about z given y_t, as `Denoiser` gives it: a change of N(sqrt(abar) y, 1 - abar).

    Its variance is the exact one too, but for the bound on corrections, which is met only where
    y_1 has no mass.
    """

    def __init__(self, diffusion: GaussianDiffusion) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(self, y: Tensor, t: int, context: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.diffusion.alpha_bar[t]
        mean, variance = moments(y, alpha_bar)
        correction = 0.5 * (variance / (1 - alpha_bar)).log()
        inside = (correction / MAX_LOG_CORRECTION).clamp(-0.999, 0.999)
        shift = (mean - alpha_bar.sqrt() * y) / (1 - alpha_bar).sqrt()
        return shift, MAX_LOG_CORRECTION * torch.atanh(inside)


class PerfectNoise(nn.Module):
    """E(eps | y_t), the noise that is left after the exact mean of z."""

    def __init__(self, diffusion: GaussianDiffusion) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(self, y: Tensor, t: int) -> Tensor:
        mean, _ = moments(y, self.diffusion.alpha_bar[t])
        return self.diffusion.noise_from_z(mean, y, t)


def starts(n: int, alpha_bar: float) -> Tensor:
    """n evenly spread quantiles of r(y_T), by inverting its distribution function."""
    quantiles = (np.arange(n) + 0.5) / n
    grid = np.linspace(-7, 7, 4001)
    rough = np.interp(quantiles, mixture_cdf(grid, alpha_bar), grid)
    y = torch.from_numpy(rough).unsqueeze(-1)
    median = brentq(lambda value: mixture_cdf(value, alpha_bar) - quantiles[n // 3], -7, 7)
    assert y[n // 3].item() == pytest.approx(median, abs=1e-4)
    return y


def distance_to_mixture(z: Tensor) -> float:
    """Kolmogorov's distance of the draws to the distribution function of the mixture."""
    ranks = (np.arange(len(z)) + 0.5) / len(z)
    return np.abs(mixture_cdf(np.sort(z.squeeze(-1).numpy())) - ranks).max()


def ancestral(n_steps: int, n: int, generator: torch.Generator) -> Tensor:
    """Draws of the reverse chain, each step averaged over the belief about z."""
    diffusion = GaussianDiffusion(cosine_alpha_bar(n_steps))
    posterior = DiffusionPosterior(1, 1, diffusion, conditional=False)
    posterior.denoiser = PerfectCorrection(diffusion)
    nothing = torch.zeros(1)
    encoding = DiffusionEncoding(*[nothing] * 6)
    y = starts(n, diffusion.alpha_bar[-1].item())
    for t in range(n_steps, 0, -1):
        mean, variance = posterior.reverse_step(encoding, y, t)
        y = mean + variance.sqrt() * torch.randn(n, 1, generator=generator)
    return y


def deterministic(n_steps: int, n: int) -> Tensor:
    """The end of the chain without noise (DDIM, eta = 0) from the quantiles of y_T."""
    model = ReferenceDDVI(1, 3, n_latent=1, n_steps=n_steps, n_hidden=2, n_hidden_denoiser=2)
    model.diffusion = GaussianDiffusion(cosine_alpha_bar(n_steps))
    model.denoiser = PerfectNoise(model.diffusion)
    return model.ddim(starts(n, model.diffusion.alpha_bar[-1].item()))


def test_moments_of_z_are_those_of_numerical_integration():
    """The closed forms that both chains are given, at three noise levels."""
    z = np.linspace(-5, 5, 20001)
    prior = norm.pdf(z[:, None], MEANS, SCALES) @ WEIGHTS
    for alpha_bar in (0.02, 0.5, 0.97):
        for y in (-1.1, 0.3, 2.0):
            p = prior * norm.pdf(y, math.sqrt(alpha_bar) * z, math.sqrt(1 - alpha_bar))
            p /= p.sum()
            mean, variance = moments(torch.tensor([y]), torch.tensor(alpha_bar))
            assert mean.item() == pytest.approx(p @ z, rel=1e-6)
            assert variance.item() == pytest.approx(p @ z**2 - (p @ z) ** 2, rel=1e-6)


def test_ancestral_sampling_comes_to_the_prior_as_steps_grow_many(generator):
    """60,000 draws: 5 steps miss p(z) plainly, 100 and 400 are not to be told from it.

    1.95 / sqrt(n) is what draws of the mixture itself exceed once in a thousand times.
    """
    n = 60_000
    with torch.no_grad():
        distances = [distance_to_mixture(ancestral(T, n, generator)) for T in N_STEPS]
    assert distances[0] > 0.03
    assert distances[1] < distances[0] / 3
    assert max(distances[2:]) < 1.95 / math.sqrt(n)


def test_deterministic_sampling_comes_to_the_prior_as_steps_grow_many():
    """Song et al. (2020), equation 12 with sigma = 0: the map of quantiles has no other error.

    With the test above, both chains end in one distribution, by the triangle inequality.
    """
    with torch.no_grad():
        distances = [distance_to_mixture(deterministic(T, 10_000)) for T in N_STEPS]
    assert distances[0] > 0.05
    for fewer, more in pairwise(distances):
        assert more < 0.4 * fewer
    assert distances[-1] < 0.002
