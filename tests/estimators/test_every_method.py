"""What every method of the registry promises, whatever it is made of.

Methods are taken from `METHODS` and `SYSTEMS`, so that a new entry is held to all of this.
"""

import random
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from ancestryvi.estimators import (
    METHODS,
    AncestryAutoencoder,
    AncestryDDVI,
    AncestryEstimator,
    AncestryTool,
    make_estimator,
)
from ancestryvi.estimators.base import argmax
from ancestryvi.estimators.systems import SYSTEMS
from ancestryvi.exceptions import ModelFormatError

TRAINED = list(SYSTEMS)
WITH_BOUND = {name for name, system in SYSTEMS.items() if system.bounded} | {"pca-mixture"}
WITH_DRAWS = {name for name, system in SYSTEMS.items() if system.bounded}
WITH_SAMPLES = {*TRAINED, "pca-mixture"}
WITH_DECODER = {*TRAINED, *(name for name in METHODS if name.startswith("pca-"))}

LIKE_ANOTHER = {"ddvi", "aevb-iaf", "h-aevb", "diffdecoder", "scorevae"}
"""Checked in a file of its own; "aevb" with another network, and with one more; the code of "vdm"
with another schedule; that of "scorevae+"."""

CHECKED = [name for name in TRAINED if name not in LIKE_ANOTHER]
CHECKED += ["pca-kmeans", "pca-mixture", "pca-ward", "pca-hdbscan", "tsne-kmeans", "umap-leiden"]
"""Every kind of system, every clusterer, every map, clusters on a map and beside it."""

CLUSTERING_EPOCHS = 30


def method(name: str, **parameters) -> AncestryEstimator:
    """An estimator that is trained for a moment, where it is trained."""
    plain = make_estimator(name, **{"n_clusters": 3, "random_state": 5} | parameters)
    if "n_epochs" in plain.get_params() and "n_epochs" not in parameters:
        plain.set_params(n_epochs=2)
    return plain


@pytest.fixture(scope="module")
def panel() -> tuple[np.ndarray, np.ndarray]:
    """Three blobs of 20 in five dimensions."""
    centres = 6.0 * np.eye(5)[:3]
    return make_blobs([20, 20, 20], centers=centres, cluster_std=1.0, random_state=2)


@pytest.fixture(scope="module")
def X(panel) -> np.ndarray:
    return panel[0]


@pytest.fixture(scope="module")
def new(panel) -> np.ndarray:
    """Rows that no method was fitted on."""
    return panel[0][:7] + np.random.default_rng(4).normal(size=(7, 5))


