"""How much smaller scores of new samples are, against closed forms and samples drawn anew."""

import numpy as np
import pytest

from ancestryvi.genotypes import read_genotypes
from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.shrinkage import shrinkage
from ancestryvi.preprocess.spectrum import SpikedModel


def decomposed(Z, n_leading=None):
    """All that `shrinkage` takes, of data without a mean."""
    values, vectors = np.linalg.eigh(Z @ Z.T)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    sums = values.sum(), (values**2).sum()
    model = SpikedModel.of(values[:50], *sums, *Z.shape)
    return model, values[:n_leading], vectors[:, :n_leading], (Z**2).sum(axis=1), *sums


def planted(rng, noise, strengths, n_variants):
    """Axes of these strengths, in units of noise 1, over samples with this noise."""
    axes = np.linalg.qr(rng.normal(size=(len(noise), len(strengths))))[0]
    signal = axes * np.sqrt(strengths) @ rng.normal(size=(len(strengths), n_variants))
    return signal + np.sqrt(noise)[:, None] * rng.normal(size=(len(noise), n_variants))


@pytest.mark.parametrize("n_leading", [None, 40])
@pytest.mark.parametrize("n_variants", [500, 4000])
def test_with_equal_noise_it_is_the_closed_form(n_variants, n_leading):
    """l / (1 + l), with l the strength; eigenvalues beyond 40 known by two moments do as well."""
    strengths = np.array([20.0, 6.0, 3.0])
    Z = planted(np.random.default_rng(0), np.ones(400), strengths, n_variants)
    factors = shrinkage(*decomposed(Z, n_leading))
    np.testing.assert_allclose(factors[:3], strengths / (1 + strengths), atol=0.02)


def test_it_is_the_score_on_the_component_of_the_others():
    """Each sample left out in turn, with noise that differs tenfold between the samples."""
    rng = np.random.default_rng(1)
    noise = np.repeat([0.3, 1.0, 3.0], 40)
    Z = planted(rng, noise, np.array([40.0, 12.0]), 600)
    model, values, vectors, *rest = decomposed(Z)
    with_all = vectors[:, :2] * np.sqrt(values[:2])
    without = np.empty_like(with_all)
    for i in range(len(Z)):
        others = np.delete(Z, i, axis=0)
        axes = np.linalg.svd(others, full_matrices=False)[2][:2]
        axes *= np.sign((others @ axes.T * np.delete(with_all, i, axis=0)).sum(axis=0))[:, None]
        without[i] = axes @ Z[i]
    expected = (without * with_all).sum(axis=0) / (with_all**2).sum(axis=0)
    factors = shrinkage(model, values, vectors, *rest)
    np.testing.assert_allclose(factors[:2], expected, atol=0.02)  # of order 1 / 120


def test_it_falls_with_the_eigenvalue_to_that_of_the_edge():
    Z = planted(np.random.default_rng(2), np.ones(200), np.array([50.0, 10.0, 4.0]), 800)
    factors = shrinkage(*decomposed(Z, 60))
    assert np.all(np.diff(factors[:4]) < 0)
    assert np.all((factors > 0) & (factors < 1))
    np.testing.assert_allclose(factors[10:], 1 / 3, atol=0.02)  # sqrt(1/4) / (1 + sqrt(1/4))


@pytest.mark.parametrize("n_samples", [2, 3, 5])
def test_few_samples_are_no_trouble(n_samples):
    Z = np.random.default_rng(3).normal(size=(n_samples, 30))
    factors = shrinkage(*decomposed(Z - Z.mean(axis=0), n_samples - 1))
    assert np.all((factors > 0) & (factors <= 1))


def genotypes(rng, n_populations: int, n_each: int, fst: float, n_variants: int) -> np.ndarray:
    """Balding-Nichols draws: beta-distributed frequencies around an ancestral one."""
    ancestral = rng.uniform(0.1, 0.9, n_variants)
    spread = (1 - fst) / fst
    frequency = rng.beta(
        ancestral * spread, (1 - ancestral) * spread, size=(n_populations, n_variants)
    )
    return rng.binomial(2, np.repeat(frequency, n_each, axis=0))


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
