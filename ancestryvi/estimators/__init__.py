"""The scikit-learn estimators."""

from ancestryvi.estimators.autoencoder import AncestryAutoencoder
from ancestryvi.estimators.base import AncestryEstimator
from ancestryvi.estimators.ddvi import AncestryDDVI
from ancestryvi.estimators.registry import METHODS, make_estimator
from ancestryvi.estimators.tool import AncestryTool

__all__ = [
    "METHODS",
    "AncestryAutoencoder",
    "AncestryDDVI",
    "AncestryEstimator",
    "AncestryTool",
    "make_estimator",
]
