"""AEVB: the posterior is the encoder's Gaussian belief.

References
----------
Kingma and Welling (2014), Auto-Encoding Variational Bayes, ICLR, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ancestryvi.models.diffusion import gaussian_entropy
from ancestryvi.models.posterior import EncoderPosterior, Encoding, LogJoint, Trajectory


class GaussianPosterior(EncoderPosterior):
    """q(z | x) = N(m(x), diag s^2(x)); parameters as for `EncoderPosterior`."""

    @property
    def n_noise(self) -> int:
        """One vector: the reparameterisation of z."""
        return 1

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """z = m + s noise, with its exact entropy; see `Posterior.trajectory`."""
        return reparameterise(encoding, noise[0])


def reparameterise(encoding: Encoding, noise: Tensor) -> Trajectory:
    """z = m + s noise of the encoder's belief, with its exact entropy."""
    scale = encoding.log_scale.exp()
    z = encoding.mean + scale * noise
    entropy = gaussian_entropy(scale**2).expand(z.shape[:-1])
    return Trajectory(z, torch.zeros_like(entropy), entropy)
