"""Clusters of features: EM against scikit-learn and naive formulas, starts, numbers of clusters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from ancestryvi.estimators import feature_mixture
from ancestryvi.estimators.feature_mixture import (
    choose_n_clusters,
    expectation_maximisation,
    fit_feature_mixture,
    quadratic_form,
)


def cohort(sizes, n_features=6, spread=6.0, seed=0):
    """Gaussian groups of these sizes, centred; and the group of each row."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rows = rng.normal(size=(len(truth), n_features))
    rows += spread * rng.normal(size=(len(sizes), n_features))[truth]
    return rows - rows.mean(axis=0), truth


def test_em_without_pseudo_samples_ends_where_that_of_scikit_learn_does(monkeypatch):
    monkeypatch.setattr(feature_mixture, "PSEUDO_SAMPLES", 0.0)
    monkeypatch.setattr(feature_mixture, "TOLERANCE", 1e-10)
    rows, truth = cohort([60, 40, 50], spread=1.0)
    mixture, fit = expectation_maximisation(rows, truth, 3)
    theirs = GaussianMixture(3, covariance_type="diag", tol=1e-10, max_iter=1000, random_state=0)
    theirs.weights_init = np.bincount(truth) / len(truth)
    theirs.means_init = np.array([rows[truth == k].mean(axis=0) for k in range(3)])
    theirs.precisions_init = 1 / np.array([rows[truth == k].var(axis=0) for k in range(3)])
    theirs.fit(rows)
    assert fit == pytest.approx(theirs.score(rows), abs=1e-4)
    assert_allclose(mixture.means, theirs.means_, atol=0.02)
    assert_allclose(mixture.scales**2, theirs.covariances_, atol=0.02)


def test_the_likelihood_is_that_of_the_mixture_it_returns():
    rows, truth = cohort([30, 20])
    mixture, fit = expectation_maximisation(rows, truth, 2)
    assert fit == pytest.approx(mixture.log_density(rows).mean(), abs=1e-9)


def test_the_quadratic_form_is_the_log_of_weights_times_densities():
    rng = np.random.default_rng(0)
    weights, means = np.array([0.3, 0.7]), rng.normal(size=(2, 4))
    variances, rows = rng.uniform(0.5, 2.0, (2, 4)), rng.normal(size=(5, 4))
    squared, linear, constant = quadratic_form(weights, means, variances)
    found = rows**2 @ squared + rows @ linear + constant
    for k in range(2):
        density = multivariate_normal(means[k], np.diag(variances[k]))
        assert_allclose(found[:, k], np.log(weights[k]) + density.logpdf(rows), rtol=1e-10)


def test_a_cluster_of_one_sample_keeps_a_variance():
    rows, _ = cohort([40, 40])
    labels = np.r_[np.zeros(40, int), np.ones(39, int), 2]
    mixture, fit = expectation_maximisation(rows, labels, 3)
    assert np.isfinite(fit)
    assert mixture.scales.min() > 0.1


def test_groups_of_very_unequal_size_are_found():
    for spread, seed in ((3.0, 0), (4.0, 1), (4.0, 2)):
        rows, truth = cohort([10, 20, 40, 80, 160, 320, 640], spread=spread, seed=seed)
        mixture = fit_feature_mixture(rows, 7)
        assert adjusted_rand_score(truth, mixture.at(rows).argmax(axis=1)) > 0.99


def test_a_wide_cluster_does_not_widen_narrow_ones():
    """Two narrow groups within the reach of a wide one, as sources of an admixed population."""
    rng = np.random.default_rng(7)
    rows = np.concatenate(
        [
            rng.normal([-6, 0, 0], 0.2, (60, 3)),
            rng.normal([6, 0, 0], 0.2, (60, 3)),
            rng.normal(0, [4, 0.2, 0.2], (300, 3)),
        ]
    )
    labels = np.repeat([0, 1, 2], [60, 60, 300])
    mixture, _ = expectation_maximisation(rows - rows.mean(axis=0), labels, 3)
    assert mixture.scales[:2].max() < 0.6  # 1.6 with the pooled variance


def test_of_many_samples_some_are_fitted_and_all_are_assigned(monkeypatch):
    monkeypatch.setattr(feature_mixture, "MOST_STARTED", 100)
    monkeypatch.setattr(feature_mixture, "MOST_FITTED", 200)
    rows, truth = cohort([200, 150, 150])
    seen = []
    original = feature_mixture.expectation_maximisation
    monkeypatch.setattr(
        feature_mixture,
        "expectation_maximisation",
        lambda rows, *others: seen.append(len(rows)) or original(rows, *others),
    )
    mixture = fit_feature_mixture(rows, 3)
    assert max(seen) == 200
    assert adjusted_rand_score(truth, mixture.at(rows).argmax(axis=1)) == 1.0


@pytest.mark.parametrize("sizes", [[300], [100, 60, 30], [12] * 12])
def test_the_number_of_groups_is_found(sizes):
    rows, _ = cohort(sizes, n_features=12)
    assert choose_n_clusters(rows) == len(sizes)


@pytest.mark.parametrize("n_samples", [2, 3, 5])
def test_few_samples_or_equal_ones_are_no_error(n_samples):
    rows = np.random.default_rng(0).normal(size=(n_samples, 3))
    assert 1 <= choose_n_clusters(rows) <= n_samples
    for features in (rows, np.zeros((n_samples, 3))):
        mixture = fit_feature_mixture(features, 2)
        assert np.isfinite(mixture.at(features)).all()


def test_the_global_random_state_plays_no_part():
    rows, _ = cohort([40, 40, 40], spread=1.0)
    found = []
    for world in (0, 1):
        np.random.seed(world)  # noqa: NPY002
        found.append(fit_feature_mixture(rows, 3).means)
    assert_allclose(found[0], found[1], atol=0)


def test_of_two_mixtures_the_one_is_taken_that_keeps_neighbours_together(monkeypatch):
    """Halves of one population against two populations, whichever comes first."""
    rows, truth = cohort([60, 60])
    bad = (np.arange(120) % 2).astype(np.int64)
    monkeypatch.setattr(feature_mixture, "MAX_ITERATIONS", 1)
    for order in ([bad, truth], [truth, bad]):
        monkeypatch.setattr(feature_mixture, "_starts", lambda *given, order=order: iter(order))
        mixture = fit_feature_mixture(rows, 2)
        assert adjusted_rand_score(truth, mixture.at(rows).argmax(axis=1)) == 1.0
