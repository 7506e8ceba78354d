"""What the estimators of latent-variable models share: parameters of training, and a recipe."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ancestryvi.estimators.base import AncestryEstimator
from ancestryvi.estimators.fitted import FittedModel
from ancestryvi.estimators.recipe import Recipe
from ancestryvi.models.shapes import SHAPES
from ancestryvi.preprocess.unseen import Unseen


class LatentVariableEstimator(AncestryEstimator):
    """An estimator whose `_learn` follows a `Recipe`; it has `history_` and `n_iter_`."""

    fitted_type = FittedModel
    prior: Any
    n_epochs: int | str

    def _follow(
        self,
        recipe: Recipe,
        features: NDArray[np.float64],
        random: np.random.RandomState,
        labels: NDArray[np.int64] | None,
    ) -> FittedModel:
        """Train, and keep the account of it."""
        fitted, self.history_ = recipe.fit(features, random, labels)
        self.n_iter_ = len(self.history_)
        return fitted

    def _read_out(self, features: NDArray[np.float64], unseen: Unseen) -> Self:
        """As for every method, on the device of the training; the model then rests on the CPU."""
        super()._read_out(features, unseen)
        self._fitted = self._fitted.on("cpu")
        return self

    def _check_training(self) -> None:
        """Raise ValueError for the first parameter of training out of range."""
        self._check_range("batch_size", Integral, 1)
        self._check_range("n_epochs", Integral, 1, auto=True)
        if not callable(self.prior):
            self._check_choice("prior", ("auto", "mixture", "normal", *SHAPES))
        self._check_choice("clustering", ("auto", "mixture", "latent_class"))
        self._check_choice("input", ("auto", "genotypes", "features"))
