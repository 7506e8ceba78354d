"""Relationship matrix and eigenpairs, against double precision and against each other."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from ancestryvi.genotypes import Genotypes, open_source
from ancestryvi.preprocess import GenotypePCA, decomposition, passes
from ancestryvi.preprocess.decomposition import (
    ScaledDosages,
    leading_eigenpairs,
    product,
    randomised_eigenpairs,
    relationship_matrix,
)
from ancestryvi.preprocess.krylov import block_krylov
from ancestryvi.preprocess.scaling import patterson_parameters

NO_THINNING = {"max_ld_r2": None, "max_kinship": None}


def scaled_dosages(dosages):
    """The whole matrix of genotypes, and Z in double precision."""
    p = np.where(dosages < 0, 0, dosages).sum(axis=0) / (2 * (dosages >= 0).sum(axis=0))
    mean, scale = patterson_parameters(p)
    matrix = ScaledDosages(*map(np.arange, dosages.shape[::-1]), mean, scale)
    return matrix, np.where(dosages < 0, 0, (dosages - mean) / scale)


def symmetric(rng, values):
    """A symmetric matrix with these eigenvalues, and its vectors."""
    vectors = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    return (vectors * values) @ vectors.T, vectors


# ---- the relationship matrix -------------------------------------------------------------------


def test_scores_in_single_precision_agree_with_double(drifted, with_missing):
    """The bound that is stated: 1e-4 of the largest score; it is far better."""
    rng = np.random.default_rng(0)
    dosages = with_missing(rng, drifted(rng, [60, 50, 40], 30_000, fst=0.02)[0], 0.02)
    keep_all = {"min_maf": 0.0, "min_variant_call_rate": 0.0}
    scores = GenotypePCA(10, **keep_all, **NO_THINNING).fit_transform(dosages)
    _, Z = scaled_dosages(dosages)
    values, vectors = np.linalg.eigh(Z @ Z.T)
    expected = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :10]
    expected *= np.sign((expected * scores).sum(axis=0))
    assert np.abs(scores - expected).max() < 1e-5 * np.abs(expected).max()


def test_rounding_stays_within_the_bound(drifted, monkeypatch):
    rng = np.random.default_rng(1)
    dosages, _ = drifted(rng, [20, 20], 4000, fst=0.05)
    matrix, Z = scaled_dosages(dosages)
    gram = relationship_matrix(Genotypes.from_dosages(dosages), matrix)
    bound = Z.shape[1] * 2.0**-24 * (np.abs(Z) @ np.abs(Z).T)
    assert (np.abs(gram - Z @ Z.T) < bound).all()


def test_some_samples_and_variants_of_a_source(drifted, with_missing, monkeypatch):
    rng = np.random.default_rng(2)
    dosages = with_missing(rng, drifted(rng, [20, 20], 300, fst=0.05)[0], 0.1)
    samples = np.flatnonzero(rng.random(40) < 0.7)
    columns = np.flatnonzero(rng.random(300) < 0.6)
    part, Z = scaled_dosages(dosages[np.ix_(samples, columns)])
    matrix = ScaledDosages(columns, samples, part.mean, part.scale)
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * 28 * 17)
    gram = relationship_matrix(Genotypes.from_dosages(dosages), matrix)
    np.testing.assert_allclose(gram, Z @ Z.T, atol=1e-3)


# ---- eigenpairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [0, 4096])
@pytest.mark.parametrize(("n", "n_leading"), [(300, 12), (300, 300), (40, 39), (5, 5)])
def test_leading_eigenpairs(monkeypatch, direct, n, n_leading):
    monkeypatch.setattr(decomposition, "DIRECT_SAMPLES", direct)
    rng = np.random.default_rng(3)
    values = np.sort(rng.uniform(0, 10, n))[::-1]
    gram, vectors = symmetric(rng, values)
    found, theirs = leading_eigenpairs(gram, n_leading)
    np.testing.assert_allclose(found, values[:n_leading], atol=1e-9)
    alignment = np.abs((theirs * vectors[:, :n_leading]).sum(axis=0))
    np.testing.assert_allclose(alignment, 1, atol=1e-6)


@pytest.mark.parametrize("n_leading", [5, 20])
def test_block_krylov_finds_separated_pairs_to_its_tolerance(n_leading):
    rng = np.random.default_rng(4)
    values = np.concatenate([1000 * 0.8 ** np.arange(n_leading), rng.uniform(1, 5, 500)])
    values[n_leading:].sort()
    values[n_leading:] = values[n_leading:][::-1]
    G, vectors = symmetric(rng, values)
    found = block_krylov(
        lambda Q: G @ Q, rng.normal(size=(len(G), n_leading + 14)), n_leading, n_leading
    )
    assert found.n_passes <= 6
    np.testing.assert_allclose(found.eigenvalues, values[:n_leading], rtol=1e-4)
    assert subspace_angles(found.vectors, vectors[:, :n_leading]).max() < 1e-3
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(n_leading), atol=1e-9)
    assert found.trace_of_square == pytest.approx(np.sum(values**2), rel=1e-3)


def test_the_sum_of_squares_is_estimated_without_bias():
    """A flat spectrum, of which the leading pairs are but a small part."""
    rng = np.random.default_rng(5)
    values = np.sort(rng.uniform(1, 3, 1000))[::-1]
    G, _ = symmetric(rng, values)
    found = block_krylov(lambda Q: G @ Q, rng.normal(size=(1000, 24)), 10, 10)
    assert found.trace_of_square == pytest.approx(np.sum(values**2), rel=0.03)


@pytest.mark.parametrize("rank", [1, 3, 30])
def test_a_low_rank_is_no_trouble(rank):
    rng = np.random.default_rng(6)
    values = np.zeros(150)
    values[:rank] = np.arange(rank, 0, -1)
    G, _ = symmetric(rng, values)
    found = block_krylov(lambda Q: G @ Q, rng.normal(size=(150, 34)), 20, 20)
    np.testing.assert_allclose(found.eigenvalues, values[:20], atol=1e-6)


@pytest.mark.parametrize("n_samples", [3, 20, 65])
def test_few_samples_are_no_trouble(n_samples):
    rng = np.random.default_rng(7)
    values = np.arange(n_samples, 0, -1.0)
    G, _ = symmetric(rng, values)
    found = block_krylov(
        lambda Q: G @ Q, rng.normal(size=(n_samples, min(16, n_samples))), min(50, n_samples), 2
    )
    np.testing.assert_allclose(found.eigenvalues[:2], values[:2], rtol=1e-4)


# ---- the two solvers -----------------------------------------------------------------------------


@pytest.fixture
def structured(drifted):
    """Eight populations: seven axes above the noise."""
    rng = np.random.default_rng(8)
    return drifted(rng, [40] * 8, 6000, fst=0.02)[0]


@pytest.mark.parametrize("n_components", [3, 7, "auto"])
def test_the_randomised_solver_agrees_with_the_exact_one(structured, n_components):
    exact = GenotypePCA(n_components, solver="exact", **NO_THINNING).fit(structured)
    other = GenotypePCA(n_components, solver="randomized", **NO_THINNING).fit(structured)
    assert (exact.solver_, other.solver_) == ("exact", "randomized")
    assert other.components_.shape == exact.components_.shape
    angles = subspace_angles(exact.components_.T, other.components_.T)
    assert angles.max() < 0.01
    share = exact.explained_variance_ratio_
    np.testing.assert_allclose(other.explained_variance_ratio_, share, rtol=1e-4)
    assert (other.n_signal_, other.n_structure_) == (exact.n_signal_, exact.n_structure_) == (7, 7)
    np.testing.assert_allclose(other.shrinkage_, exact.shrinkage_, rtol=1e-2)
    np.testing.assert_allclose(
        np.abs(other.transform(structured)), np.abs(exact.transform(structured)), atol=0.5
    )


def test_the_randomised_solver_finds_no_structure_in_noise():
    rng = np.random.default_rng(9)
    for _ in range(3):
        dosages = rng.binomial(2, rng.uniform(0.1, 0.9, 1500), size=(200, 1500))
        model = GenotypePCA(solver="randomized", **NO_THINNING).fit(dosages)
        assert model.n_signal_ == model.n_structure_ == 0


def test_the_randomised_solver_is_deterministic(structured):
    first, second = (
        GenotypePCA(5, solver="randomized", **NO_THINNING).fit(structured).components_
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_auto_is_by_the_size_of_the_relationship_matrix(structured, monkeypatch):
    assert GenotypePCA(2, **NO_THINNING).fit(structured).solver_ == "exact"
    monkeypatch.setattr("ancestryvi.preprocess.pca.EXACT_BYTES", 8 * 320**2 - 1)
    assert GenotypePCA(2, **NO_THINNING).fit(structured).solver_ == "randomized"


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match=r"'solver' .* auto, exact, randomized. Got 'fast'"):
        GenotypePCA(2, solver="fast").fit("no-such-file.bed")


def test_randomised_eigenpairs_are_those_of_the_relationship_matrix(structured):
    matrix, Z = scaled_dosages(structured)
    found = randomised_eigenpairs(Genotypes.from_dosages(structured), matrix, 20, 7, product)
    values = np.linalg.eigvalsh(Z @ Z.T)[::-1]
    np.testing.assert_allclose(found.eigenvalues[:7], values[:7], rtol=1e-5)
    np.testing.assert_allclose(found.eigenvalues, values[:20], rtol=0.05)
    assert found.trace_of_square == pytest.approx(np.sum(values**2), rel=0.03)


# ---- from files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["exact", "randomized"])
def test_a_file_is_read_by_blocks_and_never_whole(shared_data, monkeypatch, solver):
    source = open_source(shared_data / "1000g-14pop-plink" / "phase1.bed")
    monkeypatch.setattr(passes, "BLOCK_BYTES", 2**20)
    monkeypatch.setattr(decomposition, "LEAST_PART", 1)
    widest = []
    read = source.read_dosages

    def spy(columns):
        dosages = read(columns)
        widest.append(dosages.shape[1])
        return dosages

    source.read_dosages = spy
    model = GenotypePCA(5, solver=solver, max_kinship=None).fit(source)
    assert max(widest) <= 4 * 2**20 // (4 * len(source.sample_ids)) + 4
    del source.read_dosages
    whole = GenotypePCA(5, solver=solver, max_kinship=None).fit(str(source.paths[0]))
    np.testing.assert_array_equal(model.kept_variants_, whole.kept_variants_)
    np.testing.assert_allclose(model.components_, whole.components_, atol=1e-4)
