"""Denoising Diffusion Variational Inference: the model, its posterior and its objective.

Generative model p(z) p(x | z) with p(x | z) = N(f(z), diag s^2). The posterior is a diffusion model
run in reverse, q(y_T | x) prod_t q(y_{t-1} | y_t, x) with z = y_0, against the forward process r of
`diffusion`.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
Equation numbers below are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import gaussian_entropy, gaussian_kl, gaussian_log_prob
from ancestryvi.models.networks import mlp
from ancestryvi.models.posterior import DiffusionPosterior
from ancestryvi.models.priors import Prior


@dataclass(frozen=True)
class ElboTerms:
    """The terms of equations 5, 6, 10 and 11, in nats per sample, each of shape (n_samples,).

    `log_class` is E_q(c|x)[log p(c) - log q(c | x)], and 0 for a model without classes.
    """

    reconstruction: Tensor
    log_prior: Tensor
    log_forward: Tensor
    entropy: Tensor
    log_class: Tensor

    @property
    def regularisation(self) -> Tensor:
        """L_reg of equation 6."""
        return self.log_prior + self.log_forward + self.entropy + self.log_class

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
    prior : Prior
        p(z), over latents of dimension ``prior.n_latent``.
    posterior : DiffusionPosterior
    noise_scale : Tensor of shape (n_features,)
        Starting standard deviations of p(x | z), learned thereafter.
    n_hidden : int, default=256
        Width of the decoder, which has two hidden layers.
    """

    def __init__(
        self,
        n_features: int,
        prior: Prior,
        posterior: DiffusionPosterior,
        noise_scale: Tensor,
        *,
        n_hidden: int = 256,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.posterior = posterior
        self.log_noise = nn.Parameter(noise_scale.log())
        self.decoder = mlp(prior.n_latent, n_hidden, 2, n_features)

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.prior.n_latent

    @property
    def n_steps(self) -> int:
        """Number T of diffusion steps."""
        return self.posterior.diffusion.n_steps

    def generative_parameters(self) -> list[nn.Parameter]:
        """theta: the prior, the decoder and the observation noise."""
        return [*self.prior.parameters(), *self.decoder.parameters(), self.log_noise]

    # -------------------------------------------------------------------------- the objective

    def expectation(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Mean of p(x | z), or of p(x | z, c) in a model with classes."""
        return self.decoder(z)

    def reconstruction(self, x: Tensor, z: Tensor, c: Tensor | None = None) -> Tensor:
        """log p(x | z), or log p(x | z, c), in nats, summed over features."""
        return gaussian_log_prob(x, self.expectation(z, c), (2.0 * self.log_noise).exp())

    def elbo(self, x: Tensor, noise: Tensor, c: Tensor | None = None) -> ElboTerms:
        """One-sample estimate of the Markovian ELBO, equations 5 and 6.

        Entropies are exact, and E[log r(y_t | y_{t-1})] is taken exactly over y_{t-1} given y_t.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        noise : Tensor of shape (T + 1, ..., n_samples, n_latent)
            As for `DiffusionPosterior.infer`.
        c : Tensor of shape (..., n_samples or 1, n_classes), optional
            Condition q and p(z | c) on these classes, one-hot; `log_class` is then left at 0.
        """
        posterior = self.posterior
        encoding = posterior.encode(x, c)
        start_scale = encoding.start_log_scale.exp()
        y = encoding.start_mean + start_scale * noise[0]
        entropy = gaussian_entropy(start_scale**2)
        log_forward = torch.zeros_like(entropy)
        for index, t in enumerate(range(self.n_steps, 0, -1), start=1):
            mean, variance = posterior.reverse_step(encoding, y, t)
            forward_mean, beta = posterior.diffusion.forward_step(mean, t)
            spread = ((1.0 - beta) * variance / beta).sum(-1)
            log_forward = log_forward + gaussian_log_prob(y, forward_mean, beta) - 0.5 * spread
            entropy = entropy + gaussian_entropy(variance)
            y = mean + variance.sqrt() * noise[index]
        if c is None:
            log_prior = self.prior.log_prob(y)
        else:
            log_prior = (c * (self.prior.joint_log_prob(y) - self.prior.log_weights)).sum(-1)
        reconstruction = self.reconstruction(x, y, c)
        return ElboTerms(
            reconstruction, log_prior, log_forward, entropy, torch.zeros_like(reconstruction)
        )

    def denoising_loss(
        self, x: Tensor, z: Tensor, noise: Tensor, c: Tensor | None = None
    ) -> Tensor:
        """-L_diff without its constant, equation 9: how badly q inverts r for a pair (z, x).

        Every step of the sum is evaluated, each at its own draw of y_t. If q's reverse steps do not
        see x, the term of q(y_T | x) is left out (appendix B): it alone would need pairs.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        z : Tensor of shape (n_samples, n_latent)
        noise : Tensor of shape (T, n_samples, n_latent)
            Standard normal, of y_1 to y_T.
        c : Tensor of shape (n_samples, n_classes), optional
            Condition q on these classes, one-hot.

        Returns
        -------
        loss : Tensor of shape (n_samples,), nats
        """
        posterior, diffusion = self.posterior, self.posterior.diffusion
        encoding = posterior.encode(x, c)
        steps = torch.arange(1, self.n_steps + 1, device=z.device).unsqueeze(-1)
        mean, variance = diffusion.marginal(z.expand(self.n_steps, -1, -1), steps)
        y = mean + variance.sqrt() * noise
        q_mean, q_variance = posterior.reverse_step(encoding, y, steps)
        r_mean, r_variance = diffusion.reverse(z.expand_as(y), y, steps)
        first = -gaussian_log_prob(z, q_mean[0], q_variance[0])
        rest = gaussian_kl(r_mean[1:], r_variance[1:], q_mean[1:], q_variance[1:]).sum(0)
        if not posterior.conditional:
            return first + rest
        last = gaussian_kl(
            mean[-1],
            variance[-1],
            encoding.start_mean,
            (2.0 * encoding.start_log_scale).exp(),
        )
        return first + rest + last

    def wake(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> ElboTerms:
        """An estimate of the bound for training; this model has no use for labels."""
        return self.elbo(x, normal((self.n_steps + 1, len(x), self.n_latent), x, generator))

    def sleep(self, n_samples: int, generator: torch.Generator) -> Tensor:
        """-L_diff on dreams of the model, of shape (n_samples,) in nats (equations 8 and 9)."""
        with torch.no_grad():
            z, _, x = self.dream(n_samples, generator)
        noise = normal((self.n_steps, n_samples, self.n_latent), x, generator)
        return self.denoising_loss(x, z, noise)

    def dream(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z, its part of the prior and x, observation noise included (equation 8)."""
        z, part = self.prior.sample(n_samples, generator)
        mean = self.expectation(z, torch.nn.functional.one_hot(part, self.prior.n_clusters).to(z))
        return z, part, mean + self.log_noise.exp() * normal(tuple(mean.shape), mean, generator)

    def belief_elbo(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL-like term of AEVB, whose posterior is the encoder's belief alone.

        Classes play no part in it. With noise of shape (n_samples, n_latent); terms in nats, of
        shape (n_samples,).
        """
        z, scale = self.posterior.draw_belief(x, noise)
        reconstruction = gaussian_log_prob(x, self.decoder(z), (2.0 * self.log_noise).exp())
        return reconstruction, self.prior.log_prob(z) + gaussian_entropy(scale**2)

    # --------------------------------------------------------------------------- the read-out

    def place(self, x: Tensor) -> Tensor:
        """The latent that the means of q lead to, of shape (n_samples, n_latent)."""
        still = x.new_zeros(self.n_steps + 1, 1, 1)
        return self.posterior.infer(self.posterior.encode(x), still)

    def draw(self, x: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """Draws from q(z | x), of shape (n_draws, n_samples, n_latent).

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        noise : Tensor of shape (T + 1, n_draws, n_samples or 1, n_latent)
            Standard normal.
        uniform : Tensor of shape (n_draws, n_samples or 1)
            Uniform in [0, 1); of use to models with classes only.
        """
        return self.posterior.infer(self.posterior.encode(x), noise)

    def probabilities(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean of p(part | z) over draws from q(z | x), of shape (n_samples, n_clusters)."""
        z = self.posterior.infer(self.posterior.encode(x), noise)
        return self.prior.responsibilities(z).mean(0)

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean of the ELBO over draws, of shape (n_samples,), in nats."""
        return self.elbo(x, noise).elbo.mean(0)

    def keep_clusters(self, order: Tensor) -> None:
        """Keep these parts of the prior alone, in this order."""
        self.prior = self.prior.keep(order)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of this shape on the device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def standardise(noise: Tensor) -> Tensor:
    """Noise whose draws (axis 1) have a mean square of 1 exactly in each coordinate.

    Most of what a bound differs by from draw to draw is a sum of squares of the noise, and nothing
    to do with x.
    """
    return noise / noise.square().mean(1, keepdim=True).sqrt()
