import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.manifold import trustworthiness
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from ancestryvi.evaluate import (
    clustering_metrics,
    confidence_interval,
    map_metrics,
    reference_accuracy,
    reference_line,
)
from ancestryvi.evaluate import metrics as module
from ancestryvi.exceptions import LabelError, SampleError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


# ---- clusters ------------------------------------------------------------------------------


def entropy(counts):
    p = np.asarray(counts, dtype=float)
    p = p[p > 0] / p.sum()
    return -(p * np.log(p)).sum()


def naive_scores(table):
    """Purity, homogeneity, completeness and NMI of a contingency table (labels x clusters)."""
    table = np.asarray(table)
    h_true, h_pred, h_both = (
        entropy(table.sum(axis=1)),
        entropy(table.sum(axis=0)),
        entropy(table.ravel()),
    )
    mutual = h_true + h_pred - h_both
    return {
        "purity": sum(max(column) for column in table.T) / table.sum(),
        "homogeneity": mutual / h_true,
        "completeness": mutual / h_pred,
        "nmi": mutual / ((h_true + h_pred) / 2),
    }


def samples_of(table):
    true, pred = [], []
    for i, row in enumerate(table):
        for j, count in enumerate(row):
            true += [f"label{i}"] * count
            pred += [j] * count
    return true, pred


@pytest.mark.parametrize(
    "table",
    [
        [[5, 0, 1], [2, 7, 0]],
        [[4, 1], [1, 4], [3, 3]],
        np.random.default_rng(3).integers(0, 9, (6, 8)),
    ],
)
def test_clustering_metrics_follow_their_definitions(table):
    true, pred = samples_of(table)
    scores = clustering_metrics(true, pred)
    assert {k: scores[k] for k in ("purity", "homogeneity", "completeness", "nmi")} == (
        pytest.approx(naive_scores(table))
    )
    assert scores["ari"] == pytest.approx(sk.adjusted_rand_score(true, pred))
    assert scores["ami"] == pytest.approx(sk.adjusted_mutual_info_score(true, pred))
    assert scores["nmi"] == pytest.approx(sk.normalized_mutual_info_score(true, pred))
    assert scores["n_labelled"] == len(true)


def test_purity_by_hand():
    # cluster 0 holds a a b (best 2), cluster 1 holds b b b a (best 3): 5 of 7
    assert clustering_metrics(list("aabbbba"), [0, 0, 0, 1, 1, 1, 1])["purity"] == 5 / 7


def test_purity_takes_the_maximum_within_clusters_and_not_within_labels():
    assert clustering_metrics(list("aabb"), [0, 0, 0, 0])["purity"] == 0.5
    assert clustering_metrics(list("aabb"), [0, 1, 2, 3])["purity"] == 1.0


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_samples_without_label_are_left_out(missing):
    scores = clustering_metrics(["a", missing, "b", "b", missing], [0, 0, 1, 1, 1])
    assert scores == clustering_metrics(["a", "b", "b"], [0, 1, 1])
    assert scores["n_labelled"] == 3


def test_minus_one_is_a_missing_label_but_a_noise_cluster():
    assert clustering_metrics([0, 0, 1, -1], [0, 0, 1, 1])["n_labelled"] == 3
    noise = clustering_metrics([0, 0, 1, 1], [0, 0, -1, -1])
    assert noise["n_labelled"] == 4
    assert noise["nmi"] == pytest.approx(1)


def test_samples_that_were_not_placed_are_left_out():
    assert clustering_metrics(["a", "a", "b"], [0.0, np.nan, 1.0])["n_labelled"] == 2


def test_the_names_of_labels_and_clusters_play_no_part():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 4, 100), rng.integers(0, 5, 100)
    renamed = clustering_metrics([f"p{9 - t}" for t in true], pd.Series(pred * 7).astype(str))
    assert renamed == pytest.approx(clustering_metrics(true, pred))


def test_unlike_lengths_and_absent_labels_are_refused():
    with pytest.raises(SampleError, match="3 labels but 2 clusters"):
        clustering_metrics(["a", "b", "c"], [0, 1])
    with pytest.raises(LabelError, match="none of the 2 samples"):
        clustering_metrics([None, None], [0, 1])


def test_reference_line_of_the_1000_genomes_panel():
    path = SHARED / "1000g-pcs" / "samples.tsv"
    if not path.exists():
        pytest.skip(f"{path.name} of the 1000 Genomes panel is not beside the repository")
    samples = pd.read_csv(path, sep="\t")
    scores = reference_line(samples["population"], samples["superpopulation"])
    assert scores["n_labelled"] == 2504
    assert scores["purity"] == pytest.approx(0.212, abs=5e-4)
    assert scores["completeness"] == pytest.approx(1)
    assert scores["nmi"] == pytest.approx(0.657, abs=5e-4)


# ---- maps ----------------------------------------------------------------------------------


@pytest.fixture
def cohort():
    rng = np.random.default_rng(5)
    labels = np.repeat(["GBR", "TSI", "YRI"], [40, 35, 25])
    features = rng.normal(size=(100, 6)) + 1.5 * np.repeat(np.arange(3), [40, 35, 25])[:, None]
    return features[:, :2] + rng.normal(scale=0.5, size=(100, 2)), features, labels


def naive_trustworthiness(X, Z, k):
    """Venna and Kaski's definition, loop by loop."""
    n, total = len(X), 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        in_features = sorted(others, key=lambda j: np.linalg.norm(X[i] - X[j]))
        on_map = sorted(others, key=lambda j: np.linalg.norm(Z[i] - Z[j]))
        for j in on_map[:k]:
            total += max(0, in_features.index(j) + 1 - k)
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


