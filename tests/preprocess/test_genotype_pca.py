import os
import tracemalloc

import allel
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ancestryvi.exceptions import InputFormatError, NoVariantsError, SampleError
from ancestryvi.genotypes import Genotypes, read_genotypes
from ancestryvi.preprocess import GenotypePCA, passes, quality_control
from ancestryvi.preprocess.decomposition import ScaledDosages, relationship_matrix
from ancestryvi.preprocess.ld import locate_unlinked

KEEP_ALL = {
    "min_maf": 0.0,
    "min_mac": 1,
    "min_variant_call_rate": 0.0,
    "min_sample_call_rate": 0.0,
    "max_ld_r2": None,
    "max_kinship": None,
}
"""Quality control that leaves every polymorphic variant and every sample with a call."""


def scaled_in_double_precision(dosages):
    """Patterson scaling by the textbook, missing calls at the mean."""
    calls = np.where(dosages < 0, np.nan, dosages.astype(float))
    p = np.nanmean(calls, axis=0) / 2
    return np.nan_to_num((calls - 2 * p) / np.sqrt(p * (1 - p)))


def aligned(scores, reference):
    """Turn each column so that it points the same way as the reference."""
    return scores * np.sign((scores * reference).sum(axis=0))


@pytest.fixture
def complete(drifted):
    return drifted(np.random.default_rng(0), [12, 14, 16], 400, fst=0.1)[0]


@pytest.fixture
def gappy(complete, with_missing):
    return with_missing(np.random.default_rng(1), complete, 0.08)


# ---- against other ways to compute it --------------------------------------------------------


@pytest.mark.parametrize("which", ["complete", "gappy"])
def test_components_are_the_singular_vectors_of_the_scaled_dosages(which, request):
    dosages = request.getfixturevalue(which)
    model = GenotypePCA(n_components=5, **KEEP_ALL)
    scores = model.fit_transform(dosages)
    Z = scaled_in_double_precision(dosages)
    U, S, Vt = np.linalg.svd(Z, full_matrices=False)
    assert model.kept_variants_.all()
    np.testing.assert_allclose(np.linalg.norm(scores, axis=0), S[:5], rtol=1e-5)
    np.testing.assert_allclose(scores, aligned(U[:, :5] * S[:5], scores), atol=1e-4 * S[0])
    loadings = aligned(Vt[:5].T, model.components_.T).T
    np.testing.assert_allclose(model.components_, loadings, atol=1e-4)
    np.testing.assert_allclose(scores, Z @ model.components_.T, atol=1e-4)
    share = S**2 / np.sum(S**2)
    np.testing.assert_allclose(model.explained_variance_ratio_, share[:5], rtol=1e-5)
    np.testing.assert_allclose(model.spectrum_, share[: len(dosages) - 1], rtol=1e-4)
    np.testing.assert_allclose(model.explained_variance_, scores.var(axis=0, ddof=1), rtol=1e-5)
    total = model.explained_variance_ / model.explained_variance_ratio_
    np.testing.assert_allclose(total, Z.var(axis=0, ddof=1).sum(), rtol=1e-5)


def test_components_are_those_of_scikit_allel(complete):
    # in double precision: given integers, scikit-allel computes in half precision
    coordinates, oracle = allel.pca(complete.T.astype(float), n_components=4, scaler="patterson")
    model = GenotypePCA(n_components=4, **KEEP_ALL)
    scores = model.fit_transform(complete)
    np.testing.assert_allclose(scores, aligned(coordinates, scores), atol=1e-3)
    np.testing.assert_allclose(
        model.components_, aligned(oracle.components_.T, model.components_.T).T, atol=1e-4
    )
    np.testing.assert_allclose(
        model.explained_variance_ratio_, oracle.explained_variance_ratio_, rtol=1e-5
    )