@pytest.fixture(scope="module")
def fitted(X) -> dict[str, AncestryEstimator]:
    """Every method, fitted once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: method(name).fit(X) for name in METHODS}


def read_out(model: AncestryEstimator, X: np.ndarray) -> dict[str, np.ndarray]:
    """All that a model says of rows, and all that it has learned."""
    said = {name: getattr(model, name)(X) for name in ("transform", "predict_proba", "predict")}
    if hasattr(model, "score_samples"):
        said["score_samples"] = model.score_samples(X)
        said["elbo_"] = np.array(model.elbo_)
    if hasattr(model, "posterior_samples"):
        said["posterior_samples"] = model.posterior_samples(X, 3, random_state=1)
    if hasattr(model, "sample"):
        said["sample"], said["sampled labels"] = model.sample(6, random_state=1)
    if hasattr(model, "inverse_transform"):
        said["inverse_transform"] = model.inverse_transform(said["transform"])
    projection = model.project(X)
    for name in ("embedding", "probabilities", "labels", "spread", "scores"):
        said[f"project: {name}"] = getattr(projection, name)
    for name in ("embedding_", "labels_", "cluster_centers_", "weights_"):
        said[name] = getattr(model, name)
    return said


# ------------------------------------------------------------------------- scikit-learn's checks


def checked(name: str) -> AncestryEstimator:
    """As a user makes it, but for the training."""
    plain = make_estimator(name)
    return plain.set_params(n_epochs=2) if "n_epochs" in plain.get_params() else plain


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([checked(name) for name in CHECKED])
def test_common_checks(estimator, check):
    """None is left out."""
    if check.func.__name__ == "check_clustering" and "n_epochs" in estimator.get_params():
        estimator.set_params(n_epochs=CLUSTERING_EPOCHS)  # two are no clusters
    check(estimator)


# -------------------------------------------------------------------------------- one map, one face


@pytest.mark.parametrize("name", METHODS)
def test_places_of_the_training_samples_are_those_of_the_fit(fitted, X, name):
    model = fitted[name]
    assert model.embedding_.shape == (60, 2)
    assert np.isfinite(model.embedding_).all()
    assert_allclose(model.transform(X), model.embedding_, rtol=0, atol=1e-12)
    assert_allclose(model.project(X).embedding, model.embedding_, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_fit_by_fit_transform(fitted, X, name):
    """Bit for bit; and nothing of the first fit is left in a clone."""
    again = clone(fitted[name])
    assert not hasattr(again, "embedding_")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_array_equal(again.fit_transform(X), fitted[name].embedding_)
    assert_array_equal(again.labels_, fitted[name].labels_)
    assert_array_equal(again.cluster_centers_, fitted[name].cluster_centers_)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_does_not_depend_on_the_others(fitted, new, name):
    model = fitted[name]
    for what in ("transform", "predict_proba", "score_samples"):
        if hasattr(model, what):
            function = getattr(model, what)
            whole = function(new)
            alone = [function(new[[row]])[0] for row in (0, 3)]
            assert_allclose(alone, whole[[0, 3]], rtol=0, atol=1e-9, err_msg=what)
            assert_allclose(function(new[::-1])[::-1], whole, rtol=0, atol=1e-9, err_msg=what)


@pytest.mark.parametrize("name", METHODS)
def test_clusters(fitted, X, new, name):
    """Labels are the most probable clusters, none of them empty, by size; shares sum to 1."""
    model = fitted[name]
    assert_array_equal(model.predict(X), model.labels_)
    sizes = np.bincount(model.labels_)
    assert (sizes > 0).all()
    assert_array_equal(sizes, np.sort(sizes)[::-1])
    assert model.n_clusters_ == len(sizes)
    assert model.cluster_centers_.shape == (model.n_clusters_, 2)
    assert_allclose(model.weights_.sum(), 1.0, atol=1e-6)
    for rows in (X, new):
        probabilities = model.predict_proba(rows)
        assert probabilities.shape == (len(rows), model.n_clusters_)
        assert (probabilities >= 0).all()
        assert_allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-9)
        assert_array_equal(argmax(probabilities), model.predict(rows))


@pytest.mark.parametrize("name", METHODS)
def test_names(fitted, name):
    """Columns are the map and a number; the method has a title and a line about it."""
    model = fitted[name]
    assert list(model.get_feature_names_out()) == [f"{model.map_name}{i}" for i in (1, 2)]
    assert model.map_name.isidentifier()
    assert METHODS[name].title
    assert METHODS[name].summary


def test_titles_are_distinct():
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


# -------------------------------------------------------------------------------------- abilities


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_what_it_can_do_and_nothing_else(fitted, X, name):
    model = fitted[name]
    for attribute, names in (
        ("score_samples", WITH_BOUND),
        ("score", WITH_BOUND),
        ("elbo_", WITH_BOUND),
        ("posterior_samples", WITH_DRAWS),
        ("sample", WITH_SAMPLES),
        ("inverse_transform", WITH_DECODER),
    ):
        assert hasattr(model, attribute) == (name in names), attribute
    spread = model.project(X).spread
    if name in WITH_DRAWS:
        assert (spread > 0).all()
    else:
        assert np.isnan(spread).all() or not spread.any()


@pytest.mark.parametrize("name", sorted(WITH_BOUND))
def test_the_bound_has_a_value_for_each_row(fitted, X, new, name):
    """Its mean is `score`, and `elbo_` for the training samples."""
    model = fitted[name]
    bound = model.score_samples(X)
    assert bound.shape == (60,)
    assert np.isfinite(bound).all()
    assert model.score(X) == pytest.approx(bound.mean())
    assert model.elbo_ == pytest.approx(bound.mean())
    assert (model.score_samples(new + 100.0) < bound.min()).all()


@pytest.mark.parametrize("name", sorted(WITH_DRAWS))
def test_draws_of_the_posterior(fitted, X, name):
    draws = fitted[name].posterior_samples(X[:9], 50, random_state=3)
    assert draws.shape == (9, 50, 2)
    assert np.isfinite(draws).all()
    assert (draws.std(axis=1) > 0).all()
    assert_array_equal(draws, fitted[name].posterior_samples(X[:9], 50, random_state=3))
    assert not np.array_equal(draws, fitted[name].posterior_samples(X[:9], 50, random_state=4))


@pytest.mark.parametrize("name", sorted(WITH_SAMPLES))
def test_samples_of_the_generative_model(fitted, name):
    model = fitted[name]
    drawn, labels = model.sample(40, random_state=3)
    assert drawn.shape == (40, 5)
    assert np.isfinite(drawn).all()
    assert labels.shape == (40,)
    assert set(labels) <= set(range(model.n_clusters_))
    assert_array_equal(drawn, model.sample(40, random_state=3)[0])
    assert not np.array_equal(drawn, model.sample(40, random_state=4)[0])


@pytest.mark.parametrize("name", sorted(WITH_DECODER))
def test_decoding(fitted, X, name):
    model = fitted[name]
    decoded = model.inverse_transform(model.embedding_)
    assert decoded.shape == X.shape
    assert np.isfinite(decoded).all()
    with pytest.raises(ValueError, match="NaN"):
        model.inverse_transform([[np.nan, 0.0]])


# ------------------------------------------------------------------------------------ persistence


@pytest.mark.parametrize("name", METHODS)
def test_a_loaded_model_says_the_same(fitted, X, new, name, tmp_path):
    """By its own class or the one of all, for new samples and those of the fit; to 1e-11."""
    model = fitted[name]
    model.save(tmp_path / "model")
    rows = np.vstack([new, X[:5]])
    for kind in (type(model), AncestryEstimator):
        loaded = kind.load(tmp_path / "model")
        assert type(loaded) is type(model)
        assert loaded.get_params() == model.get_params()
    one, other = read_out(model, rows), read_out(loaded, rows)
    assert one.keys() == other.keys()
    for what, value in one.items():
        assert_allclose(other[what], value, rtol=1e-11, atol=1e-11, err_msg=what)


@pytest.mark.parametrize("name", ["ddvi", "aevb", "pca-ward"])
def test_a_model_of_another_class_is_refused(fitted, name, tmp_path):
    """One clear error that names both classes."""
    model = fitted[name]
    model.save(tmp_path / "model")
    for kind in {AncestryDDVI, AncestryAutoencoder, AncestryTool} - {type(model)}:
        with pytest.raises(ModelFormatError) as caught:
            kind.load(tmp_path / "model")
        message = str(caught.value)
        for word in (type(model).__name__, kind.__name__, str(tmp_path / "model")):
            assert word in message


# -------------------------------------------------------------------------------------- randomness


@pytest.mark.parametrize("name", CHECKED)
def test_global_random_states_are_neither_used_nor_changed(fitted, X, name):
    np.random.seed(11)  # noqa: NPY002
    torch.manual_seed(11)
    random.seed(11)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone(), random.getstate()  # noqa: NPY002
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = clone(fitted[name]).fit(X)
    read_out(model, X[:3])
    assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == threads
    assert_array_equal(model.embedding_, fitted[name].embedding_)


@pytest.mark.parametrize("name", [*TRAINED, "tsne-kmeans", "umap-kmeans"])
def test_another_seed_gives_another_map(fitted, X, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = method(name, random_state=6).fit(X)
    if name == "tsne-kmeans":  # it starts from principal components and draws nothing
        assert_allclose(other.embedding_, fitted[name].embedding_)
    else:
        assert not np.allclose(other.embedding_, fitted[name].embedding_)


# ------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("name", TRAINED)
def test_a_few_labels_name_the_clusters_of_all(panel, name):
    """Eight labels of each 20: the other samples, and new ones, get the right name."""
    X, truth = panel
    names = np.array(["north", "east", "west"], dtype=object)
    y = names[truth]
    y[np.concatenate([np.flatnonzero(truth == k)[8:] for k in range(3)])] = None
    model = method(name, n_epochs=100).fit(X, y)
    assert sorted(model.classes_) == sorted(names)
    assert (model.predict(X) == names[truth]).mean() > 0.9
    new = X + np.random.default_rng(0).normal(scale=0.5, size=X.shape)
    assert (model.predict(new) == names[truth]).mean() > 0.9
    assert model.predict_proba(X).shape == (60, 3)


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_of_labels_comes_back_with_them(panel, name, tmp_path):
    X, truth = panel
    y = np.array(["north", "east", "west"], dtype=object)[truth]
    model = method(name).fit(X, y)
    model.save(tmp_path / "model")
    loaded = AncestryEstimator.load(tmp_path / "model")
    assert_array_equal(loaded.classes_, model.classes_)
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert_allclose(loaded.predict_proba(X), model.predict_proba(X), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["pca-kmeans", "tsne-ward", "umap-leiden"])
def test_tools_do_not_learn_from_labels(fitted, panel, name):
    X, truth = panel
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = clone(fitted[name]).fit(X, truth)
    assert not hasattr(told, "classes_")
    assert_array_equal(told.labels_, fitted[name].labels_)


# ----------------------------------------------------------------------------------- what it is for


@pytest.mark.parametrize("name", METHODS)
def test_blobs_are_found(panel, name):
    """Three blobs six standard deviations apart."""
    X, truth = panel
    parameters = {"n_epochs": 150} if name in SYSTEMS else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = method(name, **parameters).fit(X)
    assert adjusted_rand_score(truth, model.labels_) > 0.9


# ------------------------------------------------------------------------------------------ errors


def test_an_unknown_method_is_named_with_all_that_there_are():
    with pytest.raises(ValueError, match="no method 'magic'") as caught:
        make_estimator("magic")
    for name in METHODS:
        assert name in str(caught.value)
    with pytest.raises(TypeError, match="colour"):
        make_estimator("aevb", colour=1)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("aevb", {"method": "ddvi"}, "'method' .* must be 'aevb'"),
        ("aevb", {"method": "pca-kmeans"}, "'method'"),
        ("pca-kmeans", {"method": "tsne-leiden"}, "'method'"),
        ("pca-kmeans", {"method": "aevb"}, "'method'"),
        ("aevb", {"beta": -1.0}, "'beta'"),
        ("aevb", {"n_clusters": 0}, "'n_clusters'"),
        ("umap-ward", {"n_components": 0}, "'n_components'"),
        ("pca-ward", {"input": "pixels"}, "'input'"),
        ("pis", {"n_epochs": 0}, "'n_epochs'"),
        ("aaeb", {"clustering": "latent_class"}, "AAEB has no explicit classes"),
    ],
)
def test_parameters_out_of_range(X, name, parameters, message):
    with pytest.raises(ValueError, match=message):
        method(name).set_params(**parameters).fit(X)
