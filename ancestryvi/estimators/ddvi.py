"""`AncestryDDVI`: the scikit-learn face of DDVI."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestryvi.estimators.fitted import FittedModel
from ancestryvi.estimators.latent_variable import LatentVariableEstimator
from ancestryvi.estimators.recipe import Recipe
from ancestryvi.preprocess import GenotypePCA


class AncestryDDVI(LatentVariableEstimator):
    """Map and clusters of ancestry by denoising diffusion variational inference.

    A deep latent-variable model p(z) p(x | z) of PC scores x: the prior p(z) is a mixture whose
    components are the clusters, and the posterior q(z | x) is a diffusion model in the latent
    space, trained by wake-sleep. The map is the read-out of that posterior. Given labels for some
    samples, components are populations and the others are assigned to them.

    Parameters
    ----------
    n_clusters : int or "auto", default=20
        Number K of components of the prior. "auto" takes the number of smallest Bayesian
        information criterion among mixtures of the features, which is 1 without structure.
        Components that own no sample after training are dropped, so that `labels_` has no gap.
        Labels, and priors that come with parts of their own, say themselves how many there are.
    n_components : int, default=2
        Dimension of the latent space; 2 for a map.
    prior : str, callable or Prior, default="auto"
        p(z). "auto" and "mixture": a mixture of `n_clusters` Gaussians with learned weights, means
        and covariances. "normal": a standard normal, which makes one cluster. "pinwheel",
        "swiss_roll", "square" (appendix F): fixed shapes in the plane, whose 10 parts are the
        clusters. Or a sampler of your own, ``prior(n_samples, rng)`` with a
        `numpy.random.Generator`, that returns latents of shape (n_samples, n_components), or these
        and the part of each (0, 1, ...); or a `Prior`.
    clustering : {"auto", "mixture", "latent_class"}, default="auto"
        How the posterior knows clusters (section 4.2). "mixture": through z, as parts of p(z).
        "latent_class": a classifier q(c | x) comes first, then q(z | x, c), so that clusters may
        differ in more than the map shows. "auto" is "latent_class" where the prior is learned, and
        "mixture" where it is fixed. Labels always take "latent_class".
    sleep : {"full", "latent"} or None, default="full"
        The sleep term. "full": wake-sleep (equations 7 to 9). "latent": wake-sleep in latent space
        (appendix B), whose reverse steps do not see x; a looser bound. None: the ELBO alone
        (equations 5 and 6).
    pretrain : bool, default=True
        Whether a variational auto-encoder is trained first (algorithm 1, line 1).
    n_diffusion_steps : int, default=5
        Number T of diffusion steps of the posterior.
    n_sleep_steps : int, default=1
        Sleep steps for each wake step, m of algorithm 1.
    beta_reg : float, default=1.0
        Weight of the prior terms of the wake objective; 1 makes it the ELBO.
    beta_diff : float, default=1.0
        Weight of the sleep objective.
    beta_neighbors : float, default=10.0
        Weight, in the pre-training, of a term that keeps neighbours in the features together on the
        map, where the prior is learned; 0 leaves it out.
    beta_layout : float, default=30.0
        Weight, in the pre-training, of a term that holds clusters near a layout of their means by
        multidimensional scaling, where the prior is learned; 0 starts from the first PCs instead.
    alpha : float, default=1.0
        Weight of the classification of labelled samples (section 4.1).
    preset : {"reference"} or None, default=None
        "reference": the genotype algorithm as the authors of DDVI coded it, for comparison, with
        their networks, T = 20, batches of 128 and 200 epochs (of five passes each) unless
        `n_epochs` says otherwise. It takes `n_clusters` and `n_components`; parameters of the
        objective, and labels, are not for it.
    n_epochs : int or "auto", default="auto"
        Passes over the samples, or over a new random choice of 65,536 each where there are more;
        all phases together. "auto" makes 600 batches in all, and up to 1,300 beyond 20,000 samples;
        without a warm start, or under a fixed prior, it is 45, changed where needed so that there
        are 750 to 2,000 batches.
    batch_size : int, default=256
        Samples per step.
    input : {"auto", "genotypes", "features"}, default="auto"
        What X is. "auto" takes a path, Genotypes, or a matrix of 0, 1, 2 and missing (-1 or NaN)
        for genotypes, and any other matrix for features.
    pca : GenotypePCA, optional
        How genotypes become features; a clone of it is fitted. Default: ``GenotypePCA()`` on
        the same `device`.
    device : str, default="auto"
        "auto" (a CUDA GPU where there is one, else the CPU), "cpu", "cuda" or "mps". For `fit`; a
        fitted model is on the CPU.
    random_state : int, RandomState or None, default=None
        Seed. The same seed on the same machine gives the same result; global random states are
        neither used nor changed.
    progress : bool, default=False
        Show a progress bar while training.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        The map of the training samples; equal to ``transform`` of them. Samples that the genotype
        quality control set aside are placed as new ones; NaN for samples without any call.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample, from 0; cluster 0 is the largest where clusters are
        learned. After a fit with labels, the label that `predict` gives.
    classes_ : ndarray of shape (n_clusters_,)
        The labels, sorted; only after a fit with labels.
    cluster_centers_ : ndarray of shape (n_clusters_, n_components)
        Means of the parts of the prior.
    weights_ : ndarray of shape (n_clusters_,)
        Weights of the parts of the prior.
    n_clusters_ : int
        Number of parts of the prior; of those learned, the ones that own a sample.
    elbo_ : float
        Mean of ``score_samples`` over the training samples, at most 1,000 of them evenly chosen,
        in nats.
    history_ : History
        Every term of every objective, per epoch.
    n_iter_ : int
        Number of epochs run.
    pca_ : GenotypePCA or None
        The fitted components when X is genotypes.
    input_ : {"genotypes", "features"}
        What X was taken for.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns, where X has them.

    References
    ----------
    Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference: Diffusion
    Models as Expressive Variational Posteriors, AAAI 39(19):19921-19930. Objective: equations 5 to
    9; semi-supervised: equation 10; clustering: section 4.2 and equation 11; priors: appendix F.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(90, centers=3, n_features=5, random_state=0)
    >>> model = AncestryDDVI(n_clusters=3, n_epochs=200, random_state=0)
    >>> model.fit_transform(X).shape
    (90, 2)
    >>> model.predict_proba(X).shape
    (90, 3)

    With labels for some samples, None, NaN or -1 for the others:

    >>> y = ["left"] * 5 + [None] * 80 + ["right"] * 5
    >>> model.fit(X, y).predict(X).shape, model.classes_.tolist()
    ((90,), ['left', 'right'])
    """

    def __init__(
        self,
        n_clusters: int | str = 20,
        *,
        n_components: int = 2,
        prior: Any = "auto",
        clustering: str = "auto",
        sleep: str | None = "full",
        pretrain: bool = True,
        n_diffusion_steps: int = 5,
        n_sleep_steps: int = 1,
        beta_reg: float = 1.0,
        beta_diff: float = 1.0,
        beta_neighbors: float = 10.0,
        beta_layout: float = 30.0,
        alpha: float = 1.0,
        preset: str | None = None,
        n_epochs: int | str = "auto",
        batch_size: int = 256,
        input: str = "auto",
        pca: GenotypePCA | None = None,
        device: str = "auto",
        random_state: Any = None,
        progress: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.prior = prior
        self.clustering = clustering
        self.sleep = sleep
        self.pretrain = pretrain
        self.n_diffusion_steps = n_diffusion_steps
        self.n_sleep_steps = n_sleep_steps
        self.beta_reg = beta_reg
        self.beta_diff = beta_diff
        self.beta_neighbors = beta_neighbors
        self.beta_layout = beta_layout
        self.alpha = alpha
        self.preset = preset
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.input = input
        self.pca = pca
        self.device = device
        self.random_state = random_state
        self.progress = progress

    @property
    def map_name(self) -> str:
        """Short name of the map: ddvi."""
        return "ddvi"

    def _can(self, ability: str) -> bool:
        return True

    def _takes_labels(self) -> bool:
        return self.preset is None

    def _learn(
        self,
        features: NDArray[np.float64],
        random: np.random.RandomState,
        labels: NDArray[np.int64] | None,
    ) -> FittedModel:
        given = {field.name for field in fields(Recipe)} - {"method", "n_structure"}
        recipe = Recipe(
            method="ddvi",
            n_structure=None if self.pca_ is None else self.pca_.n_structure_,
            **{name: getattr(self, name) for name in given},
        )
        return self._follow(recipe, features, random, labels)

    def _check_parameters(self) -> None:
        self._check_range("n_clusters", Integral, 1, auto=True)
        for name in ("n_components", "n_diffusion_steps", "n_sleep_steps"):
            self._check_range(name, Integral, 1)
        for name in ("beta_reg", "beta_diff", "beta_neighbors", "beta_layout", "alpha"):
            self._check_range(name, Real, 0)
        self._check_training()
        self._check_choice("sleep", ("full", "latent", None))
        self._check_choice("pretrain", (True, False))
        self._check_choice("preset", (None, "reference"))
