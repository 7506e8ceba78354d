"""Maps and clusters of genetic ancestry by denoising diffusion variational inference.

The public names are loaded when first used, so that importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ancestryvi.estimators import (
        AncestryAutoencoder,
        AncestryDDVI,
        AncestryEstimator,
        AncestryTool,
        make_estimator,
    )
    from ancestryvi.genotypes import Genotypes, read_genotypes, read_scores, write_genotypes
    from ancestryvi.preprocess import GenotypePCA

__version__ = "0.1.0"

_HOMES = {
    "AncestryAutoencoder": "ancestryvi.estimators",
    "AncestryDDVI": "ancestryvi.estimators",
    "AncestryEstimator": "ancestryvi.estimators",
    "AncestryTool": "ancestryvi.estimators",
    "GenotypePCA": "ancestryvi.preprocess",
    "Genotypes": "ancestryvi.genotypes",
    "make_estimator": "ancestryvi.estimators",
    "read_genotypes": "ancestryvi.genotypes",
    "read_scores": "ancestryvi.genotypes",
    "write_genotypes": "ancestryvi.genotypes",
}

__all__ = [
    "AncestryAutoencoder",
    "AncestryDDVI",
    "AncestryEstimator",
    "AncestryTool",
    "GenotypePCA",
    "Genotypes",
    "__version__",
    "make_estimator",
    "read_genotypes",
    "read_scores",
    "write_genotypes",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ancestryvi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
