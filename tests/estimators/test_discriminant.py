"""The discriminant by sums over one sample at a time, by scikit-learn, and by Bayes."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ancestryvi.estimators import discriminant
from ancestryvi.estimators.discriminant import calibrate_on_labels, fit_discriminant


def gaussians(rng, sizes, means, factor):
    """Rows of Gaussian classes of one covariance F F', shuffled, and their classes."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(truth)
    noise = rng.normal(size=(len(truth), len(factor)))
    return np.asarray(means)[truth] + noise @ np.asarray(factor).T, truth


def naive_maximum(features, responsibilities):
    """Weights and bias from the documented rule, one number at a time.

    The scatter is pooled within classes; as many pseudo-samples as there are features, which have
    the variances and no covariance, draw it towards its diagonal. A class counts one sample more.
    """
    n_samples, n_features = features.shape
    n_classes = responsibilities.shape[1]
    sizes = [sum(responsibilities[i, k] for i in range(n_samples)) for k in range(n_classes)]
    total = sum(sizes)
    means = [
        [
            sum(responsibilities[i, k] * features[i, j] for i in range(n_samples)) / sizes[k]
            for j in range(n_features)
        ]
        for k in range(n_classes)
    ]
    scatter = np.zeros((n_features, n_features))
    for i in range(n_samples):
        for k in range(n_classes):
            for a in range(n_features):
                for b in range(n_features):
                    scatter[a, b] += (
                        responsibilities[i, k]
                        * (features[i, a] - means[k][a])
                        * (features[i, b] - means[k][b])
                    )
    grand = sum(features[i, j] for i in range(n_samples) for j in range(n_features))
    grand /= n_samples * n_features
    variance = sum(
        (features[i, j] - grand) ** 2 for i in range(n_samples) for j in range(n_features)
    ) / (n_samples * n_features)
    pooled = np.zeros_like(scatter)
    for a in range(n_features):
        for b in range(n_features):
            pooled[a, b] = scatter[a, b] / (total + n_features)
        pseudo = n_features * scatter[a, a] / total
        pooled[a, a] = (scatter[a, a] + pseudo) / (total + n_features)
        pooled[a, a] += 1e-6 * variance * total / (total + n_features)
    weights = np.linalg.inv(pooled) @ np.array(means).T
    bias = [
        math.log((sizes[k] + 1) / (total + n_classes)) - 0.5 * np.dot(means[k], weights[:, k])
        for k in range(n_classes)
    ]
    return weights, np.array(bias)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


FACTOR = [[1.0, 0.0, 0.0], [0.6, 0.7, 0.0], [-0.3, 0.4, 0.9]]
MEANS = [[0.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 1.0, -2.0]]


# ---------------------------------------------------------------------------- all rows labelled


def test_with_all_labels_it_is_the_documented_rule(rng):
    features, truth = gaussians(rng, [9, 5, 14], MEANS, FACTOR)
    found = fit_discriminant(features, truth)
    weights, bias = naive_maximum(features, np.eye(3)[truth])
    assert_allclose(found.weights, weights, rtol=1e-9)
    assert_allclose(found.bias, bias, rtol=1e-9)
    assert_array_equal(found.responsibilities, np.eye(3)[truth])


def test_with_many_labels_it_is_that_of_scikit_learn(rng):
    features, truth = gaussians(rng, [6000, 3000, 9000], MEANS, FACTOR)
    found = fit_discriminant(features, truth)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(features, truth)
    ours = softmax(features @ found.weights + found.bias, axis=1)
    # Pseudo-counts and pseudo-samples are a few of 18,000.
    assert_allclose(ours, theirs.predict_proba(features), atol=2e-3)


def test_it_approaches_the_rule_of_bayes(rng):
    sizes = [6000, 3000, 9000]
    features, truth = gaussians(rng, sizes, MEANS, FACTOR)
    found = fit_discriminant(features, truth)
    precision = np.linalg.inv(np.array(FACTOR) @ np.array(FACTOR).T)
    centred = features[:, None] - np.array(MEANS)
    log_density = -0.5 * np.einsum("nki,ij,nkj->nk", centred, precision, centred)
    bayes = softmax(np.log(np.array(sizes) / sum(sizes)) + log_density, axis=1)
    assert_allclose(softmax(features @ found.weights + found.bias, axis=1), bayes, atol=0.05)


