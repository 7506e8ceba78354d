"""The ordinary tools against loops, densities of scipy, scikit-learn's PCA, and known clusters."""

import json
import random

import igraph
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import dblquad
from scipy.stats import multivariate_normal
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score

from ancestryvi.estimators import AncestryTool, tool_parts, tools
from ancestryvi.estimators.leiden import by_resolution, leiden, neighbour_graph
from ancestryvi.estimators.tool_parts import Mixture, Neighbours
from ancestryvi.estimators.tools import (
    CLUSTERERS,
    MAPS,
    FittedTool,
    fit_mixture,
    fit_tool,
    hdbscan,
)

EVERY = [(map_name, clusterer) for map_name in MAPS for clusterer in CLUSTERERS]


def fit(features, map_name="pca", clusterer="kmeans", n_clusters=4, n_components=2, seed=0):
    return fit_tool(
        features,
        map_name=map_name,
        clusterer=clusterer,
        n_clusters=n_clusters,
        n_components=n_components,
        random=np.random.RandomState(seed),
    )


@pytest.fixture(scope="module")
def fitted(X) -> dict[tuple[str, str], FittedTool]:
    """Every tool, on the four blobs."""
    return {pair: fit(X, *pair) for pair in EVERY}


@pytest.fixture
def rng():
    return np.random.default_rng(6)


# ------------------------------------------------------------------------------------ every tool


@pytest.mark.parametrize("pair", EVERY)
def test_clusters_far_apart_are_found(fitted, blobs, pair):
    X, truth = blobs
    tool = fitted[pair]
    assert tool.n_clusters == 4
    labels = tool.probabilities(X).argmax(axis=1)
    assert adjusted_rand_score(truth, labels) == 1.0
    sizes = np.bincount(labels, minlength=4)
    assert_allclose(tool.weights, sizes / len(X), atol=1e-3)
    for k, center in enumerate(tool.centers):
        assert_allclose(center, tool.place(X[labels == k]).mean(axis=0), atol=0.05)


@pytest.mark.parametrize("pair", EVERY)
def test_new_samples_of_a_cluster_join_it(fitted, blobs, rng, pair):
    X, truth = blobs
    tool = fitted[pair]
    centres = np.array([X[truth == k].mean(axis=0) for k in range(4)])
    new = centres + rng.normal(size=(4, 6))
    labels = tool.probabilities(X).argmax(axis=1)
    own = [labels[truth == k][0] for k in range(4)]
    assert_array_equal(tool.probabilities(new).argmax(axis=1), own)
    distance = np.linalg.norm(tool.place(new)[:, None] - tool.centers, axis=2)
    assert_array_equal(distance.argmin(axis=1), own)


@pytest.mark.parametrize("map_name", ["tsne", "umap"])
def test_neighbours_stay_neighbours_on_the_map(fitted, X, map_name):
    assert trustworthiness(X, fitted[map_name, "kmeans"].place(X), n_neighbors=10) > 0.9


@pytest.mark.parametrize("pair", EVERY)
def test_a_row_with_nan_has_no_place_and_changes_no_other(fitted, X, pair):
    tool = fitted[pair]
    rows = X[:7].copy()
    rows[2, 3] = np.nan
    others = np.arange(7) != 2
    for function in (tool.place, tool.probabilities):
        found = function(rows)
        assert np.isnan(found[2]).all()
        assert_allclose(found[others], function(X[:7])[others], rtol=1e-12)
    assert np.isnan(tool.spread(rows)).all()
    assert tool.spread(rows).shape == (7,)


@pytest.mark.parametrize("pair", EVERY)
def test_probabilities_sum_to_one_and_training_samples_are_sure(fitted, X, rng, pair):
    tool = fitted[pair]
    new = X[:30] + 5.0 * rng.normal(size=(30, 6))
    assert_allclose(tool.probabilities(new).sum(axis=1), 1.0)
    if pair[1] != "mixture":
        assert set(tool.probabilities(X).ravel()) == {0.0, 1.0}