def test_missing_calls_are_at_the_mean_of_the_called(gappy):
    """Filling a column's gaps with its mean by hand gives the same scores."""
    model = GenotypePCA(n_components=3, **KEEP_ALL).fit(gappy)
    filled = gappy.astype(float)
    for j in range(gappy.shape[1]):
        called = gappy[:, j] >= 0
        filled[~called, j] = gappy[called, j].mean()
    by_hand = (filled - model.mean_) / model.scale_ @ model.components_.T
    np.testing.assert_allclose(model.transform(gappy), by_hand, atol=1e-4)
    np.testing.assert_allclose(model.mean_, filled.mean(axis=0))


def test_loadings_are_orthonormal_and_their_largest_is_positive(gappy):
    components = GenotypePCA(n_components=8, **KEEP_ALL).fit(gappy).components_.astype(float)
    np.testing.assert_allclose(components @ components.T, np.eye(8), atol=1e-5)
    assert (components[np.arange(8), np.abs(components).argmax(axis=1)] > 0).all()


def test_scores_of_the_fitted_samples_are_centred_and_uncorrelated(gappy):
    scores = GenotypePCA(n_components=6, **KEEP_ALL).fit_transform(gappy)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-4)
    gram = scores.T @ scores
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-4 * gram[0, 0])


def test_real_genotypes_agree_with_double_precision(shared_data):
    genotypes = read_genotypes(shared_data / "1000g-14pop-plink" / "phase1.bed")
    rng = np.random.default_rng(0)
    genotypes = genotypes.select(
        samples=rng.choice(genotypes.n_samples, 400, replace=False),
        variants=np.sort(rng.choice(genotypes.n_variants, 3000, replace=False)),
    )
    model = GenotypePCA(10, max_ld_r2=None, min_maf=0, max_kinship=None)
    scores = model.fit_transform(genotypes)
    Z = scaled_in_double_precision(genotypes.dosages[:, model.kept_variants_])
    eigenvalues, vectors = np.linalg.eigh(Z @ Z.T)
    expected = (vectors * np.sqrt(np.maximum(eigenvalues, 0)))[:, ::-1][:, :10]
    np.testing.assert_allclose(scores, aligned(expected, scores), atol=1e-3 * scores.std())
    np.testing.assert_allclose(
        model.explained_variance_ratio_, eigenvalues[::-1][:10] / eigenvalues.sum(), rtol=1e-5
    )


def test_populations_separate(drifted):
    for seed in range(3):
        dosages, labels = drifted(np.random.default_rng(seed), [30, 20], 1000, fst=0.05)
        first = GenotypePCA().fit_transform(dosages)[:, 0]
        one, other = sorted([first[labels == 0], first[labels == 1]], key=np.mean)
        assert other.min() - one.max() > 3 * max(one.std(), other.std())


# ---- what must not matter ----------------------------------------------------------------------


@pytest.fixture
def reference(gappy):
    return GenotypePCA(n_components=3, **KEEP_ALL).fit_transform(gappy)


def assert_same_scores(scores, reference):
    np.testing.assert_allclose(aligned(scores, reference), reference, atol=1e-5 * reference.max())


def test_the_order_of_variants_plays_no_part(gappy, reference):
    order = np.random.default_rng(2).permutation(gappy.shape[1])
    model = GenotypePCA(n_components=3, **KEEP_ALL)
    scores = model.fit_transform(gappy[:, order])
    assert_same_scores(scores, reference)
    assert np.sign((scores * reference).sum(axis=0)).tolist() == [1, 1, 1]


def test_the_order_of_samples_plays_no_part(gappy, reference):
    order = np.random.default_rng(3).permutation(len(gappy))
    scores = GenotypePCA(n_components=3, **KEEP_ALL).fit_transform(gappy[order])
    assert_same_scores(scores, reference[order])


