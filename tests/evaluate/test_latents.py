import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from ancestryvi.evaluate import latent_nll, mmd
from ancestryvi.evaluate import latents as module
from ancestryvi.exceptions import SampleError


@pytest.fixture
def rng():
    return np.random.default_rng(5)


# ---- latent negative log-likelihood ----------------------------------------------------------


def naive_nll(latents, prior_samples, bandwidths):
    """The definition, one number at a time."""
    total = 0.0
    for z in prior_samples:
        density = 0.0
        for x in latents:
            for h in bandwidths:
                kernel = 1.0
                for a, b in zip(z, x, strict=True):
                    kernel *= math.exp(-((a - b) ** 2) / (2 * h * h)) / math.sqrt(2 * math.pi) / h
                density += kernel / (len(latents) * len(bandwidths))
        total -= math.log(density)
    return total / len(prior_samples)


@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_nll_is_that_of_a_double_loop(rng, n_latent):
    latents, draws = rng.normal(size=(30, n_latent)), rng.normal(size=(20, n_latent))
    bandwidths = (0.2, 0.5, 0.9)
    assert latent_nll(latents, draws, bandwidths) == pytest.approx(
        naive_nll(latents, draws, bandwidths), rel=1e-12
    )


def test_nll_of_one_latent_is_that_of_its_gaussians(rng):
    mean, draws = rng.normal(size=2), rng.normal(size=(50, 2))
    gaussian = stats.multivariate_normal(mean, 0.3**2 * np.eye(2))
    assert latent_nll([mean], draws, [0.3]) == pytest.approx(-gaussian.logpdf(draws).mean())


def test_nll_on_the_only_latent_with_the_bandwidths_of_the_paper():
    bandwidths = [0.005, 0.008, 0.01, 0.03, 0.05]
    density = np.mean([1 / (2 * np.pi * h**2) for h in bandwidths])
    assert latent_nll([[3.0, -1.0]], [[3.0, -1.0]]) == pytest.approx(-np.log(density))


def test_nll_with_one_bandwidth_agrees_with_scikit_learn(rng):
    latents, draws = rng.normal(size=(200, 2)), rng.normal(size=(300, 2))
    # one leaf: the sums over a tree drop the nearest latents of draws far from all of them
    density = KernelDensity(bandwidth=0.05, leaf_size=1000).fit(latents)
    assert latent_nll(latents, draws, [0.05]) == pytest.approx(
        -density.score(draws) / 300, rel=1e-8
    )


def test_the_density_of_the_latents_integrates_to_one(rng):
    latents = rng.normal(size=(6, 2))
    grid = np.linspace(-7, 7, 141)
    cell = (grid[1] - grid[0]) ** 2
    density = [np.exp(-latent_nll(latents, [[a, b]], [0.3, 0.8])) for a in grid for b in grid]
    assert sum(density) * cell == pytest.approx(1.0, abs=1e-6)


def test_expected_nll_of_one_gaussian_under_another(rng):
    """E |z - x|² of z ~ N(0, I) is |x|² + d: the cross entropy in closed form."""
    x, h = np.array([0.5, -1.0]), 0.7
    draws = rng.normal(size=(200_000, 2))
    expected = np.log(2 * np.pi * h**2) + (x @ x + 2) / (2 * h**2)
    assert latent_nll([x], draws, [h]) == pytest.approx(expected, rel=0.01)


def test_nll_far_from_every_latent_is_finite_and_the_nearest_counts():
    nll = latent_nll([[0.0, 0.0], [-900.0, 0.0]], [[1000.0, 0.0]])
    widest = 1000.0**2 / (2 * 0.05**2) + np.log(2 * np.pi * 0.05**2)
    assert nll == pytest.approx(widest + np.log(2 * 5), rel=1e-12)


def test_nll_does_not_depend_on_where_the_origin_is(rng):
    latents, draws = rng.normal(size=(100, 2)), rng.normal(size=(80, 2))
    moved = latent_nll(latents + 1e4, draws + 1e4)
    assert moved == pytest.approx(latent_nll(latents, draws), rel=1e-6)


def test_nll_is_lower_when_the_latents_fill_the_prior(rng):
    draws = rng.normal(size=(500, 2))
    full, collapsed = rng.normal(size=(500, 2)), 0.1 * rng.normal(size=(500, 2))
    assert latent_nll(full, draws) < latent_nll(collapsed, draws) - 100


# ---- maximum mean discrepancy ----------------------------------------------------------------


