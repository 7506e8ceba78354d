"""The number of components, from eigenvalues alone."""

import numpy as np
import pytest

from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.spectrum import (
    MIN_SIGNAL,
    SpikedModel,
    effective_variants,
    n_outstanding,
    signal_threshold,
)


def spectrum(matrix: np.ndarray) -> np.ndarray:
    centred = matrix - matrix.mean(axis=0)
    return np.linalg.eigvalsh(centred @ centred.T)[::-1].clip(0)


def count(values: np.ndarray, n_variants: int, n_leading: int = 50) -> int:
    n_samples = len(values)
    return SpikedModel.of(
        values[:n_leading], values.sum(), (values**2).sum(), n_samples, n_variants
    ).n_signal


def genotypes(rng, n_populations: int, n_each: int, fst: float, n_variants: int) -> np.ndarray:
    """Balding-Nichols draws: beta-distributed frequencies around an ancestral one."""
    ancestral = rng.uniform(0.1, 0.9, n_variants)
    spread = (1 - fst) / fst
    frequency = rng.beta(
        ancestral * spread, (1 - ancestral) * spread, size=(n_populations, n_variants)
    )
    return rng.binomial(2, np.repeat(frequency, n_each, axis=0))


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 1.0, 3.0])
def test_the_threshold_is_where_the_squared_cosine_is_one_half(ratio):
    """Paul (2007): lambda(l) and cos^2(l), solved by bisection instead of in closed form."""
    low, high = np.sqrt(ratio), 1e6
    for _ in range(200):
        strength = (low + high) / 2
        cosine = (1 - ratio / strength**2) / (1 + ratio / strength)
        low, high = (strength, high) if cosine < MIN_SIGNAL else (low, strength)
    assert signal_threshold(ratio) == pytest.approx((1 + low) * (1 + ratio / low))
    assert signal_threshold(ratio) > (1 + np.sqrt(ratio)) ** 2  # above the edge of pure noise


def test_the_squared_cosine_of_a_planted_axis_is_as_the_model_says():
    """Monte Carlo: at the threshold's strength a sample component is half signal."""
    rng = np.random.default_rng(0)
    n_samples, n_variants = 200, 2000
    ratio = n_samples / n_variants
    strength = (MIN_SIGNAL * ratio + np.sqrt(MIN_SIGNAL**2 * ratio**2 + 2 * ratio)) / 1.0
    cosines, values = [], []
    for _ in range(20):
        axis = rng.normal(size=n_samples)
        axis /= np.linalg.norm(axis)
        data = rng.normal(size=(n_samples, n_variants))
        data += (np.sqrt(1 + strength) - 1) * np.outer(axis, axis @ data)
        w, v = np.linalg.eigh(data @ data.T / n_variants)
        cosines.append((v[:, -1] @ axis) ** 2)
        values.append(w[-1])
    assert np.mean(cosines) == pytest.approx(MIN_SIGNAL, abs=0.06)
    assert np.mean(values) == pytest.approx(signal_threshold(ratio), rel=0.02)


def test_nothing_is_found_in_noise():
    rng = np.random.default_rng(1)
    found = [count(spectrum(rng.normal(size=(60, 400))), 400) > 0 for _ in range(100)]
    assert np.mean(found) <= 0.15
    found = [count(spectrum(rng.normal(size=(300, 3000))), 3000) > 0 for _ in range(10)]
    assert not any(found)


@pytest.mark.parametrize(
    ("n_populations", "n_each", "fst"), [(4, 25, 0.05), (10, 10, 0.05), (60, 4, 0.3), (2, 50, 0.02)]
)
def test_planted_populations_give_one_component_less_than_there_are(n_populations, n_each, fst):
    rng = np.random.default_rng(2)
    X = genotypes(rng, n_populations, n_each, fst, 4000)
    pca = GenotypePCA(min_maf=0.05).fit(X)
    assert pca.n_signal_ == n_populations - 1
    assert pca.components_.shape[0] == max(2, pca.n_signal_)


def test_auto_takes_two_components_where_there_is_no_structure():
    rng = np.random.default_rng(3)
    X = rng.binomial(2, rng.uniform(0.1, 0.9, 1500), size=(80, 1500))
    pca = GenotypePCA().fit(X)
    assert pca.n_signal_ == 0
    assert pca.components_.shape[0] == 2


def test_effective_variants_against_its_definition():
    """The largest of the moment estimates (m+1) S1^2 / ((m-1) S2 - S1^2), by a naive loop."""
    rng = np.random.default_rng(4)
    blocks = np.repeat(rng.normal(size=(80, 150)), 4, axis=1)  # 600 variants, 150 of them distinct
    values = spectrum(blocks)[:-1]
    estimates = []
    for removed in range(20):
        left = values[removed:]
        m = len(left) + 1
        estimates.append((m + 1) * left.sum() ** 2 / ((m - 1) * (left**2).sum() - left.sum() ** 2))
    found = effective_variants(values[:20], values.sum(), (values**2).sum(), 80, 600)
    assert found == pytest.approx(max(estimates), rel=1e-6)
    assert 130 < found < 300
    capped = effective_variants(values[:20], values.sum(), (values**2).sum(), 80, 140)
    assert capped == 140


def test_scale_does_not_matter_and_degenerate_spectra_are_no_error():
    rng = np.random.default_rng(5)
    values = spectrum(rng.normal(size=(40, 300)) + np.repeat([[3.0], [-3.0]], 20, axis=0))
    assert count(values, 300) == count(values * 1e6, 300) == 1
    equal = np.ones(9)
    assert SpikedModel.of(equal, 9, 9, 10, 100).n_signal == 0
    assert SpikedModel.of(np.array([1.0]), 1, 1, 2, 5).n_signal == 0  # two samples


# ------------------------------------------------------------------ what stands out from the noise


def test_noise_of_linked_variants_is_no_structure():
    """Runs of equal columns, of uneven length, widen the edge of the spectrum."""
    false_alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = np.repeat(rng.normal(size=(150, 600)), rng.integers(1, 12, 600), axis=1)
        false_alarms += n_outstanding(spectrum(noise)[:50], 20) > 0
    assert false_alarms <= 4


@pytest.mark.parametrize("n_populations", [2, 5, 12])
def test_as_many_stand_out_as_populations_less_one(n_populations):
    rng = np.random.default_rng(0)
    centres = 0.6 * rng.normal(size=(n_populations, 3000))
    data = rng.normal(size=(240, 3000)) + centres[np.arange(240) % n_populations]
    assert n_outstanding(spectrum(data)[:50], 40) == n_populations - 1


def test_scale_plays_no_part_and_too_few_after_it_leave_a_component():
    rng = np.random.default_rng(0)
    values = spectrum(rng.normal(size=(80, 500)))[:50]
    assert n_outstanding(values, 5) == n_outstanding(1e6 * values, 5)
    assert n_outstanding(values[:12], 5) == 5
    assert n_outstanding(values, 0) == 0
