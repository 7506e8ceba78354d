"""Variational diffusion decoder: p(x | z) as a diffusion model whose network sees z."""

from __future__ import annotations

from torch import Tensor

from ancestryvi.models.continuous import (
    ContinuousSchedule,
    Decoder,
    Predictor,
    diffuse,
    squared_error,
    vdm_bound,
)
from ancestryvi.models.noise_predictor import NoisePredictor


class DiffusionDecoder(Decoder):
    """p(x | z) of the variational diffusion auto-encoder and of DiffDecoder.

    Parameters
    ----------
    n_features, n_latent : int
        Dimensions of x and z.
    schedule : ContinuousSchedule
        A `LinearSchedule` makes the variational diffusion model; a `VPSchedule` with `simple`
        makes DiffDecoder.
    simple : bool, default=False
        Train on the plain error of the noise, at uniform times of the schedule, in place of the
        bound. It puts weight on high noise, where z helps most.
    n_hidden, n_blocks : int, default=128 and 2
        Size of the network.

    Notes
    -----
    Call `set_variance` before training. All shapes may begin with the same axes of draws.

    References
    ----------
    Garcia Cerdas, Kulicki, Gonzalez and Chu (2023), Representation Learning with Variational
    Diffusion Models, section 3. Their weight of the noise's error, SNR(s) - SNR(t), belongs to the
    error of x; for the noise it is SNR(s) / SNR(t) - 1, as used here for steps without length.
    Batzolis, Stanczuk and Schönlieb (2023), Variational Diffusion Auto-encoder, section 3.2.
    """

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        *,
        schedule: ContinuousSchedule,
        simple: bool = False,
        n_hidden: int = 128,
        n_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.simple = simple
        self.n_features = n_features
        self.noise = NoisePredictor(n_features, n_latent, n_hidden=n_hidden, n_blocks=n_blocks)

    def set_variance(self, variance: Tensor) -> None:
        """Tell the decoder the variances of the features, of shape (n_features,)."""
        self.noise.set_variance(variance)

    def loss(self, x: Tensor, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Training loss per sample: minus `log_prob`, or half the squared error if `simple`.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
        z : Tensor of shape (..., n, n_latent)
        time : Tensor of shape (..., n or 1)
            Uniform in [0, 1).
        noise : Tensor of shape (..., n or 1, n_features)
            Standard normal.

        Returns
        -------
        loss : Tensor of shape (..., n)
        """
        if not self.simple:
            return -self.log_prob(x, z, time, noise)
        gamma = self.schedule.gamma(time)
        return 0.5 * squared_error(noise, self.noise(diffuse(x, gamma, noise), gamma, z))

    def log_prob(self, x: Tensor, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Estimate of the variational bound of log p(x | z), unbiased over time and noise.

        Arguments are those of `loss`; the bound has shape (..., n) and is in nats.
        """
        gamma = self.schedule.spread(time)
        mean = self.noise.mean(z)
        predicted = self.noise(diffuse(x, gamma, noise), gamma, z, mean)
        return vdm_bound(x, gamma, noise, predicted, self.schedule, mean, self.noise.variance)

    def given(self, z: Tensor) -> Predictor:
        """The noise predictor for these z."""
        mean = self.noise.mean(z)
        return lambda x_t, gamma: self.noise(x_t, gamma, z, mean)
