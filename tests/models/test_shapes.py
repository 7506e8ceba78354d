"""The shapes of appendix F, each checked from its definition by undoing it."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, norm

from ancestryvi.models.priors import BANDWIDTHS, kernel_prior
from ancestryvi.models.shapes import SHAPES, Pinwheel, Square, SwissRoll

N = 20_000


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("name", ["pinwheel", "swiss_roll", "square"])
def test_every_shape_is_a_sampler_of_ten_equally_likely_parts(name, rng):
    z, part = SHAPES[name](N, rng)
    assert z.shape == (N, 2)
    assert (z.dtype, part.dtype) == (np.float64, np.int64)
    assert len(np.bincount(part)) == 10
    assert chisquare(np.bincount(part)).pvalue > 0.01


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_draws_depend_on_the_generator_alone(name):
    first = SHAPES[name](100, np.random.default_rng(1))
    again = SHAPES[name](100, np.random.default_rng(1))
    other = SHAPES[name](100, np.random.default_rng(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("shape", [Pinwheel(3), SwissRoll(3), Square(3)])
def test_the_number_of_parts_is_free(shape, rng):
    _, part = shape(1_000, rng)
    assert sorted(set(part.tolist())) == [0, 1, 2]


# -------------------------------------------------------------------------------- the pinwheel


def unbend(z, part, pinwheel):
    """The Gaussian factors f of draws z, by a fixed point: |f| = |z|, and f_1 is small."""
    along = np.hypot(z[:, 0], z[:, 1])
    for _ in range(50):
        turn = np.exp(1j * (2 * np.pi * part / pinwheel.n_parts + pinwheel.rate * np.exp(along)))
        f = (z[:, 0] + 1j * z[:, 1]) * turn  # the arms were turned clockwise
        along = f.real
    return f.real, f.imag


@pytest.mark.parametrize("pinwheel", [Pinwheel(), Pinwheel(5, 0.1, 0.05, 0.1)])
def test_unbent_arms_of_a_pinwheel_are_gaussian(pinwheel, rng):
    """Along each arm N(1, radial_std^2), across it N(0, tangential_std^2), independent."""
    z, part = pinwheel(N, rng)
    along, across = unbend(z, part, pinwheel)
    for k in range(pinwheel.n_parts):
        assert kstest(along[part == k], norm(1.0, pinwheel.radial_std).cdf).pvalue > 1e-3
        assert kstest(across[part == k], norm(0.0, pinwheel.tangential_std).cdf).pvalue > 1e-3
    assert along.mean() == pytest.approx(1.0, abs=5 * pinwheel.radial_std / np.sqrt(N))
    assert along.std() == pytest.approx(pinwheel.radial_std, rel=5 / np.sqrt(2 * N))
    assert across.std() == pytest.approx(pinwheel.tangential_std, rel=5 / np.sqrt(2 * N))
    assert np.corrcoef(along, across)[0, 1] == pytest.approx(0.0, abs=5 / np.sqrt(N))


def test_arms_of_a_pinwheel_are_one_arm_turned_clockwise(rng):
    """Arm k turned back by 2 pi k / K lies on arm 0, at an angle -exp(f_0) / 4."""
    z, part = Pinwheel(tangential_std=0.0)(N, rng)
    radius = np.hypot(z[:, 0], z[:, 1])  # f_0, which is positive to 6 standard deviations
    turned = (z[:, 0] + 1j * z[:, 1]) * np.exp(2j * np.pi * part / 10)
    np.testing.assert_allclose(turned, radius * np.exp(-0.25j * np.exp(radius)), atol=1e-12)


def bend(f, part, pinwheel):
    """The definition in torch, one draw at a time, to be differentiated."""
    angle = 2 * torch.pi * part / pinwheel.n_parts + pinwheel.rate * f[0].exp()
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([f[0] * cosine + f[1] * sine, f[1] * cosine - f[0] * sine])


def pinwheel_log_density(along, across, pinwheel):
    """log p(z) where arms do not meet: z = M(a) f, M'M' = J, so |dz/df| = 1 + a'(f_0) f_1."""
    determinant = 1.0 + pinwheel.rate * np.exp(along) * across
    return (
        norm.logpdf(along, 1.0, pinwheel.radial_std)
        + norm.logpdf(across, 0.0, pinwheel.tangential_std)
        - np.log(determinant)
        - np.log(pinwheel.n_parts)
    )


def test_change_of_variables_of_the_pinwheel(rng):
    """The determinant used below, against automatic differentiation of the definition."""
    pinwheel = Pinwheel(tangential_std=0.2)
    factors = np.array([[1.1, 0.3], [0.8, -0.2], [1.0, 0.0]])
    for part, f in enumerate(factors):
        jacobian = torch.autograd.functional.jacobian(
            lambda f, part=part: bend(f, part, pinwheel), torch.tensor(f)
        )
        expected = (
            norm.logpdf(f[0], 1.0, 0.15)
            + norm.logpdf(f[1], 0.0, 0.2)
            - jacobian.det().abs().log().item()
            - np.log(10)
        )
        assert pinwheel_log_density(*f, pinwheel) == pytest.approx(expected, rel=1e-12)


