"""AEVB: the posterior is the encoder's Gaussian belief.

References
----------
Kingma and Welling (2014), Auto-Encoding Variational Bayes, ICLR, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ancestryvi.models.diffusion import gaussian_entropy
from ancestryvi.models.posterior import Encoding, LogJoint, Posterior, Trajectory


class GaussianPosterior(Posterior):
    """q(z | x) = N(m(x), diag s^2(x)); parameters as for `Posterior`."""

    @property
    def n_noise(self) -> int:
        """One vector: the reparameterisation of z."""
        return 1

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """z = m + s noise, with its exact entropy; see `Posterior.trajectory`."""
        scale = encoding.log_scale.exp()
        z = encoding.mean + scale * noise[0]
        entropy = gaussian_entropy(scale**2).expand(z.shape[:-1])
        return Trajectory(z, torch.zeros_like(entropy), entropy)
