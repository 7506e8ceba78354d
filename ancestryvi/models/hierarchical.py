"""H-AEVB: a hierarchical posterior, q(y | x) q(z | y, x), with an auxiliary y.

References
----------
Ranganath, Tran and Blei (2016), Hierarchical Variational Models, ICML, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import gaussian_entropy, gaussian_log_prob
from ancestryvi.models.networks import mlp, zero_init
from ancestryvi.models.posterior import EncoderPosterior, Encoding, LogJoint, Trajectory, gaussian

N_HIDDEN = 128


class HierarchicalPosterior(EncoderPosterior):
    """q(z | x) = E_{q(y | x)}[q(z | y, x)], all Gaussian; parameters as for `EncoderPosterior`.

    y has the dimension of z. Its density given z is intractable, and r(y | z, x), learned with q,
    takes its place in the bound (equation 5 of Ranganath et al.).
    """

    def __init__(
        self, n_features: int, n_latent: int, *, n_classes: int = 0, n_hidden: int = 256
    ) -> None:
        super().__init__(n_features, n_latent, n_classes=n_classes, n_hidden=n_hidden)
        self.top_head = zero_init(nn.Linear(n_hidden, 2 * n_latent))
        self.down = _network(n_latent, n_hidden)
        self.up = _network(n_latent, n_hidden)

    @property
    def n_noise(self) -> int:
        """Two vectors: of y, then of z."""
        return 2

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """Draw y, then z given y; entropies of both are exact; see `Posterior.trajectory`."""
        features = encoding.features
        mean, log_scale = gaussian(self.top_head(features))
        y = mean + log_scale.exp() * noise[0]
        entropy = gaussian_entropy((2.0 * log_scale).exp())
        features = features.expand(*y.shape[:-1], -1)
        shift, log_correction = gaussian(self.down(torch.cat([y, features], -1)))
        log_z_scale = encoding.log_scale + log_correction
        white = shift + log_correction.exp() * noise[1]
        z = encoding.mean + encoding.log_scale.exp() * white
        entropy = entropy + gaussian_entropy((2.0 * log_z_scale).exp())
        r_mean, r_log_scale = gaussian(self.up(torch.cat([white, features], -1)))
        log_r = gaussian_log_prob(y, r_mean, (2.0 * r_log_scale).exp())
        return Trajectory(z, log_r, entropy)


def _network(n_latent: int, n_hidden: int) -> nn.Sequential:
    """Network of a vector of the size of z and of features; 0 at first."""
    body = mlp(n_latent + n_hidden, N_HIDDEN, 1, N_HIDDEN)
    return nn.Sequential(body, nn.SiLU(), zero_init(nn.Linear(N_HIDDEN, 2 * n_latent)))
