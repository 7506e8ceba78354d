"""Scores of samples with missing calls, against the Gaussians that they come from."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ancestryvi.preprocess.score_prior import MIN_SHARE, ScorePrior
from ancestryvi.preprocess.unseen import N_DRAWS, NOTICEABLE, Unseen

N_VARIANTS, N_COMPONENTS = 60, 3
VARIANCE = 0.7
OF_AXES = np.array([5.0, 2.0, 0.3])
NOTHING = Unseen(VARIANCE, OF_AXES, np.ones(N_COMPONENTS))


@pytest.fixture
def loadings():
    return np.linalg.qr(np.random.default_rng(0).normal(size=(N_VARIANTS, N_COMPONENTS)))[0]


@pytest.fixture
def calls():
    """Scaled dosages of three samples."""
    return np.random.default_rng(4).normal(scale=1.5, size=(3, N_VARIANTS))


@pytest.fixture
def prior():
    """Two far parts and a near one, correlated within."""
    root = np.random.default_rng(5).normal(size=(N_COMPONENTS, N_COMPONENTS))
    means = np.array([[4.0, 0.0, 1.0], [-4.0, 1.0, 0.0], [-3.0, 2.0, 1.0]])
    covariance = root @ root.T + (1.0 + VARIANCE) * np.eye(N_COMPONENTS)
    return ScorePrior(np.array([0.5, 0.2, 0.3]), means, covariance, np.ones(3))


def unseen(loadings, calls, *masks):
    """Of samples 0, 1 and so on, each with calls of its own."""
    sums = np.array([loadings[o].T @ z[o] for z, o in zip(calls, masks, strict=False)])
    seen = np.array([loadings[known].T @ loadings[known] for known in masks])
    return NOTHING.with_more(np.arange(len(masks)), sums, seen)


def given_in_the_open(loadings, z, known, mean, covariance):
    """Mean and covariance of the full score given known calls, and their log density."""
    of_calls = loadings @ mean
    joint = loadings @ covariance @ loadings.T + VARIANCE * np.eye(N_VARIANTS)
    beside = joint[np.ix_(~known, known)] @ np.linalg.inv(joint[np.ix_(known, known)])
    off = z[known] - of_calls[known]
    score = loadings[known].T @ z[known] + loadings[~known].T @ (of_calls[~known] + beside @ off)
    within = joint[np.ix_(~known, ~known)] - beside @ joint[np.ix_(known, ~known)]
    density = multivariate_normal.logpdf(off, cov=joint[np.ix_(known, known)])
    return score, loadings[~known].T @ within @ loadings[~known], density


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_one_gaussian_is_that_of_all_calls_given_those_known(loadings, calls, share):
    known = np.random.default_rng(1).random(N_VARIANTS) < share
    mean, covariance, _ = given_in_the_open(
        loadings, calls[0], known, np.zeros(N_COMPONENTS), np.diag(OF_AXES)
    )
    ((rows, draws),) = unseen(loadings, calls, known).draws()
    assert rows.tolist() == [0]
    assert draws.shape == (N_DRAWS, 1, N_COMPONENTS)
    off = draws[:, 0] - mean
    np.testing.assert_allclose(off.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(off.T @ off / N_DRAWS, covariance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_mixture_is_that_of_all_calls_given_those_known(
    loadings, calls, prior, share, monkeypatch
):
    """Each part by its density of the known calls; many draws for exact moments."""
    monkeypatch.setattr("ancestryvi.preprocess.unseen.N_DRAWS", 40_000)
    known = np.random.default_rng(2).random(N_VARIANTS) < share
    of_axes = prior.covariance - VARIANCE * np.eye(N_COMPONENTS)
    means, covariances, densities = zip(
        *(given_in_the_open(loadings, calls[1], known, mean, of_axes) for mean in prior.means),
        strict=True,
    )
    weights = prior.weights * np.exp(np.array(densities) - max(densities))
    weights /= weights.sum()
    assert weights.max() < 0.95
    mean = weights @ np.array(means)
    second = sum(
        w * (c + np.outer(m - mean, m - mean))
        for w, m, c in zip(weights, means, covariances, strict=True)
    )
    ((_, draws),) = unseen(loadings, calls[1:], known).draws(prior)
    np.testing.assert_allclose(draws[:, 0].mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(draws[:, 0].T, bias=True), second, atol=0.15)


def test_a_sample_that_nothing_is_known_of_is_of_any_part_by_its_weight(
    loadings, calls, monkeypatch
):
    """Parts far apart: each draw shows which one it is of, and how wide that is."""
    monkeypatch.setattr("ancestryvi.preprocess.unseen.N_DRAWS", 6_400)
    means = np.array([[900.0, 0.0, 0.0], [0.0, 900.0, 0.0], [0.0, 0.0, 900.0]])
    widths = np.array([1.0, 1.0, 9.0])
    covariance = (VARIANCE + 2.0) * np.eye(N_COMPONENTS)
    prior = ScorePrior(np.array([0.625, 0.125, 0.25]), means, covariance, widths)
    ((_, draws),) = unseen(loadings, calls, np.zeros(N_VARIANTS, bool)).draws(prior)
    part = draws[:, 0].argmax(axis=1)
    assert np.bincount(part).tolist() == [4_000, 800, 1_600]
    squares = np.square(draws[:, 0] - means[part])
    for k, width in enumerate(widths):
        assert squares[part == k].mean() == pytest.approx(width * (VARIANCE + 2.0), rel=0.1)


def test_parts_have_the_noise_of_a_score_at_least(loadings, calls):
    point = ScorePrior(np.ones(1), np.zeros((1, 3)), np.zeros((3, 3)), np.ones(1))
    ((_, draws),) = unseen(loadings, calls, np.zeros(N_VARIANTS, bool)).draws(point)
    expected = (1.0 + MIN_SHARE) * VARIANCE * np.eye(3)
    np.testing.assert_allclose(np.cov(draws[:, 0].T, bias=True), expected, atol=1e-6)


def test_samples_that_little_is_missing_of_are_left_alone(loadings, calls):
    nearly = np.ones(N_VARIANTS, bool)
    nearly[np.square(loadings).max(axis=1).argmin()] = False
    assert np.square(loadings[~nearly]).sum(axis=0).max() < NOTICEABLE
    half = np.arange(N_VARIANTS) % 2 == 0
    assert not unseen(loadings, calls, nearly).groups
    ((rows, draws),) = unseen(loadings, calls, nearly, half, nearly).draws()
    assert rows.tolist() == [1]
    ((_, alone),) = unseen(loadings, calls[1:], half).draws()
    np.testing.assert_allclose(draws, alone)


def test_what_is_seen_may_be_the_same_of_many_samples(loadings, calls, prior):
    half = np.arange(N_VARIANTS) % 2 == 0
    each = unseen(loadings, calls, half, half, half)
    ((_, sums, seen),) = each.groups
    rows = np.array([4, 0, 7])
    shared = NOTHING.with_more(rows, sums, seen[:1])
    for of in (None, prior):
        ((found, draws),) = shared.draws(of)
        assert found.tolist() == rows.tolist()
        ((_, expected),) = each.draws(of)
        np.testing.assert_allclose(draws, expected, atol=1e-9)


def test_draws_depend_on_no_other_sample(loadings, calls, prior, monkeypatch):
    rng = np.random.default_rng(2)
    masks = [rng.random(N_VARIANTS) < share for share in (0.1, 0.5, 0.7)]
    ((rows, draws),) = unseen(loadings, calls, *masks).draws(prior)
    assert rows.tolist() == [0, 1, 2]
    ((_, alone),) = unseen(loadings, calls[1:], masks[1]).draws(prior)
    np.testing.assert_allclose(alone[:, 0], draws[:, 1], atol=1e-9)
    monkeypatch.setattr("ancestryvi.preprocess.unseen.BLOCK_BYTES", 1)
    parts = list(unseen(loadings, calls, *masks).draws(prior))
    assert [part.tolist() for part, _ in parts] == [[0], [1], [2]]
    np.testing.assert_allclose(np.concatenate([d for _, d in parts], axis=1), draws, atol=1e-9)


def test_more_components_than_draws_have_the_right_variance_in_all():
    n = N_DRAWS
    nothing = np.zeros((1, n, n))
    ((_, draws),) = (
        Unseen(1e-9, np.ones(n), np.ones(n)).with_more(np.arange(1), np.zeros((1, n)), nothing)
    ).draws()
    assert np.square(draws).sum(axis=-1).mean() == pytest.approx(n)


def test_units_and_more_samples(loadings, calls, prior):
    half = np.arange(N_VARIANTS) % 2 == 0
    one = unseen(loadings, calls, half)
    units = np.array([1.0, 0.5, 0.25])
    ((_, plain),) = one.draws()
    ((_, draws),) = one.over(units).draws()
    np.testing.assert_allclose(draws, plain / units)
    covariance = prior.covariance / np.outer(units, units)
    in_units = replace(prior, means=prior.means / units, covariance=covariance)
    ((_, plain),) = one.draws(prior)
    ((_, draws),) = one.over(units).draws(in_units)
    np.testing.assert_allclose(draws, plain / units)
    ((_, sums, seen),) = one.groups
    two = one.with_more(np.array([5]), sums, seen)
    assert [rows.tolist() for rows, _ in two.draws()] == [[0], [5]]
    assert list(Unseen().draws(prior)) == []
