"""Cohorts made from scratch: dosages with a variant table, and populations that drifted apart."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from ancestryvi.genotypes import Genotypes


@pytest.fixture
def make_genotypes() -> Callable[..., Genotypes]:
    """Return a function that puts a sample table and a variant table around dosages."""

    def make(
        dosages,
        *,
        contig: str | Sequence[str] = "1",
        position: Sequence[int] | None = None,
        ref: str | Sequence[str] = "A",
        alt: str | Sequence[str] = "G",
        ids: Sequence[str] | None = None,
    ) -> Genotypes:
        dosages = np.asarray(dosages, dtype=np.int8)
        n_samples, n_variants = dosages.shape
        variants = pd.DataFrame(
            {
                "contig": contig,
                "position": 1000 * np.arange(1, n_variants + 1) if position is None else position,
                "id": ".",
                "ref": ref,
                "alt": alt,
            },
            index=range(n_variants),
        )
        names = [f"s{row}" for row in range(n_samples)] if ids is None else list(ids)
        return Genotypes(dosages, pd.DataFrame(index=pd.Index(names, dtype=object)), variants)

    return make


@pytest.fixture
def drifted() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Return a function that draws populations under the model of Balding and Nichols (1995)."""

    def draw(
        rng: np.random.Generator, sizes: Sequence[int], n_variants: int, fst: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return dosages, every one of them polymorphic, and the population of each sample."""
        labels = np.repeat(np.arange(len(sizes)), sizes)
        ancestral = rng.uniform(0.1, 0.9, size=2 * n_variants)
        if fst > 0:
            spread = (1 - fst) / fst
            a, b = ancestral * spread, (1 - ancestral) * spread
            frequency = rng.beta(a, b, size=(len(sizes), 2 * n_variants))
        else:
            frequency = np.tile(ancestral, (len(sizes), 1))
        dosages = rng.binomial(2, frequency[labels]).astype(np.int8)
        polymorphic = (dosages.sum(axis=0) >= 2) & ((2 - dosages).sum(axis=0) >= 2)
        return dosages[:, np.flatnonzero(polymorphic)[:n_variants]], labels

    return draw


@pytest.fixture
def with_missing() -> Callable[..., np.ndarray]:
    """Return a function that blanks a share of the calls."""

    def blank(rng: np.random.Generator, dosages: np.ndarray, share: float) -> np.ndarray:
        return np.where(rng.random(dosages.shape) < share, -1, dosages).astype(np.int8)

    return blank
