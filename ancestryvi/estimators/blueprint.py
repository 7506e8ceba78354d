"""Which modules a model is made of: enough to build it again before its arrays are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ancestryvi.estimators.systems import SYSTEMS
from ancestryvi.models.latent_variable import Autoencoder
from ancestryvi.models.priors import KernelPrior, MixturePrior, Prior
from ancestryvi.models.reference import ReferenceDDVI


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """The make of a module.

    Attributes
    ----------
    method : str
        One of `SYSTEMS`.
    n_features, n_latent, n_clusters, n_steps : int
    classes : bool
        Whether the posterior names a class first.
    conditional : bool
        Whether the reverse steps of a diffusion posterior see x.
    learned : bool
        Whether the parts of the prior are learned.
    n_points : int
        Points of a `KernelPrior`; 0 for a `MixturePrior`.
    reference : bool
        Whether it is the authors' genotype model.
    """

    method: str = "ddvi"
    n_features: int
    n_latent: int
    n_clusters: int
    n_steps: int
    classes: bool = False
    conditional: bool = True
    learned: bool = True
    n_points: int = 0
    reference: bool = False

    @property
    def n_classes(self) -> int:
        """Number of classes that the posterior names; 0 for none."""
        return self.n_clusters if self.classes else 0

    def build(
        self, seed: int = 0, prior: Prior | None = None, noise_scale: Tensor | None = None
    ) -> Autoencoder | ReferenceDDVI:
        """An untrained module; without a prior, one of the right shape."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._build(prior, noise_scale)

    def _build(
        self, prior: Prior | None, noise_scale: Tensor | None
    ) -> Autoencoder | ReferenceDDVI:
        if self.reference:
            return ReferenceDDVI(self.n_features, self.n_clusters, self.n_latent, self.n_steps)
        return SYSTEMS[self.method].build(
            self,
            self._blank_prior() if prior is None else prior,
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
