"""Which modules a model is made of: enough to build it again before its arrays are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.latent_class import LatentClassDDVI
from ancestryvi.models.posterior import DiffusionPosterior
from ancestryvi.models.priors import KernelPrior, MixturePrior, Prior
from ancestryvi.models.reference import ReferenceDDVI
from ancestryvi.models.schedules import cosine_alpha_bar

LATENT_FINAL = 0.95
"""abar_T where reverse steps do not see x: what z knows of x has to come through y_T. That of the
authors is 0.951 for their T = 5 and 0.904 for T = 10."""


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """The make of a module.

    Attributes
    ----------
    n_features, n_latent, n_clusters, n_steps : int
    classes : bool
        Whether the posterior names a class first.
    conditional : bool
        Whether its reverse steps see x.
    learned : bool
        Whether the parts of the prior are learned.
    n_points : int
        Points of a `KernelPrior`; 0 for a `MixturePrior`.
    reference : bool
        Whether it is the authors' genotype model.
    """

    n_features: int
    n_latent: int
    n_clusters: int
    n_steps: int
    classes: bool = False
    conditional: bool = True
    learned: bool = True
    n_points: int = 0
    reference: bool = False

    def build(
        self, seed: int = 0, prior: Prior | None = None, noise_scale: Tensor | None = None
    ) -> DDVI | ReferenceDDVI:
        """An untrained module; without a prior, one of the right shape."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._build(prior, noise_scale)

    def _build(self, prior: Prior | None, noise_scale: Tensor | None) -> DDVI | ReferenceDDVI:
        if self.reference:
            return ReferenceDDVI(self.n_features, self.n_clusters, self.n_latent, self.n_steps)
        final = {} if self.conditional else {"final": LATENT_FINAL}
        posterior = DiffusionPosterior(
            self.n_features,
            self.n_latent,
            GaussianDiffusion(cosine_alpha_bar(self.n_steps, **final)),
            n_classes=self.n_clusters if self.classes else 0,
            conditional=self.conditional,
        )
        kind = LatentClassDDVI if self.classes else DDVI
        return kind(
            self.n_features,
            self._blank_prior() if prior is None else prior,
            posterior,
            torch.ones(self.n_features) if noise_scale is None else noise_scale,
        )

    def _blank_prior(self) -> Prior:
        if self.n_points:
            return KernelPrior(
                torch.zeros(self.n_points, self.n_latent),
                torch.arange(self.n_points) % self.n_clusters,
            )
        return MixturePrior(
            torch.ones(self.n_clusters),
            torch.zeros(self.n_clusters, self.n_latent),
            torch.eye(self.n_latent).repeat(self.n_clusters, 1, 1),
        )
