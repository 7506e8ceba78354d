"""The power of the likelihood that two halves of a cohort lead to."""

from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.special import log_softmax

from ancestryvi import AncestryDDVI
from ancestryvi.estimators.calibration import (
    LEAST_POWER,
    LEAST_PROBABILITY,
    calibrate_on_halves,
    most_likely_factor,
)
from ancestryvi.estimators.feature_mixture import MOST_STARTED, fit_feature_mixture


def centred(features):
    return features - features.mean(axis=0)


def overlapping(rng, n_samples, n_clusters=4, n_features=5, spread=0.9):
    """Gaussian clusters whose neighbours overlap, and the cluster of each sample."""
    truth = np.arange(n_samples) % n_clusters
    means = 2.0 * rng.normal(size=(n_clusters, n_features))
    return means[truth] + spread * rng.normal(size=(n_samples, n_features)), truth


def by_loops(features, n_clusters):
    """The power by its definition: pairs of clusters counted, powers tried one by one."""
    order = np.random.RandomState(0).permutation(len(features))
    middle = (len(features) + 1) // 2
    halves = features[order[:middle]], features[order[middle:]]
    mixtures = [fit_feature_mixture(half, n_clusters) for half in halves]
    cases = []
    for here in (0, 1):
        rows = halves[1 - here]
        logits = mixtures[here].log_joint(rows)
        own = logits.argmax(axis=1)
        theirs = mixtures[1 - here].at(rows).argmax(axis=1)
        pairs = Counter(zip(own.tolist(), theirs.tolist(), strict=True))
        n_own, n_theirs = Counter(own.tolist()), Counter(theirs.tolist())
        for row in range(len(rows)):
            for k in range(n_clusters):
                n_both = pairs[k, int(theirs[row])]
                if 2 * n_both > n_own[k] and 2 * n_both > n_theirs[int(theirs[row])]:
                    cases.append((logits[row], k))
    if not cases:
        return LEAST_POWER, 0.0
    powers = np.exp(np.linspace(np.log(LEAST_POWER), 0.0, 400))
    losses = [
        np.mean(
            [-max(log_softmax(power * logits)[k], np.log(LEAST_PROBABILITY)) for logits, k in cases]
        )
        for power in powers
    ]
    share = len(cases) / len(features)
    return powers[np.argmin(losses)] ** share * LEAST_POWER ** (1 - share), share


@pytest.mark.parametrize(("seed", "n_samples"), [(0, 201), (1, 160), (2, 300)])
def test_the_power_is_the_most_likely_one_of_the_other_halfs_clusters(seed, n_samples):
    rng = np.random.default_rng(seed)
    features, _ = overlapping(rng, n_samples, n_clusters=7, n_features=3)
    features = centred(np.repeat(features, 2, axis=1))
    expected, share = by_loops(features, 7)
    assert 0.2 < share < 1.0
    assert LEAST_POWER < expected < 1.0
    assert calibrate_on_halves(features, 7) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_evidence_that_is_counted_more_than_once_is_taken_back(seed):
    """Copies of every component say no more, and multiply all logits."""
    rng = np.random.default_rng(seed)
    features, truth = overlapping(rng, 1500, spread=1.5)
    thrice, six_times = (np.repeat(centred(features), n, axis=1) for n in (3, 6))
    power = calibrate_on_halves(six_times, 4)
    assert power == pytest.approx(calibrate_on_halves(thrice, 4) / 2, rel=0.25)
    # and that is nearer to what new samples ask for, whose truth is known here
    mixture = fit_feature_mixture(six_times[:750], 4)
    found = mixture.at(six_times[:750]).argmax(axis=1)
    populations = np.zeros((4, 4), dtype=np.int64)
    np.add.at(populations, (truth[:750], found), 1)
    right = populations.argmax(axis=1)[truth[750:]]
    assert len(set(right)) == 4  # each population has a cluster
    logits = mixture.log_joint(six_times[750:])

    def surprise(factor):
        return -log_softmax(factor * logits, axis=1)[np.arange(len(right)), right].mean()

    assert surprise(power) < 0.6 * surprise(1.0)


