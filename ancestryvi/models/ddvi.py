"""Denoising Diffusion Variational Inference: the model, its posterior and its objective.

Generative model p(z) p(x | z), with a mixture prior and p(x | z) = N(f(z), diag s^2). The posterior
is a diffusion model run in reverse, q(y_T | x) prod_t q(y_{t-1} | y_t, x) with z = y_0, against the
forward process r of `diffusion`.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
Equation numbers below are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import (
    GaussianDiffusion,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
)
from ancestryvi.models.networks import Denoiser, mlp, zero_init
from ancestryvi.models.priors import MixturePrior

MAX_LOG_CORRECTION = 4.0
"""Largest change of a log standard deviation that the denoiser may ask for, in either direction."""

LOG_SCALE_RANGE = (-10.0, 3.0)
"""Log standard deviations that the encoder may give, on a map of a few units. Networks extrapolate
linearly, so that far from the training data the exponential of their output would overflow."""


@dataclass(frozen=True)
class Encoding:
    """What the posterior knows of x: a Gaussian belief about z, the start q(y_T | x), a context."""

    mean: Tensor
    log_scale: Tensor
    start_mean: Tensor
    start_log_scale: Tensor
    context: Tensor


@dataclass(frozen=True)
class ElboTerms:
    """The terms of equation 5 and 6, in nats per sample, each of shape (n_samples,)."""

    reconstruction: Tensor
    log_prior: Tensor
    log_forward: Tensor
    entropy: Tensor

    @property
    def regularisation(self) -> Tensor:
        """L_reg of equation 6."""
        return self.log_prior + self.log_forward + self.entropy

    @property
    def elbo(self) -> Tensor:
        """The Markovian ELBO of equation 5: a lower bound of log p(x) in expectation."""
        return self.reconstruction + self.regularisation


class DDVI(nn.Module):
    """p(z), p(x | z) and the diffusion posterior q(y, z | x), as tensors in and tensors out.

    Parameters
    ----------
    n_features : int
        Dimension of x.
    prior : MixturePrior
        p(z), over latents of dimension ``prior.n_latent``.
    diffusion : GaussianDiffusion
        The forward process r.
    noise_scale : Tensor of shape (n_features,)
        Starting standard deviations of p(x | z), learned thereafter.
    n_hidden : int, default=256
        Width of the encoder and the decoder, which have two hidden layers each.
    n_hidden_denoiser : int, default=128
        Width of the denoiser.

    Notes
    -----
    The encoder gives a Gaussian belief N(m(x), s^2(x)) about z: the posterior of AEVB, with which
    training starts. The denoiser *corrects* it in the light of y_t, to N(m + s u, s^2 e^{2v}) with
    (u, v) its two outputs; r(y_{t-1} | y_t, z) averaged over that belief is q(y_{t-1} | y_t, x).
    Predicting z is predicting the noise: y_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps.
    """

    def __init__(
        self,
        n_features: int,
        prior: MixturePrior,
        diffusion: GaussianDiffusion,
        noise_scale: Tensor,
        *,
        n_hidden: int = 256,
        n_hidden_denoiser: int = 128,
    ) -> None:
        super().__init__()
        n_latent = prior.n_latent
        self.prior = prior
        self.diffusion = diffusion
        self.log_noise = nn.Parameter(noise_scale.log())
        self.decoder = mlp(n_latent, n_hidden, 2, n_features)
        self.encoder = nn.Sequential(mlp(n_features, n_hidden, 1, n_hidden), nn.SiLU())
        self.belief_head = nn.Linear(n_hidden, 2 * n_latent)
        self.start_head = zero_init(nn.Linear(n_hidden, 2 * n_latent))
        self.denoiser = Denoiser(
            n_latent, n_hidden + 2 * n_latent, diffusion.n_steps, n_hidden_denoiser
        )

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.prior.n_latent

    def generative_parameters(self) -> list[nn.Parameter]:
        """theta: the prior, the decoder and the observation noise."""
        return [*self.prior.parameters(), *self.decoder.parameters(), self.log_noise]

    def inference_parameters(self) -> list[nn.Parameter]:
        """phi: everything that q depends on."""
        modules = (self.encoder, self.belief_head, self.start_head, self.denoiser)
        return [parameter for module in modules for parameter in module.parameters()]

    # ------------------------------------------------------------------ the posterior q(y, z | x)

    def encode(self, x: Tensor) -> Encoding:
        """Everything of q that depends on x alone."""
        features = self.encoder(x)
        belief = self.belief_head(features)
        context = self.denoiser.context(torch.cat([features, belief], dim=-1))
        return Encoding(*_gaussian(belief), *_gaussian(self.start_head(features)), context)

    def belief(self, encoding: Encoding, y: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the Gaussian belief about z given y_t = y and x."""
        shift, log_correction = self.denoiser(y, t, encoding.context)
        log_correction = MAX_LOG_CORRECTION * torch.tanh(log_correction / MAX_LOG_CORRECTION)
        scale = encoding.log_scale.exp()
        return encoding.mean + scale * shift, (scale * log_correction.exp()) ** 2

    def reverse_step(self, encoding: Encoding, y: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(y_{t-1} | y_t = y, x)."""
        return self.diffusion.reverse_of_belief(*self.belief(encoding, y, t), y, t)

    def infer(self, encoding: Encoding, noise: Tensor) -> Tensor:
        """Draw z from q(z | x) with the given standard normal noise; noise 0 follows the means.

        Parameters
        ----------
        encoding : Encoding
            Of n_samples rows of x.
        noise : Tensor of shape (T + 1, ..., n_samples, n_latent)
            The noise of y_T, then of each reverse step; any axes between are several draws.

        Returns
        -------
        z : Tensor of shape (..., n_samples, n_latent)
        """
        y = encoding.start_mean + encoding.start_log_scale.exp() * noise[0]
        for index, t in enumerate(range(self.diffusion.n_steps, 0, -1), start=1):
            mean, variance = self.reverse_step(encoding, y, t)
            y = mean + variance.sqrt() * noise[index]
        return y

    # -------------------------------------------------------------------------- the objective

    def reconstruction(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats, summed over features."""
        return gaussian_log_prob(x, self.decoder(z), (2.0 * self.log_noise).exp())

    def elbo(self, x: Tensor, noise: Tensor) -> ElboTerms:
        """One-sample estimate of the Markovian ELBO, equations 5 and 6.

        Entropies are exact, and E[log r(y_t | y_{t-1})] is taken exactly over y_{t-1} given y_t.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        noise : Tensor of shape (T + 1, ..., n_samples, n_latent)
            As for `infer`.
        """
        encoding = self.encode(x)
        start_scale = encoding.start_log_scale.exp()
        y = encoding.start_mean + start_scale * noise[0]
        entropy = gaussian_entropy(start_scale**2)
        log_forward = torch.zeros_like(entropy)
        for index, t in enumerate(range(self.diffusion.n_steps, 0, -1), start=1):
            mean, variance = self.reverse_step(encoding, y, t)
            forward_mean, beta = self.diffusion.forward_step(mean, t)
            spread = ((1.0 - beta) * variance / beta).sum(-1)
            log_forward = log_forward + gaussian_log_prob(y, forward_mean, beta) - 0.5 * spread
            entropy = entropy + gaussian_entropy(variance)
            y = mean + variance.sqrt() * noise[index]
        return ElboTerms(self.reconstruction(x, y), self.prior.log_prob(y), log_forward, entropy)

    def denoising_loss(self, x: Tensor, z: Tensor, noise: Tensor) -> Tensor:
        """-L_diff without its constant, equation 9: how badly q inverts r for a pair (z, x).

        Every step of the sum is evaluated, each at its own draw of y_t.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        z : Tensor of shape (n_samples, n_latent)
        noise : Tensor of shape (T, n_samples, n_latent)
            Standard normal, of y_1 to y_T.

        Returns
        -------
        loss : Tensor of shape (n_samples,), nats
        """
        encoding = self.encode(x)
        n_steps = self.diffusion.n_steps
        steps = torch.arange(1, n_steps + 1, device=z.device).unsqueeze(-1)
        mean, variance = self.diffusion.marginal(z.expand(n_steps, -1, -1), steps)
        y = mean + variance.sqrt() * noise
        q_mean, q_variance = self.reverse_step(encoding, y, steps)
        r_mean, r_variance = self.diffusion.reverse(z.expand_as(y), y, steps)
        first = -gaussian_log_prob(z, q_mean[0], q_variance[0])
        rest = gaussian_kl(r_mean[1:], r_variance[1:], q_mean[1:], q_variance[1:]).sum(0)
        last = gaussian_kl(
            mean[-1],
            variance[-1],
            encoding.start_mean,
            (2.0 * encoding.start_log_scale).exp(),
        )
        return first + rest + last

    def dream(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z, its prior component and x from the model, observation noise included (eq. 8)."""
        z, component = self.prior.sample(n_samples, generator)
        mean = self.decoder(z)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return z, component, mean + self.log_noise.exp() * noise

    def belief_elbo(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL-like term of AEVB, whose posterior is the encoder's belief alone.

        With noise of shape (n_samples, n_latent); terms in nats, of shape (n_samples,).
        """
        mean, log_scale = _gaussian(self.belief_head(self.encoder(x)))
        scale = log_scale.exp()
        z = mean + scale * noise
        return self.reconstruction(x, z), self.prior.log_prob(z) + gaussian_entropy(scale**2)


def _gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation, within its range, from the output of a head."""
    mean, log_scale = output.chunk(2, dim=-1)
    return mean, log_scale.clamp(*LOG_SCALE_RANGE)
