"""The mixture prior over latents, whose components are the clusters (section 4.2, strategy 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import LOG_2PI


class MixturePrior(nn.Module):
    """p(z) = sum_k pi_k N(z; m_k, S_k) with learned weights, means and covariances.

    Parameters
    ----------
    weights : Tensor of shape (n_clusters,)
        Starting weights, positive, of sum 1.
    means : Tensor of shape (n_clusters, n_latent)
        Starting means.
    precision_factors : Tensor of shape (n_clusters, n_latent, n_latent)
        Lower triangular L_k with a positive diagonal and S_k^-1 = L_k' L_k, so that
        L_k (z - m_k) is standard normal.
    """

    def __init__(self, weights: Tensor, means: Tensor, precision_factors: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(weights.log())
        self.means = nn.Parameter(means.clone())
        self.log_diagonal = nn.Parameter(precision_factors.diagonal(dim1=-2, dim2=-1).log())
        self.below_diagonal = nn.Parameter(precision_factors.tril(-1))

    @classmethod
    def standard_normal(cls, n_latent: int) -> MixturePrior:
        """N(0, I) as a mixture of one component."""
        return cls(torch.ones(1), torch.zeros(1, n_latent), torch.eye(n_latent).unsqueeze(0))

    @property
    def n_clusters(self) -> int:
        """Number K of components."""
        return len(self.logits)

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.means.shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """Log mixture weights, of shape (n_clusters,)."""
        return self.logits.log_softmax(-1)

    @property
    def precision_factors(self) -> Tensor:
        """The factors L_k, of shape (n_clusters, n_latent, n_latent)."""
        return self.below_diagonal.tril(-1) + torch.diag_embed(self.log_diagonal.exp())

    def joint_log_prob(self, z: Tensor) -> Tensor:
        """log pi_k + log N(z; m_k, S_k) in nats, of shape (..., n_clusters)."""
        centred = z.unsqueeze(-2) - self.means
        white = torch.einsum("kij,...kj->...ki", self.precision_factors, centred)
        log_normal = self.log_diagonal.sum(-1) - 0.5 * (white**2 + LOG_2PI).sum(-1)
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
        white = torch.randn(
            (n_samples, self.n_latent, 1),
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        factors = self.precision_factors[component]
        centred = torch.linalg.solve_triangular(factors, white, upper=False).squeeze(-1)
        return self.means[component] + centred, component

    def keep(self, components: Tensor) -> MixturePrior:
        """The prior of these components alone, in this order, weights rescaled to sum to 1."""
        with torch.no_grad():
            weights = self.log_weights[components].exp()
            kept = MixturePrior(
                weights / weights.sum(),
                self.means[components],
                self.precision_factors[components],
            )
        return kept.requires_grad_(self.means.requires_grad)