def naive_mmd(x, y, variances):
    def mean_kernel(a, b, s):
        total = 0.0
        for p in a:
            for q in b:
                total += math.exp(-sum((i - j) ** 2 for i, j in zip(p, q, strict=True)) / (2 * s))
        return total / (len(a) * len(b))

    return math.sqrt(
        sum(
            mean_kernel(x, x, s) + mean_kernel(y, y, s) - 2 * mean_kernel(x, y, s)
            for s in variances
        )
    )


@pytest.mark.parametrize("n_features", [1, 4])
def test_mmd_is_that_of_a_double_loop(rng, n_features):
    x, y = rng.normal(size=(25, n_features)), 2 + 3 * rng.normal(size=(40, n_features))
    assert mmd(x, y) == pytest.approx(naive_mmd(x, y, (2, 5, 10, 20, 40, 80)), rel=1e-10)
    assert mmd(x, y, [0.3]) == pytest.approx(naive_mmd(x, y, [0.3]), rel=1e-10)


def expected_kernel(shift, variance, s):
    """E exp(-|u|² / (2 s)) of u ~ N(shift, variance I), by completing the square."""
    d = len(shift)
    return (s / (s + variance)) ** (d / 2) * math.exp(-(shift @ shift) / (2 * (s + variance)))


def test_expected_mmd_of_two_gaussians(rng):
    """The n terms of a point with itself are 1; all other pairs differ by a Gaussian."""
    n, m, shift, scale = 40, 60, np.array([1.5, -0.5]), 1.8
    variances = (2.0, 10.0)
    expected = sum(
        1 / n
        + (1 - 1 / n) * expected_kernel(0 * shift, 2.0, s)
        + 1 / m
        + (1 - 1 / m) * expected_kernel(0 * shift, 2 * scale**2, s)
        - 2 * expected_kernel(shift, 1 + scale**2, s)
        for s in variances
    )
    squares = [
        mmd(rng.normal(size=(n, 2)), shift + scale * rng.normal(size=(m, 2)), variances) ** 2
        for _ in range(600)
    ]
    standard_error = np.std(squares, ddof=1) / math.sqrt(len(squares))
    assert standard_error < 0.02 * expected
    assert abs(np.mean(squares) - expected) < 4 * standard_error


def test_mmd_of_two_points():
    assert mmd([[0.0, 0.0]], [[3.0, 4.0]], [10.0]) == pytest.approx(
        math.sqrt(2 - 2 * math.exp(-25 / 20))
    )
    assert mmd([[0.0]], [[1e6]]) == pytest.approx(math.sqrt(2 * 6))


def test_mmd_is_symmetric_and_does_not_depend_on_the_origin_or_the_order(rng):
    x, y = rng.normal(size=(50, 3)), 1 + rng.normal(size=(70, 3))
    assert mmd(y, x) == pytest.approx(mmd(x, y), rel=1e-12)
    assert mmd(x[::-1] + 1e7, y + 1e7) == pytest.approx(mmd(x, y), rel=1e-7)
    assert mmd(x, rng.permutation(x)) == pytest.approx(0, abs=1e-6)


# ---- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [latent_nll, mmd])
def test_blocks_do_not_change_the_score(score, rng, monkeypatch):
    x, y = rng.normal(size=(31, 2)), rng.normal(size=(47, 2))
    whole = score(x, y)
    for size in (1, 100, 31 * 47):
        monkeypatch.setattr(module, "_BLOCK_ELEMENTS", size)
        assert score(x, y) == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("score", [latent_nll, mmd])
def test_memory_does_not_grow_with_the_product_of_the_sizes(score, rng):
    x, y = rng.normal(size=(5000, 2)), rng.normal(size=(5000, 2))
    tracemalloc.start()
    score(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # all distances at once would be 200 MB


@pytest.mark.parametrize("score", [latent_nll, mmd])
def test_samples_without_a_place_are_left_out(score, rng):
    x, y = rng.normal(size=(10, 2)), rng.normal(size=(12, 2))
    holes = np.insert(x, 4, np.nan, axis=0)
    assert score(holes, y) == pytest.approx(score(x, y), rel=1e-12)


@pytest.mark.parametrize("score", [latent_nll, mmd])
def test_clouds_that_cannot_be_compared_are_refused(score):
    with pytest.raises(SampleError, match=r"2 columns .* 3"):
        score(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(SampleError, match=r"none of the 1 .* is finite"):
        score(np.zeros((4, 2)), [[np.nan, 0.0]])
    with pytest.raises(SampleError, match="1 dimensions"):
        score(np.zeros(4), np.zeros((4, 1)))
    for scales in ([], [0.1, 0.0], [-1.0]):
        with pytest.raises(ValueError, match="one or more above 0"):
            score(np.zeros((4, 2)), np.zeros((4, 2)), scales)
