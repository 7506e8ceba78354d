"""Where scores are by the clusters of fitted samples: moments, noise and distances."""

import numpy as np

from ancestryvi.preprocess.score_prior import PSEUDO_SAMPLES, ScorePrior


def test_clusters_have_shares_means_widths_and_the_covariance_within_them():
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, 500)
    scores = rng.normal(size=(500, 3)) * [1.0, 2.0, 0.1] * (1 + codes[:, None])
    scores += 5.0 * codes[:, None]
    prior = ScorePrior.of_clusters(scores, 2 * codes, np.full(3, 1e-3))
    sizes = np.bincount(codes)
    np.testing.assert_allclose(prior.weights, sizes / 500)
    within, widths = np.zeros((3, 3)), []
    for k, mean in enumerate(prior.means):
        np.testing.assert_allclose(mean, scores[codes == k].mean(axis=0))
        within += sizes[k] / 500 * np.cov(scores[codes == k].T, bias=True)
    np.testing.assert_allclose(prior.covariance, within)
    for k in range(4):
        own = (scores[codes == k].var(axis=0) / np.diag(within)).mean()
        widths.append((sizes[k] * own + PSEUDO_SAMPLES) / (sizes[k] + PSEUDO_SAMPLES))
    np.testing.assert_allclose(prior.widths, widths)


def test_clusters_are_no_narrower_than_noise():
    """Not even those of one sample each."""
    noise = np.array([4.0, 0.25])
    prior = ScorePrior.of_clusters(np.arange(6.0).reshape(3, 2), np.arange(3), noise)
    np.testing.assert_allclose(prior.covariance, np.diag(noise))
    np.testing.assert_allclose(prior.widths, PSEUDO_SAMPLES / (1 + PSEUDO_SAMPLES))
    assert prior.reach == 0.0


def test_distance_is_that_from_the_nearest_cluster_in_its_own_units():
    rng = np.random.default_rng(6)
    root, means = rng.normal(size=(3, 3)), 4.0 * rng.normal(size=(3, 3))
    covariance = root @ root.T + np.eye(3)
    prior = ScorePrior(np.full(3, 1 / 3), means, covariance, np.array([1.0, 4.0, 0.5]))
    scores = 5.0 * rng.normal(size=(20, 3))
    scores[3] = np.nan
    expected = [
        min(
            (row - mean) @ np.linalg.solve(width * prior.covariance, row - mean)
            for mean, width in zip(prior.means, prior.widths, strict=True)
        )
        for row in scores
    ]
    np.testing.assert_allclose(prior.distances(scores), expected)


def test_the_reach_is_the_largest_distance_of_the_samples_themselves():
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 3, 90)
    scores = rng.normal(size=(90, 2)) + 9.0 * codes[:, None]
    prior = ScorePrior.of_clusters(scores, codes, np.ones(2))
    assert prior.reach == prior.distances(scores).max() > 1.0
