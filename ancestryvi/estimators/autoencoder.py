"""`AncestryAutoencoder`: the auto-encoders that DDVI is compared with, by name."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestryvi.estimators.fitted import FittedModel
from ancestryvi.estimators.latent_variable import LatentVariableEstimator
from ancestryvi.estimators.recipe import Recipe
from ancestryvi.estimators.systems import SYSTEMS
from ancestryvi.preprocess import GenotypePCA


class AncestryAutoencoder(LatentVariableEstimator):
    """Map and clusters of ancestry by another variational or diffusion auto-encoder.

    The same generative model, prior, clusters, labels, training loop and read-out as `AncestryDDVI`
    wherever the method leaves them free, so that a comparison is of the methods.

    Parameters
    ----------
    method : str, default="aevb"
        "aevb" (Kingma and Welling 2014; with `beta` the beta-VAE), "aevb-iaf" (Kingma et al. 2016),
        "h-aevb" (Ranganath et al. 2016), "pis" (Zhang and Chen 2022), "aaeb" (Makhzani et al.
        2015), "vdm" (Garcia Cerdas et al. 2023), "diffdecoder", "scorevae" and "scorevae+"
        (Batzolis et al. 2023).
    n_clusters, n_components, prior, clustering, alpha
        As for `AncestryDDVI`.
    beta : float or "auto", default="auto"
        Weight of the prior terms; "auto" is 1 where the objective is a bound or a critic's, 0.05
        for "vdm", and 0.01 for the others with a diffusion decoder, whose loss is not in nats.
    n_epochs, batch_size, input, pca, device, random_state, progress
        As for `AncestryDDVI`.

    Attributes
    ----------
    embedding_, labels_, classes_, cluster_centers_, weights_, n_clusters_, elbo_, history_, n_iter_
        As for `AncestryDDVI`; no ``elbo_`` where the method has no bound.
    pca_, input_, n_features_in_, feature_names_in_
        As for `AncestryDDVI`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(90, centers=3, n_features=5, random_state=0)
    >>> model = AncestryAutoencoder("aevb", n_clusters=3, n_epochs=200, random_state=0)
    >>> model.fit_transform(X).shape
    (90, 2)
    """

    def __init__(
        self,
        method: str = "aevb",
        n_clusters: int = 20,
        *,
        n_components: int = 2,
        prior: Any = "auto",
        clustering: str = "mixture",
        beta: float | str = "auto",
        alpha: float = 1.0,
        n_epochs: int | str = "auto",
        batch_size: int = 256,
        input: str = "auto",
        pca: GenotypePCA | None = None,
        device: str = "auto",
        random_state: Any = None,
        progress: bool = False,
    ) -> None:
        self.method = method
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.prior = prior
        self.clustering = clustering
        self.beta = beta
        self.alpha = alpha
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.input = input
        self.pca = pca
        self.device = device
        self.random_state = random_state
        self.progress = progress

    @property
    def map_name(self) -> str:
        """The method, fit for the name of a column."""
        return self.method.replace("-", "_").replace("+", "_plus")

    def _can(self, ability: str) -> bool:
        bounded = self.method in SYSTEMS and SYSTEMS[self.method].bounded
        return bounded or ability not in ("bound", "draws")

    def _learn(
        self,
        features: NDArray[np.float64],
        random: np.random.RandomState,
        labels: NDArray[np.int64] | None,
    ) -> FittedModel:
        own = SYSTEMS[self.method].beta
        recipe = Recipe(
            method=self.method,
            n_clusters=self.n_clusters,
            n_components=self.n_components,
            prior=self.prior,
            clustering=self.clustering,
            beta_reg=own if isinstance(self.beta, str) else self.beta,
            alpha=self.alpha,
            n_epochs=self.n_epochs,
            batch_size=self.batch_size,
            device=self.device,
            progress=self.progress,
        )
        return self._follow(recipe, features, random, labels)

    def _check_parameters(self) -> None:
        self._check_choice("method", tuple(name for name in SYSTEMS if name != "ddvi"))
        for name in ("n_clusters", "n_components"):
            self._check_range(name, Integral, 1)
        self._check_range("beta", Real, 0, auto=True)
        self._check_range("alpha", Real, 0)
        self._check_training()
