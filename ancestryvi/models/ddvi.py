"""Denoising Diffusion Variational Inference: the posterior is a diffusion model run in reverse.

q(y_T | x) prod_t q(y_{t-1} | y_t, x) with z = y_0, against the forward process r of `diffusion`,
and the sleep term that keeps q right on dreams of the model.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
Equation numbers below are the paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ancestryvi.models.diffusion import gaussian_kl, gaussian_log_prob
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.latent_variable import LatentVariableModel, normal


class DDVI(LatentVariableModel):
    """A latent-variable model whose posterior is a `DiffusionPosterior`."""

    posterior: DiffusionPosterior

    @property
    def n_steps(self) -> int:
        """Number T of diffusion steps."""
        return self.posterior.diffusion.n_steps

    def denoising_loss(
        self, x: Tensor, z: Tensor, noise: Tensor, c: Tensor | None = None
    ) -> Tensor:
        """-L_diff without its constant, equation 9: how badly q inverts r for a pair (z, x).

        Every step of the sum is evaluated, each at its own draw of y_t. If q's reverse steps do not
        see x, the term of q(y_T | x) is left out (appendix B): it alone would need pairs.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        z : Tensor of shape (n_samples, n_latent)
        noise : Tensor of shape (T, n_samples, n_latent)
            Standard normal, of y_1 to y_T.
        c : Tensor of shape (n_samples, n_classes), optional
            Condition q on these classes, one-hot.

        Returns
        -------
        loss : Tensor of shape (n_samples,), nats
        """
        posterior, diffusion = self.posterior, self.posterior.diffusion
        encoding = posterior.encode(x, c)
        steps = torch.arange(1, self.n_steps + 1, device=z.device).unsqueeze(-1)
        mean, variance = diffusion.marginal(z.expand(self.n_steps, -1, -1), steps)
        y = mean + variance.sqrt() * noise
        q_mean, q_variance = posterior.reverse_step(encoding, y, steps)
        r_mean, r_variance = diffusion.reverse(z.expand_as(y), y, steps)
        first = -gaussian_log_prob(z, q_mean[0], q_variance[0])
        rest = gaussian_kl(r_mean[1:], r_variance[1:], q_mean[1:], q_variance[1:]).sum(0)
        if not posterior.conditional:
            return first + rest
        last = gaussian_kl(
            mean[-1],
            variance[-1],
            encoding.start_mean,
            (2.0 * encoding.start_log_scale).exp(),
        )
        return first + rest + last

    def sleep(self, n_samples: int, generator: torch.Generator) -> Tensor:
        """-L_diff on dreams of the model, of shape (n_samples,) in nats (equations 8 and 9)."""
        with torch.no_grad():
            z, _, x = self.dream(n_samples, generator)
        noise = normal((self.n_steps, n_samples, self.n_latent), x, generator)
        return self.denoising_loss(x, z, noise)