def test_the_counted_allele_plays_no_part(gappy, reference):
    swapped = np.random.default_rng(4).random(gappy.shape[1]) < 0.5
    other = np.where(swapped & (gappy >= 0), 2 - gappy, gappy)
    model = GenotypePCA(n_components=3, **KEEP_ALL)
    assert_same_scores(model.fit_transform(other), reference)
    plain = GenotypePCA(n_components=3, **KEEP_ALL).fit(gappy)
    loadings = model.components_ * np.where(swapped, -1, 1)
    np.testing.assert_allclose(
        aligned(loadings.T, plain.components_.T), plain.components_.T, atol=1e-5
    )


@pytest.mark.parametrize("columns_at_once", [1, 7, 399, 400])
def test_blocks_change_nothing(gappy, reference, monkeypatch, columns_at_once):
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * len(gappy) * columns_at_once)
    scores = GenotypePCA(n_components=3, **KEEP_ALL).fit_transform(gappy)
    assert_same_scores(scores, reference)


def test_memory_is_bounded_by_the_block(monkeypatch):
    dosages = np.random.default_rng(5).binomial(2, 0.5, size=(50, 80_000)).astype(np.int8)
    genotypes = Genotypes.from_dosages(dosages)
    matrix = ScaledDosages(np.arange(80_000), np.arange(50), np.ones(80_000), np.full(80_000, 0.5))
    monkeypatch.setattr(passes, "BLOCK_BYTES", 2**18)
    tracemalloc.start()
    relationship_matrix(genotypes, matrix)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    at_once = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_once = min(at_once, passes.MAX_THREADS)
    assert peak < 5 * 2**18 * at_once  # of a matrix of 4 MB, scaled 16


def test_memory_order_plays_no_part(gappy, reference):
    scores = GenotypePCA(n_components=3, **KEEP_ALL).fit_transform(np.asfortranarray(gappy))
    assert_same_scores(scores, reference)


def test_relationship_matrix_is_symmetric_and_that_of_the_definition(gappy):
    model = GenotypePCA(**KEEP_ALL).fit(gappy)
    matrix = ScaledDosages(np.arange(400), np.arange(42), model.mean_, model.scale_)
    gram = relationship_matrix(Genotypes.from_dosages(gappy), matrix)
    Z = scaled_in_double_precision(gappy)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(gram, Z @ Z.T, atol=1e-3)


# ---- transform ---------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["exact", "randomized"])
def test_fit_transform_is_transform_but_for_rounding(gappy, solver):
    model = GenotypePCA(n_components=2, solver=solver, **KEEP_ALL)
    scores = model.fit_transform(gappy)
    np.testing.assert_allclose(scores, model.transform(gappy), atol=1e-4 * np.abs(scores).max())


def test_fit_transform_places_samples_that_were_set_aside(gappy):
    gappy[3, :200] = -1
    model = GenotypePCA(n_components=4)
    scores = model.fit_transform(gappy)
    assert not model.fit_samples_[3]
    np.testing.assert_array_equal(scores, model.transform(gappy))


def test_samples_are_placed_independently_of_each_other(gappy):
    model = GenotypePCA(n_components=4, **KEEP_ALL).fit(gappy)
    together = model.transform(gappy)
    for row in range(0, len(gappy), 5):
        np.testing.assert_allclose(
            model.transform(gappy[[row]])[0], together[row], rtol=1e-9, atol=1e-9
        )


def test_transform_changes_neither_the_model_nor_the_input(gappy):
    before = gappy.copy()
    model = GenotypePCA(n_components=2, **KEEP_ALL).fit(gappy)
    state = {name: np.copy(value) for name, value in vars(model).items()}
    model.transform(gappy[:3])
    np.testing.assert_array_equal(gappy, before)
    for name, value in vars(model).items():
        np.testing.assert_array_equal(value, state[name])


def test_a_sample_without_calls_has_no_scores(complete):
    model = GenotypePCA(n_components=3).fit(complete)
    new = complete[:4].copy()
    new[1] = -1
    new[2, model.kept_variants_] = -1
    new[3, np.flatnonzero(model.kept_variants_)[1:]] = -1
    scores = model.transform(new)
    assert np.isnan(scores).all(axis=1).tolist() == [False, True, True, False]
    assert np.isfinite(scores[[0, 3]]).all()
    np.testing.assert_allclose(scores[0], model.transform(complete[:1])[0])


