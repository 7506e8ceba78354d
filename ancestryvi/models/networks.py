"""The multilayer perceptrons that the models are made of."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(n_inputs: int, n_hidden: int, n_layers: int, n_outputs: int) -> nn.Sequential:
    """Fully connected network with SiLU activations and a linear output.

    No normalisation layer and no dropout: the output of a row never depends on its batch.
    """
    widths = [n_inputs] + [n_hidden] * n_layers
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))


class Waves(nn.Module):
    """The inputs, times a factor, and random Fourier features of them.

    The features are cos(w'x / `width` + p), with w standard normal and p uniform. Functions that
    are linear in them are about as smooth as a Gaussian kernel of this standard deviation; of the
    inputs alone, networks learn smooth functions first, and changes over short distances late.

    Parameters
    ----------
    n_inputs : int
    n_waves : int
        Number of Fourier features.
    factor : float
        Of the inputs.

    References
    ----------
    Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines, NeurIPS, algorithm 1.
    Tancik et al. (2020), Fourier Features Let Networks Learn High Frequency Functions in Low
    Dimensional Domains, NeurIPS. Rahaman et al. (2019), On the Spectral Bias of Neural Networks,
    ICML.
    """

    frequencies: Tensor
    phases: Tensor
    width: Tensor

    def __init__(self, n_inputs: int, n_waves: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("frequencies", torch.randn(n_inputs, n_waves))
        self.register_buffer("phases", 2.0 * torch.pi * torch.rand(n_waves))
        self.register_buffer("width", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        waves = (x @ (self.frequencies / self.width) + self.phases).cos()
        return torch.cat([self.factor * x, waves], dim=-1)


def zero_init(layer: nn.Linear) -> nn.Linear:
    """The same layer with output 0 for every input, so that training starts from "no change"."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Denoiser(nn.Module):
    """Network of (y_t, t, features of x): a correction to the Gaussian belief about z.

    Parameters
    ----------
    n_latent : int
        Dimension of z and y_t.
    n_features : int
        Dimension of the features of x.
    n_steps : int
        Number T of diffusion steps; each has a learned embedding.
    n_hidden : int
        Width of the two hidden layers.

    Notes
    -----
    `context` is computed once for a batch of x and reused in all T steps.
    """

    def __init__(self, n_latent: int, n_features: int, n_steps: int, n_hidden: int) -> None:
        super().__init__()
        self.from_features = nn.Linear(n_features, n_hidden)
        self.from_y = nn.Linear(n_latent, n_hidden, bias=False)
        self.from_step = nn.Embedding(n_steps, n_hidden)
        self.hidden = nn.Linear(n_hidden, n_hidden)
        self.output = zero_init(nn.Linear(n_hidden, 2 * n_latent))
        self.activation = nn.SiLU()

    def context(self, features: Tensor) -> Tensor:
        """What the features contribute, of shape (..., n_hidden)."""
        return self.from_features(features)

    def forward(self, y: Tensor, t: Tensor | int, context: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and log scale of the belief about z, each of shape (..., n_latent)."""
        step = self.from_step(torch.as_tensor(t, device=y.device) - 1)
        hidden = self.activation(self.from_y(y) + step + context)
        hidden = self.activation(self.hidden(hidden))
        shift, log_scale = self.output(hidden).chunk(2, dim=-1)
        return shift, log_scale