@pytest.mark.parametrize("k", [1, 7, 20])
def test_trustworthiness_is_that_of_the_definition_and_of_scikit_learn(cohort, k):
    Z, X, _ = cohort
    value = map_metrics(Z, X, n_neighbors=k)["trustworthiness"]
    assert value == pytest.approx(naive_trustworthiness(X, Z, k))
    assert value == pytest.approx(trustworthiness(X, Z, n_neighbors=k))
    assert value < 0.99


def test_trustworthiness_does_not_depend_on_the_blocks(cohort, monkeypatch):
    Z, X, _ = cohort
    whole = map_metrics(Z, X)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 333)
    assert map_metrics(Z, X) == whole


def test_a_subset_of_queries_estimates_trustworthiness_repeatably(cohort, monkeypatch):
    Z, X, _ = cohort
    whole = map_metrics(Z, X)["trustworthiness"]
    monkeypatch.setattr(module, "MAX_QUERY_SAMPLES", 60)
    values = [map_metrics(Z, X, random_state=seed)["trustworthiness"] for seed in range(20)]
    assert values[0] == map_metrics(Z, X, random_state=0)["trustworthiness"]
    assert len(set(values)) > 10
    assert np.mean(values) == pytest.approx(whole, abs=0.005)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_accuracy_is_that_of_leave_one_out_voting(cohort, k):
    Z, X, labels = cohort
    oracle = cross_val_score(KNeighborsClassifier(k), Z, labels, cv=LeaveOneOut()).mean()
    scores = map_metrics(Z, X, labels, n_neighbors=k)
    assert scores["knn_accuracy"] == pytest.approx(oracle)
    assert scores["knn_neighbors"] == k
    assert scores["knn_accuracy"] < 0.99


def test_coinciding_samples_are_neighbours_of_each_other():
    Z = np.repeat([[0.0, 0.0], [9.0, 9.0]], 6, axis=0)
    scores = map_metrics(Z, Z, ["a"] * 6 + ["b"] * 6, n_neighbors=3)
    assert scores["knn_accuracy"] == 1


def test_a_sample_is_not_its_own_neighbour():
    # alternating labels on a line: every nearest neighbour carries the other label
    line = np.arange(10.0)[:, None] + np.arange(10)[:, None] ** 2 * 1e-3
    scores = map_metrics(line, line, list("ab") * 5, n_neighbors=1)
    assert scores["knn_accuracy"] == 0


def test_unlabelled_and_unplaced_samples_take_no_part(cohort):
    Z, X, labels = cohort
    labels = labels.astype(object)
    labels[::3] = None
    Z = Z.copy()
    Z[1] = np.nan
    kept = np.array([label is not None for label in labels])
    kept[1] = False
    scores = map_metrics(Z, X, labels)
    assert scores["knn_accuracy"] == map_metrics(Z[kept], X[kept], labels[kept])["knn_accuracy"]
    placed = np.arange(100) != 1
    assert scores["trustworthiness"] == map_metrics(Z[placed], X[placed])["trustworthiness"]


@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 0), (3, 1), (10, 4), (41, 20), (60, 20)])
def test_few_samples_lower_k(n, k):
    Z = np.random.default_rng(n).normal(size=(n, 2))
    scores = map_metrics(Z, Z, ["a"] * n)
    assert scores["trustworthiness_neighbors"] == scores["knn_neighbors"] == k
    expected = 1.0 if k else math.nan
    assert scores["trustworthiness"] == pytest.approx(expected, nan_ok=True)
    assert scores["knn_accuracy"] == pytest.approx(expected, nan_ok=True)


def test_unlike_rows_are_refused(cohort):
    Z, X, labels = cohort
    with pytest.raises(SampleError, match="100 samples but the features have 99"):
        map_metrics(Z, X[1:])
    with pytest.raises(SampleError, match="98 labels"):
        map_metrics(Z, X, labels[2:])


# ---- intervals -----------------------------------------------------------------------------


def test_confidence_interval_is_the_t_interval():
    values = [0.81, 0.84, 0.79, 0.86]
    mean, half_width = confidence_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))
    # by hand for two values: t(0.975, 1) = 12.7062, standard error = |a - b| / 2
    assert confidence_interval([1.0, 3.0]) == pytest.approx((2.0, 12.7062), rel=1e-5)


def test_one_value_has_no_width_and_none_is_refused():
    mean, half_width = confidence_interval([0.7])
    assert mean == 0.7
    assert math.isnan(half_width)
    with pytest.raises(ValueError, match="0 values"):
        confidence_interval([])


# ---- on a reference map ------------------------------------------------------------------------


def test_neighbours_on_a_reference_map_vote_as_a_classifier_does():
    rng = np.random.default_rng(8)
    reference, new = rng.normal(size=(80, 2)), rng.normal(size=(30, 2))
    known = np.where(reference[:, 0] > 0, "b", "a").astype(object)
    known[::7] = None
    reference[5] = np.nan
    own = np.where(new[:, 0] > 0, "b", "c").astype(object)
    own[:4] = None
    new[10] = np.nan
    usable = ~pd.isna(known) & np.isfinite(reference).all(axis=1)
    scored = ~pd.isna(own) & np.isfinite(new).all(axis=1)
    votes = KNeighborsClassifier(20).fit(reference[usable], known[usable].astype(str))
    expected = np.mean(votes.predict(new[scored]) == own[scored])
    found = reference_accuracy(new, own, reference, known)
    assert 0.1 < expected < 0.9
    assert found == {"knn_accuracy": pytest.approx(expected), "knn_neighbors": 20}


def test_without_labels_on_the_reference_map_there_is_no_accuracy():
    found = reference_accuracy([[0.0], [1.0]], ["a", "b"], [[0.0], [1.0]], [None, None])
    assert math.isnan(found["knn_accuracy"])
    assert found["knn_neighbors"] == 0
