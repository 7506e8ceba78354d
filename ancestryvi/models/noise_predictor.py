"""The networks of the diffusion models of x: what predicts the noise at a level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ancestryvi.models.continuous import alpha_sigma
from ancestryvi.models.networks import mlp, zero_init


class LevelEmbedding(nn.Module):
    """Sines and cosines of a level, periods 3 to 100, followed by a linear layer."""

    frequency: Tensor

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        frequency = torch.logspace(math.log10(0.0625), math.log10(2.0), 16)
        self.register_buffer("frequency", frequency, persistent=False)
        self.linear = nn.Linear(2 * len(frequency), n_outputs)

    def forward(self, gamma: Tensor) -> Tensor:
        """Features of levels (...), of shape (..., n_outputs)."""
        angle = gamma.unsqueeze(-1) * self.frequency
        return self.linear(torch.cat([angle.sin(), angle.cos()], dim=-1))


class FilmBlock(nn.Module):
    """h + W silu((1 + s) * (V h) + b), with s and b linear in the condition."""

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(n_hidden, n_hidden, bias=False)
        self.film = nn.Linear(n_hidden, 2 * n_hidden)
        self.outer = nn.Linear(n_hidden, n_hidden)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition).chunk(2, dim=-1)
        inner = (1.0 + scale) * self.inner(hidden) + shift
        return hidden + self.outer(nn.functional.silu(inner))


class FilmNetwork(nn.Module):
    """Residual network whose layers are scaled and shifted by the level and a context.

    It is smooth in its inputs, without which no gradient of it could be trained.

    Parameters
    ----------
    n_inputs, n_context, n_outputs : int
        Dimensions; `n_context` may be 0.
    n_hidden, n_blocks : int
        Width and number of residual blocks.
    """

    def __init__(
        self, n_inputs: int, n_context: int, n_outputs: int, n_hidden: int, n_blocks: int
    ) -> None:
        super().__init__()
        self.level = LevelEmbedding(n_hidden)
        self.context = nn.Linear(n_context, n_hidden, bias=False) if n_context else None
        self.input = nn.Linear(n_inputs, n_hidden)
        self.blocks = nn.ModuleList(FilmBlock(n_hidden) for _ in range(n_blocks))
        self.output = nn.Linear(n_hidden, n_outputs)

    def forward(self, inputs: Tensor, gamma: Tensor, context: Tensor | None = None) -> Tensor:
        """Outputs of shape (..., n_outputs) for levels (...) that broadcast with the rows."""
        condition = self.level(gamma)
        if self.context is not None:
            condition = condition + self.context(context)
        condition = nn.functional.silu(condition)
        hidden = self.input(inputs)
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.output(nn.functional.silu(hidden))


class NoisePredictor(nn.Module):
    """Predicts eps from x_t, the level and, if there is one, a latent z.

    Parameters
    ----------
    n_features : int
        Dimension d of x.
    n_latent : int, default=0
        Dimension of z; 0 for a predictor of x_t and the level alone.
    n_hidden, n_blocks : int, default=128 and 2
        Size of the network.

    Attributes
    ----------
    log_scale : Parameter of shape (n_features,)
        Log standard deviations of the Gaussian. Set by `set_variance`, learned thereafter.
    floor : Tensor of shape ()
        Smallest variance of the features, beneath which the data are taken to have no structure.

    Notes
    -----
    The network corrects the best predictor for x ~ N(m(z), diag s^2), with m and s learned, and
    corrects nothing at first. So the model begins as a Gaussian of the data's variance. As in
    Karras et al. (2022), inputs have variance 1 at all levels. The output is scaled to the part of
    eps that the Gaussian leaves unknown, alpha s / sqrt(alpha^2 s^2 + sigma^2), and to the part
    that is knowable, sigma / sqrt(alpha^2 floor + sigma^2): it fades out at both ends.
    """

    floor: Tensor

    def __init__(
        self, n_features: int, n_latent: int = 0, *, n_hidden: int = 128, n_blocks: int = 2
    ) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("floor", torch.ones(()))
        self.center = mlp(n_latent, n_hidden, 2, n_features) if n_latent else None
        self.network = FilmNetwork(n_features, n_latent, n_features, n_hidden, n_blocks)
        zero_init(self.network.output)
        if self.center is not None:
            zero_init(self.center[-1])  # type: ignore[arg-type]

    @torch.no_grad()
    def set_variance(self, variance: Tensor) -> None:
        """Start from these variances of the features, of shape (n_features,)."""
        self.log_scale.copy_(0.5 * variance.log())
        self.floor.copy_(variance.min())

    @property
    def variance(self) -> Tensor:
        """s^2, of shape (n_features,)."""
        return (2.0 * self.log_scale).exp()

    def mean(self, z: Tensor | None) -> Tensor:
        """m(z), of shape (..., n_features)."""
        if self.center is None:
            return torch.zeros_like(self.log_scale)
        return self.center(z)

    def forward(
        self, x_t: Tensor, gamma: Tensor, z: Tensor | None = None, mean: Tensor | None = None
    ) -> Tensor:
        """The noise in x_t; m(z) may be given where it is known already."""
        mean = self.mean(z) if mean is None else mean
        alpha, sigma = alpha_sigma(gamma)
        root, reach = self.frame(gamma)
        white = (x_t - alpha * mean) / root
        return sigma / root * white + reach * self.network(white, gamma, z)

    def frame(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Standard deviation of x_t - alpha m, and the scale of what a network may correct."""
        alpha, sigma = alpha_sigma(gamma)
        root = (alpha**2 * self.variance + sigma**2).sqrt()
        unknown = alpha * self.log_scale.exp() / root
        knowable = sigma / (alpha**2 * self.floor + sigma**2).sqrt()
        return root, unknown * knowable