def test_samples_that_are_set_aside_are_placed_but_not_fitted(complete, with_missing):
    rng = np.random.default_rng(6)
    poor = with_missing(rng, complete[[0, 20, 41]], 0.4)
    empty = np.full((1, complete.shape[1]), -1, np.int8)
    cohort = np.vstack([poor[:2], complete, poor[2:], empty])
    options = KEEP_ALL | {"n_components": 3, "min_sample_call_rate": 0.9}
    without = GenotypePCA(**options).fit(complete)
    model = GenotypePCA(**options).fit(cohort)
    assert np.flatnonzero(~model.fit_samples_).tolist() == [0, 1, 44, 45]
    np.testing.assert_allclose(model.components_, without.components_, atol=1e-6)
    np.testing.assert_allclose(model.explained_variance_, without.explained_variance_)
    assert model.n_signal_ == without.n_signal_
    scores = model.transform(cohort)
    np.testing.assert_allclose(scores[2:44], without.transform(complete), atol=1e-4)
    np.testing.assert_allclose(scores[[0, 1, 44]], without.transform(poor), atol=1e-4)
    assert np.isnan(scores[45]).all()
    plain = scores[:, :2] * model.shrinkage_[:2]  # the two that separate the populations
    plain[2:44] = scores[2:44, :2]
    distance = np.linalg.norm(plain[[0, 1, 44]] - plain[[2, 22, 43]], axis=1)
    assert (distance < np.linalg.norm(plain[2] - plain[22])).all()  # near their complete selves


# ---- variants ----------------------------------------------------------------------------------


def test_variants_are_filtered_then_thinned_then_described(make_genotypes, drifted):
    rng = np.random.default_rng(7)
    dosages, _ = drifted(rng, [20, 20], 60, fst=0.1)
    dosages = np.repeat(dosages, 2, axis=1)  # each variant has a perfect proxy next to it
    dosages[:, 5] = 0
    genotypes = make_genotypes(dosages)
    model = GenotypePCA(n_components=2, max_ld_r2=0.3, ld_window_kb=30).fit(genotypes)
    report = quality_control(genotypes)
    expected = report.variants.copy()
    expected[report.variants] = locate_unlinked(
        genotypes,
        columns=np.flatnonzero(report.variants),
        max_r2=0.3,
        window_kb=30,
    )
    assert model.kept_variants_.tolist() == expected.tolist()
    row = model.qc_.set_index("step").loc["linked"]
    assert (row["before"], row["kept"]) == (report.variants.sum(), expected.sum())
    assert row["dropped"] == row["before"] - row["kept"] > 50
    assert row["detail"] == "r2 above 0.3 with a kept variant within 30 kb"
    kept = genotypes.variants[expected].reset_index(drop=True)
    pd.testing.assert_frame_equal(model.variants_.drop(columns="frequency"), kept)
    np.testing.assert_allclose(model.variants_["frequency"], dosages[:, expected].mean(axis=0) / 2)
    assert model.components_.shape == (2, expected.sum())
    assert model.n_features_in_ == 120


def test_linkage_is_judged_among_the_samples_that_are_fitted(make_genotypes):
    rng = np.random.default_rng(8)
    dosages = rng.binomial(2, 0.5, size=(60, 2))
    dosages[:30, 1] = dosages[:30, 0]  # linked among the first half only
    dosages = np.hstack([dosages, rng.binomial(2, 0.5, size=(60, 60))])
    dosages[30:, 5:50] = -1
    positions = [1, 2, *range(10_000_000, 610_000_000, 10_000_000)]
    genotypes = make_genotypes(dosages, position=positions)
    options = {"min_variant_call_rate": 0, "max_ld_r2": 0.6, "n_components": 2}
    assert not GenotypePCA(min_sample_call_rate=0.9, **options).fit(genotypes).kept_variants_[1]
    assert GenotypePCA(min_sample_call_rate=0.1, **options).fit(genotypes).kept_variants_[1]


