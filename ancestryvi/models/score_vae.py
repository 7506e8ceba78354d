"""ScoreVAE: p(x | z) by Bayes' rule for scores, from a diffusion prior p(x) and an encoder.

The score of p(x_t | z) is that of p(x_t) plus the gradient of log q_t(z | x_t), the density that an
encoder of noised data gives z. Training has two stages, or three: the prior, then the encoder with
the prior fixed, then (ScoreVAE+) a corrector with both fixed.

References
----------
Batzolis, Stanczuk and Schönlieb (2023), Variational Diffusion Auto-encoder: Latent Space Extraction
from Pre-trained Diffusion Models, sections 3.3 to 3.6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestryvi.models.continuous import (
    ContinuousSchedule,
    Decoder,
    Predictor,
    alpha_sigma,
    diffuse,
    squared_error,
    vdm_bound,
)
from ancestryvi.models.diffusion import gaussian_log_prob
from ancestryvi.models.networks import zero_init
from ancestryvi.models.noise_predictor import FilmNetwork, NoisePredictor

LOG_SCALE_RANGE = (-4.0, 2.0)
"""Log standard deviations of z that an encoder may give. Its precision multiplies the score."""


class TimeEncoder(nn.Module):
    """q_t(z | x_t), a diagonal Gaussian whose parameters know the level of noise in x_t.

    Parameters
    ----------
    n_features, n_latent : int
        Dimensions of x and z.
    schedule : ContinuousSchedule
        Its first level is that of clean data.
    n_hidden, n_blocks : int, default=128 and 2
        Size of the network.

    Notes
    -----
    The network sees E[x | x_t] under a Gaussian of the data's variance, in which features lose
    their weight as noise covers them, and which is x itself where there is no noise.
    """

    variance: Tensor

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        *,
        schedule: ContinuousSchedule,
        n_hidden: int = 128,
        n_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("variance", torch.ones(n_features))
        self.network = FilmNetwork(n_features, 0, 2 * n_latent, n_hidden, n_blocks)

    def set_variance(self, variance: Tensor) -> None:
        """Tell the encoder the variances of the features, of shape (n_features,)."""
        self.variance.copy_(variance)

    def forward(self, x_t: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of z for x_t at level `gamma`, of shape (..., n or 1)."""
        alpha, sigma = alpha_sigma(gamma)
        shrunk = alpha * self.variance / (alpha**2 * self.variance + sigma**2) * x_t
        mean, raw = self.network(shrunk, gamma).chunk(2, dim=-1)
        low, high = LOG_SCALE_RANGE
        middle, half = 0.5 * (high + low), 0.5 * (high - low)
        return mean, middle + half * torch.tanh(raw / half)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q_0(z | x) of clean data, each (..., n_latent)."""
        return self(x, x.new_tensor(self.schedule.first))


class ScoreDecoder(Decoder):
    """p(x | z) of ScoreVAE and, with a corrector, of ScoreVAE+.

    Parameters
    ----------
    n_features, n_latent : int
        Dimensions of x and z.
    encoder : TimeEncoder
        q_t(z | x_t).
    schedule : ContinuousSchedule
    simple : bool, default=False
        Train on the plain error of the noise, at uniform times of the schedule, in place of the
        bound.
    corrector : bool, default=False
        Whether to have a corrector, which is 0 until it is trained.
    n_hidden, n_blocks : int, default=128 and 2
        Size of the prior's network and the corrector's.

    Notes
    -----
    Call `set_variance` before training. All shapes may begin with the same axes of draws.
    """

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        encoder: TimeEncoder,
        *,
        schedule: ContinuousSchedule,
        simple: bool = False,
        corrector: bool = False,
        n_hidden: int = 128,
        n_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.simple = simple
        self.n_features = n_features
        self.encoder = encoder
        self.prior = NoisePredictor(n_features, n_hidden=n_hidden, n_blocks=n_blocks)
        self.corrector: FilmNetwork | None = None
        if corrector:
            self.corrector = FilmNetwork(n_features, n_latent, n_features, n_hidden, n_blocks)
            zero_init(self.corrector.output)

    def set_variance(self, variance: Tensor) -> None:
        """Tell prior and encoder the variances of the features, of shape (n_features,)."""
        self.prior.set_variance(variance)
        self.encoder.set_variance(variance)

    # --------------------------------------------------------------------------- the three stages

    def prior_loss(self, x: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Loss of the prior p(x) per sample, of shape (..., n); with x alone.

        Minus the variational bound of log p(x), in nats, or half the squared error if `simple`.
        Parameters are those of `loss`.
        """
        gamma = self._level(time)
        return self._loss(x, gamma, noise, self.prior(diffuse(x, gamma, noise), gamma))

    def loss(self, x: Tensor, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Loss of the encoder per sample, with the prior fixed and the corrector left out.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
        z : Tensor of shape (..., n, n_latent)
            Drawn from q_0(z | x), that of the clean x; gradients flow through the draw too.
        time : Tensor of shape (..., n or 1)
            Uniform in [0, 1).
        noise : Tensor of shape (..., n or 1, n_features)
            Standard normal.

        Returns
        -------
        loss : Tensor of shape (..., n)
            Minus the variational bound of log p(x | z), in nats, or half the squared error.
        """
        gamma = self._level(time)
        x_t = diffuse(x, gamma, noise)
        return self._loss(x, gamma, noise, self._bayes(x_t, gamma, z))

    def corrector_loss(self, x: Tensor, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """As `loss`, for the corrector with prior and encoder fixed."""
        gamma = self._level(time)
        x_t = diffuse(x, gamma, noise)
        with torch.no_grad():
            bayes = self._bayes(x_t, gamma, z)
        return self._loss(x, gamma, noise, bayes + self._correction(x_t, gamma, z))

    # ------------------------------------------------------------------------------- the read-out

    def noise(self, x_t: Tensor, gamma: Tensor, z: Tensor) -> Tensor:
        """The noise in x_t given z: -sigma_t times the score of p(x_t | z), (..., n_features)."""
        bayes = self._bayes(x_t, gamma, z)
        return bayes if self.corrector is None else bayes + self._correction(x_t, gamma, z)

    def log_prob(self, x: Tensor, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        """Estimate of the variational bound of log p(x | z), unbiased over time and noise.

        Arguments are those of `loss`; the bound has shape (..., n) and is in nats.
        """
        gamma = self.schedule.spread(time)
        return self._bound(x, gamma, noise, self.noise(diffuse(x, gamma, noise), gamma, z))

    def given(self, z: Tensor) -> Predictor:
        """The noise predictor for these z."""
        return lambda x_t, gamma: self.noise(x_t, gamma, z)

    # ---------------------------------------------------------------------------------- the parts

    def _level(self, time: Tensor) -> Tensor:
        return self.schedule.gamma(time) if self.simple else self.schedule.spread(time)

    def _loss(self, x: Tensor, gamma: Tensor, noise: Tensor, predicted: Tensor) -> Tensor:
        if self.simple:
            return 0.5 * squared_error(noise, predicted)
        return -self._bound(x, gamma, noise, predicted)

    def _bound(self, x: Tensor, gamma: Tensor, noise: Tensor, predicted: Tensor) -> Tensor:
        variance = self.prior.variance.detach()
        mean = torch.zeros_like(variance)
        return vdm_bound(x, gamma, noise, predicted, self.schedule, mean, variance)

    def _bayes(self, x_t: Tensor, gamma: Tensor, z: Tensor) -> Tensor:
        """The prior's noise less sigma_t times the gradient of log q_t(z | x_t)."""
        with torch.no_grad():
            prior = self.prior(x_t, gamma)
        _, sigma = alpha_sigma(gamma)
        return prior - sigma * self._latent_score(x_t, gamma, z)

    def _latent_score(self, x_t: Tensor, gamma: Tensor, z: Tensor) -> Tensor:
        """Gradient of log q_t(z | x_t) in x_t, its normaliser too: the scale depends on x_t."""
        training = torch.is_grad_enabled()
        shape = torch.broadcast_shapes(x_t.shape[:-1], z.shape[:-1])
        with torch.enable_grad():
            point = x_t.detach().expand(*shape, -1).requires_grad_()
            mean, log_scale = self.encoder(point, gamma)
            log_q = gaussian_log_prob(z, mean, (2.0 * log_scale).exp()).sum()
            (score,) = torch.autograd.grad(log_q, point, create_graph=training)
        return score

    def _correction(self, x_t: Tensor, gamma: Tensor, z: Tensor) -> Tensor:
        """The corrector's noise; inputs and outputs are scaled as in the prior's network."""
        assert self.corrector is not None, "the model has no corrector"
        with torch.no_grad():
            root, reach = self.prior.frame(gamma)
        return reach * self.corrector(x_t / root, gamma, z)
