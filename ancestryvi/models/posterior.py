"""The diffusion posterior q(y, z | x): a Gaussian start and T Gaussian reverse steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.networks import Denoiser, mlp, zero_init

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


class DiffusionPosterior(nn.Module):
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

    Notes
    -----
    The encoder gives a Gaussian belief N(m(x), s^2(x)) about z: the posterior of AEVB, with which
    training starts. Without x in the reverse steps, the belief is N(sqrt(abar_t) y_t, 1 - abar_t),
    which is r(z | y_t) under a standard normal prior. The denoiser *corrects* the belief in the
    light of y_t, to N(m + s u, s^2 e^{2v}) with (u, v) its two outputs; r(y_{t-1} | y_t, z)
    averaged over it is q(y_{t-1} | y_t, x). Predicting z is predicting the noise, by
    y_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps. The start is likewise r(y_T | z) averaged over the
    encoder's belief, corrected by a head of its own.
    """

    class_factor: Tensor

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
    ) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.conditional = conditional
        self.n_latent = n_latent
        self.n_classes = n_classes
        self.encoder = nn.Sequential(mlp(n_features, n_hidden, 1, n_hidden), nn.SiLU())
        self.belief_head = nn.Linear(n_hidden, 2 * n_latent)
        self.start_head = zero_init(nn.Linear(n_hidden, 2 * n_latent))
        n_context = n_hidden + 2 * n_latent if conditional else max(1, n_classes)
        self.denoiser = Denoiser(n_latent, n_context, diffusion.n_steps, n_hidden_denoiser)
        if n_classes:
            self.class_head = zero_init(nn.Linear(n_features, n_classes))
            self.class_correction = zero_init(nn.Linear(n_hidden, n_classes))
            self.register_buffer("class_factor", torch.ones(()))
            self.class_features = nn.Parameter(torch.zeros(n_classes, n_hidden))

    def encode(self, x: Tensor, c: Tensor | None = None) -> Encoding:
        """Everything of q that depends on x and c alone.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        c : Tensor of shape (..., n_samples or 1, n_classes), optional
            Class of each sample as one-hot vectors, for a posterior that has classes; any axes
            before are several classes for each.
        """
        features = self.encoder(x)
        if c is not None:
            features = features + c @ self.class_features
        belief = self.belief_head(features)
        mean, log_scale = _gaussian(belief)
        abar = self.diffusion.alpha_bar[-1]
        variance = abar * (2.0 * log_scale).exp() + 1.0 - abar
        shift, log_correction = self.start_head(features).chunk(2, dim=-1)
        start_log_scale = (0.5 * variance.log() + log_correction).clamp(*LOG_SCALE_RANGE)
        if self.conditional:
            context = torch.cat([features, belief], dim=-1)
        else:
            n_context = self.denoiser.from_features.in_features
            context = features.new_full((n_context,), 1.0 / n_context) if c is None else c
        return Encoding(
            mean,
            log_scale,
            abar.sqrt() * mean + shift,
            start_log_scale,
            self.denoiser.context(context),
        )

    def keep_classes(self, order: Tensor) -> None:
        """Keep these classes alone, in this order."""
        self.class_head = _linear(self.class_head.weight[order], self.class_head.bias[order])
        correction = self.class_correction
        self.class_correction = _linear(correction.weight[order], correction.bias[order])
        self.class_features = nn.Parameter(self.class_features.detach()[order])
        if not self.conditional:
            layer = self.denoiser.from_features
            self.denoiser.from_features = _linear(layer.weight[:, order], layer.bias)

    def class_log_probs(self, x: Tensor) -> Tensor:
        """log q(c | x), of shape (n_samples, n_classes): a linear discriminant, corrected.

        `class_factor` scales the logits; it is 1 while training, and may be set to calibrate them.
        """
        logits = self.class_head(x) + self.class_correction(self.encoder(x))
        return (self.class_factor * logits).log_softmax(-1)

    def belief(self, encoding: Encoding, y: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the Gaussian belief about z given y_t = y and x."""
        if self.conditional:
            mean, scale = encoding.mean, encoding.log_scale.exp()
        else:
            mean, variance = self.diffusion.marginal(y, t)  # symmetric under N(0, I)
            scale = variance.sqrt()
        shift, log_correction = self.denoiser(y, t, encoding.context)
        log_correction = MAX_LOG_CORRECTION * torch.tanh(log_correction / MAX_LOG_CORRECTION)
        return mean + scale * shift, (scale * log_correction.exp()) ** 2

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

    def draw_belief(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z drawn from the encoder's belief with the given noise, and its standard deviations."""
        mean, log_scale = _gaussian(self.belief_head(self.encoder(x)))
        scale = log_scale.exp()
        return mean + scale * noise, scale


def _gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation, within its range, from the output of a head."""
    mean, log_scale = output.chunk(2, dim=-1)
    return mean, log_scale.clamp(*LOG_SCALE_RANGE)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer with these parameters."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0]).to(weight)
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return layer