def test_a_matrix_is_not_thinned_and_the_account_says_so(complete, make_genotypes):
    proxies = np.repeat(complete, 2, axis=1)
    by_matrix = GenotypePCA(n_components=2).fit(proxies)
    linked = by_matrix.qc_.set_index("step").loc["linked"]
    assert linked["detail"] == "skipped: variants have no positions"
    not_asked = GenotypePCA(n_components=2, max_ld_r2=None).fit(make_genotypes(proxies))
    linked = not_asked.qc_.set_index("step").loc["linked"]
    assert linked["detail"] == "skipped: not asked for"
    for model in (by_matrix, not_asked):
        row = model.qc_.set_index("step").loc["linked"]
        assert row["before"] == row["kept"] == model.kept_variants_.sum()
        assert row["dropped"] == 0


# ---- sizes -------------------------------------------------------------------------------------


def test_two_samples_have_one_component():
    model = GenotypePCA(min_mac=1)
    scores = model.fit_transform(np.array([[0, 1, 2, 1], [1, 1, 0, 2]]))
    assert scores.shape == (2, 1)
    assert scores[0] == pytest.approx(-scores[1])
    assert model.n_signal_ == 0
    assert model.explained_variance_ratio_ == pytest.approx([1])


@pytest.mark.parametrize("n_components", [2, 11, 12, 1000, "auto"])
def test_components_are_lowered_to_the_rank(n_components):
    dosages = np.random.default_rng(9).binomial(2, 0.4, size=(12, 300))
    model = GenotypePCA(n_components, **KEEP_ALL).fit(dosages)
    expected = 2 if n_components == "auto" else min(n_components, 11)
    assert len(model.components_) == expected
    assert len(model.spectrum_) == 11


def test_fewer_variants_than_samples_bound_the_rank():
    dosages = np.random.default_rng(10).binomial(2, 0.4, size=(50, 6))
    model = GenotypePCA(40, **KEEP_ALL).fit(dosages)
    assert model.components_.shape == (6, 6)
    assert model.explained_variance_ratio_.sum() == pytest.approx(1)


@pytest.mark.parametrize(("n_distinct", "n_variants"), [(3, 100_000), (5, 30_000), (4, 50)])
def test_rounding_is_no_component(n_distinct, n_variants):
    """Twins add no rank, and sums of many float32 products must not make one up."""
    rng = np.random.default_rng(11)
    frequency = rng.uniform(0.3, 0.7, n_variants)
    dosages = rng.binomial(2, frequency, size=(n_distinct, n_variants)).astype(np.int8)
    model = GenotypePCA(10, **KEEP_ALL).fit(np.vstack([dosages, dosages]))
    assert len(model.components_) == n_distinct - 1


def test_samples_that_do_not_differ_are_refused():
    with pytest.raises(SampleError, match="All 5 samples have the same genotype at the 7 variants"):
        GenotypePCA().fit(np.ones((5, 7), int))


def test_quality_control_speaks_through_fit():
    with pytest.raises(NoVariantsError, match="'monomorphic'"):
        GenotypePCA().fit(np.zeros((5, 7), int))
    with pytest.raises(SampleError, match="1 sample"):
        GenotypePCA().fit(np.array([[0, 1, 2]]))


# ---- the face ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [0, -1, 1.0, 2.5, "all", "2", None, True, [2]])
def test_an_invalid_number_of_components_is_refused_before_any_work(n_components):
    model = GenotypePCA(n_components)  # scikit-learn wants no complaint here
    with pytest.raises(ValueError, match=r"'n_components' .* 'auto' or an int .* Got ") as caught:
        model.fit("no-such-file.vcf")
    assert repr(n_components) in str(caught.value)


def test_numpy_integers_are_integers(complete):
    assert len(GenotypePCA(np.int64(3)).fit(complete).components_) == 3


