"""Deep latent-variable models p(z) p(x | z) with an approximate posterior.

The posterior is any `Posterior`: a Gaussian, a flow, a diffusion. What differs between the methods
that this package compares is that choice, and how it is trained.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
Equation numbers below are the paper's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import gaussian_entropy, gaussian_log_prob
from ancestryvi.models.networks import mlp
from ancestryvi.models.posterior import EncoderPosterior, LogJoint, Posterior
from ancestryvi.models.priors import Prior


@dataclass(frozen=True)
class ElboTerms:
    """The terms of equations 5, 6, 10 and 11, in nats per sample, each of shape (n_samples,).

    `log_forward` is log r(y | z), of the auxiliary variables that q goes through; 0 without any.
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


class Autoencoder(nn.Module, ABC):
    """p(z), p(x | z) and q(y, z | x): what all of them have, whatever p(x | z) is.

    Parameters
    ----------
    prior : Prior
        p(z), over latents of dimension ``prior.n_latent``.
    posterior : Posterior
    """

    def __init__(self, prior: Prior, posterior: Posterior) -> None:
        super().__init__()
        self.prior = prior
        self.posterior = posterior

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.prior.n_latent

    @property
    def n_noise(self) -> int:
        """Number of standard normal vectors that a draw of the posterior takes."""
        return self.posterior.n_noise

    @abstractmethod
    def expectation(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Mean of p(x | z), or of p(x | z, c) in a model with classes."""

    @abstractmethod
    def dream(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z, its part of the prior and x (equation 8 of DDVI)."""

    @abstractmethod
    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean over draws of the bound of log p(x), of shape (n_samples,), in nats."""

    def log_joint(self, x: Tensor, c: Tensor | None = None) -> LogJoint:
        """log p(x, z), or log p(x, z | c), as a function of z; None where it has no closed form."""
        return None

    def log_prior(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """log p(z), or log p(z | c), in nats."""
        if c is None:
            return self.prior.log_prob(z)
        return (c * (self.prior.joint_log_prob(z) - self.prior.log_weights)).sum(-1)

    # --------------------------------------------------------------------------- the read-out

    def infer(self, x: Tensor, noise: Tensor, c: Tensor | None = None) -> Tensor:
        """Draws from q(z | x), or q(z | x, c), with the given noise; 0 follows the means."""
        return self.posterior.infer(self.posterior.encode(x, c), noise, self.log_joint(x, c))

    def place(self, x: Tensor) -> Tensor:
        """The latent that the means of q lead to, of shape (n_samples, n_latent)."""
        return self.infer(x, x.new_zeros(self.n_noise, 1, self.n_latent))

    def draw(self, x: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """Draws from q(z | x), of shape (n_draws, n_samples, n_latent).

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        noise : Tensor of shape (n_noise, n_draws, n_samples or 1, n_latent)
            Standard normal.
        uniform : Tensor of shape (n_draws, n_samples or 1)
            Uniform in [0, 1); of use to models with classes only.
        """
        return self.infer(x, noise)

    def probabilities(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean of p(part | z) over draws from q(z | x), of shape (n_samples, n_clusters)."""
        return self.prior.responsibilities(self.infer(x, noise)).mean(0)

    def keep_clusters(self, order: Tensor) -> None:
        """Keep these parts of the prior alone, in this order."""
        self.prior = self.prior.keep(order)


class LatentVariableModel(Autoencoder):
    """p(x | z) = N(f(z), diag s^2), as tensors in and tensors out.

    Parameters
    ----------
    n_features : int
        Dimension of x.
    prior, posterior
        As for `Autoencoder`.
    noise_scale : Tensor of shape (n_features,)
        Starting standard deviations of p(x | z), learned thereafter.
    n_hidden : int, default=256
        Width of the decoder, which has two hidden layers.
    """

    posterior: EncoderPosterior

    def __init__(
        self,
        n_features: int,
        prior: Prior,
        posterior: EncoderPosterior,
        noise_scale: Tensor,
        *,
        n_hidden: int = 256,
    ) -> None:
        super().__init__(prior, posterior)
        self.log_noise = nn.Parameter(noise_scale.log())
        self.decoder = mlp(prior.n_latent, n_hidden, 2, n_features)

    def generative_parameters(self) -> list[nn.Parameter]:
        """theta: the prior, the decoder and the observation noise."""
        return [*self.prior.parameters(), *self.decoder.parameters(), self.log_noise]

    def expectation(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Mean of p(x | z), or of p(x | z, c) in a model with classes."""
        return self.decoder(z)

    def reconstruction(self, x: Tensor, z: Tensor, c: Tensor | None = None) -> Tensor:
        """log p(x | z), or log p(x | z, c), in nats, summed over features."""
        return gaussian_log_prob(x, self.expectation(z, c), (2.0 * self.log_noise).exp())

    def log_joint(self, x: Tensor, c: Tensor | None = None) -> LogJoint:
        """log p(x, z), or log p(x, z | c), as a function of z."""
        return lambda z: self.reconstruction(x, z, c) + self.log_prior(z, c)

    def elbo(self, x: Tensor, noise: Tensor, c: Tensor | None = None) -> ElboTerms:
        """One-sample estimate of the bound, for DDVI the Markovian ELBO of equations 5 and 6.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        noise : Tensor of shape (n_noise, ..., n_samples, n_latent)
            As for `Posterior.trajectory`.
        c : Tensor of shape (..., n_samples or 1, n_classes), optional
            Condition q and p(z | c) on these classes, one-hot; `log_class` is then left at 0.
        """
        encoding = self.posterior.encode(x, c)
        z, log_auxiliary, entropy = self.posterior.trajectory(encoding, noise, self.log_joint(x, c))
        reconstruction = self.reconstruction(x, z, c)
        none = torch.zeros_like(reconstruction)
        return ElboTerms(reconstruction, self.log_prior(z, c), log_auxiliary, entropy, none)

    def wake(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> ElboTerms:
        """An estimate of the bound for training; this model has no use for labels."""
        return self.elbo(x, normal((self.n_noise, len(x), self.n_latent), x, generator))

    def dream(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z, its part of the prior and x, observation noise included (equation 8)."""
        z, part = self.prior.sample(n_samples, generator)
        mean = self.expectation(z, torch.nn.functional.one_hot(part, self.prior.n_clusters).to(z))
        return z, part, mean + self.log_noise.exp() * normal(tuple(mean.shape), mean, generator)

    def belief_elbo(
        self, x: Tensor, belief: tuple[Tensor, Tensor], noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL-like term of AEVB, whose posterior is the encoder's belief alone.

        Classes play no part in it. With the belief about x, as `encoder_belief` gives it, and noise
        of shape (n_samples, n_latent); terms in nats, of shape (n_samples,).
        """
        mean, scale = belief
        z = mean + scale * noise
        reconstruction = gaussian_log_prob(x, self.decoder(z), (2.0 * self.log_noise).exp())
        return reconstruction, self.prior.log_prob(z) + gaussian_entropy(scale**2)

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean of the ELBO over draws, of shape (n_samples,), in nats."""
        return self.elbo(x, noise).elbo.mean(0)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of this shape on the device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def standardise(noise: Tensor) -> Tensor:
    """Noise whose draws (axis 1) have a mean square of 1 exactly in each coordinate.

    Most of what a bound differs by from draw to draw is a sum of squares of the noise, and nothing
    to do with x.
    """
    return noise / noise.square().mean(1, keepdim=True).sqrt()
