"""The scikit-learn estimators."""

from ancestryvi.estimators.ddvi import AncestryDDVI

__all__ = ["AncestryDDVI"]
