import numpy as np
import pytest

from ancestryvi.preprocess import GenotypePCA, pca
from ancestryvi.preprocess.pca import MAX_AUTO_COMPONENTS
from ancestryvi.preprocess.spectrum import TRACY_WIDOM_95, count_significant


def naive_count(eigenvalues, n_samples):
    """Equations (5) to (10) of Patterson, Price and Reich (2006), for a list of all eigenvalues.

    Their m is the number of samples, and m' = m - 1 that of nonzero eigenvalues. To test the
    next component they drop the largest eigenvalue and one from m'.
    """
    nonzero = sorted(eigenvalues, reverse=True)[: n_samples - 1]
    for count in range(len(nonzero) - 2):
        left = nonzero[count:]
        m = len(left)
        unit = sum(left) / m
        scaled = [value / unit for value in left]  # as they report them: of sum m'
        n = m * (m + 2) / (sum(value**2 for value in scaled) - m)
        mu = (np.sqrt(n - 1) + np.sqrt(m)) ** 2 / n
        sigma = (np.sqrt(n - 1) + np.sqrt(m)) / n * (1 / np.sqrt(n - 1) + 1 / np.sqrt(m)) ** (1 / 3)
        if (scaled[0] - mu) / sigma < TRACY_WIDOM_95:
            return count
    return len(nonzero) - 2


def spectrum_of(matrix):
    """All eigenvalues of the relationship matrix of the rows, decreasing."""
    centred = matrix - matrix.mean(axis=0)
    return np.linalg.eigvalsh(centred @ centred.T)[::-1]


def count_in(matrix, n_leading=None):
    values = spectrum_of(matrix)
    total, total_square = values.sum(), np.square(values).sum()
    return count_significant(values[:n_leading], total, total_square, len(matrix))


def planted(rng, strengths, n_samples, n_variants):
    """Noise around as many axes as there are strengths."""
    axes = rng.normal(size=(n_samples, len(strengths))) * np.asarray(strengths)
    signal = axes @ rng.normal(size=(len(strengths), n_variants))
    return signal + rng.normal(size=(n_samples, n_variants))


@pytest.mark.parametrize("n_planted", [0, 1, 3, 8])
@pytest.mark.parametrize(("n_samples", "n_variants"), [(12, 400), (40, 300), (60, 60), (100, 500)])
def test_count_significant_follows_the_paper(n_planted, n_samples, n_variants):
    rng = np.random.default_rng(n_planted)
    for strength in [0.1, 0.2, 0.4, 0.8]:
        matrix = planted(rng, strength * 0.8 ** np.arange(n_planted), n_samples, n_variants)
        matrix *= rng.uniform(0.5, 2, n_variants)
        assert count_in(matrix) == naive_count(spectrum_of(matrix), n_samples)


def test_only_leading_eigenvalues_are_needed():
    matrix = planted(np.random.default_rng(1), 0.7 ** np.arange(6), 100, 1000)
    assert count_in(matrix) == 6
    assert count_in(matrix, n_leading=10) == 6
    assert count_in(matrix, n_leading=4) == 4


def test_the_scale_plays_no_part():
    matrix = planted(np.random.default_rng(1), [1.0, 0.7], 50, 200)
    assert [count_in(factor * matrix) for factor in (1e-4, 1, 1e4)] == [2, 2, 2]


def test_the_percentile_is_that_of_the_tracy_widom_law():
    """The largest eigenvalue of Wishart matrices of known size, scaled as (5) to (7)."""
    rng = np.random.default_rng(2)
    m, n, statistics = 60, 240, []
    for _ in range(3000):
        factor = rng.normal(size=(m, n))
        statistics.append(np.linalg.eigvalsh(factor @ factor.T)[-1])
    mu = (np.sqrt(n - 1) + np.sqrt(m)) ** 2
    sigma = (np.sqrt(n - 1) + np.sqrt(m)) * (1 / np.sqrt(n - 1) + 1 / np.sqrt(m)) ** (1 / 3)
    exceed = np.mean((np.array(statistics) - mu) / sigma > TRACY_WIDOM_95)
    assert exceed == pytest.approx(0.05, abs=0.01)


def test_noise_shows_a_component_in_at_most_5_percent_of_matrices():
    rng = np.random.default_rng(3)
    rate = np.mean([count_in(rng.normal(size=(50, 800))) > 0 for _ in range(800)])
    assert 0.015 <= rate <= 0.06  # a test that never finds any would pass the upper bound alone


def test_degenerate_spectra_show_no_component():
    equal = np.ones(9)
    assert count_significant(equal, 9, 9, 10) == 0  # no effective number of variants
    assert count_significant(np.array([1.0]), 1, 1, 2) == 0  # two samples
    assert count_significant(np.array([3.0, 1.0]), 4, 10, 3) == 0


# ---- on genotypes ------------------------------------------------------------------------------


def test_unstructured_genotypes_rarely_show_a_component(drifted):
    rng = np.random.default_rng(3)
    n_false = 0
    for _ in range(120):
        dosages, _ = drifted(rng, [30], 800, fst=0.0)
        model = GenotypePCA().fit(dosages)
        assert len(model.components_) == max(2, model.n_significant_)
        n_false += model.n_significant_ > 0
    assert n_false <= 10  # 5 % is 6; more than 10 has a probability of 4 %


@pytest.mark.parametrize("n_populations", [2, 4, 7])
def test_planted_populations_are_counted(drifted, n_populations):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        dosages, _ = drifted(rng, [25] * n_populations, 3000, fst=0.05)
        model = GenotypePCA().fit(dosages)
        assert model.n_significant_ == n_populations - 1
        assert model.components_.shape[0] == max(2, n_populations - 1)


def test_the_count_on_genotypes_is_that_of_all_their_eigenvalues(drifted):
    dosages, _ = drifted(np.random.default_rng(5), [20, 25, 30], 1000, fst=0.02)
    model = GenotypePCA(min_maf=0, min_mac=1).fit(dosages)
    scaled = (dosages - model.mean_) / model.scale_
    assert model.n_significant_ == naive_count(np.linalg.eigvalsh(scaled @ scaled.T)[1:], 75) == 2


def test_auto_takes_at_most_as_many_components_as_it_tests(drifted, monkeypatch):
    assert MAX_AUTO_COMPONENTS == 50
    dosages, _ = drifted(np.random.default_rng(6), [25] * 7, 3000, fst=0.05)
    monkeypatch.setattr(pca, "MAX_AUTO_COMPONENTS", 4)
    model = GenotypePCA().fit(dosages)
    assert len(model.components_) == len(model.spectrum_) == model.n_significant_ == 4
    by_hand = GenotypePCA(n_components=6).fit(dosages)
    assert len(by_hand.components_) == 6
    assert by_hand.n_significant_ == 4