@pytest.mark.parametrize("pair", EVERY)
def test_it_survives_being_stored(fitted, X, pair):
    tool = fitted[pair]
    record = json.loads(json.dumps(tool.record()))
    arrays = {name: array.copy() for name, array in tool.arrays().items()}
    assert all(array.dtype == np.float64 for array in arrays.values())
    again = FittedTool.restore(record, arrays)
    assert_array_equal(again.place(X), tool.place(X))
    assert_array_equal(again.probabilities(X), tool.probabilities(X))
    assert_array_equal(again.centers, tool.centers)
    assert_array_equal(again.weights, tool.weights)


@pytest.mark.parametrize("pair", EVERY)
def test_clusters_can_be_reordered_and_left_out(fitted, X, pair):
    tool = fitted[pair]
    before = tool.probabilities(X)
    order = np.array([2, 0, 3, 1])
    moved = tool.keep_clusters(order)
    assert_allclose(moved.probabilities(X), before[:, order], atol=1e-12)
    assert_array_equal(moved.centers, tool.centers[order])
    three = tool.keep_clusters(np.array([2, 0, 3]))
    assert three.n_clusters == 3
    assert three.weights.sum() == pytest.approx(1.0)
    found = three.probabilities(X)
    assert_allclose(found.sum(axis=1), 1.0)
    kept = before.argmax(axis=1) != 1
    assert_allclose(found[kept], before[kept][:, [2, 0, 3]], atol=1e-6)
    assert_array_equal(three.place(X), tool.place(X))


def test_the_same_seed_gives_the_same_result_and_global_states_stay(X):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for pair in [("tsne", "kmeans"), ("umap", "mixture"), ("pca", "leiden")]:
        first, second = fit(X, *pair, seed=5), fit(X, *pair, seed=5)
        for name, array in first.arrays().items():
            assert_array_equal(array, second.arrays()[name])
    assert random.getstate() == states[0]
    assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def test_igraph_draws_from_the_module_random_afterwards(X):
    def links():
        random.seed(8)
        return igraph.Graph.Erdos_Renyi(n=30, m=40).get_edgelist()

    before = links()
    fit(X, "pca", "leiden")
    assert links() == before


def test_many_rows_are_placed_as_few_are(fitted, X, monkeypatch):
    whole = {pair: tool.probabilities(X) for pair, tool in fitted.items()}
    monkeypatch.setattr(tool_parts, "ROWS_AT_ONCE", 7)
    for pair, tool in fitted.items():
        assert_allclose(tool.probabilities(X), whole[pair], atol=1e-12)


# -------------------------------------------------------------------------------------- the maps


def test_the_linear_map_is_that_of_scikit_learn(X):
    tool = fit(X, n_components=3)
    theirs = PCA(3, svd_solver="full").fit(X)
    assert_allclose(tool.place(X), theirs.transform(X), atol=1e-10)
    assert_allclose(tool.place(X + 1.0), theirs.transform(X + 1.0), atol=1e-10)


def test_decoding_all_components_returns_the_features(X):
    tool = fit(X, n_components=6)
    assert_allclose(tool.decode(tool.place(X)), X, atol=1e-10)


def test_components_beyond_the_rank_are_zero(rng):
    line = np.outer(rng.normal(size=20), [1.0, 2.0, -1.0]) + 0.1
    places = fit(line, n_components=4).place(line)
    assert_array_equal(places[:, 1:], 0.0)
    assert_allclose(places[:, 0] ** 2, ((line - line.mean(axis=0)) ** 2).sum(axis=1))


@pytest.mark.parametrize("map_name", ["tsne", "umap"])
def test_features_are_not_scaled(map_name):
    # Two groups that differ along a feature with little variance are one group to these maps.
    rng = np.random.default_rng(0)
    features = np.column_stack([100 * rng.normal(size=80), np.repeat([0.0, 1.0], 40)])
    places = fit(features, map_name).place(features)
    nearest = np.argsort(np.linalg.norm(places[:, None] - places, axis=2), axis=1)[:, 1:6]
    same = (features[nearest, 1] == features[:, None, 1]).mean()
    assert same < 0.75


