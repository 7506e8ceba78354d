"""What `AncestryDDVI` promises its users, beyond scikit-learn's common checks."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline

from ancestryvi import AncestryDDVI, GenotypePCA


def model(**parameters) -> AncestryDDVI:
    return AncestryDDVI(**{"n_clusters": 4, "n_epochs": 6, "random_state": 7} | parameters)


# ---------------------------------------------------------------------------- one map, every way


def test_fit_transform_is_fit_then_transform_bit_for_bit(X):
    together = model()
    Z = together.fit_transform(X)
    apart = model().fit(X)
    assert_array_equal(Z, together.embedding_)
    assert_array_equal(Z, apart.transform(X))
    assert_array_equal(Z, apart.embedding_)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(X):
    first, again, other = (model(random_state=seed).fit(X) for seed in (7, 7, 8))
    for name in ("embedding_", "labels_", "cluster_centers_", "weights_", "elbo_"):
        assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.history_.to_dict() == again.history_.to_dict()
    assert not np.allclose(first.embedding_, other.embedding_)


def test_a_seed_and_a_random_state_of_that_seed_agree(X):
    seeded = model(random_state=7).fit_transform(X)
    assert_array_equal(seeded, model(random_state=np.random.RandomState(7)).fit_transform(X))


@pytest.mark.parametrize("method", ["transform", "predict_proba", "score_samples"])
def test_the_result_of_a_row_does_not_depend_on_the_others(quick, X, method):
    function = getattr(quick, method)
    whole = function(X)
    alone = np.concatenate([function(X[i : i + 1]) for i in range(0, len(X), 7)])
    assert_allclose(alone, whole[::7], rtol=0, atol=1e-9)
    order = np.random.default_rng(0).permutation(len(X))
    assert_allclose(function(X[order]), whole[order], rtol=0, atol=1e-9)


def test_more_rows_than_one_block_holds(quick, X):
    many = np.tile(X, (8, 1))  # 720 rows, read out in blocks of 512
    assert_allclose(quick.transform(many), np.tile(quick.transform(X), (8, 1)), atol=1e-9)


# ---------------------------------------------------------------------------------- clusters


@pytest.mark.parametrize("fitted", ["quick", "trained"])
def test_clusters(fitted, X, request):
    fitted = request.getfixturevalue(fitted)
    assert_array_equal(fitted.predict(X), fitted.labels_)
    probabilities = fitted.predict_proba(X)
    assert_array_equal(probabilities.argmax(axis=1), fitted.labels_)
    assert (probabilities >= 0).all()
    assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    sizes = np.bincount(fitted.labels_)
    assert (sizes > 0).all()
    assert_array_equal(sizes, np.sort(sizes)[::-1])
    assert fitted.n_clusters_ == len(sizes) == probabilities.shape[1]
    assert fitted.cluster_centers_.shape == (fitted.n_clusters_, 2)
    assert_allclose(fitted.weights_.sum(), 1.0)


def test_fit_predict_gives_the_labels(X):
    fitted = model()
    labels = fitted.fit_predict(X)
    assert_array_equal(labels, fitted.labels_)


def test_components_without_a_sample_are_dropped(X):
    crowded = model(n_clusters=40, clustering="mixture", n_epochs=20).fit(X)
    assert crowded.n_clusters_ < 40
    assert_array_equal(np.unique(crowded.labels_), np.arange(crowded.n_clusters_))
    assert_array_equal(crowded.predict(X), crowded.labels_)


def test_separated_clusters_are_found(trained, blobs):
    _, truth = blobs
    assert trained.n_clusters_ == 4
    assert adjusted_rand_score(truth, trained.labels_) > 0.95


def test_new_samples_of_a_cluster_join_it(trained, blobs):
    X, truth = blobs
    rng = np.random.default_rng(11)
    new = X + rng.normal(size=X.shape)  # twice the variance of those that were fitted
    assert adjusted_rand_score(truth, trained.predict(new)) > 0.95


# ------------------------------------------------------------------------- randomness kept private


def test_global_random_states_are_untouched(X):
    np.random.seed(123)  # noqa: NPY002
    torch.manual_seed(123)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()  # noqa: NPY002
    threads = torch.get_num_threads()
    fitted = model(random_state=0).fit(X)
    fitted.sample(5, random_state=0)
    fitted.posterior_samples(X[:3], 5, random_state=0)
    fitted.predict_proba(X)
    fitted.score_samples(X)
    assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == threads


def test_global_seeds_do_not_leak_in(X):
    torch.manual_seed(1)
    one = model().fit_transform(X)
    torch.manual_seed(2)
    assert_array_equal(one, model().fit_transform(X))


# ---------------------------------------------------------------------- parameters, tables, pipes


def test_clone_and_parameters(quick, X):
    copy = clone(quick)
    assert copy.get_params() == quick.get_params()
    assert not hasattr(copy, "embedding_")
    assert_array_equal(copy.fit_transform(X), quick.embedding_)


def test_parameters_of_the_components_are_reached_by_name(dosages):
    outer = model(pca=GenotypePCA(3))
    outer.set_params(pca__n_components=2)
    outer.fit(dosages)
    assert outer.pca_.components_.shape[0] == 2
    assert outer.pca_ is not outer.pca
    assert not hasattr(outer.pca, "components_")


def test_a_table_keeps_its_index(X):
    table = pd.DataFrame(X, index=[f"s{i}" for i in range(len(X))], columns=list("abcdef"))
    fitted = model().set_output(transform="pandas")
    Z = fitted.fit_transform(table)
    assert list(Z.index) == list(table.index)
    assert list(Z.columns) == ["ddvi1", "ddvi2"]
    assert list(fitted.get_feature_names_out()) == list(Z.columns)
    assert list(fitted.feature_names_in_) == list("abcdef")
    assert_array_equal(Z.to_numpy(), model().fit_transform(X))
    assert list(fitted.transform(table.iloc[[5, 2]]).index) == ["s5", "s2"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(table.rename(columns={"a": "z"}))


def test_in_a_pipeline(dosages):
    pipeline = make_pipeline(GenotypePCA(5), model())
    Z = pipeline.fit_transform(dosages)
    whole = model(pca=GenotypePCA(5)).fit(dosages)
    assert pipeline[-1].n_features_in_ == 5
    # a pipeline trains on U S, the model on Z V: the same scores but for rounding
    assert_allclose(Z, whole.embedding_, atol=1e-3)
    assert_array_equal(pipeline.predict(dosages), whole.labels_)
    assert pipeline.score(dosages) == pytest.approx(whole.score(dosages), rel=1e-3)


def test_latents_of_other_dimensions(X):
    for n_components in (1, 3, 8):  # 8 is more than the 6 features
        fitted = model(n_components=n_components).fit(X)
        assert fitted.embedding_.shape == (len(X), n_components)
        assert fitted.cluster_centers_.shape[1] == n_components
        assert np.isfinite(fitted.embedding_).all()


# -------------------------------------------------------------------------- the generative model


def test_posterior_samples(trained, X):
    draws = trained.posterior_samples(X[::3], 100, random_state=4)
    assert draws.shape == (30, 100, 2)
    assert_array_equal(draws, trained.posterior_samples(X[::3], 100, random_state=4))
    assert not np.array_equal(draws, trained.posterior_samples(X[::3], 100, random_state=5))
    spread = np.sqrt(draws.var(axis=1).sum(axis=1))
    away = np.linalg.norm(draws.mean(axis=1) - trained.embedding_[::3], axis=1)
    assert (spread > 0).all()
    assert np.median(away / spread) < 0.5
    between = np.linalg.norm(trained.embedding_.std(axis=0))
    assert away.max() < between
    assert np.median(away) < 0.1 * between


def test_samples_resemble_the_data(trained, X):
    drawn, component = trained.sample(4000, random_state=0)
    assert drawn.shape == (4000, 6)
    assert component.shape == (4000,)
    share = np.bincount(component, minlength=4) / 4000
    assert_allclose(share, trained.weights_, atol=0.04)
    scale = X.std(axis=0)
    assert_allclose(drawn.mean(axis=0) / scale, X.mean(axis=0) / scale, atol=0.25)
    for cluster in range(4):
        mean = drawn[component == cluster].mean(axis=0)
        nearest = [np.linalg.norm(mean - X[trained.labels_ == k].mean(axis=0)) for k in range(4)]
        assert np.argmin(nearest) == cluster
    assert_array_equal(trained.sample(9, random_state=3)[0], trained.sample(9, random_state=3)[0])


def test_decoding_the_map_gives_the_data_back(trained, X):
    decoded = trained.inverse_transform(trained.transform(X))
    assert decoded.shape == X.shape
    assert np.corrcoef(decoded.ravel(), X.ravel())[0, 1] > 0.95
    for column in range(X.shape[1]):
        assert np.corrcoef(decoded[:, column], X[:, column])[0, 1] > 0.9
    with pytest.raises(ValueError, match="NaN"):
        trained.inverse_transform([[np.nan, 0.0]])


# --------------------------------------------------------------------------------------- the bound


def test_score_is_the_mean_of_score_samples(quick, X):
    scores = quick.score_samples(X)
    assert scores.shape == (len(X),)
    assert quick.score(X) == pytest.approx(scores.mean())
    assert quick.elbo_ == pytest.approx(scores.mean())


def test_a_longer_fit_has_a_higher_bound_and_outliers_a_lower_one(trained, quick, X):
    assert trained.elbo_ > quick.elbo_
    outlier = X[:5] + 100.0
    assert trained.score_samples(outlier).max() < trained.score_samples(X).min()


def test_the_bound_is_a_density_in_the_units_of_the_features(X):
    plain = model().fit(X)
    for factor, tolerance in ((8.0, 1e-9), (10.0, 1e-3)):  # a power of 2 rounds nothing
        scaled = model().fit(factor * X)
        assert_allclose(
            scaled.score_samples(factor * X),
            plain.score_samples(X) - X.shape[1] * math.log(factor),
            atol=tolerance,
        )


# ------------------------------------------------------------------------------ training's record


def test_history_has_the_phases_in_order(X):
    fitted = model(n_epochs=50).fit(X)
    phases = fitted.history_.phases
    assert list(dict.fromkeys(phases)) == ["layout", "warm start", "dreaming", "wake-sleep"]
    assert [phases.count(name) for name in dict.fromkeys(phases)] == [5, 36, 5, 4]
    assert fitted.n_iter_ == len(fitted.history_) == len(phases) == 50
    bound = np.array(fitted.history_["wake/elbo"])
    assert_array_equal(
        np.isfinite(bound), [name in ("warm start", "wake-sleep") for name in phases]
    )
    sleep = np.array(fitted.history_["sleep/loss"])
    assert_array_equal(np.isfinite(sleep), [name in ("dreaming", "wake-sleep") for name in phases])


def test_the_number_of_batches_does_not_change_the_number_of_epochs(X):
    assert model(batch_size=17, n_epochs=20).fit(X).n_iter_ == model(n_epochs=20).fit(X).n_iter_
