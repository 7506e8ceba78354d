"""AAEB: an auto-encoder whose latents a critic cannot tell from draws of the prior.

References
----------
Makhzani, Shlens, Jaitly, Goodfellow and Frey (2015), Adversarial Autoencoders, arXiv:1511.05644,
sections 2 and 2.3. Settings: DDVI, appendices G and H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ancestryvi.models.networks import mlp
from ancestryvi.models.posterior import EncoderPosterior, Encoding, LogJoint, Trajectory

FIRST_NOISE = 0.3
"""Standard deviation of the noise that the critic's inputs have at first."""


class PointPosterior(EncoderPosterior):
    """The encoder's mean: a deterministic encoder, which has no density, and so no bound."""

    @property
    def n_noise(self) -> int:
        """None."""
        return 0

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """The mean, as often as there are draws."""
        z = encoding.mean + noise.new_zeros(noise.shape[1:])
        nothing = z.new_zeros(z.shape[:-1])
        return Trajectory(z, nothing, nothing)


class Critic(nn.Module):
    """Log odds that a latent was drawn from the prior, not encoded.

    Parameters
    ----------
    n_latent : int
    n_parts : int, default=0
        Parts of the prior that a latent may be said to belong to (section 2.3 of Makhzani et al.);
        0 where there are no labels.
    n_hidden : int, default=256
        Width of the two hidden layers.
    """

    def __init__(self, n_latent: int, n_parts: int = 0, n_hidden: int = 256) -> None:
        super().__init__()
        self.n_parts = n_parts
        self.network = mlp(n_latent + (n_parts + 1 if n_parts else 0), n_hidden, 2, 1)

    def forward(self, z: Tensor, parts: Tensor | None = None) -> Tensor:
        """Log odds of shape (n,), for z of shape (n, n_latent), parts of shape (n,) or -1 each."""
        if self.n_parts:
            assert parts is not None
            known = functional.one_hot(
                torch.where(parts < 0, self.n_parts, parts), self.n_parts + 1
            )
            z = torch.cat([z, known.to(z)], -1)
        return self.network(z).squeeze(-1)


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of telling them apart, in nats: 2 log 2 for a critic that does not know."""
    return (functional.softplus(-real) + functional.softplus(fake)).mean()


def encoder_loss(fake: Tensor) -> Tensor:
    """-log of the probability that the critic takes them for draws of the prior, in nats."""
    return functional.softplus(-fake).mean()


def critic_noise(done: float) -> float:
    """Noise of the critic's inputs after a share of the training: none in the last quarter.

    Examples
    --------
    >>> [round(critic_noise(done), 2) for done in (0.0, 0.375, 0.75, 1.0)]
    [0.3, 0.15, 0.0, 0.0]
    """
    return FIRST_NOISE * max(0.0, 1.0 - done / 0.75)
