"""What a trained DDVI module says of rows of features: numpy in, numpy out, double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ancestryvi.estimators.blueprint import Blueprint
from ancestryvi.genotypes.alleles import VariantMatch
from ancestryvi.models.latent_variable import Autoencoder, standardise
from ancestryvi.models.reference import ReferenceDDVI
from ancestryvi.training import one_thread

N_DRAWS = 32
"""Posterior draws per sample behind probabilities and bounds; the same noise for every sample and
every call, so that results are deterministic and do not depend on other rows."""

ROWS_AT_ONCE = {"cpu": 512, "cuda": 2048}
"""Samples whose posterior is evaluated at once, by the kind of device, which bounds memory."""


class Fitted(Protocol):
    """What a method has learned. Rows of features with NaN have no place: all NaN.

    Methods that are able to also have ``elbo(features)`` ("bound"), ``draw_posterior(features,
    n_draws, seed)`` ("draws"), ``draw_samples(n_samples, seed)`` ("samples") and ``decode(z)``
    ("decode").
    """

    @property
    def learned(self) -> bool:
        """Whether clusters were learned, and so may be put in another order."""

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""

    @property
    def centers(self) -> NDArray[np.float64]:
        """Centre of each cluster on the map, of shape (n_clusters, n_components)."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """Share of each cluster, of shape (n_clusters,)."""

    def place(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places on the map, of shape (n_samples, n_components)."""

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each cluster, of shape (n_samples, n_clusters)."""

    def spread(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """How uncertain each place is, of shape (n_samples,); NaN for a method that cannot say."""

    def keep_clusters(self, order: NDArray[np.intp]) -> Self:
        """The same with these clusters alone, in this order."""

    def record(self) -> dict[str, Any]:
        """What it takes to `restore` it, besides the arrays, as JSON."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What it takes to `restore` it, by name."""

    @classmethod
    def restore(cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The same again; other entries of `record` and `arrays` are ignored."""


@dataclass(frozen=True)
class FittedModel:
    """A trained module with the units of its features; see `Fitted`.

    Parameters
    ----------
    module : Autoencoder or ReferenceDDVI
        In double precision; on the CPU, but for the read-out of `fit`.
    blueprint : Blueprint
        What the module was made of; `keep_clusters` may have left fewer clusters.
    centre : ndarray of shape (n_features,)
        What the module takes for 0.
    unit : float
        What the module takes for 1.
    """

    module: Autoencoder | ReferenceDDVI
    blueprint: Blueprint
    centre: NDArray[np.float64]
    unit: float

    @property
    def learned(self) -> bool:
        """Whether the parts of the prior were learned."""
        return self.blueprint.learned

    @property
    def n_clusters(self) -> int:
        """Number of parts of the prior."""
        return self.module.prior.n_clusters

    @property
    def centers(self) -> NDArray[np.float64]:
        """Means of the parts of the prior."""
        return self.module.prior.centers.detach().cpu().numpy().copy()

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the parts of the prior."""
        return self.module.prior.log_weights.detach().exp().cpu().numpy()

    def on(self, device: str) -> Self:
        """The same, computed on this device."""
        self.module.to(device)
        return self

    def record(self) -> dict[str, Any]:
        """Blueprint and unit."""
        blueprint = replace(self.blueprint, n_clusters=self.n_clusters)
        return {"unit": self.unit, "blueprint": asdict(blueprint)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The centre, and the module's tensors as ``module.*``."""
        state = self.module.state_dict().items()
        return {"centre": self.centre, **{f"module.{name}": t.numpy() for name, t in state}}

    @classmethod
    def restore(cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the module again, and load its tensors."""
        blueprint = Blueprint(**record["blueprint"])
        module = blueprint.build().double()
        module.load_state_dict(
            {
                name.removeprefix("module."): torch.as_tensor(array)
                for name, array in arrays.items()
                if name.startswith("module.")
            }
        )
        return cls(module.requires_grad_(False), blueprint, arrays["centre"], record["unit"])

    def place(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Latents that the posterior's means lead to, of shape (n_samples, n_latent)."""
        return self._by_blocks(self.module.place, features, (self.module.n_latent,))

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each cluster, of shape (n_samples, n_clusters)."""
        noise, _ = self._fixed_noise()
        return self._by_blocks(
            lambda x: self.module.probabilities(x, noise),
            features,
            (self.module.prior.n_clusters,),
        )

    def spread(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Root mean square distance of posterior draws from their mean, of shape (n_samples,)."""
        noise, uniform = self._fixed_noise()

        def of_draws(x: Tensor) -> Tensor:
            z = self.module.draw(x, noise, uniform)
            return z.var(0, correction=0).sum(-1).sqrt()

        return self._by_blocks(of_draws, features, ())

    def elbo(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound of the log density per unit volume of the features, nats, shape (n_samples,)."""
        noise, _ = self._fixed_noise()
        bound = self._by_blocks(lambda x: self.module.bound(x, noise), features, ())
        return bound - features.shape[1] * math.log(self.unit)

    def draw_posterior(
        self, features: NDArray[np.float64], n_draws: int, seed: int
    ) -> NDArray[np.float64]:
        """Draws from q(z | x), of shape (n_samples, n_draws, n_latent)."""
        generator = torch.Generator().manual_seed(seed)

        def draw(x: Tensor) -> Tensor:
            shape = (self.module.n_noise, n_draws, len(x), self.module.n_latent)
            noise = torch.randn(shape, generator=generator, dtype=x.dtype)
            uniform = torch.rand(shape[1:3], generator=generator, dtype=x.dtype)
            return self.module.draw(x, noise, uniform).transpose(0, 1)

        return self._by_blocks(draw, features, (n_draws, self.module.n_latent))

    def draw_samples(
        self, n_samples: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Features drawn from the generative model, and the component of each."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            _, component, x = self.module.dream(n_samples, generator)
        return x.numpy() * self.unit + self.centre, component.numpy()

    def decode(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean features at latents."""
        with torch.no_grad():
            x = self.module.expectation(torch.as_tensor(z))
        return x.numpy() * self.unit + self.centre

    def keep_clusters(self, order: NDArray[np.intp]) -> Self:
        """Keep these clusters of the module alone, in this order."""
        self.module.keep_clusters(torch.as_tensor(order))
        return self

    @one_thread()
    def _by_blocks(
        self,
        function: Callable[[Tensor], Tensor],
        features: NDArray[np.float64],
        shape: tuple[int, ...],
    ) -> NDArray[np.float64]:
        """A function of standardised rows."""
        result = np.full((len(features), *shape), np.nan)
        usable = np.flatnonzero(~np.isnan(features).any(axis=1))
        device = next(self.module.parameters()).device
        n_rows = ROWS_AT_ONCE[device.type]
        for start in range(0, len(usable), n_rows):
            rows = usable[start : start + n_rows]
            with torch.no_grad():
                x = torch.as_tensor((features[rows] - self.centre) / self.unit, device=device)
                result[rows] = function(x).cpu().numpy()
        return result

    def _fixed_noise(self) -> tuple[Tensor, Tensor]:
        """Noise of `N_DRAWS` posterior draws, the same for every row; the second half mirrored.

        Normal, with the exact second moments, and uniform, stratified.
        """
        generator = torch.Generator().manual_seed(0)
        shape = (self.module.n_noise, N_DRAWS // 2, 1, self.module.n_latent)
        noise = standardise(torch.randn(shape, generator=generator, dtype=torch.float64))
        uniform = (torch.randperm(N_DRAWS, generator=generator) + 0.5) / N_DRAWS
        device = next(self.module.parameters()).device
        mirrored = torch.cat([noise, -noise], dim=1)
        return mirrored.to(device), uniform.double().unsqueeze(1).to(device)


@dataclass(frozen=True)
class Projection:
    """Samples on the map of a fitted model.

    Attributes
    ----------
    embedding : ndarray of shape (n_samples, n_components)
    probabilities : ndarray of shape (n_samples, n_clusters_)
    labels : ndarray of shape (n_samples,)
        Index of the most probable cluster; -1 for samples without any call.
    spread : ndarray of shape (n_samples,)
        Root mean square distance of 32 posterior draws from their mean, in units of the map. Where
        much is missing of a sample, also that of the places of the scores that it may have.
    scores : ndarray of shape (n_samples, n_pcs)
        The PC scores that they were placed by.
    fitted : ndarray of shape (n_samples,), bool
        Whether their calls are all those of a sample that the components were fitted on.
    beyond : ndarray of shape (n_samples,), bool
        Whether their scores are farther from every cluster than those of any fitted sample. Not
        said of samples that much is missing of, nor by a model of features.
    match : VariantMatch or None
        How their variants matched the fitted ones; None for a model of features.
    """

    embedding: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    spread: NDArray[np.float64]
    scores: NDArray[np.float64]
    fitted: NDArray[np.bool_]
    beyond: NDArray[np.bool_]
    match: VariantMatch | None
