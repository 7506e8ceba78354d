"""Uncertainty of scores with missing calls, against the Gaussian that they come from."""

import numpy as np
import pytest

from ancestryvi.preprocess.unseen import N_DRAWS, NOTICEABLE, Unseen

N_VARIANTS, N_COMPONENTS = 60, 3
VARIANCE = 0.7
OF_AXES = np.array([5.0, 2.0, 0.3])


@pytest.fixture
def loadings():
    return np.linalg.qr(np.random.default_rng(0).normal(size=(N_VARIANTS, N_COMPONENTS)))[0]


def seen(loadings, known):
    return (loadings[known].T @ loadings[known])[None]


def unseen(loadings, *masks):
    """Of samples 0, 1 and so on, each with calls of its own."""
    rows = np.arange(len(masks))
    of_each = np.concatenate([seen(loadings, known) for known in masks])
    return Unseen.of_loadings(rows, of_each, VARIANCE / OF_AXES, VARIANCE)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_covariances_are_those_of_the_full_score_given_what_is_known(loadings, share):
    """The joint Gaussian of all scaled calls, conditioned in the open."""
    known = np.random.default_rng(1).random(N_VARIANTS) < share
    joint = loadings * OF_AXES @ loadings.T + VARIANCE * np.eye(N_VARIANTS)
    beside = joint[np.ix_(~known, known)]
    given = joint[np.ix_(~known, ~known)] - beside @ np.linalg.solve(
        joint[np.ix_(known, known)], beside.T
    )
    expected = loadings[~known].T @ given @ loadings[~known]
    (rows, factors), *more = unseen(loadings, known).groups
    assert rows.tolist() == [0]
    assert not more
    found = factors[0] @ factors[0].T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_samples_that_little_is_missing_of_are_left_alone(loadings):
    nearly = np.ones(N_VARIANTS, bool)
    nearly[np.square(loadings).max(axis=1).argmin()] = False
    assert np.square(loadings[~nearly]).sum(axis=0).max() < NOTICEABLE
    half = np.arange(N_VARIANTS) % 2 == 0
    assert not unseen(loadings, nearly).groups
    ((rows, factors),) = unseen(loadings, nearly, half, nearly).groups
    assert rows.tolist() == [1]
    assert len(factors) == 1


def test_one_factor_may_be_that_of_many_samples(loadings):
    rows = np.array([4, 0, 7])
    half = seen(loadings, slice(0, N_VARIANTS // 2))
    shared = Unseen.of_loadings(rows, half, VARIANCE / OF_AXES, VARIANCE)
    single = Unseen.of_loadings(rows[:1], half, VARIANCE / OF_AXES, VARIANCE)
    scores = np.arange(24.0).reshape(8, 3)
    ((found, draws),) = shared.draws(scores)
    assert found.tolist() == rows.tolist()
    assert draws.shape == (N_DRAWS, 3, N_COMPONENTS)
    ((_, alone),) = single.draws(scores)
    np.testing.assert_allclose(alone[:, 0], draws[:, 0])


def test_draws_have_the_scores_as_mean_and_depend_on_no_other_sample(loadings, monkeypatch):
    rng = np.random.default_rng(2)
    masks = [rng.random(N_VARIANTS) < share for share in (0.1, 0.5, 0.7)]
    scores = rng.normal(size=(3, N_COMPONENTS))
    ((rows, draws),) = unseen(loadings, *masks).draws(scores)
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(draws.mean(axis=0), scores, atol=1e-12)
    ((_, factors),) = unseen(loadings, *masks).groups
    for i, factor in enumerate(factors):
        off = draws[:, i] - scores[i]
        np.testing.assert_allclose(off.T @ off / N_DRAWS, factor @ factor.T, atol=1e-6)
    again = unseen(loadings, masks[1])
    ((_, alone),) = again.draws(scores[1:2])
    np.testing.assert_allclose(alone[:, 0], draws[:, 1], atol=1e-6)
    monkeypatch.setattr("ancestryvi.preprocess.unseen.BLOCK_BYTES", 1)
    parts = list(unseen(loadings, *masks).draws(scores))
    assert [part.tolist() for part, _ in parts] == [[0], [1], [2]]
    np.testing.assert_allclose(np.concatenate([d for _, d in parts], axis=1), draws, atol=1e-12)


def test_more_components_than_draws_have_the_right_variance_in_all():
    n_components = N_DRAWS
    factors = np.eye(n_components, dtype=np.float32)[None]
    ((_, draws),) = Unseen([(np.arange(1), factors)]).draws(np.zeros((1, n_components)))
    assert np.square(draws).sum(axis=-1).mean() == pytest.approx(n_components)


def test_units_and_more_samples(loadings):
    half = np.arange(N_VARIANTS) % 2 == 0
    one = unseen(loadings, half)
    units = np.array([1.0, 0.5, 0.25])
    ((_, factors),) = one.over(units).groups
    np.testing.assert_allclose(factors, one.groups[0][1] / units[:, None], rtol=1e-6)
    other = Unseen.of_loadings(np.array([5]), seen(loadings, ~half), VARIANCE / OF_AXES, VARIANCE)
    assert [rows.tolist() for rows, _ in one.with_more(other).groups] == [[0], [5]]
    assert list(Unseen().draws(np.zeros((2, 3)))) == []
