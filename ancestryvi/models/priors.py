"""The mixture prior over latents, whose components are the clusters (section 4.2, strategy 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import LOG_2PI


class MixturePrior(nn.Module):
    """p(z) = sum_k pi_k N(z; m_k, s_k^2 I) with learned means m_k, weights pi_k and scales s_k.

    Parameters
    ----------
    means : Tensor of shape (n_clusters, n_latent)
        Starting means.
    weights : Tensor of shape (n_clusters,)
        Starting weights, positive, of sum 1.
    scales : Tensor of shape (n_clusters,)
        Starting standard deviations, positive.
    """

    def __init__(self, means: Tensor, weights: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means.clone())
        self.logits = nn.Parameter(weights.log())
        self.log_scales = nn.Parameter(scales.log())

    @property
    def n_clusters(self) -> int:
        """Number K of components."""
        return len(self.logits)

    @property
    def log_weights(self) -> Tensor:
        """Log mixture weights, of shape (n_clusters,)."""
        return self.logits.log_softmax(-1)

    def joint_log_prob(self, z: Tensor) -> Tensor:
        """log pi_k + log N(z; m_k, s_k^2 I), of shape (..., n_clusters)."""
        squares = ((z.unsqueeze(-2) - self.means) ** 2).sum(-1)
        n_latent = self.means.shape[-1]
        log_normal = -0.5 * squares * (-2.0 * self.log_scales).exp() - n_latent * (
            self.log_scales + 0.5 * LOG_2PI
        )
        return self.log_weights + log_normal

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, of shape (...)."""
        return self.joint_log_prob(z).logsumexp(-1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z), of shape (..., n_clusters); rows sum to 1."""
        return self.joint_log_prob(z).softmax(-1)

    def sample(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws of p(z), of shape (n_samples, n_latent), and the component of each."""
        weights = self.log_weights.exp()
        component = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        noise = torch.randn(
            n_samples,
            self.means.shape[-1],
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        scales = self.log_scales[component].exp().unsqueeze(-1)
        return self.means[component] + scales * noise, component

    def keep(self, components: Tensor) -> MixturePrior:
        """The prior of these components alone, in this order, weights rescaled to sum to 1."""
        weights = self.log_weights.detach()[components].exp()
        means, log_scales = self.means.detach(), self.log_scales.detach()
        kept = MixturePrior(
            means[components], weights / weights.sum(), log_scales[components].exp()
        )
        return kept.requires_grad_(self.means.requires_grad)