def test_clusters_that_are_right_and_apart_are_trusted():
    rng = np.random.default_rng(0)
    truth = np.arange(600) % 3
    features = 8.0 * np.eye(3)[truth] + rng.normal(size=(600, 3))
    assert calibrate_on_halves(centred(features), 3) > 0.95


def test_clusters_that_halves_do_not_agree_on_are_hardly_trusted():
    rng = np.random.default_rng(0)
    noise = centred(rng.normal(size=(600, 10)))
    assert LEAST_POWER <= calibrate_on_halves(noise, 30) < 1.5 * LEAST_POWER


@pytest.mark.parametrize("n_samples", [1, 2, 60])
def test_one_cluster_is_certain(n_samples):
    assert calibrate_on_halves(np.zeros((n_samples, 2)), 1) == 1.0


@pytest.mark.parametrize(("n_samples", "n_clusters"), [(2, 2), (9, 5), (20, 20)])
def test_halves_of_fewer_samples_than_clusters_say_nothing(n_samples, n_clusters):
    features = centred(np.random.default_rng(0).normal(size=(n_samples, 3)))
    assert calibrate_on_halves(features, n_clusters) == LEAST_POWER


@pytest.mark.parametrize("case", ["all the same", "constant column", "twins", "one feature"])
def test_degenerate_features(case):
    rng = np.random.default_rng(0)
    features, truth = overlapping(rng, 40)
    if case == "all the same":
        features[:] = 0.0
    elif case == "constant column":
        features[:, 1] = 0.0
    elif case == "twins":
        features = 3.0 * np.eye(4)[truth]
    else:
        features = features[:, :1]
    assert LEAST_POWER <= calibrate_on_halves(centred(features), 4) <= 1.0


def test_it_is_the_same_every_time_and_leaves_the_features_as_they_are():
    features, _ = overlapping(np.random.default_rng(0), 200)
    features = centred(features)
    before = features.copy()
    first = calibrate_on_halves(features, 4)
    assert calibrate_on_halves(features, 4) == first
    assert_array_equal(features, before)


def test_many_samples_are_compared_by_some_of_them(monkeypatch):
    seen = []

    def spy(rows, n_clusters):
        seen.append(len(rows))
        return fit_feature_mixture(rows, n_clusters)

    monkeypatch.setattr("ancestryvi.estimators.calibration.fit_feature_mixture", spy)
    features, _ = overlapping(np.random.default_rng(0), MOST_STARTED + 500)
    calibrate_on_halves(centred(features), 4)
    assert seen == [MOST_STARTED // 2] * 2


def test_the_fitted_model_is_read_out_with_it():
    features, _ = overlapping(np.random.default_rng(0), 300)
    model = AncestryDDVI(4, random_state=0, n_epochs=2, progress=False).fit(features)
    standard = centred(features) / np.sqrt(np.square(centred(features)).mean())
    factor = float(model._fitted.module.posterior.class_factor)
    assert factor == pytest.approx(calibrate_on_halves(standard, 4), rel=1e-3)
    assert factor < 1.0


# ----------------------------------------------------------------------------- most likely factor


def test_the_factor_is_that_which_classes_were_drawn_with():
    rng = np.random.default_rng(0)
    logits = 6.0 * rng.normal(size=(20_000, 3))
    for factor in (0.2, 0.6):
        cumulative = np.exp(log_softmax(factor * logits, axis=1)).cumsum(axis=1)
        classes = (rng.random((len(logits), 1)) > cumulative).sum(axis=1).clip(max=2)
        assert most_likely_factor(logits, classes, 0.01) == pytest.approx(factor, rel=0.05)
        assert most_likely_factor(logits, classes, 0.8) == pytest.approx(0.8, rel=1e-3)


def test_a_few_that_are_surely_wrong_do_not_decide_where_probabilities_have_a_least():
    logits = np.array([[1000.0, 0.0]] * 99 + [[3.0, 0.0]] * 300 + [[0.0, 1000.0]])
    classes = np.zeros(400, dtype=np.int64)
    assert most_likely_factor(logits, classes, 0.01) < 0.1
    assert most_likely_factor(logits, classes, 0.01, LEAST_PROBABILITY) > 0.9
