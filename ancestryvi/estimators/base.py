"""The scikit-learn face that every method has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, Self

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
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from ancestryvi.estimators.fitted import Fitted, Projection
from ancestryvi.estimators.labels import encode_labels
from ancestryvi.estimators.uncertain import expected_probabilities, whole_spread
from ancestryvi.genotypes.alleles import VariantMatch
from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.inputs import as_genotypes, as_matrix, is_path, kind_of_input
from ancestryvi.preprocess.project import Placement
from ancestryvi.preprocess.score_prior import ScorePrior
from ancestryvi.preprocess.unseen import Unseen


def _where(ability: str) -> Callable[[Any], bool]:
    """For `available_if`: whether the method of an estimator has this ability."""
    return lambda estimator: estimator._can(ability)


MOST_BOUNDED = 1_000
"""Samples that ``elbo_`` is the mean over, evenly chosen from more: a mean needs no more."""


class AncestryEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator, ABC
):
    """From genotypes or features to a map and clusters: what all methods have in common.

    A subclass says in `_learn` how a matrix of features is fitted, and in `fitted_type` what that
    gives. Its parameters include `input`, `pca` and `random_state`.
    """

    fitted_type: ClassVar[type[Fitted]]
    input: str
    pca: GenotypePCA | None
    random_state: Any
    _fitted: Any
    _score_prior: ScorePrior | None

    def fit(self, X: Any, y: Any = None) -> Self:
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
        self : estimator

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
        placed = self._fit_features(as_genotypes(X) if is_path(X) else X)
        features = placed.scores
        fitted = np.asarray(~np.isnan(features).any(axis=1))
        if self.pca_ is not None:
            fitted &= self.pca_.fit_samples_
        labels = encode_labels(y, fitted) if self._takes_labels() else None
        codes = None
        if labels is not None:
            self.classes_ = labels[1]
            codes = labels[0][fitted]
        elif hasattr(self, "classes_"):
            del self.classes_  # of an earlier fit
        random = check_random_state(self.random_state)
        self._fitted = self._learn(features[fitted], random, codes)
        if self.pca_ is not None:
            codes = argmax(self._fitted.probabilities(features[fitted]))
            noise = placed.unseen.variance / placed.unseen.units**2
            self._score_prior = ScorePrior.of_clusters(features[fitted], codes, noise)
        return self._read_out(features, placed.unseen)

    @property
    @abstractmethod
    def map_name(self) -> str:
        """Short name of the map; its coordinates are this and a number from 1."""

    @property
    def voted(self) -> bool:
        """Whether probabilities are votes of the nearest training samples, not those of a model."""
        return False

    @abstractmethod
    def _can(self, ability: str) -> bool:
        """Whether the method has "bound", "draws" (of q), "samples" (of x) or "decode"."""

    def _takes_labels(self) -> bool:
        """Whether `fit` learns from labels; otherwise they are ignored."""
        return True

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise ValueError for the first parameter out of range."""

    @abstractmethod
    def _learn(
        self,
        features: NDArray[np.float64],
        random: np.random.RandomState,
        labels: NDArray[np.int64] | None,
    ) -> Fitted:
        """Fit to features without gaps; `labels` are class indices, -1 where there is none."""

    def _check_range(self, name: str, kind: Any, least: int, *, auto: bool = False) -> None:
        """Raise ValueError if a parameter is no number of this kind, nor "auto", or too small."""
        value = getattr(self, name)
        if auto and isinstance(value, str) and value == "auto":
            return
        if not isinstance(value, kind) or isinstance(value, bool) or not value >= least:
            noun = "an int" if kind is Integral else "a number"
            noun = f"'auto' or {noun}" if auto else noun
            raise ValueError(
                f"The {name!r} parameter of {type(self).__name__} must be {noun} of at least "
                f"{least}. Got {value!r} instead."
            )

    def _check_choice(self, name: str, choices: tuple[Any, ...]) -> None:
        """Raise ValueError if a parameter is none of its choices."""
        value = getattr(self, name)
        if not any(value is choice or value == choice for choice in choices):
            *most, last = map(repr, choices)
            raise ValueError(
                f"The {name!r} parameter of {type(self).__name__} must be {', '.join(most)} or "
                f"{last}. Got {value!r} instead."
            )

    def _fit_features(self, X: Any) -> Placement:
        """Decide what X is, fit `pca_` if it is genotypes, and return features."""
        self.input_ = self.input if self.input != "auto" else kind_of_input(X)
        if self.input_ == "features":
            self.pca_ = self._score_prior = None
            features = validate_data(self, as_matrix(X), dtype=np.float64, ensure_min_samples=2)
            return Placement.whole(features)
        self.pca_ = clone(self.pca) if self.pca is not None else self._default_pca()
        self.pca_.fit(X)
        self.n_features_in_ = self.pca_.n_features_in_
        return self._placed(X)[0]

    def _default_pca(self) -> GenotypePCA:
        """How genotypes become features by default; on the device of training, if any."""
        return GenotypePCA(device=getattr(self, "device", "auto"))

    def _features(self, X: Any) -> NDArray[np.float64]:
        """Features of samples of any origin, as the fitted model takes them."""
        check_is_fitted(self, "input_")
        if self.pca_ is not None:
            return self.pca_.transform(X)
        return validate_data(self, as_matrix(X), dtype=np.float64, reset=False)

    def _placed(self, X: Any) -> tuple[Placement, VariantMatch | None]:
        """Features with what is missing of samples, and how variants matched."""
        check_is_fitted(self, "input_")
        if self.pca_ is None:
            return Placement.whole(self._features(X)), None
        return self.pca_.place(X)

    def _read_out(self, features: NDArray[np.float64], unseen: Unseen) -> Self:
        """Set the fitted attributes; drop learned clusters that are empty, order them by size."""
        codes = argmax(self._expected_probabilities(features, unseen))
        if self._fitted.learned and not hasattr(self, "classes_"):
            codes = self._in_order(codes, features, unseen)
        self._codes = codes
        self._publish()
        self.embedding_ = self._fitted.place(features)
        if self._can("bound"):
            step = -(-len(features) // MOST_BOUNDED)
            self.elbo_ = float(np.nanmean(self._fitted.elbo(features[::step])))
        return self

    def _in_order(
        self, codes: NDArray[np.int64], features: NDArray[np.float64], unseen: Unseen
    ) -> NDArray[np.int64]:
        """Drop clusters that no sample is in, order the others by size, and renumber the codes."""
        while True:
            n_clusters = self._fitted.n_clusters
            sizes = np.bincount(codes[codes >= 0], minlength=n_clusters)
            order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
            if not np.array_equal(order, np.arange(n_clusters)):
                self._fitted = self._fitted.keep_clusters(order)
            if len(order) == n_clusters:
                return np.append(np.argsort(order), -1)[codes]
            codes = argmax(self._expected_probabilities(features, unseen))

    def _expected_probabilities(
        self, features: NDArray[np.float64], unseen: Unseen
    ) -> NDArray[np.float64]:
        return expected_probabilities(self._fitted, features, unseen, self._score_prior)

    def _publish(self) -> None:
        """Attributes that follow from what was fitted and the clusters of its samples."""
        self.labels_ = self._names(self._codes)
        self.cluster_centers_ = self._fitted.centers
        self.weights_ = self._fitted.weights
        self.n_clusters_, self._n_features_out = self.cluster_centers_.shape

    def _names(self, codes: NDArray[np.int64]) -> NDArray[Any]:
        """Cluster indices, or the labels that they stand for; without a place, as if unlabelled."""
        if not hasattr(self, "classes_"):
            return codes
        names = self.classes_[codes]
        names[codes < 0] = None if self.classes_.dtype == object else -1
        return names

    # --------------------------------------------------------------------------- the read-out

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Place samples on the map: for a latent-variable model, where the means of q lead to.

        The result is deterministic, and a row's place does not depend on the others. PC scores of
        new samples are corrected for their shrinkage; see `GenotypePCA.transform`.

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
        """Names of the columns of `transform`, such as ddvi1, ddvi2, as in ``embedding.tsv``."""
        checked = super().get_feature_names_out(input_features)
        return np.array([f"{self.map_name}{i + 1}" for i in range(len(checked))], dtype=object)

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
        placed, match = self._placed(X)
        scores, unseen = placed.scores, placed.unseen
        places = self._fitted.place(scores)
        probabilities = self._expected_probabilities(scores, unseen)
        return Projection(
            places,
            probabilities,
            argmax(probabilities),
            whole_spread(self._fitted, scores, places, unseen),
            scores,
            placed.fitted,
            self._beyond(placed),
            match,
        )

    def _beyond(self, placed: Placement) -> NDArray[np.bool_]:
        """Which samples are farther from every cluster than any that was fitted."""
        prior = self._score_prior
        if prior is None:
            return np.zeros(len(placed.scores), bool)
        beyond = ~placed.fitted & (prior.distances(placed.scores) > prior.reach)
        for rows, *_ in placed.unseen.groups:
            beyond[rows] = False
        return beyond

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each cluster, or of each label after a fit with labels.

        For a latent-variable model the posterior mean of p(part | z), or q(c | x) where classes are
        explicit: probabilities of belonging to a part of the prior. They are not admixture
        proportions.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters_)
            Rows sum to 1; NaN for samples without any call.
        """
        placed, _ = self._placed(X)
        return self._expected_probabilities(placed.scores, placed.unseen)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable cluster of each sample, of shape (n_samples,); -1 without any call.

        After a fit with labels, the most probable label (None without any call if labels are
        strings).
        """
        return self._names(argmax(self.predict_proba(X)))

    @available_if(_where("bound"))
    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """ELBO of each sample: a lower bound of its log density, in nats, of shape (n_samples,).

        The mean over 32 fixed draws from the posterior (equation 5), per unit volume of X. Where
        calls are missing, that of the scores to expect.
        """
        features = self._features(X)
        return self._fitted.elbo(features)

    @available_if(_where("bound"))
    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples` over the samples of X."""
        return float(np.nanmean(self.score_samples(X)))

    @available_if(_where("draws"))
    def posterior_samples(
        self, X: Any, n_samples: int = 100, random_state: Any = None
    ) -> NDArray[np.float64]:
        """Draws from q(z | x): where on the map each sample could be, given its features.

        Where calls are missing these are the scores to expect; `project` counts what is missing.

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

    @available_if(_where("samples"))
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

    @available_if(_where("decode"))
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

        The directory holds JSON, safetensors and TSV files. Of the training samples it holds places
        on the map, without ids; for a method that places new samples by the nearest ones (t-SNE,
        UMAP, and clusters other than a mixture's), also their PC scores.

        Raises
        ------
        OutputError
            If the directory exists (and is not to be overwritten) or cannot be written.
        """
        from ancestryvi.estimators.artifact import save_model

        check_is_fitted(self)
        save_model(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a model that `save` wrote; nothing in it is executed.

        Raises
        ------
        ModelFormatError
            If the directory is no model, is damaged, is of a newer version or of another class.
        """
        from ancestryvi.estimators.artifact import load_model

        return load_model(path, cls)


def _seed(random_state: Any) -> int:
    """A seed for torch."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def argmax(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The most probable column of each row, -1 for rows of NaN."""
    labels = np.nan_to_num(probabilities, nan=-1.0).argmax(axis=1).astype(np.int64)
    labels[np.isnan(probabilities[:, 0])] = -1
    return labels
