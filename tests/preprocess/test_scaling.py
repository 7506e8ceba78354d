import math

import numpy as np
import pytest
from allel.stats.preprocessing import PattersonScaler

from ancestryvi.preprocess.scaling import patterson_parameters, patterson_scale


@pytest.fixture
def dosages(drifted):
    return drifted(np.random.default_rng(0), [10, 15], 80, fst=0.1)[0]


def scale(dosages):
    called = dosages >= 0
    frequency = np.where(called, dosages, 0).sum(axis=0) / (2 * called.sum(axis=0))
    return patterson_scale(dosages, *patterson_parameters(frequency))


def naive_scale(dosages):
    scaled = np.zeros(dosages.shape)
    for j in range(dosages.shape[1]):
        called = [int(call) for call in dosages[:, j] if call >= 0]
        p = sum(called) / (2 * len(called))
        for i in range(len(dosages)):
            if dosages[i, j] >= 0:
                scaled[i, j] = (dosages[i, j] - 2 * p) / math.sqrt(p * (1 - p))
    return scaled


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_patterson_scaling_is_its_definition(dosages, with_missing, share):
    dosages = with_missing(np.random.default_rng(1), dosages, share)
    scaled = scale(dosages)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, naive_scale(dosages), rtol=1e-5, atol=1e-5)


def test_missing_calls_are_at_the_mean_of_the_scaled_calls(dosages, with_missing):
    dosages = with_missing(np.random.default_rng(2), dosages, 0.2)
    scaled = scale(dosages)
    assert (scaled[dosages < 0] == 0).all()
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)


def test_counting_the_other_allele_changes_the_sign(dosages, with_missing):
    dosages = with_missing(np.random.default_rng(3), dosages, 0.2)
    other = np.where(dosages < 0, -1, 2 - dosages).astype(np.int8)
    np.testing.assert_allclose(scale(other), -scale(dosages), rtol=1e-4, atol=1e-5)


def test_scaling_is_that_of_scikit_allel(dosages):
    # in double precision: given integers, scikit-allel computes in half precision
    oracle = PattersonScaler().fit_transform(dosages.T.astype(np.float64)).T
    np.testing.assert_allclose(scale(dosages), oracle, rtol=1e-5, atol=1e-5)
    mean, deviation = patterson_parameters(dosages.mean(axis=0) / 2)
    scaler = PattersonScaler().fit(dosages.T)
    np.testing.assert_allclose(mean, scaler.mean_[:, 0])
    np.testing.assert_allclose(deviation, scaler.std_[:, 0])


def test_under_hardy_weinberg_the_variance_is_two():
    rng = np.random.default_rng(4)
    dosages = rng.binomial(2, [0.1, 0.5, 0.8], size=(200_000, 3)).astype(np.int8)
    np.testing.assert_allclose(scale(dosages).var(axis=0), 2, rtol=0.02)


@pytest.mark.parametrize("frequency", [[0.0, 0.5, 1.0], [-0.1, 0.3, np.nan]])
def test_monomorphic_variants_are_refused_and_counted(frequency):
    n_bad = 2 if frequency[0] == 0 else 1
    with pytest.raises(ValueError, match=f"{n_bad} variants are monomorphic"):
        patterson_parameters(np.array(frequency))
