"""`AncestryDDVI`: the scikit-learn face of DDVI."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ancestryvi.estimators.fitted import Projection
from ancestryvi.estimators.labels import encode_labels
from ancestryvi.estimators.recipe import Recipe
from ancestryvi.models.shapes import SHAPES
from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.inputs import as_genotypes, as_matrix, is_path, kind_of_input


class AncestryDDVI(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Map and clusters of ancestry by denoising diffusion variational inference.

    A deep latent-variable model p(z) p(x | z) of PC scores x: the prior p(z) is a mixture whose
    components are the clusters, and the posterior q(z | x) is a diffusion model in the latent
    space, trained by wake-sleep. The map is the read-out of that posterior. Given labels for some
    samples, components are populations and the others are assigned to them.

    Parameters
    ----------
    n_clusters : int, default=20
        Number K of components of the prior. Components that own no sample after training are
        dropped, so that `labels_` has no gap. Labels, and priors that come with parts of their own,
        say themselves how many there are.
    n_components : int, default=2
        Dimension of the latent space; 2 for a map.
    prior : str, callable or Prior, default="auto"
        p(z). "auto" and "mixture": a mixture of `n_clusters` Gaussians with learned weights, means
        and covariances. "normal": a standard normal, which makes one cluster. "pinwheel",
        "swiss_roll", "square" (appendix F): fixed shapes in the plane, whose 10 parts are the
        clusters. Or a sampler of your own, ``prior(n_samples, rng)`` with a
        `numpy.random.Generator`, that returns latents of shape (n_samples, n_components), or these
        and the part of each (0, 1, ...); or a `Prior`.
    clustering : {"mixture", "latent_class"}, default="mixture"
        How the posterior knows clusters (section 4.2). "mixture": through z, as parts of p(z).
        "latent_class": a classifier q(c | x) comes first, then q(z | x, c). Labels always take
        "latent_class".
    sleep : {"full", "latent"} or None, default="full"
        The sleep term. "full": wake-sleep (equations 7 to 9). "latent": wake-sleep in latent space
        (appendix B), whose reverse steps do not see x; a looser bound. None: the ELBO alone
        (equations 5 and 6).
    pretrain : bool, default=True
        Whether a variational auto-encoder is trained first (algorithm 1, line 1).
    n_diffusion_steps : int, default=10
        Number T of diffusion steps of the posterior.
    n_sleep_steps : int, default=1
        Sleep steps for each wake step, m of algorithm 1.
    beta_reg : float, default=1.0
        Weight of the prior terms of the wake objective; 1 makes it the ELBO.
    beta_diff : float, default=1.0
        Weight of the sleep objective.
    alpha : float, default=1.0
        Weight of the classification of labelled samples (section 4.1).
    preset : {"reference"} or None, default=None
        "reference": the genotype algorithm as the authors of DDVI coded it, for comparison, with
        their networks, T = 20, batches of 128 and 200 epochs (of five passes each) unless
        `n_epochs` says otherwise. It takes `n_clusters` and `n_components`; parameters of the
        objective, and labels, are not for it.
    n_epochs : int or "auto", default="auto"
        Passes over the samples, all phases together. "auto" is 240, changed where needed so that
        there are 2,600 to 6,000 batches in all.
    batch_size : int, default=256
        Samples per step.
    input : {"auto", "genotypes", "features"}, default="auto"
        What X is. "auto" takes a path, Genotypes, or a matrix of 0, 1, 2 and missing (-1 or NaN)
        for genotypes, and any other matrix for features.
    pca : GenotypePCA, optional
        How genotypes become features; a clone of it is fitted. Default: ``GenotypePCA()``.
    device : str, default="auto"
        "auto" (a CUDA GPU where there is one, else the CPU), "cpu", "cuda" or "mps". Training only;
        a fitted model is on the CPU.
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
        Mean of ``score_samples`` over the training samples, in nats.
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
        n_clusters: int = 20,
        *,
        n_components: int = 2,
        prior: Any = "auto",
        clustering: str = "mixture",
        sleep: str | None = "full",
        pretrain: bool = True,
        n_diffusion_steps: int = 10,
        n_sleep_steps: int = 1,
        beta_reg: float = 1.0,
        beta_diff: float = 1.0,
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
        self.alpha = alpha
        self.preset = preset
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.input = input
        self.pca = pca
        self.device = device
        self.random_state = random_state
        self.progress = progress

    # ------------------------------------------------------------------------------- fitting

    def fit(self, X: Any, y: Any = None) -> AncestryDDVI:
        """Fit the map and the clusters.

        Parameters
        ----------
        X : ndarray, DataFrame, AnnData or Genotypes of shape (n_samples, n_features), or path(s)
            Features such as PC scores, or genotypes; see `input`.
        y : array-like of shape (n_samples,), optional
            Labels, such as populations; -1, None or NaN for samples without one. All missing is
            the same as no y.

        Returns
        -------
        self : AncestryDDVI

        Raises
        ------
        ValueError
            If a parameter is out of range, X is not a finite matrix of at least 2 samples, or y
            does not fit it.
        TrainingError
            If the loss becomes non-finite; says in which epoch and batch.

        Warns
        -----
        UserWarning
            If there are fewer samples than clusters; as many clusters as samples are fitted then.
        """
        self._check_parameters()
        features = self._fit_features(as_genotypes(X) if is_path(X) else X)
        fitted = np.asarray(~np.isnan(features).any(axis=1))
        if self.pca_ is not None:
            fitted &= self.pca_.fit_samples_
        labels = encode_labels(y, fitted) if self.preset is None else None
        codes = None
        if labels is not None:
            self.classes_ = labels[1]
            codes = labels[0][fitted]
        elif hasattr(self, "classes_"):
            del self.classes_  # of an earlier fit
        recipe = Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})
        random = check_random_state(self.random_state)
        self._fitted, self.history_ = recipe.fit(features[fitted], random, codes)
        self.n_iter_ = len(self.history_)
        return self._read_out(features)

    def _check_parameters(self) -> None:
        """Raise ValueError for the first parameter out of range."""
        ranges: list[tuple[str, Any, int]] = [
            ("n_clusters", Integral, 1),
            ("n_components", Integral, 1),
            ("n_diffusion_steps", Integral, 1),
            ("n_sleep_steps", Integral, 1),
            ("batch_size", Integral, 1),
            ("beta_reg", Real, 0),
            ("beta_diff", Real, 0),
            ("alpha", Real, 0),
        ]
        for name, kind, least in ranges:
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool) or not value >= least:
                noun = "an int" if kind is Integral else "a number"
                raise ValueError(
                    f"The {name!r} parameter of AncestryDDVI must be {noun} of at least {least}. "
                    f"Got {value!r} instead."
                )
        if self.n_epochs != "auto" and not (
            isinstance(self.n_epochs, Integral)
            and not isinstance(self.n_epochs, bool)
            and self.n_epochs >= 1
        ):
            raise ValueError(
                "The 'n_epochs' parameter of AncestryDDVI must be 'auto' or an int of at least 1. "
                f"Got {self.n_epochs!r} instead."
            )
        priors = ("auto", "mixture", "normal", *SHAPES)
        if not callable(self.prior):
            self._check_choice("prior", priors)
        self._check_choice("clustering", ("mixture", "latent_class"))
        self._check_choice("sleep", ("full", "latent", None))
        self._check_choice("pretrain", (True, False))
        self._check_choice("preset", (None, "reference"))
        self._check_choice("input", ("auto", "genotypes", "features"))

    def _check_choice(self, name: str, choices: tuple[Any, ...]) -> None:
        """Raise ValueError if a parameter is none of its choices."""
        value = getattr(self, name)
        if not any(value is choice or value == choice for choice in choices):
            *most, last = map(repr, choices)
            raise ValueError(
                f"The {name!r} parameter of AncestryDDVI must be {', '.join(most)} or {last}. "
                f"Got {value!r} instead."
            )

    def _fit_features(self, X: Any) -> NDArray[np.float64]:
        """Decide what X is, fit `pca_` if it is genotypes, and return features."""
        self.input_ = self.input if self.input != "auto" else kind_of_input(X)
        if self.input_ == "features":
            self.pca_ = None
            return validate_data(self, as_matrix(X), dtype=np.float64, ensure_min_samples=2)
        self.pca_ = clone(self.pca) if self.pca is not None else GenotypePCA()
        self.pca_.fit(X)
        self.n_features_in_ = self.pca_.n_features_in_
        return self._features(X)

    def _features(self, X: Any) -> NDArray[np.float64]:
        """Features of samples of any origin, as the fitted model takes them."""
        check_is_fitted(self, "input_")
        if self.pca_ is not None:
            return self.pca_.transform(X)
        return validate_data(self, as_matrix(X), dtype=np.float64, reset=False)

    def _read_out(self, features: NDArray[np.float64]) -> AncestryDDVI:
        """Set the fitted attributes; drop learned clusters that are empty, order them by size."""
        settled = hasattr(self, "classes_") or not self._fitted.blueprint.learned
        while True:
            self._codes = _argmax(self._fitted.probabilities(features))
            n_clusters = self._fitted.module.prior.n_clusters
            sizes = np.bincount(self._codes[self._codes >= 0], minlength=n_clusters)
            order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
            if settled or np.array_equal(order, np.arange(n_clusters)):
                break
            self._fitted.keep_clusters(order)
        self._publish()
        self.embedding_ = self._fitted.place(features)
        self.elbo_ = float(np.nanmean(self._fitted.elbo(features)))
        return self

    def _publish(self) -> None:
        """Attributes that follow from the trained module and the clusters of its samples."""
        self.labels_ = self._names(self._codes)
        prior = self._fitted.module.prior
        self.cluster_centers_ = prior.centers.detach().numpy().copy()
        self.weights_ = prior.log_weights.detach().exp().numpy()
        self.n_clusters_ = prior.n_clusters
        self._n_features_out = prior.n_latent

    def _names(self, codes: NDArray[np.int64]) -> NDArray[Any]:
        """Cluster indices, or the labels that they stand for; without a place, as if unlabelled."""
        if not hasattr(self, "classes_"):
            return codes
        names = self.classes_[codes]
        names[codes < 0] = None if self.classes_.dtype == object else -1
        return names

    # --------------------------------------------------------------------------- the read-out

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Place samples on the map: the latent that the posterior's means lead to.

        Every reverse step of the diffusion takes its mean, so the result is deterministic and a
        row's place does not depend on the others. PC scores of new samples are corrected for their
        shrinkage; see `GenotypePCA.transform`.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_components)
            NaN for samples without any call.
        """
        features = self._features(X)
        return self._fitted.place(features)

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Fit, and return the map of the training samples; equals ``fit(X, y).transform(X)``."""
        return self.fit(X, y).embedding_

    def fit_predict(self, X: Any, y: Any = None) -> NDArray[Any]:
        """Fit, and return ``labels_``."""
        return self.fit(X, y).labels_

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns of `transform`: ddvi1, ddvi2, as in ``embedding.tsv``."""
        checked = super().get_feature_names_out(input_features)
        return np.array([f"ddvi{i + 1}" for i in range(len(checked))], dtype=object)

    def project(self, X: Any) -> Projection:
        """Everything that the model says of samples, and how their variants matched.

        The same as `transform`, `predict_proba` and `predict`, in one pass over the genotypes.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        projection : Projection

        Raises
        ------
        OverlapError
            If fewer than half of the fitted variants are present.
        """
        check_is_fitted(self)
        match = None
        if self.pca_ is None:
            scores = self._features(X)
        else:
            scores, match = self.pca_.project(X)
        probabilities = self._fitted.probabilities(scores)
        return Projection(
            self._fitted.place(scores),
            probabilities,
            _argmax(probabilities),
            self._fitted.spread(scores),
            scores,
            match,
        )

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each cluster, or of each label after a fit with labels.

        The posterior mean of p(part | z), or q(c | x) where classes are explicit. These are
        probabilities of belonging to a part of the prior. They are not admixture proportions.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters_)
            Rows sum to 1; NaN for samples without any call.
        """
        features = self._features(X)
        return self._fitted.probabilities(features)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable cluster of each sample, of shape (n_samples,); -1 without any call.

        After a fit with labels, the most probable label (None without any call if labels are
        strings).
        """
        return self._names(_argmax(self.predict_proba(X)))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """ELBO of each sample: a lower bound of its log density, in nats, of shape (n_samples,).

        The mean over 32 fixed draws from the posterior (equation 5), per unit volume of X.
        """
        features = self._features(X)
        return self._fitted.elbo(features)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples` over the samples of X."""
        return float(np.nanmean(self.score_samples(X)))

    def posterior_samples(
        self, X: Any, n_samples: int = 100, random_state: Any = None
    ) -> NDArray[np.float64]:
        """Draws from q(z | x): where on the map each sample could be.

        Parameters
        ----------
        X : as for `fit`
        n_samples : int, default=100
            Draws per row of X.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        draws : ndarray of shape (n_rows, n_samples, n_components)
        """
        features = self._features(X)
        return self._fitted.draw_posterior(features, n_samples, _seed(random_state))

    # ---------------------------------------------------------------------- the generative model

    def sample(
        self, n_samples: int = 1, random_state: Any = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw samples from the generative model, observation noise included.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the features: PC scores when the model was fitted on genotypes.
        labels : ndarray of shape (n_samples,)
            The cluster or label that each was drawn from, as
            `sklearn.mixture.GaussianMixture.sample`.
        """
        check_is_fitted(self)
        drawn, codes = self._fitted.draw_samples(n_samples, _seed(random_state))
        return drawn, self._names(codes)

    def inverse_transform(self, Z: Any) -> NDArray[np.float64]:
        """Features at places of the map: the mean of p(x | z).

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            PC scores when the model was fitted on genotypes.
        """
        check_is_fitted(self)
        return self._fitted.decode(check_array(Z, dtype=np.float64))

    # ------------------------------------------------------------------------------ persistence

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted model to a directory, whole or not at all.

        The directory holds JSON, safetensors and TSV files and no sample of the training data
        other than its place on the map, without its id.

        Raises
        ------
        OutputError
            If the directory exists (and is not to be overwritten) or cannot be written.
        """
        from ancestryvi.estimators.artifact import save_model

        check_is_fitted(self)
        save_model(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> AncestryDDVI:
        """Read a model that `save` wrote; nothing in it is executed.

        Raises
        ------
        ModelFormatError
            If the directory is no model, is damaged, or is of a newer version.
        """
        from ancestryvi.estimators.artifact import load_model

        return load_model(path)


def _seed(random_state: Any) -> int:
    """A seed for torch."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def _argmax(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The most probable column of each row, -1 for rows of NaN."""
    labels = np.nan_to_num(probabilities, nan=-1.0).argmax(axis=1).astype(np.int64)
    labels[np.isnan(probabilities[:, 0])] = -1
    return labels