def test_maps_of_one_feature_use_both_dimensions(rng):
    places = fit(rng.normal(size=(40, 1)), "tsne").map.values
    assert (places.std(axis=0) > 0.1).all()


def test_tsne_has_at_most_three_dimensions(X):
    with pytest.raises(ValueError, match="n_components"):
        fit(X, "tsne", n_components=4)
    assert fit(X, "umap", n_components=4).place(X).shape == (90, 4)


# ------------------------------------------------------------------------- nearest known samples


def test_new_rows_get_the_mean_by_inverse_distance(rng):
    rows, values, new = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), rng.normal(size=(9, 3))
    expected = []
    for x in new:
        distance = [float(np.sqrt(sum((a - b) ** 2 for a, b in zip(x, r)))) for r in rows]  # noqa: B905
        nearest = sorted(range(40), key=lambda i: distance[i])[:15]
        total = sum(1 / distance[i] for i in nearest)
        expected.append(sum(values[i] / distance[i] for i in nearest) / total)
    assert_allclose(Neighbours(rows, values).at(new), expected, rtol=1e-10)


@pytest.mark.parametrize("map_name", ["tsne", "umap"])
def test_a_training_sample_keeps_exactly_its_own_place(rng, map_name):
    # x² - 2xy + y² would be off by 1e-3 here.
    features = np.unique(1e6 + rng.normal(size=(40, 5)), axis=0)
    tool = fit(features, map_name)
    assert_array_equal(tool.place(features), tool.map.values)
    assert len(np.unique(tool.map.values, axis=0)) == 40


def test_equal_rows_vote_in_equal_shares():
    rows = np.array([[0.0], [0.0], [0.0], [0.0], [1.0]])
    known = Neighbours.voting(rows, np.array([0, 0, 0, 1, 1]))
    assert_allclose(known.at(np.array([[0.0], [1.0]])), [[0.75, 0.25], [0.0, 1.0]])
    # Halfway the two places count alike.
    assert_allclose(known.at(np.array([[0.5]])), [[0.375, 0.625]])


def test_equal_samples_share_their_place_and_cluster(rng):
    features = np.repeat(rng.normal(size=(12, 3)), 30, axis=0)
    for map_name, clusterer in EVERY:
        tool = fit(features, map_name, clusterer)
        assert len(np.unique(tool.place(features), axis=0)) <= 12
        labels = tool.probabilities(features).argmax(axis=1).reshape(12, 30)
        assert_array_equal(labels, np.repeat(labels[:, :1], 30, axis=1))


# ------------------------------------------------------------------------------------ the mixture


@pytest.mark.parametrize("full", [False, True])
def test_responsibilities_and_density_are_those_of_scipy(rng, full):
    factors = np.tril(rng.normal(size=(3, 4, 4))) + 2 * np.eye(4)
    scales = factors if full else np.abs(rng.normal(size=(3, 4))) + 0.5
    mixture = Mixture(np.array([0.2, 0.5, 0.3]), rng.normal(size=(3, 4)), scales)
    rows = rng.normal(size=(11, 4))
    joint = np.empty((11, 3))
    for k in range(3):
        covariance = factors[k] @ factors[k].T if full else np.diag(scales[k] ** 2)
        density = multivariate_normal(mixture.means[k], covariance).pdf(rows)
        joint[:, k] = mixture.weights[k] * density
    assert_allclose(mixture.log_density(rows), np.log(joint.sum(axis=1)), rtol=1e-10)
    assert_allclose(mixture.at(rows), joint / joint.sum(axis=1, keepdims=True), rtol=1e-10)


