"""AEVB-IAF: the encoder's belief, bent by inverse autoregressive flows.

References
----------
Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved Variational Inference
with Inverse Autoregressive Flow, NeurIPS, section 3.
Germain, Gregor, Murray and Larochelle (2015), MADE: Masked Autoencoder for Distribution Estimation,
ICML. Sizes: DDVI, appendix G.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ancestryvi.models.diffusion import LOG_2PI
from ancestryvi.models.networks import zero_init
from ancestryvi.models.posterior import EncoderPosterior, Encoding, LogJoint, Trajectory

N_FLOWS = 4
N_CONTEXT = 10
"""Transformations, and the size of what each is told of x."""

MAX_LOG_STRETCH = 3.0
"""Largest log scale of one transformation."""


class MADE(nn.Module):
    """Network of (u, context) whose output i sees u_1 .. u_{i-1} and all of the context.

    Parameters
    ----------
    n_latent : int
        Dimension D of u.
    n_context : int
    n_hidden : int, default=128
        Width of the three hidden layers.
    reverse : bool, default=False
        Whether the order is u_D .. u_1.
    """

    def __init__(
        self, n_latent: int, n_context: int, n_hidden: int = 128, *, reverse: bool = False
    ) -> None:
        super().__init__()
        order = torch.arange(1, n_latent + 1)
        inputs = order.flip(0) if reverse else order
        hidden = torch.arange(n_hidden) % n_latent  # units of degree 0 see the context alone
        degrees = [inputs, hidden, hidden, hidden]
        masks = [after.unsqueeze(1) >= before for before, after in pairwise(degrees)]
        masks.append(inputs.repeat(2).unsqueeze(1) > hidden)
        for index, mask in enumerate(masks):
            self.register_buffer(f"mask_{index}", mask, persistent=False)
        self.from_context = nn.Linear(n_context, n_hidden)
        widths = [n_latent, n_hidden, n_hidden, n_hidden]
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList([*layers, zero_init(nn.Linear(n_hidden, 2 * n_latent))])

    def forward(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and log scale, each of shape (..., D)."""
        hidden = self._masked(0, u) + self.from_context(context)
        for index in (1, 2, 3):
            hidden = self._masked(index, functional.silu(hidden))
        shift, log_scale = hidden.chunk(2, dim=-1)
        return shift, MAX_LOG_STRETCH * torch.tanh(log_scale / MAX_LOG_STRETCH)

    def _masked(self, index: int, value: Tensor) -> Tensor:
        layer = cast(nn.Linear, self.layers[index])
        return functional.linear(value, layer.weight * getattr(self, f"mask_{index}"), layer.bias)


class AutoregressiveFlow(nn.Module):
    """A chain of transformations u -> u exp(a(u)) + b(u), each from a MADE; the identity at first.

    The order of coordinates is reversed in every second one.
    """

    def __init__(self, n_latent: int, n_context: int, n_flows: int = N_FLOWS) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            MADE(n_latent, n_context, reverse=index % 2 == 1) for index in range(n_flows)
        )

    def forward(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The end of the chain, of shape (..., D), and log |det| of it, of shape (...)."""
        log_volume = u.new_zeros(u.shape[:-1])
        for step in self.steps:
            shift, log_scale = step(u, context)
            u = u * log_scale.exp() + shift
            log_volume = log_volume + log_scale.sum(-1)
        return u, log_volume

    def inverse(self, u: Tensor, context: Tensor) -> Tensor:
        """The start that `forward` turns into u: one coordinate after the other."""
        for step in reversed(self.steps):
            start = torch.zeros_like(u)
            for _ in range(u.shape[-1]):  # each pass makes one more coordinate right
                shift, log_scale = step(start, context)
                start = (u - shift) / log_scale.exp()
            u = start
        return u


class FlowPosterior(EncoderPosterior):
    """q(z | x) with z = m(x) + s(x) g(noise; x), g an `AutoregressiveFlow`.

    Parameters are those of `EncoderPosterior`.
    """

    def __init__(
        self, n_features: int, n_latent: int, *, n_classes: int = 0, n_hidden: int = 256
    ) -> None:
        super().__init__(n_features, n_latent, n_classes=n_classes, n_hidden=n_hidden)
        self.context_head = nn.Linear(n_hidden, N_CONTEXT)
        self.flow = AutoregressiveFlow(n_latent, N_CONTEXT)

    @property
    def n_noise(self) -> int:
        """One vector, which the flows bend."""
        return 1

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """z and -log q(z | x), the noise's part of it in expectation; see `Posterior.trajectory`.

        Kingma et al. (2016), equation 11.
        """
        context = self.context_head(encoding.features)
        u = noise[0].expand(torch.broadcast_shapes(noise[0].shape, encoding.mean.shape))
        u, log_volume = self.flow(u, context)
        z = encoding.mean + encoding.log_scale.exp() * u
        of_noise = 0.5 * (LOG_2PI + 1.0) * self.n_latent
        entropy = of_noise + log_volume + encoding.log_scale.sum(-1)
        return Trajectory(z, torch.zeros_like(entropy), entropy)

    def log_prob(self, encoding: Encoding, z: Tensor) -> Tensor:
        """log q(z | x) in nats, of shape (..., n_samples)."""
        context = self.context_head(encoding.features)
        u = self.flow.inverse((z - encoding.mean) / encoding.log_scale.exp(), context)
        _, log_volume = self.flow(u, context)
        of_noise = -0.5 * (u.square().sum(-1) + self.n_latent * math.log(2.0 * math.pi))
        return of_noise - log_volume - encoding.log_scale.sum(-1)
