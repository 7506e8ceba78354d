"""The number of components, from eigenvalues alone."""

import numpy as np
import pytest

from ancestryvi.genotypes import read_genotypes
from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.spectrum import (
    MIN_SIGNAL,
    SpikedModel,
    effective_variants,
    n_outstanding,
    signal_threshold,
    uneven_noise,
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
    assert pca.n_signal_ == min(n_populations - 1, 50)
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


def test_shrinkage_is_that_of_samples_drawn_anew():
    """Monte Carlo: scores of new samples against those of fitted ones of their populations."""
    rng = np.random.default_rng(6)
    X = genotypes(rng, 4, 50, 0.01, 4000)
    fitted = np.tile(np.arange(50) < 35, 4)
    pca = GenotypePCA(3, min_maf=0.05).fit(X[fitted])
    population = np.repeat(np.arange(4), 50)
    for k in range(3):

        def centres(scores, chosen, k=k):
            return np.array([scores[population[chosen] == p, k].mean() for p in range(4)])

        old = centres(pca.transform(X[fitted]), fitted)
        shrunk = centres(pca.transform(X[~fitted]) * pca.shrinkage_, ~fitted)
        corrected = centres(pca.transform(X[~fitted]), ~fitted)
        assert (shrunk @ old) / (old @ old) == pytest.approx(pca.shrinkage_[k], abs=0.08)
        assert (corrected @ old) / (old @ old) == pytest.approx(1.0, abs=0.12)
        assert pca.shrinkage_[k] < 0.9


def test_shrinkage_falls_with_the_eigenvalue_and_stays_positive():
    model = SpikedModel(noise=2.0, ratio=0.3, n_signal=3)
    factors = model.shrinkage(np.array([200.0, 20.0, 6.0, 4.0, 1.0]))
    assert np.all(np.diff(factors) <= 0)
    assert np.all((factors > 0) & (factors < 1))
    strength = factors[1] / (1 - factors[1])
    assert (1 + strength) * (1 + 0.3 / strength) == pytest.approx(10.0)


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


# ------------------------------------------------------------------------------------ uneven noise


def test_uneven_noise_is_what_signal_leaves_of_the_matrix():
    """By plain loops over a relationship matrix."""
    rng = np.random.default_rng(7)
    data = rng.normal(size=(12, 40)) * rng.uniform(0.5, 2, size=(12, 1))
    gram = data @ data.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:5], vectors[:, ::-1][:, :5]
    left = gram - sum(values[k] * np.outer(vectors[:, k], vectors[:, k]) for k in range(2))
    noise = [left[i, i] for i in range(12)]
    beside = [sum(left[i, j] ** 2 for j in range(12) if j != i) for i in range(12)]
    squares = (gram**2).sum(axis=1)
    level, mixing = uneven_noise(np.diag(gram), squares, values, vectors, 2)
    for k in range(5):
        weights = vectors[:, k] ** 2
        assert level[k] == pytest.approx(np.dot(weights, noise) / np.mean(noise))
        assert mixing[k] == pytest.approx(np.dot(weights, beside) / np.mean(beside))


@pytest.mark.parametrize("solver", ["exact", "randomized"])
def test_shrinkage_within_a_population_that_is_more_diverse(solver):
    """Monte Carlo: a weak axis within a third of the cohort, whose noise is three times as large.

    With one level of noise for everybody its shrinkage would be far off.
    """
    rng = np.random.default_rng(8)
    n_each, n_variants = 150, 6000
    # few copies everywhere but in the diverse third, where both halves differ a little
    rare, drift = 0.02, 0.03
    base = rng.uniform(0.2, 0.8, n_variants)
    shape = (1 - drift) / drift
    halves = rng.beta(base * shape, (1 - base) * shape, size=(2, n_variants))
    frequency = np.repeat(
        [*halves, np.full(n_variants, rare)], [n_each, n_each, 4 * n_each], axis=0
    )
    X = rng.binomial(2, frequency)
    fitted = np.arange(len(X)) % 2 == 0
    pca = GenotypePCA(3, max_ld_r2=None, min_maf=0.0, solver=solver).fit(X[fitted])
    half = np.repeat([1.0, -1.0, 0.0], [n_each, n_each, 4 * n_each])
    axis = np.argmax(np.abs(pca.transform(X[fitted]).T @ half[fitted]))
    old = pca.transform(X[fitted])[:, axis] @ half[fitted]
    new = pca.transform(X[~fitted])[:, axis] @ half[~fitted]
    # the randomised solver estimates the noise of each sample from 16 random vectors
    assert new / old == pytest.approx(1.0, abs=0.04 if solver == "exact" else 0.06)
    assert pca.shrinkage_[axis] < 0.9


def test_held_out_samples_land_where_a_joint_analysis_puts_them(shared_data):
    """Scores of a tenth of 1000 Genomes against a PCA of all, turned onto the same axes."""
    genotypes = read_genotypes(shared_data / "1000g-26pop" / "genotypes.vcf.gz")
    joint = GenotypePCA(8).fit_transform(genotypes)
    ratios = []
    for seed in range(2):
        held_out = np.zeros(genotypes.n_samples, bool)
        held_out[np.random.default_rng(seed).permutation(genotypes.n_samples)[:154]] = True
        pca = GenotypePCA(8).fit(genotypes.select(samples=~held_out))
        known = pca.transform(genotypes.select(samples=~held_out))
        new = pca.transform(genotypes.select(samples=held_out))
        turned = joint @ np.linalg.lstsq(joint[~held_out], known)[0]
        for k in range(8):
            ratios.append(new[:, k] @ turned[held_out, k] / np.sum(turned[held_out, k] ** 2))
    assert np.median(ratios) == pytest.approx(1.0, abs=0.03)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.03)
