"""Gaussian diffusion in latent space: the forward process r and its exact reverse given z.

Notation of the paper: z = y_0, and r(y_t | y_{t-1}) = N(sqrt(1 - b_t) y_{t-1}, b_t I), so that
r(y_t | z) = N(sqrt(abar_t) z, (1 - abar_t) I). Steps are numbered t = 1..T as in the equations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2.0 * math.pi)


def gaussian_log_prob(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log density of a diagonal Gaussian, in nats, summed over the last axis."""
    return -0.5 * ((value - mean) ** 2 / variance + variance.log() + LOG_2PI).sum(-1)


def gaussian_entropy(variance: Tensor) -> Tensor:
    """Entropy of a diagonal Gaussian, in nats, summed over the last axis (section 3.2 of DDVI)."""
    return 0.5 * (variance.log() + LOG_2PI + 1.0).sum(-1)


def gaussian_kl(mean_p: Tensor, variance_p: Tensor, mean_q: Tensor, variance_q: Tensor) -> Tensor:
    """KL(p || q) between diagonal Gaussians, in nats, summed over the last axis."""
    ratio = variance_p / variance_q
    return 0.5 * (ratio - 1.0 - ratio.log() + (mean_p - mean_q) ** 2 / variance_q).sum(-1)


class GaussianDiffusion(nn.Module):
    """The forward process r of a schedule, with everything that has a closed form.

    Parameters
    ----------
    alpha_bar : Tensor of shape (T + 1,)
        abar_0 = 1 down to abar_T, as the functions of `schedules` return it.

    References
    ----------
    Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, equations 2, 4, 6 and 7.
    """

    alpha_bar: Tensor
    beta: Tensor
    posterior_variance: Tensor
    z_coefficient: Tensor
    y_coefficient: Tensor

    def __init__(self, alpha_bar: Tensor) -> None:
        super().__init__()
        alpha_bar = alpha_bar.double()
        previous, current = alpha_bar[:-1], alpha_bar[1:]
        beta = 1.0 - current / previous
        unused = torch.zeros(1, dtype=torch.float64)  # index 0: steps are numbered 1..T
        buffers = {
            "alpha_bar": alpha_bar,
            "beta": torch.cat([unused, beta]),
            "posterior_variance": torch.cat([unused, beta * (1 - previous) / (1 - current)]),
            "z_coefficient": torch.cat([unused, beta * previous.sqrt() / (1 - current)]),
            "y_coefficient": torch.cat(
                [unused, (current / previous).sqrt() * (1 - previous) / (1 - current)]
            ),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    @property
    def n_steps(self) -> int:
        """Number T of steps."""
        return len(self.alpha_bar) - 1

    def marginal(self, z: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance of r(y_t | z) (Ho et al., equation 4)."""
        alpha_bar = _column(self.alpha_bar[t])
        return alpha_bar.sqrt() * z, (1.0 - alpha_bar).expand_as(z)

    def forward_step(self, y: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance of r(y_t | y_{t-1} = y) (Ho et al., equation 2)."""
        beta = _column(self.beta[t])
        return (1.0 - beta).sqrt() * y, beta.expand_as(y)

    def reverse(self, z: Tensor, y: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance of r(y_{t-1} | y_t = y, z) (Ho et al., equations 6 and 7)."""
        mean = _column(self.z_coefficient[t]) * z + _column(self.y_coefficient[t]) * y
        return mean, _column(self.posterior_variance[t]).expand_as(y)

    def reverse_of_belief(
        self, z_mean: Tensor, z_variance: Tensor, y: Tensor, t: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of r(y_{t-1} | y_t = y) when z given y_t is N(z_mean, z_variance).

        The reverse step averaged over the belief, which stays Gaussian. At t = 1 it is the belief.
        """
        mean, variance = self.reverse(z_mean, y, t)
        return mean, variance + _column(self.z_coefficient[t]) ** 2 * z_variance

    def noise_from_z(self, z: Tensor, y: Tensor, t: Tensor | int) -> Tensor:
        """The noise eps with y_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps."""
        mean, variance = self.marginal(z, t)
        return (y - mean) / variance.sqrt()

    def z_from_noise(self, noise: Tensor, y: Tensor, t: Tensor | int) -> Tensor:
        """The latent z with y_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps."""
        alpha_bar = _column(self.alpha_bar[t])
        return (y - (1.0 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


def _column(coefficient: Tensor) -> Tensor:
    """Coefficients of shape (...) as (..., 1), to multiply vectors of shape (..., d)."""
    return coefficient.unsqueeze(-1)