@pytest.mark.parametrize("value", [0.5, 3, -2, np.inf])
def test_other_values_than_dosages_are_refused(complete, value):
    features = complete.astype(float)
    features[2, 3] = value
    with pytest.raises(InputFormatError, match="row 2, column 3"):
        GenotypePCA().fit(features)
    with pytest.raises(InputFormatError, match="row 2, column 3"):
        GenotypePCA().fit(complete).transform(features)


def test_parameters_are_kept_as_given_and_cloned():
    options = {
        "n_components": 7,
        "min_maf": 0.03,
        "min_mac": 4,
        "min_variant_call_rate": 0.5,
        "min_sample_call_rate": 0.6,
        "snvs_only": False,
        "autosomes_only": False,
        "max_ld_r2": 0.4,
        "ld_window_kb": 250.0,
        "min_hwe_p": 1e-6,
        "solver": "exact",
        "max_kinship": 0.2,
        "long_range_ld": "GRCh38",
        "device": "cpu",
    }
    model = GenotypePCA(**options)
    assert model.get_params() == options
    assert clone(model).get_params() == options
    assert set(options) == set(GenotypePCA().get_params())


def test_labels_are_ignored(complete):
    labels = np.arange(len(complete))
    np.testing.assert_array_equal(
        GenotypePCA(2).fit_transform(complete, labels), GenotypePCA(2).fit_transform(complete)
    )


def test_a_frame_keeps_its_names(gappy):
    names = [f"person{row}" for row in range(len(gappy))]
    columns = [f"rs{column}" for column in range(gappy.shape[1])]
    frame = pd.DataFrame(gappy, index=names, columns=columns)
    frame.iloc[3] = -1
    model = GenotypePCA(3, **KEEP_ALL).set_output(transform="pandas")
    scores = model.fit_transform(frame)
    assert list(scores.index) == names
    assert list(scores.columns) == ["PC1", "PC2", "PC3"]
    assert list(model.get_feature_names_out()) == list(scores.columns)
    assert list(model.feature_names_in_) == columns
    assert scores.isna().all(axis=1).tolist() == [row == 3 for row in range(len(gappy))]
    plain = GenotypePCA(3, **KEEP_ALL).fit(frame.to_numpy())
    np.testing.assert_array_equal(scores, plain.transform(frame.to_numpy()))
    assert "person3" in model.qc_.set_index("step").loc["no calls", "detail"]
    assert not hasattr(model.fit(gappy), "feature_names_in_")


def test_columns_of_a_frame_are_checked(complete):
    frame = pd.DataFrame(complete).add_prefix("rs")
    model = GenotypePCA(2).fit(frame)
    with pytest.raises(ValueError, match="feature names should match those that were passed"):
        model.transform(frame.iloc[:, ::-1])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.transform(complete)


def test_missing_calls_may_be_nan(gappy):
    floats = np.where(gappy < 0, np.nan, gappy)
    np.testing.assert_array_equal(
        GenotypePCA(2, **KEEP_ALL).fit_transform(floats),
        GenotypePCA(2, **KEEP_ALL).fit_transform(gappy),
    )


def test_every_container_gives_the_same_scores(gappy, make_genotypes):
    genotypes = make_genotypes(gappy)
    expected = GenotypePCA(3, **KEEP_ALL).fit_transform(gappy)
    for X in (genotypes, genotypes.to_anndata(), Genotypes.from_dosages(gappy), gappy.tolist()):
        model = GenotypePCA(3, **KEEP_ALL)
        np.testing.assert_array_equal(model.fit_transform(X), expected)
        assert model.n_features_in_ == 400


def test_it_is_a_step_of_a_pipeline(complete):
    pipeline = make_pipeline(GenotypePCA(3), StandardScaler())
    scores = pipeline.fit_transform(complete)
    np.testing.assert_allclose(scores.std(axis=0), 1)
    np.testing.assert_allclose(pipeline.transform(complete[:2]), scores[:2], atol=1e-5)