def test_the_density_integrates_to_one(rng):
    features = np.concatenate([rng.normal(size=(40, 2)), 3.0 + 0.5 * rng.normal(size=(40, 2))])
    tool = fit(features, "pca", "mixture", n_clusters=2)

    def density(x, y):
        return float(np.exp(tool.elbo(np.array([[x, y]]))[0]))

    assert dblquad(density, -6, 8, -6, 8, epsabs=1e-4)[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("full", [False, True])
def test_draws_have_the_moments_of_their_component(rng, full):
    factors = np.array([[[1.0, 0.0], [1.5, 0.5]], [[2.0, 0.0], [-1.0, 1.0]]])
    scales = factors if full else np.array([[1.0, 0.2], [0.5, 3.0]])
    mixture = Mixture(np.array([0.3, 0.7]), np.array([[0.0, 5.0], [1.0, 2.0]]), scales)
    rows, component = mixture.draw(60_000, np.random.RandomState(0))
    assert component.mean() == pytest.approx(0.7, abs=0.01)
    for k in range(2):
        covariance = factors[k] @ factors[k].T if full else np.diag(scales[k] ** 2)
        assert_allclose(rows[component == k].mean(axis=0), mixture.means[k], atol=0.1)
        assert_allclose(np.cov(rows[component == k].T), covariance, atol=0.15)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_one_gaussian_has_the_moments_of_the_rows(rng, full, unit):
    rows = unit * (rng.normal(size=(50, 2)) @ np.array([[1.0, 0.7], [0.0, 0.4]]) + 3.0)
    mixture = fit_mixture(rows, 1, np.random.RandomState(0), full=full)
    scale = mixture.scales[0]
    covariance = scale @ scale.T if full else np.diag(scale**2)
    expected = np.cov(rows.T, bias=True)
    expected = expected if full else np.diag(np.diag(expected))
    assert_allclose(covariance, expected, atol=1e-5 * unit**2)
    assert_allclose(mixture.means[0], rows.mean(axis=0))


def test_draws_of_the_fitted_mixture_look_like_the_features(fitted, X):
    drawn, component = fitted["pca", "mixture"].draw_samples(4000, seed=1)
    assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.5)
    assert_array_equal(fitted["pca", "mixture"].probabilities(drawn).argmax(axis=1), component)


@pytest.mark.parametrize("pair", EVERY)
def test_an_estimator_offers_what_its_tool_can_do(X, pair):
    if pair == ("tsne", "leiden"):
        with pytest.raises(ValueError, match="'method'"):
            AncestryTool("tsne-leiden").fit(X)
        return
    tool = AncestryTool("-".join(pair), n_clusters=4, random_state=0)
    assert hasattr(tool, "inverse_transform") == (pair[0] == "pca")
    for name in ("score_samples", "score", "sample"):
        assert hasattr(tool, name) == (pair == ("pca", "mixture"))
    assert not hasattr(tool, "posterior_samples")


# ------------------------------------------------------------ clusterers that choose the number


def test_the_resolution_gives_the_number_of_clusters_asked_for(rng):
    rows = rng.normal(size=(300, 3))
    for n_clusters in (3, 7, 15):
        labels = leiden(rows, n_clusters, np.random.RandomState(0))
        assert_array_equal(np.unique(labels), np.arange(n_clusters))


def test_links_join_nearest_neighbours_with_weights_up_to_one(rng):
    rows = rng.normal(size=(60, 3))
    graph = neighbour_graph(rows, np.random.RandomState(0))
    distance = np.linalg.norm(rows[:, None] - rows, axis=2)
    nearest = np.argsort(distance, axis=1)[:, 1:15]
    near = {(min(i, j), max(i, j)) for i in range(60) for j in nearest[i].tolist()}
    links = graph.get_edgelist()
    assert set(links) == near
    assert len(links) == len(near)
    weights = np.array(graph.es["weight"])
    assert (weights > 0).all()
    assert (weights <= 1).all()
    by_link = dict(zip(links, weights, strict=True))
    for i in range(60):  # the nearest of all is linked for certain
        pair = min(i, int(nearest[i, 0])), max(i, int(nearest[i, 0]))
        assert by_link[pair] == pytest.approx(1.0)


@pytest.mark.parametrize(("asked", "found"), [(3, 3), (5, 6), (1, 3), (100, 9)])
def test_the_nearest_number_is_taken_and_of_two_the_larger(asked, found):
    def cluster(resolution):  # 3, 4, 6 or 9 clusters
        return np.arange([3, 4, 6, 9][int(np.searchsorted([0.1, 1.0, 50.0], resolution))])

    assert len(by_resolution(cluster, asked)) == found


