"""Clustered features, drifted populations, and models fitted on them once for all tests."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs

from ancestryvi import AncestryDDVI, GenotypePCA
from ancestryvi.genotypes import Genotypes


@pytest.fixture(scope="session")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four clusters in six dimensions whose centres are many standard deviations apart."""
    centres = 8.0 * np.array(
        [[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, -1, 0], [-1, 0, 1, 0, 0, 0], [0, -1, -1, 0, 0, 1]]
    )
    return make_blobs([30, 25, 20, 15], centers=centres, cluster_std=1.0, random_state=3)


@pytest.fixture(scope="session")
def X(blobs) -> np.ndarray:
    return blobs[0]


@pytest.fixture(scope="session")
def quick(X) -> AncestryDDVI:
    """A model of features that was trained just long enough to have every attribute."""
    return AncestryDDVI(n_clusters=5, n_epochs=10, random_state=1).fit(X)


@pytest.fixture(scope="session")
def trained(X) -> AncestryDDVI:
    """A model of features that was trained well."""
    return AncestryDDVI(n_clusters=4, n_epochs=400, random_state=0).fit(X)


@pytest.fixture(scope="session")
def dosages() -> np.ndarray:
    """Three populations of 15 that drifted apart (Balding and Nichols 1995), 200 variants."""
    rng = np.random.default_rng(5)
    ancestral = rng.uniform(0.2, 0.8, 200)
    frequency = rng.beta(4 * ancestral, 4 * (1 - ancestral), size=(3, 200))  # F_ST = 0.2
    calls = rng.binomial(2, np.repeat(frequency, 15, axis=0))
    return np.where(rng.random(calls.shape) < 0.01, -1, calls).astype(np.int8)


@pytest.fixture(scope="session")
def genotypes(dosages) -> Genotypes:
    """The dosages with ids and positions a megabase apart, so that none is linked."""
    n_samples, n_variants = dosages.shape
    variants = pd.DataFrame(
        {
            "contig": ["1"] * n_variants,
            "position": 1_000_000 * np.arange(1, n_variants + 1),
            "id": ".",
            "ref": "A",
            "alt": "G",
        }
    )
    ids = pd.Index([f"person{i}" for i in range(n_samples)], dtype=object, name="sample_id")
    return Genotypes(dosages, pd.DataFrame(index=ids), variants)


@pytest.fixture(scope="session")
def of_genotypes(genotypes) -> AncestryDDVI:
    """A model of genotypes."""
    return AncestryDDVI(n_clusters=3, n_epochs=10, pca=GenotypePCA(4), random_state=2).fit(
        genotypes
    )
