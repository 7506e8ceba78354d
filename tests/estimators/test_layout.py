"""Where the map starts: cluster means by multidimensional scaling, samples about them."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.manifold import smacof

from ancestryvi.estimators.feature_mixture import expectation_maximisation, fit_feature_mixture
from ancestryvi.estimators.layout import flat_layout, mixture_layout, scaled_means


def groups(n_groups, n_features, *, n_each=30, seed=0):
    """Samples of groups, centred."""
    rng = np.random.default_rng(seed)
    centres = 3.0 * rng.normal(size=(n_groups, n_features))
    rows = np.repeat(centres, n_each, axis=0)
    rows = rows + 0.2 * rng.normal(size=(n_groups * n_each, n_features))
    return rows - rows.mean(axis=0), np.repeat(np.arange(n_groups), n_each)


def apart(one, other):
    """Largest distance of places, once one is turned onto the other, over the width."""
    turn, _ = orthogonal_procrustes(one, other)
    return np.linalg.norm(one @ turn - other, axis=1).max() / np.ptp(other, axis=0).max()


@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_distances_that_fit_are_kept(n_latent):
    """Points that lie in few dimensions of many are put as they are, whatever their weights."""
    rng = np.random.default_rng(1)
    flat = rng.normal(size=(9, n_latent))
    means = flat @ np.linalg.qr(rng.normal(size=(6, n_latent)))[0].T + 5.0
    places = scaled_means(means, rng.dirichlet(np.ones(9)), n_latent)
    assert places.shape == (9, n_latent)
    np.testing.assert_allclose(pdist(places), pdist(means), rtol=1e-3)


def test_no_more_stress_than_scikit_learn_finds():
    """The best of ten starts against the best of forty of SMACOF."""
    rng = np.random.default_rng(2)
    means = rng.normal(size=(14, 8)) * np.linspace(3.0, 0.5, 8)
    wanted = pdist(means)

    def stress(places):
        return np.sum((pdist(places) - wanted) ** 2)

    distances = np.linalg.norm(means[:, None] - means, axis=-1)
    theirs, _ = smacof(distances, n_init=40, normalized_stress=False, random_state=0, n_jobs=1)
    assert stress(scaled_means(means, np.full(14, 1 / 14), 2)) < 1.01 * stress(theirs)


def test_it_does_not_matter_into_how_many_clusters_a_group_is_cut():
    """A mean of weight w, and two at the same place that share it."""
    rng = np.random.default_rng(3)
    means, weights = rng.normal(size=(7, 5)), rng.dirichlet(np.full(7, 5.0))
    whole = scaled_means(means, weights, 2)
    cut = scaled_means(
        np.vstack([means, means[:1]]),
        np.append(weights, weights[0] / 2) - [weights[0] / 2, *[0] * 7],
        2,
    )
    assert apart(cut[:7], whole) < 0.01
    assert np.linalg.norm(cut[7] - cut[0]) < 0.01 * np.ptp(whole, axis=0).max()


@pytest.mark.parametrize("n_clusters", [1, 2])
def test_few_clusters_are_placed(n_clusters):
    rows, _ = groups(4, 5)
    x = torch.as_tensor(rows)
    mixture = fit_feature_mixture(rows, n_clusters)
    places = mixture_layout(x, 2, mixture)(x)
    assert places.shape == (len(rows), 2)
    assert places.mean(0).abs().max() < 1e-9
    assert places.square().mean().item() == pytest.approx(1.0)


def test_samples_that_do_not_differ_are_at_the_origin():
    """No direction and no unit to be had, and no NaN."""
    rows = np.zeros((6, 3))
    mixture, _ = expectation_maximisation(rows, np.zeros(6, dtype=np.int64), 1)
    assert not mixture_layout(torch.as_tensor(rows), 2, mixture)(torch.as_tensor(rows)).any()


def test_one_cluster_is_laid_out_along_the_first_pcs():
    rows, _ = groups(3, 4)
    x = torch.as_tensor(rows)
    mixture, _ = expectation_maximisation(rows, np.zeros(len(rows), dtype=np.int64), 1)
    places, flat = (layout(x) for layout in (mixture_layout(x, 2, mixture), flat_layout(x, 2)))
    for one, other in zip(places.T, flat.T, strict=True):
        assert np.corrcoef(one, other)[0, 1] == pytest.approx(1.0)


def test_groups_are_placed_by_their_distances_and_samples_about_them():
    """Far better than the first two PCs do; and the layout is turned as these are."""
    rows, group = groups(12, 8)
    x = torch.as_tensor(rows)
    mixture = fit_feature_mixture(rows, 12)
    places, flat = (
        layout(x).numpy() for layout in (mixture_layout(x, 2, mixture), flat_layout(x, 2))
    )

    def means(points):
        return np.array([points[group == g].mean(axis=0) for g in range(12)])

    kept, projected = (spearmanr(pdist(means(rows)), pdist(means(z)))[0] for z in (places, flat))
    assert kept > projected + 0.1
    within = np.linalg.norm(places - means(places)[group], axis=1).mean()
    assert within < 0.2 * pdist(means(places)).mean()
    assert np.all(np.diag(places.T @ flat) > 0)
    assert abs(np.trace(orthogonal_procrustes(places, flat)[0]) - 2.0) < 0.05


def test_strain_is_that_of_the_means_of_clusters():
    """By a loop over clusters that are far apart; none where samples have moved within theirs."""
    rows, group = groups(5, 6)
    rows *= 5.0
    x = torch.as_tensor(rows)
    layout = mixture_layout(x, 2, fit_feature_mixture(rows, 5))
    rng = np.random.default_rng(5)
    moved = rng.normal(size=(len(rows), 2))
    expected = sum(
        np.mean(group == g) * np.sum(moved[group == g].mean(axis=0) ** 2) for g in range(5)
    )
    found = layout.strain(x, layout(x) + torch.as_tensor(moved)).item()
    assert found == pytest.approx(expected, rel=1e-6)
    for g in range(5):
        moved[group == g] -= moved[group == g].mean(axis=0)
    assert layout.strain(x, layout(x) + torch.as_tensor(moved)).item() < 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_four_fifths_of_the_samples_give_the_same_layout(seed):
    """Populations of a tree: continents, regions and populations, each nearer than the last."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((1, 12))
    for size, spread in ((4, 4.0), (3, 2.0), (3, 1.0)):
        centres = np.repeat(centres, size, axis=0)
        centres = centres + spread * rng.normal(size=centres.shape)
    rows = np.repeat(centres, 20, axis=0)
    rows = rows + 0.2 * rng.normal(size=rows.shape)
    kept = rng.random(len(rows)) < 0.8
    layouts = []
    for part in (rows - rows.mean(axis=0), rows[kept] - rows[kept].mean(axis=0)):
        mixture = fit_feature_mixture(part, 36)
        places = mixture_layout(torch.as_tensor(part), 2, mixture)(torch.as_tensor(part))
        layouts.append(places.numpy())
    assert apart(layouts[1], layouts[0][kept]) < 0.1


def test_flat_layout_has_unit_variance_and_no_more_axes_than_the_rank():
    """Against the scores by definition; what is beyond the rank is 0."""
    rng = np.random.default_rng(4)
    rows = np.outer(rng.normal(size=40), [1.0, -3.0, 2.0])
    x = torch.as_tensor(rows - rows.mean(axis=0))
    places = flat_layout(x, 2)(x)
    expected = x[:, 1] / x[:, 1].square().mean().sqrt()
    torch.testing.assert_close(places[:, 0], expected)
    assert not places[:, 1].any()