def test_the_smallest_cluster_size_gives_the_number_of_clusters_asked_for():
    # Three pairs of blobs: three clusters or six.
    centres = np.array([[0, 0], [6, 0], [60, 0], [66, 0], [0, 60], [6, 60]])
    rows, small = make_blobs([40] * 6, centers=centres, cluster_std=0.7, random_state=0)
    for n_clusters, truth in [(3, small // 2), (6, small)]:
        labels = hdbscan(rows, n_clusters)
        assert labels.max() + 1 == n_clusters
        clustered = labels >= 0
        assert adjusted_rand_score(truth[clustered], labels[clustered]) == 1.0


def test_noise_joins_the_cluster_of_its_neighbours(monkeypatch):
    features = np.array([[0.0], [1.0], [4.0], [9.0], [10.0], [11.0]])
    found = np.array([0, 0, -1, -1, 1, 1])
    monkeypatch.setattr(tools, "hdbscan", lambda rows, n_clusters: found)
    tool = fit(features, "pca", "hdbscan", n_clusters=2)
    # At 4: 1/4 + 1/3 against 1/6 + 1/7; at 9: 1/9 + 1/8 against 1 + 1/2.
    assert_array_equal(tool.probabilities(features).argmax(axis=1), [0, 0, 0, 1, 1, 1])


def test_noise_alone_is_one_cluster():
    features = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert fit(features, "pca", "hdbscan").n_clusters == 1


@pytest.mark.parametrize("clusterer", ["ward", "hdbscan"])
def test_of_many_samples_some_are_clustered_and_the_rest_join(blobs, monkeypatch, clusterer):
    X, truth = blobs
    monkeypatch.setattr(tools, "MOST_PAIRED", 60)
    seen = []
    original = getattr(tools, clusterer)
    monkeypatch.setattr(
        tools, clusterer, lambda rows, k: seen.append(len(rows)) or original(rows, k)
    )
    labels = fit(X, "pca", clusterer).probabilities(X).argmax(axis=1)
    assert seen == [60]
    assert adjusted_rand_score(truth, labels) == 1.0


# ------------------------------------------------------------------------------ degenerate inputs


def degenerate(rng):
    sizes = {"two": (2, 3), "three of one feature": (3, 1), "five": (5, 4), "wide": (10, 50)}
    cases = {name: rng.normal(size=size) for name, size in sizes.items()}
    return cases | {
        "constant": np.full((12, 3), 0.1),
        "two alike": np.ones((2, 2)),
        "few distinct": np.repeat(rng.normal(size=(4, 3)), 20, axis=0),
        "one feature": rng.normal(size=(30, 1)),
        "tiny": 1e-8 * rng.normal(size=(30, 4)),
        "huge": 1e8 * rng.normal(size=(30, 4)),
        "whole numbers": rng.integers(0, 3, size=(40, 2)).astype(float),
        "one apart": np.concatenate([np.zeros((15, 2)), [[50.0, 50.0]]]),
        "alike but for rounding": 1e10 + np.arange(9.0)[:, None] * [2e-6, 0.0],
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", degenerate(np.random.default_rng(0)))
def test_degenerate_features(rng, name):
    features = degenerate(rng)[name]
    n_distinct = len(np.unique(features, axis=0))
    # One fit of each map and each clusterer.
    pairs = [("pca", clusterer) for clusterer in CLUSTERERS] + [("tsne", "ward")]
    for map_name, clusterer in [*pairs, ("umap", "mixture"), ("umap", "hdbscan")]:
        tool = fit(features, map_name, clusterer, n_clusters=8)
        assert 1 <= tool.n_clusters <= max(n_distinct, 1)
        assert np.isfinite(tool.place(features)).all()
        assert np.isfinite(tool.centers).all()
        probabilities = tool.probabilities(features)
        assert_allclose(probabilities.sum(axis=1), 1.0)
        if clusterer in ("kmeans", "mixture", "ward") and map_name == "pca":
            assert tool.n_clusters == min(8, n_distinct)
        if clusterer != "mixture":
            assert len(np.unique(probabilities.argmax(axis=1))) == tool.n_clusters