def test_probabilities_do_not_depend_on_units_or_axes(rng):
    features, truth = gaussians(rng, [20, 30, 10], MEANS, FACTOR)
    codes = np.where(rng.random(60) < 0.3, truth, -1)
    plain = fit_discriminant(features, codes).responsibilities
    moved = fit_discriminant(1000.0 * features + 3.0, codes).responsibilities
    assert_allclose(moved, plain, atol=1e-6)


# ------------------------------------------------------------------------------- missing labels


def naive_em(features, codes, n_steps):
    """EM for a number of steps; the weight and the starting point as documented."""
    n_classes = codes.max() + 1
    n_labelled = sum(code >= 0 for code in codes)
    weight = min(1.0, n_labelled / (len(codes) - n_labelled))
    counted = np.zeros((len(codes), n_classes))
    for i, code in enumerate(codes):
        if code >= 0:
            counted[i, code] = 1.0
    for _ in range(n_steps):
        weights, bias = naive_maximum(features, counted)
        certain = counted.copy()
        for i, code in enumerate(codes):
            if code >= 0:
                continue
            logits = [features[i] @ weights[:, k] + bias[k] for k in range(n_classes)]
            total = sum(math.exp(logit) for logit in logits)
            for k in range(n_classes):
                certain[i, k] = math.exp(logits[k]) / total
                counted[i, k] = weight * certain[i, k]
    return weights, bias, certain


@pytest.mark.parametrize("n_steps", [1, 2, 5])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_steps_of_em(rng, monkeypatch, n_steps, share):
    features, truth = gaussians(rng, [9, 11, 10], MEANS, FACTOR)
    codes = np.where(rng.random(30) < share, truth, -1)
    codes[:3] = [0, 1, 2]
    monkeypatch.setattr(discriminant, "MAX_ITERATIONS", n_steps)
    monkeypatch.setattr(discriminant, "TOLERANCE", 0.0)
    found = fit_discriminant(features, codes)
    for ours, naive in zip(found, naive_em(features, codes, n_steps), strict=True):
        assert_allclose(ours, naive, rtol=1e-8, atol=1e-12)


def test_em_ends_where_it_no_longer_moves(rng):
    features, truth = gaussians(rng, [40, 40, 40], MEANS, FACTOR)
    codes = np.where(np.arange(120) < 30, truth, -1)
    found = fit_discriminant(features, codes)
    again = softmax(features @ found.weights + found.bias, axis=1)
    again[codes >= 0] = np.eye(3)[codes[codes >= 0]]
    assert_allclose(found.responsibilities, again, atol=1e-12)
    weight = 30 / 90
    counted = np.where(codes[:, None] >= 0, again, weight * again)
    weights, bias = naive_maximum(features, counted)
    assert_allclose(softmax(features @ weights + bias, axis=1)[30:], again[30:], atol=0.01)


def test_samples_without_labels_help(rng):
    mistakes = {"with": 0, "without": 0}
    for _ in range(30):
        features, truth = gaussians(rng, [100, 100], np.array(MEANS)[:2] * 1.5, FACTOR)
        codes = np.full(200, -1)
        for k in range(2):
            codes[np.flatnonzero(truth == k)[:3]] = k
        rest, known = codes < 0, codes >= 0
        found = {
            "with": fit_discriminant(features, codes),
            "without": fit_discriminant(features[known], codes[known]),
        }
        for name, (weights, bias, _) in found.items():
            guess = (features[rest] @ weights + bias).argmax(axis=1)
            mistakes[name] += (guess != truth[rest]).sum()
    assert mistakes["with"] < 0.8 * mistakes["without"]


# ------------------------------------------------------------------------------------ calibration


def held_out_logits(features, codes):
    """Logits of labelled samples, and their classes, with each fold hidden in its turn."""
    by_class = [i for k in range(codes.max() + 1) for i in np.flatnonzero(codes == k)]
    logits, truth = [], []
    for fold in range(10):
        hidden = [row for position, row in enumerate(by_class) if position % 10 == fold]
        rest = codes.copy()
        rest[hidden] = -1
        weights, bias, _ = fit_discriminant(features, rest)
        logits += [features[row] @ weights + bias for row in hidden]
        truth += [codes[row] for row in hidden]
    return np.array(logits), np.array(truth)


