"""Auto-encoders whose decoder is a diffusion model in the space of x.

References
----------
Garcia Cerdas, Kulicki, Gonzalez and Chu (2023), Representation Learning with Variational Diffusion
Models (VDM decoder). Batzolis, Stanczuk and Schönlieb (2023), Variational Diffusion Auto-encoder
(ScoreVAE, ScoreVAE+, DiffDecoder).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ancestryvi.models.aevb import reparameterise
from ancestryvi.models.continuous import (
    ContinuousSchedule,
    LinearSchedule,
    VPSchedule,
    stratified_times,
)
from ancestryvi.models.diffusion import gaussian_entropy
from ancestryvi.models.latent_variable import Autoencoder, normal, standardise
from ancestryvi.models.posterior import Encoding, LogJoint, Posterior, Trajectory
from ancestryvi.models.priors import Prior
from ancestryvi.models.score_vae import ScoreDecoder, TimeEncoder
from ancestryvi.models.vdm import DiffusionDecoder


class DiffusionAutoencoder(Autoencoder):
    """p(z), a diffusion decoder p(x | z), and a Gaussian posterior.

    Parameters
    ----------
    prior, posterior
        As for `Autoencoder`.
    decoder : DiffusionDecoder or ScoreDecoder
    """

    def __init__(
        self, prior: Prior, posterior: Posterior, decoder: DiffusionDecoder | ScoreDecoder
    ) -> None:
        super().__init__(prior, posterior)
        self.decoder = decoder

    def losses(
        self, x: Tensor, labels: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Loss of the decoder at one draw of z, and KL-like loss of it, each of shape (n_samples,).

        Where the prior has a part for every label, the latents of labelled samples belong to theirs
        (equation 10 of DDVI). The first is in nats unless the decoder is `simple`.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        labels : Tensor of shape (n_samples,), optional
            Index of a part, -1 where it is not known.
        generator : torch.Generator
        """
        z, scale = self.posterior.draw_belief(x, normal((len(x), self.n_latent), x, generator))
        time = stratified_times(len(x), x, generator)
        decoding = self.decoder.loss(x, z, time, normal(tuple(x.shape), x, generator))
        log_prior = self.log_prior(z)
        if labels is not None and labels.max() < self.prior.n_clusters:
            part = functional.one_hot(labels.clamp(min=0), self.prior.n_clusters).to(z)
            log_prior = torch.where(labels < 0, log_prior, self.log_prior(z, part))
        return decoding, -(log_prior + gaussian_entropy(scale**2))

    def expectation(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """The middle of p(x | z): where the probability flow from 0 ends."""
        return self.decoder.decode(z, z.new_zeros(()))

    def dream(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z, its part of the prior and x."""
        z, part = self.prior.sample(n_samples, generator)
        return z, part, self.decoder.sample(z, generator)

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean of the bound of log p(x) over draws of z, each at a level of its own.

        Levels and the noise of x are fixed and the same for every row, the second half of the noise
        mirrored, as for z.
        """
        n_draws = noise.shape[1]
        generator = torch.Generator().manual_seed(0)
        shape = (1, n_draws // 2, 1, x.shape[-1])
        half = standardise(normal(shape, x.cpu(), generator))[0].to(x)
        order = torch.randperm(n_draws, generator=generator)
        time = ((order + 0.5) / n_draws).to(x).unsqueeze(1)
        z, scale = self.posterior.draw_belief(x, noise[0])
        decoding = self.decoder.log_prob(x, z, time, torch.cat([half, -half]))
        return (decoding + self.log_prior(z) + gaussian_entropy(scale**2)).mean(0)


class VDMAutoencoder(DiffusionAutoencoder):
    """The VDM decoder: a schedule linear in log SNR, trained on the bound."""

    def __init__(self, n_features: int, prior: Prior, posterior: Posterior) -> None:
        decoder = DiffusionDecoder(n_features, prior.n_latent, schedule=LinearSchedule())
        super().__init__(prior, posterior, decoder)


class DiffDecoderAutoencoder(DiffusionAutoencoder):
    """DiffDecoder: the variance-preserving SDE, trained on the plain error of the noise."""

    def __init__(self, n_features: int, prior: Prior, posterior: Posterior) -> None:
        decoder = DiffusionDecoder(n_features, prior.n_latent, schedule=VPSchedule(), simple=True)
        super().__init__(prior, posterior, decoder)


class ScorePosterior(Posterior):
    """q(z | x) = q_0(z | x_0): the time-dependent encoder of ScoreVAE, on clean data.

    Parameters
    ----------
    n_features, n_latent : int
        Dimensions of x and z.
    """

    schedule: ContinuousSchedule = VPSchedule()

    def __init__(self, n_features: int, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.encoder = TimeEncoder(n_features, n_latent, schedule=self.schedule)

    @property
    def n_noise(self) -> int:
        """One vector: the reparameterisation of z."""
        return 1

    def encode(self, x: Tensor, c: Tensor | None = None) -> Encoding:
        """The belief of the encoder without noise; there are no classes."""
        mean, log_scale = self.encoder.encode(x)
        return Encoding(mean, log_scale, mean)

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """z = m + s noise, with its exact entropy; see `Posterior.trajectory`."""
        return reparameterise(encoding, noise[0])


class ScoreAutoencoder(DiffusionAutoencoder):
    """ScoreVAE: a diffusion prior of x, and the decoder that Bayes' rule makes of it.

    Its loss is the paper's with the weight sigma^2 that its authors use: with the weight of the
    bound, the latent says less of the populations.
    """

    decoder: ScoreDecoder
    corrector = False

    def __init__(self, n_features: int, prior: Prior, posterior: ScorePosterior) -> None:
        decoder = ScoreDecoder(
            n_features,
            prior.n_latent,
            posterior.encoder,
            schedule=posterior.schedule,
            simple=True,
            corrector=self.corrector,
        )
        super().__init__(prior, posterior, decoder)


class CorrectedScoreAutoencoder(ScoreAutoencoder):
    """ScoreVAE+: with a corrector of what the encoder's Gaussian leaves."""

    corrector = True