def test_kernel_prior_of_a_pinwheel_approaches_its_density(rng):
    """KL(exact || kernels) falls with the points, and is small for arms wider than the kernels."""
    pinwheel = Pinwheel(n_parts=5, radial_std=0.15, tangential_std=0.05)
    z, part = pinwheel(3_000, rng)
    exact = pinwheel_log_density(*unbend(z, part, pinwheel), pinwheel)
    divergence = []
    for n_points in (500, 20_000):
        prior = kernel_prior(pinwheel, 2, rng, n_points)
        divergence.append((exact - prior.log_prob(torch.tensor(z)).numpy()).mean())
    assert divergence[0] > 2 * divergence[1]
    assert 0.0 < divergence[1] < 0.1


# ------------------------------------------------------------------------------ the Swiss roll


def test_swiss_roll_is_a_spiral(rng):
    """Radius 3 sqrt(u) and angle 4.5 pi sqrt(u) hang together, and u is uniform on [0, 1]."""
    z, part = SwissRoll()(N, rng)
    radius = np.hypot(z[:, 0], z[:, 1])
    spiral = radius * np.exp(1.5j * np.pi * radius)
    np.testing.assert_allclose(z[:, 0] + 1j * z[:, 1], spiral, atol=1e-12)
    position = (radius / 3.0) ** 2
    assert kstest(position, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(np.floor(10 * position + 1e-12), part)


def test_noise_of_a_swiss_roll_is_gaussian():
    """The roll of the same generator without noise is the centre of each draw."""
    noisy, part = SwissRoll(noise=0.1)(N, np.random.default_rng(7))
    clean, same = SwissRoll()(N, np.random.default_rng(7))
    np.testing.assert_array_equal(part, same)
    noise = (noisy - clean) / 0.1
    assert kstest(noise[:, 0], "norm").pvalue > 0.01
    assert kstest(noise[:, 1], "norm").pvalue > 0.01
    assert np.corrcoef(noise.T)[0, 1] == pytest.approx(0.0, abs=5 / np.sqrt(N))


# ---------------------------------------------------------------------------------- the square


def perimeter_position(z):
    """How far a point of the edge is from the top left corner, clockwise, in [0, 1)."""
    x, y = z
    if y == 1.0:
        walked = x + 1.0
    elif x == 1.0:
        walked = 2.0 + (1.0 - y)
    elif y == -1.0:
        walked = 4.0 + (1.0 - x)
    else:
        assert x == -1.0
        walked = 6.0 + (y + 1.0)
    return walked / 8.0


@pytest.mark.parametrize("n_parts", [10, 7, 1])
def test_square_without_noise_is_its_edge_and_parts_are_stretches_of_it(n_parts, rng):
    z, part = Square(n_parts, noise=0.0)(N, rng)
    position = np.array([perimeter_position(row) for row in z])
    assert kstest(position, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(np.floor(n_parts * position + 1e-12), part)


@pytest.mark.parametrize(
    ("side", "across", "level"), [(0, 1, 1.0), (1, 0, 1.0), (2, 1, -1.0), (3, 0, -1.0)]
)
def test_each_side_of_a_square_is_uniform_along_and_gaussian_across(side, across, level, rng):
    """With four parts the parts are the sides: top, right, bottom and left."""
    z, part = Square(n_parts=4)(N, rng)
    rows = z[part == side]
    assert abs(rows[:, 1 - across]).max() <= 1.0
    assert kstest(rows[:, 1 - across], "uniform", args=(-1.0, 2.0)).pvalue > 0.01
    assert kstest(rows[:, across], norm(level, 0.06).cdf).pvalue > 0.01
    assert np.corrcoef(rows.T)[0, 1] == pytest.approx(0.0, abs=5 / np.sqrt(len(rows)))


def square_density(z, bandwidth):
    """Exact density of the square, blurred by a Gaussian kernel unless the bandwidth is 0."""
    sd = np.hypot(0.06, bandwidth)
    density = np.zeros(len(z))
    for along, across in (z.T, z.T[::-1]):
        if bandwidth:
            ends = norm.cdf((along + 1) / bandwidth) - norm.cdf((along - 1) / bandwidth)
        else:
            ends = (abs(along) <= 1).astype(float)
        density += ends / 2 * (norm.pdf(across, 1, sd) + norm.pdf(across, -1, sd)) / 4
    return density


def test_kernel_prior_of_a_square_approaches_its_density(rng):
    """KL(exact || kernels), by draws of the exact density, falls with the number of points."""
    z, _ = Square()(3_000, rng)
    exact = np.log(square_density(z, 0.0))
    divergence = []
    for n_points in (2_000, 20_000):
        prior = kernel_prior(Square(), 2, rng, n_points)
        divergence.append((exact - prior.log_prob(torch.tensor(z)).numpy()).mean())
    assert 0.0 < divergence[0] < 0.35
    assert 0.0 < divergence[1] < 0.08


def test_kernel_prior_of_a_square_is_unbiased_for_the_blurred_square():
    """Over its points, the expected density is the exact one convolved with the kernels."""
    z = np.array([[0.2, 1.0], [1.05, -0.4], [-0.3, -0.9], [-1.0, 1.0], [0.98, 0.98], [0.0, 0.7]])
    exact = np.mean([square_density(z, h) for h in BANDWIDTHS], axis=0)
    densities = np.array(
        [
            kernel_prior(Square(), 2, np.random.default_rng(seed)).log_prob(torch.tensor(z)).exp()
            for seed in range(400)
        ]
    )
    error = densities.std(axis=0) / np.sqrt(len(densities))
    assert (abs(densities.mean(axis=0) - exact) < 4 * error).all()
