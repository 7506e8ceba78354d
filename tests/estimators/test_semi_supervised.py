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
    assert np.mean(taught.predict(drawn) == labels) > 0.85
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
    rows = [0, *(row for row in some_of_each(truth, 5) if truth[row] != truth[0])]
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
        both = model(n_epochs=30).fit(features, y)
        alone = model(n_epochs=30).fit(features[rows], truth[rows])
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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probabilities_are_calibrated_and_near_those_of_bayes(seed):
    # Measured over these seeds: calibration error 0.01 to 0.05 for new samples (0.02 to 0.03 for
    # the posterior of Bayes itself, by the noise of the bins), accuracy 0.02 to 0.10 below Bayes:
    # 60 labels tell 10 dimensions no more.
    rng = np.random.default_rng(seed)
    features, truth, _ = overlapping(rng, 600, 2.5)
    y = np.where(np.random.default_rng(100 + seed).random(600) < 0.1, truth, -1)
    fitted = model(n_epochs=60).fit(features, y)
    new, new_truth, bayes = overlapping(np.random.default_rng(50 + seed), 1000, 2.5)
    probabilities = fitted.predict_proba(new)
    assert calibration_error(probabilities, new_truth) < 0.07
    accuracy = np.mean(probabilities.argmax(axis=1) == new_truth)
    assert accuracy > np.mean(bayes.argmax(axis=1) == new_truth) - 0.12
    assert np.mean(np.abs(probabilities - bayes)) < 0.12


# -------------------------------------------------------------------------------- given priors


def test_parts_of_a_given_prior_are_those_of_the_labels(blobs):
    X, truth = blobs
    prior = kernel_prior(Pinwheel(), 2, np.random.default_rng(3), 1000)
    fitted = model(prior=prior, n_epochs=60).fit(X, hidden(truth, some_of_each(truth, 4), NAMES))
    assert fitted.n_clusters_ == 4
    # The first label has the first part, and so on; the others are left out.
    assert_allclose(fitted.cluster_centers_, prior.centers.double()[:4], atol=1e-6)
    shares = np.bincount(prior.parts)[:4]
    assert_allclose(fitted.weights_, shares / shares.sum(), rtol=1e-6)
    assert prior.n_clusters == 10


def test_a_shape_has_ten_parts_to_give(X):
    ten, eleven = np.arange(len(X)) % 10, np.arange(len(X)) % 11
    assert model(prior="pinwheel", n_epochs=3).fit(X, ten).n_clusters_ == 10
    with pytest.raises(ValueError, match="y has 11 labels, and the prior 10 parts"):
        model(prior="pinwheel").fit(X, eleven)


def test_a_normal_prior_makes_room_for_labels(blobs):
    X, truth = blobs
    fitted = model(prior="normal", n_epochs=30).fit(X, hidden(truth, some_of_each(truth, 3), NAMES))
    assert fitted.n_clusters_ == 4
    assert np.mean(fitted.predict(X) == NAMES[truth]) > 0.97


# ---------------------------------------------------------------------------------------- on disk


@pytest.mark.parametrize(
    ("labels", "parameters"),
    [
        (NAMES, {}),
        (np.array([40, -7, 3, 12]), {"sleep": "latent"}),
        (NAMES, {"prior": "pinwheel"}),
    ],
)
def test_a_saved_model_keeps_its_labels(blobs, tmp_path, labels, parameters):
    X, truth = blobs
    y = hidden(truth, some_of_each(truth, 3), labels)
    fitted = model(**parameters).fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = AncestryDDVI.load(tmp_path / "model")
    for name in ("classes_", "labels_", "embedding_", "weights_"):
        assert_array_equal(getattr(loaded, name), getattr(fitted, name))
        assert getattr(loaded, name).dtype == getattr(fitted, name).dtype
    some = X[:9]
    for method in ("transform", "predict", "predict_proba", "score_samples"):
        assert_array_equal(getattr(loaded, method)(some), getattr(fitted, method)(some))
    for ours, theirs in zip(
        loaded.sample(9, random_state=0), fitted.sample(9, random_state=0), strict=True
    ):
        assert_array_equal(ours, theirs)
    assert_array_equal(loaded.fit(X, y).embedding_, fitted.embedding_)
    assert not hasattr(loaded.fit(X), "classes_")


# -------------------------------------------------------------------------------------- genotypes


@pytest.fixture(scope="module")
def of_three(genotypes) -> tuple[Genotypes, np.ndarray]:
    """The populations with a sample without calls (row 10), and the truth."""
    silent = np.insert(genotypes.dosages, 10, -1, axis=0)
    table = pd.DataFrame(index=[f"s{i}" for i in range(len(silent))])
    return Genotypes(silent, table, genotypes.variants), np.insert(np.repeat([0, 1, 2], 15), 10, 0)


@pytest.mark.parametrize(
    ("labels", "absent"), [(np.array(["a", "b", "c"]), None), (np.array([5, 6, 7]), -1)]
)
def test_a_sample_without_calls_has_no_label_whatever_was_given(of_three, labels, absent):
    genotypes, truth = of_three
    rows = [*some_of_each(truth, 5), 10]
    fitted = model(n_epochs=30, pca=GenotypePCA(3)).fit(genotypes, hidden(truth, rows, labels))
    assert fitted.labels_[10] == absent
    assert fitted.predict(genotypes)[10] == absent
    others = np.arange(46) != 10
    assert_array_equal(fitted.labels_[others], labels[truth][others])
    assert np.isnan(fitted.predict_proba(genotypes)[10]).all()
    assert fitted.project(genotypes).labels[10] == -1


@pytest.mark.parametrize("label", ["a", "b2", "z"])
def test_a_label_that_only_a_sample_without_calls_has_is_left_out(of_three, label):
    genotypes, truth = of_three
    y = hidden(truth, some_of_each(truth, 5), np.array(["b1", "c", "d"]))
    y[10] = label
    fitted = model(n_epochs=30, pca=GenotypePCA(3)).fit(genotypes, y)
    others = np.arange(46) != 10
    assert_array_equal(fitted.labels_[others], np.array(["b1", "c", "d"])[truth][others])
    assert fitted.predict_proba(genotypes).shape == (46, fitted.n_clusters_)
    assert fitted.classes_.tolist() == ["b1", "c", "d"]


def test_labels_of_samples_without_calls_alone_are_no_labels(of_three):
    genotypes, _ = of_three
    y = [None] * 46
    y[10] = "a"
    fitted = model(n_clusters=3, pca=GenotypePCA(3)).fit(genotypes, y)
    plain = model(n_clusters=3, pca=GenotypePCA(3)).fit(genotypes)
    assert not hasattr(fitted, "classes_")
    assert_array_equal(fitted.embedding_, plain.embedding_)


# ----------------------------------------------------------------------------------------- bad y


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (lambda n: ["a"] * (n - 1), "one label for each of the 90 samples"),
        (lambda n: np.zeros((n, 1)), r"got shape \(90, 1\)"),
        (lambda n: np.zeros((n, 2)), r"got shape \(90, 2\)"),
        (lambda n: ["a"] * (n - 1) + [1], "mixes strings and numbers"),
        (lambda n: [0.5] + [1] * (n - 1), "0.5, which is no label"),
        (lambda n: "Kent", r"got shape \(\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        model().fit(X, y(len(X)))
