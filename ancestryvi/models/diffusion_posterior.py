"""The diffusion posterior q(y, z | x) of DDVI: a Gaussian start and T Gaussian reverse steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import GaussianDiffusion, gaussian_entropy, gaussian_log_prob
from ancestryvi.models.networks import Denoiser, zero_init
from ancestryvi.models.posterior import (
    LOG_SCALE_RANGE,
    EncoderPosterior,
    Encoding,
    LogJoint,
    Trajectory,
    linear,
)

MAX_LOG_CORRECTION = 4.0
"""Largest change of a log standard deviation that the denoiser may ask for, in either direction."""


@dataclass(frozen=True)
class DiffusionEncoding(Encoding):
    """With the start q(y_T | x), and what the denoiser is told of x."""

    start_mean: Tensor
    start_log_scale: Tensor
    context: Tensor


class DiffusionPosterior(EncoderPosterior):
    """q(y_T | x) prod_t q(y_{t-1} | y_t, x) with z = y_0 (section 3.1 of DDVI).

    Parameters
    ----------
    n_features, n_latent : int
        Dimensions of x and z.
    diffusion : GaussianDiffusion
        The forward process r that q inverts.
    n_classes : int, default=0
        Number of values of a class variable c that q depends on too; 0 for none.
    conditional : bool, default=True
        Whether reverse steps see x. Without, q(y_{t-1} | y_t), all that z knows of x has come
        through y_T (appendix B).
    n_hidden : int, default=256
        Width of the encoder, which has two hidden layers.
    n_hidden_denoiser : int, default=128
        Width of the denoiser.
    sharpness, n_waves
        As for `EncoderPosterior`.

    Notes
    -----
    Without x in the reverse steps, the belief is N(sqrt(abar_t) y_t, 1 - abar_t), which is
    r(z | y_t) under a standard normal prior. The denoiser *corrects* the belief in the light of
    y_t, to N(m + s u, s^2 e^{2v}) with (u, v) its two outputs; r(y_{t-1} | y_t, z) averaged over it
    is q(y_{t-1} | y_t, x). Predicting z is predicting the noise, by
    y_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps. The start is likewise r(y_T | z) averaged over the
    encoder's belief, corrected by a head of its own.
    """

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        diffusion: GaussianDiffusion,
        *,
        n_classes: int = 0,
        conditional: bool = True,
        n_hidden: int = 256,
        n_hidden_denoiser: int = 128,
        sharpness: float = 1.0,
        n_waves: int = 0,
    ) -> None:
        super().__init__(
            n_features,
            n_latent,
            n_classes=n_classes,
            n_hidden=n_hidden,
            sharpness=sharpness,
            n_waves=n_waves,
        )
        self.diffusion = diffusion
        self.conditional = conditional
        self.start_head = zero_init(nn.Linear(n_hidden, 2 * n_latent))
        n_context = n_hidden + 2 * n_latent if conditional else max(1, n_classes)
        self.denoiser = Denoiser(n_latent, n_context, diffusion.n_steps, n_hidden_denoiser)

    @property
    def n_noise(self) -> int:
        """T + 1: of y_T, then of each reverse step."""
        return self.diffusion.n_steps + 1

    def encode(self, x: Tensor, c: Tensor | None = None) -> DiffusionEncoding:
        """Everything of q that depends on x and c alone; see `Posterior.encode`."""
        belief = super().encode(x, c)
        abar = self.diffusion.alpha_bar[-1]
        variance = abar * (2.0 * belief.log_scale).exp() + 1.0 - abar
        shift, log_correction = self.start_head(belief.features).chunk(2, dim=-1)
        start_log_scale = (0.5 * variance.log() + log_correction).clamp(*LOG_SCALE_RANGE)
        if self.conditional:
            context = torch.cat([belief.features, self.belief_head(belief.features)], dim=-1)
        else:
            n_context = self.denoiser.from_features.in_features
            blank = belief.features.new_full((n_context,), 1.0 / n_context)
            context = blank if c is None else c
        return DiffusionEncoding(
            belief.mean,
            belief.log_scale,
            belief.features,
            abar.sqrt() * belief.mean + shift,
            start_log_scale,
            self.denoiser.context(context),
        )

    def keep_classes(self, order: Tensor) -> None:
        """Keep these classes alone, in this order."""
        super().keep_classes(order)
        if not self.conditional:
            layer = self.denoiser.from_features
            self.denoiser.from_features = linear(layer.weight[:, order], layer.bias)

    def belief(
        self, encoding: DiffusionEncoding, y: Tensor, t: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of the Gaussian belief about z given y_t = y and x."""
        if self.conditional:
            mean, scale = encoding.mean, encoding.log_scale.exp()
        else:
            mean, variance = self.diffusion.marginal(y, t)  # symmetric under N(0, I)
            scale = variance.sqrt()
        shift, log_correction = self.denoiser(y, t, encoding.context)
        log_correction = MAX_LOG_CORRECTION * torch.tanh(log_correction / MAX_LOG_CORRECTION)
        return mean + scale * shift, (scale * log_correction.exp()) ** 2

    def reverse_step(
        self, encoding: DiffusionEncoding, y: Tensor, t: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(y_{t-1} | y_t = y, x)."""
        return self.diffusion.reverse_of_belief(*self.belief(encoding, y, t), y, t)

    def trajectory(  # type: ignore[override]
        self, encoding: DiffusionEncoding, noise: Tensor, log_joint: LogJoint | None = None
    ) -> Trajectory:
        """Draw y_T to y_0 = z; see `Posterior.trajectory`.

        Entropies are exact, and E[log r(y_t | y_{t-1})] is taken exactly over y_{t-1} given y_t.
        """
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
        return Trajectory(y, log_forward, entropy)

    def infer(  # type: ignore[override]
        self, encoding: DiffusionEncoding, noise: Tensor, log_joint: LogJoint | None = None
    ) -> Tensor:
        """Draw z, without the terms of the bound."""
        y = encoding.start_mean + encoding.start_log_scale.exp() * noise[0]
        for index, t in enumerate(range(self.diffusion.n_steps, 0, -1), start=1):
            mean, variance = self.reverse_step(encoding, y, t)
            y = mean + variance.sqrt() * noise[index]
        return y