def test_the_factor_is_the_most_likely_one_of_held_out_labels(rng):
    features, truth = gaussians(rng, [100, 100, 100], MEANS, FACTOR)
    features = np.column_stack([features, rng.normal(size=(300, 12))])  # they tell nothing
    codes = np.where(rng.random(300) < 0.15, truth, -1)
    logits, classes = held_out_logits(features, codes)
    grid = np.exp(np.linspace(np.log(0.01), 0.0, 2000))
    likelihood = [
        log_softmax(factor * logits, axis=1)[np.arange(len(classes)), classes].mean()
        for factor in grid
    ]
    best = grid[np.argmax(likelihood)]
    assert 0.05 < best < 0.99  # neither end of the range
    assert calibrate_on_labels(features, codes) == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("factor", [0.2, 0.5])
def test_a_known_excess_of_confidence_is_found(factor, monkeypatch):
    # Labels are drawn with the probabilities of `factor` times the logits that the rule finds.
    rng = np.random.default_rng(4)
    features = rng.normal(size=(6000, 2))
    weights = np.array([[3.0, -3.0], [1.0, -1.0]])
    probability = softmax(factor * features @ weights, axis=1)[:, 1]
    codes = (rng.random(6000) < probability).astype(int)
    too_sharp = discriminant.Discriminant(weights, np.zeros(2), np.empty((0, 2)))
    monkeypatch.setattr(discriminant, "fit_discriminant", lambda *args: too_sharp)
    assert calibrate_on_labels(features, codes) == pytest.approx(factor, rel=0.1)


def test_where_the_rule_is_right_it_stays(rng):
    features, truth = gaussians(rng, [2000, 2000, 2000], MEANS, FACTOR)
    assert calibrate_on_labels(features, truth) > 0.93


def test_labels_without_meaning_leave_no_confidence(rng):
    features = rng.normal(size=(60, 30))
    codes = rng.integers(3, size=60)
    assert calibrate_on_labels(features, codes) < 0.3


@pytest.mark.parametrize(
    "codes",
    [
        [0, 1, 2, -1, -1, -1],  # one of each: hidden, its class is unknown
        [0, -1, -1, -1, -1, -1],
        [0, 0, 0, 0, -1, 0],  # one class
    ],
)
def test_without_two_labels_of_a_class_and_another_class_the_factor_is_one(rng, codes):
    assert calibrate_on_labels(rng.normal(size=(6, 2)), np.array(codes)) == 1.0


def test_a_class_that_one_sample_has_is_left_out_when_that_is_hidden(rng):
    features, truth = gaussians(rng, [20, 20, 1], MEANS, FACTOR)
    factor = calibrate_on_labels(features, truth)
    assert 0.01 <= factor <= 1.0


# ------------------------------------------------------------------------------ degenerate inputs


def degenerate(case, rng):
    features, truth = gaussians(rng, [8, 8, 8], MEANS, FACTOR)
    if case == "constant column":
        features[:, 1] = 5.0
    elif case == "all the same":
        features[:] = 2.0
    elif case == "collinear":
        features = np.column_stack([features, features[:, 0] - features[:, 1], features[:, 2]])
    elif case == "more features than samples":
        features = np.column_stack([features, 0.1 * rng.normal(size=(24, 200))])
    elif case == "twins":
        features = np.array(MEANS)[truth]
    elif case == "huge":
        features = 1e8 * features
    elif case == "tiny":
        features = 1e-8 * features
    return features, truth


@pytest.mark.parametrize("n_labels", [1, 8])
@pytest.mark.parametrize(
    "case",
    [
        "constant column",
        "all the same",
        "collinear",
        "more features than samples",
        "twins",
        "huge",
        "tiny",
    ],
)
def test_degenerate_features(rng, case, n_labels):
    features, truth = degenerate(case, rng)
    codes = np.full(24, -1)
    for k in range(3):
        codes[np.flatnonzero(truth == k)[:n_labels]] = k
    found = fit_discriminant(features, codes)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.bias).all()
    assert_allclose(found.responsibilities.sum(axis=1), 1.0)
    known = codes >= 0
    assert_array_equal(found.responsibilities[known], np.eye(3)[codes[known]])
    assert 0.01 <= calibrate_on_labels(features, codes) <= 1.0
    if case == "all the same":
        assert_allclose(softmax(features @ found.weights + found.bias, axis=1), 1 / 3, atol=1e-6)
    elif n_labels == 8:
        assert (found.responsibilities.argmax(axis=1) == truth).all()
    elif case == "twins":
        assert_array_equal(found.responsibilities.argmax(axis=1), truth)
