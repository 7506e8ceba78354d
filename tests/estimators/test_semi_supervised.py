"""Labels for some samples: who gets which, how sure, and what becomes of bad ones."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from ancestryvi import AncestryDDVI, GenotypePCA
from ancestryvi.genotypes import Genotypes
from ancestryvi.models.priors import kernel_prior
from ancestryvi.models.shapes import Pinwheel

NAMES = np.array(["Wales", "Kent", "Fife", "Antrim"])


def model(**parameters) -> AncestryDDVI:
    return AncestryDDVI(**{"n_epochs": 6, "random_state": 7} | parameters)


def some_of_each(truth, n_each):
    """Rows of the first so many samples of each class."""
    return np.concatenate([np.flatnonzero(truth == k)[:n_each] for k in np.unique(truth)])


def hidden(truth, rows, labels, missing=None):
    """Labels of these rows, and a missing value elsewhere."""
    y = [missing] * len(truth)
    for row in rows:
        y[row] = labels[truth[row]]
    return y


@pytest.fixture(scope="module")
def taught(blobs) -> AncestryDDVI:
    """A model that was given three names of each cluster."""
    X, truth = blobs
    return model(n_epochs=100).fit(X, hidden(truth, some_of_each(truth, 3), NAMES))


# -------------------------------------------------------------------------------- what comes back


def test_others_get_the_labels_of_their_clusters(taught, blobs):
    X, truth = blobs
    assert_array_equal(taught.classes_, sorted(NAMES))
    assert taught.classes_.dtype == taught.labels_.dtype == object
    assert_array_equal(taught.predict(X), NAMES[truth])
    assert_array_equal(taught.labels_, NAMES[truth])
    probabilities = taught.predict_proba(X)
    assert_array_equal(taught.classes_[probabilities.argmax(axis=1)], NAMES[truth])
    assert_allclose(probabilities.sum(axis=1), 1.0)
    assert taught.n_clusters_ == 4
    new = X + np.random.default_rng(1).normal(size=X.shape)
    assert np.mean(taught.predict(new) == NAMES[truth]) > 0.97


def test_columns_parts_and_draws_are_in_the_order_of_classes(taught, blobs):
    X, truth = blobs
    for k, name in enumerate(taught.classes_):
        centre = taught.embedding_[NAMES[truth] == name].mean(axis=0)
        distance = np.linalg.norm(taught.cluster_centers_ - centre, axis=1)
        assert distance.argmin() == k
    drawn, labels = taught.sample(300, random_state=0)
    assert set(labels) == set(NAMES)
    assert np.mean(taught.predict(drawn) == labels) > 0.95
    assert_array_equal(taught.project(X).labels, taught.predict_proba(X).argmax(axis=1))


@pytest.mark.parametrize("sleep", ["full", "latent", None])
@pytest.mark.parametrize("prior", ["auto", "pinwheel"])
def test_labels_in_other_variants(blobs, sleep, prior):
    X, truth = blobs
    y = hidden(truth, some_of_each(truth, 3), NAMES)
    fitted = model(n_epochs=30, sleep=sleep, prior=prior).fit(X, y)
    assert np.mean(fitted.predict(X) == NAMES[truth]) > 0.97
    assert "wake/classification" in set(fitted.history_)
    assert ("sleep/classification" in set(fitted.history_)) == (sleep is not None)


def test_without_pre_training(blobs):
    X, truth = blobs
    y = hidden(truth, some_of_each(truth, 3), NAMES)
    fitted = model(n_epochs=30, pretrain=False).fit(X, y)
    assert np.mean(fitted.predict(X) == NAMES[truth]) > 0.97


def test_integers_stay_integers_and_gaps_are_allowed(blobs):
    X, truth = blobs
    numbers = np.array([40, -7, 3, 12])
    fitted = model(n_epochs=30).fit(X, hidden(truth, some_of_each(truth, 3), numbers, -1))
    assert fitted.classes_.tolist() == [-7, 3, 12, 40]
    assert fitted.predict(X).dtype == fitted.labels_.dtype == np.int64
    assert_array_equal(fitted.predict(X), numbers[truth])


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, -1])
def test_the_way_a_label_is_missing_does_not_matter(blobs, missing):
    X, truth = blobs
    rows = some_of_each(truth, 2)
    plain = model().fit(X, hidden(truth, rows, NAMES))
    fitted = model().fit(X, hidden(truth, rows, NAMES, missing))
    assert_array_equal(fitted.embedding_, plain.embedding_)
    assert_array_equal(fitted.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, -1])
def test_all_labels_missing_is_no_labels(X, missing):
    plain = model(n_clusters=4).fit(X)
    fitted = model(n_clusters=4).fit(X, [missing] * len(X))
    assert not hasattr(fitted, "classes_")
    assert_array_equal(fitted.embedding_, plain.embedding_)
    assert_array_equal(fitted.labels_, plain.labels_)
    assert fitted.history_.to_dict() == plain.history_.to_dict()


def test_a_fit_without_labels_forgets_those_before(blobs):
    X, truth = blobs
    fitted = model(n_clusters=4).fit(X, NAMES[truth])
    assert hasattr(fitted, "classes_")
    assert not hasattr(fitted.fit(X), "classes_")
    assert_array_equal(fitted.labels_, model(n_clusters=4).fit(X).labels_)


def test_labels_follow_their_rows(blobs):
    X, truth = blobs
    y = np.array(hidden(truth, some_of_each(truth, 3), NAMES), dtype=object)
    order = np.random.default_rng(2).permutation(len(X))
    series = pd.Series(y[order], index=order)  # places count, and not the index
    fitted = model(n_epochs=30).fit(X[order], series)
    assert_array_equal(fitted.labels_, NAMES[truth][order])


def test_fit_transform_and_fit_predict_take_labels(blobs):
    X, truth = blobs
    y = hidden(truth, some_of_each(truth, 3), NAMES)
    fitted = model().fit(X, y)
    assert_array_equal(model().fit_transform(X, y), fitted.embedding_)
    assert_array_equal(model().fit_predict(X, y), fitted.labels_)


# ------------------------------------------------------------------------------- how many labels


@pytest.mark.parametrize("n_each", [1, 8, 30])
def test_one_label_of_each_some_and_all(blobs, n_each):
    X, truth = blobs
    y = hidden(truth, some_of_each(truth, n_each), NAMES)
    fitted = model(n_epochs=30).fit(X, y)
    assert np.mean(fitted.predict(X) == NAMES[truth]) > 0.97


def test_a_class_that_one_sample_has(blobs):
    X, truth = blobs
    rows = [*some_of_each(truth, 5)[1:5], *some_of_each(truth, 5)[5:], 0]
    rows = [row for row in rows if truth[row] != truth[0] or row == 0]
    fitted = model(n_epochs=30).fit(X, hidden(truth, rows, NAMES))
    assert np.mean(fitted.predict(X) == NAMES[truth]) > 0.95


def test_a_single_class_is_everyones(X):
    fitted = model().fit(X, ["only"] * 3 + [None] * (len(X) - 3))
    assert fitted.classes_.tolist() == ["only"]
    assert_array_equal(fitted.labels_, ["only"] * len(X))
    assert_array_equal(fitted.predict_proba(X), 1.0)
    assert np.isfinite(fitted.embedding_).all()
    assert np.isfinite(fitted.elbo_)


def test_more_classes_than_are_summed_over(X):
    rng = np.random.default_rng(0)
    centres = 10.0 * rng.normal(size=(12, 6))
    truth = np.repeat(np.arange(12), 15)
    features = centres[truth] + rng.normal(size=(180, 6))
    y = hidden(truth, some_of_each(truth, 3), np.arange(12), -1)
    fitted = model(n_epochs=60).fit(features, y)
    assert np.mean(fitted.predict(features) == truth) > 0.95


def test_samples_without_labels_do_not_hurt():
    # Classes that overlap, in 10 dimensions of which most tell nothing: 4 labels of each class.
    better = []
    for seed in range(3):
        features, truth, _ = overlapping(np.random.default_rng(seed), 300, 2.5)
        rows = some_of_each(truth, 4)
        rest = np.setdiff1d(np.arange(len(truth)), rows)
        y = hidden(truth, rows, [0, 1, 2], -1)
        both = model(n_epochs=60).fit(features, y)
        alone = model(n_epochs=60).fit(features[rows], truth[rows])
        accuracy = [np.mean(m.predict(features[rest]) == truth[rest]) for m in (both, alone)]
        better.append(accuracy[0] - accuracy[1])
    assert np.mean(better) > 0.0


# ----------------------------------------------------------------------------------- calibration


def overlapping(rng, n_samples, distance):
    """Three Gaussian classes in 10 dimensions, their classes, and p(class | x) by Bayes."""
    truth = rng.integers(3, size=n_samples)
    means = np.zeros((3, 10))
    means[1, 0] = means[2, 1] = distance
    features = means[truth] + rng.normal(size=(n_samples, 10))
    log_density = -0.5 * np.square(features[:, None] - means).sum(axis=-1)
    return features, truth, softmax(log_density, axis=1)


def calibration_error(probabilities, truth, n_bins=10):
    """Expected calibration error: mean gap of confidence and accuracy, in bins of confidence."""
    confidence, guess = probabilities.max(axis=1), probabilities.argmax(axis=1)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gap = 0.0
    for b in np.unique(bins):
        inside = bins == b
        accuracy = np.mean(guess[inside] == truth[inside])
        gap += inside.mean() * abs(accuracy - confidence[inside].mean())
    return gap
