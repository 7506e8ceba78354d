"""The learned mixture prior (section 4.2, strategy 1) and the kernel prior (appendix F)."""

import io
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, multivariate_normal, norm

from ancestryvi.models.priors import BANDWIDTHS, KernelPrior, MixturePrior, Prior, kernel_prior
from ancestryvi.models.shapes import Square

WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = np.array([[1.0, -0.5], [-2.0, 0.3], [0.2, 2.2]])
COVARIANCES = np.array(
    [[[0.16, 0.1], [0.1, 0.3]], [[0.8, -0.5], [-0.5, 0.6]], [[0.06, 0.0], [0.0, 0.9]]]
)


def precision_factor(covariance):
    """The lower triangular L with L' L = S^-1, for two dimensions, by solving its equations."""
    (a, b), (_, d) = np.linalg.inv(covariance)
    corner = math.sqrt(d)
    below = b / corner
    return [[math.sqrt(a - below**2), 0.0], [below, corner]]


@pytest.fixture
def prior():
    factors = torch.tensor([precision_factor(covariance) for covariance in COVARIANCES])
    return MixturePrior(torch.tensor(WEIGHTS), torch.tensor(MEANS), factors)


def naive_joint(z):
    """pi_k N(z; m_k, S_k) for every k, from the covariances."""
    return [
        weight
        * math.exp(-0.5 * (z - mean) @ np.linalg.inv(covariance) @ (z - mean))
        / math.sqrt(np.linalg.det(2 * math.pi * covariance))
        for weight, mean, covariance in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
    ]


def test_densities_agree_with_a_naive_loop(prior, generator):
    """log p(z), log p(z, k) and Bayes' p(k | z), for points of any leading shape."""
    points = 2 * torch.randn(4, 5, 2, generator=generator)
    joint, marginal = prior.joint_log_prob(points), prior.log_prob(points)
    responsibilities = prior.responsibilities(points)
    assert joint.shape == (4, 5, 3)
    assert marginal.shape == (4, 5)
    for i in range(4):
        for j in range(5):
            expected = naive_joint(points[i, j].numpy())
            assert joint[i, j].exp().tolist() == pytest.approx(expected, rel=1e-10)
            assert marginal[i, j].exp().item() == pytest.approx(sum(expected), rel=1e-10)
            bayes = [value / sum(expected) for value in expected]
            assert responsibilities[i, j].tolist() == pytest.approx(bayes, abs=1e-12)
    torch.testing.assert_close(responsibilities.sum(-1), torch.ones(4, 5))


@pytest.mark.parametrize("n_latent", [1, 3])
def test_density_in_other_dimensions_agrees_with_scipy(generator, n_latent):
    """One latent, and three, with the factor from a Cholesky decomposition of the covariance."""
    root = torch.randn(2, n_latent, n_latent, generator=generator) + 2 * torch.eye(n_latent)
    covariances = root @ root.mT
    means = torch.randn(2, n_latent, generator=generator)
    factors = torch.linalg.inv(torch.linalg.cholesky(covariances))
    prior = MixturePrior(torch.tensor([0.25, 0.75]), means, factors)
    assert prior.n_latent == n_latent
    z = torch.randn(6, n_latent, generator=generator)
    expected = np.logaddexp(
        math.log(0.25) + multivariate_normal(means[0], covariances[0]).logpdf(z),
        math.log(0.75) + multivariate_normal(means[1], covariances[1]).logpdf(z),
    )
    np.testing.assert_allclose(prior.log_prob(z).detach().numpy(), expected, rtol=1e-10)


def test_density_integrates_to_one_whatever_the_parameters(prior, generator):
    """int p(z) dz on a grid, also after every parameter moved, as an optimiser moves them."""
    axis = torch.linspace(-15.0, 15.0, 901)
    grid = torch.cartesian_prod(axis, axis)
    cell = ((axis[1] - axis[0]) ** 2).item()
    with torch.no_grad():
        assert prior.log_prob(grid).exp().sum().item() * cell == pytest.approx(1.0, abs=1e-8)
        for parameter in prior.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        assert prior.log_prob(grid).exp().sum().item() * cell == pytest.approx(1.0, abs=1e-8)
        assert prior.log_weights.exp().sum().item() == pytest.approx(1.0)


def test_far_points_have_finite_density_and_one_owner(prior):
    """Where every component underflows, log p(z) is finite and memberships still sum to 1."""
    far = torch.tensor([[1e3, 1e3], [-1e4, 0.0]])
    assert (prior.joint_log_prob(far).exp() == 0).all()
    assert prior.log_prob(far).isfinite().all()
    torch.testing.assert_close(prior.responsibilities(far).sum(-1), torch.ones(2))
    # the component with the least z' S^-1 z in the direction of the point
    precisions = np.linalg.inv(COVARIANCES)
    owners = [np.argmin([z @ p @ z for p in precisions]) for z in far.numpy()]
    assert prior.responsibilities(far).argmax(-1).tolist() == owners


def test_sample_has_the_moments_of_the_mixture(prior, generator):
    """Component frequencies pi_k, and mean m_k and covariance S_k within each, to 5 s.e."""
    n = 100_000
    z, component = prior.sample(n, generator)
    assert z.shape == (n, 2)
    for k, (weight, mean, s) in enumerate(zip(WEIGHTS, MEANS, COVARIANCES, strict=True)):
        rows = z[component == k].detach().numpy()
        error = math.sqrt(weight * (1 - weight) / n)
        assert len(rows) / n == pytest.approx(weight, abs=5 * error)
        error = np.sqrt(np.diag(s) / len(rows))
        assert (abs(rows.mean(0) - mean) < 5 * error).all()
        error = np.sqrt((s**2 + np.outer(np.diag(s), np.diag(s))) / len(rows))
        assert (abs(np.cov(rows.T) - s) < 5 * error).all()
    again, _ = prior.sample(n, torch.Generator().manual_seed(20))
    torch.testing.assert_close(again, z, rtol=0, atol=0)


def test_standard_normal():
    """N(0, I) is the mixture of one."""
    prior = MixturePrior.standard_normal(3)
    assert prior.n_clusters == 1
    z = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.0, 0.0]])
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(prior.log_prob(z), expected)


def test_keep_selects_renormalises_and_reorders(prior):
    """The kept mixture is p(z, k) over the kept components, divided by their total weight."""
    kept = prior.keep(torch.tensor([2, 0]))
    assert kept.n_clusters == 2
    torch.testing.assert_close(kept.means, prior.means[[2, 0]])
    torch.testing.assert_close(kept.log_weights.exp(), torch.tensor([0.375, 0.625]))
    z = torch.tensor([[0.3, 0.1], [-1.0, 2.0]])
    expected = prior.joint_log_prob(z)[:, [2, 0]] - math.log(0.8)
    torch.testing.assert_close(kept.joint_log_prob(z), expected)
    assert prior.n_clusters == 3


@pytest.mark.parametrize("trainable", [True, False])
def test_keep_is_a_copy_as_trainable_as_its_origin(prior, trainable):
    prior.requires_grad_(trainable)
    kept = prior.keep(torch.arange(3))
    assert {p.requires_grad for p in kept.parameters()} == {trainable}
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(prior.means.detach().numpy(), MEANS)
    np.testing.assert_allclose(prior.log_weights.exp().detach().numpy(), WEIGHTS)
    covariances = torch.linalg.inv(prior.precision_factors.mT @ prior.precision_factors)
    np.testing.assert_allclose(covariances.detach().numpy(), COVARIANCES, atol=1e-12)


# ---------------------------------------------------------------------------- the kernel prior

POINTS = np.array([[0.02, -0.01], [1.0, 0.5], [0.03, 0.01], [1.02, 0.5], [-0.4, 0.7], [0.05, 0.0]])
PARTS = np.array([1, 0, 1, 0, 2, 1])
POINTS_OF_PART = [POINTS[[1, 3]], POINTS[[0, 2, 5]], POINTS[[4]]]


@pytest.fixture
def kernels():
    return KernelPrior(torch.tensor(POINTS), torch.tensor(PARTS))


def naive_kernel_joint(z):
    """p(k) p(z | k) for every k, one kernel at a time."""
    joint = [0.0, 0.0, 0.0]
    for point, part in zip(POINTS, PARTS, strict=True):
        squared = sum((a - b) ** 2 for a, b in zip(z, point, strict=True))
        for h in (0.005, 0.008, 0.01, 0.03, 0.05):
            joint[part] += math.exp(-squared / (2 * h**2)) / (2 * math.pi * h**2) / 30
    return joint


def test_both_priors_share_one_face(prior, kernels):
    assert isinstance(prior, Prior)
    assert isinstance(kernels, Prior)
    assert prior.centers.tolist() == MEANS.tolist()
    assert (kernels.n_clusters, kernels.n_latent) == (3, 2)
    assert list(kernels.parameters()) == []
    expected = [points.mean(0) for points in POINTS_OF_PART]
    np.testing.assert_allclose(kernels.centers.numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(kernels.log_weights.exp().numpy(), [2 / 6, 3 / 6, 1 / 6])


def test_kernel_densities_agree_with_a_naive_loop(kernels, generator):
    """log p(z), log p(z, k) and Bayes' p(k | z), for latents of any leading shape."""
    nearby = torch.tensor(POINTS)[torch.tensor([[0, 1, 2], [3, 4, 5]])]
    z = nearby + 0.05 * torch.randn(2, 3, 2, generator=generator)
    joint, marginal = kernels.joint_log_prob(z), kernels.log_prob(z)
    responsibilities = kernels.responsibilities(z)
    assert joint.shape == (2, 3, 3)
    assert marginal.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            expected = naive_kernel_joint(z[i, j].tolist())
            assert joint[i, j].exp().tolist() == pytest.approx(expected, rel=1e-10, abs=1e-300)
            assert marginal[i, j].exp().item() == pytest.approx(sum(expected), rel=1e-10)
            bayes = [value / sum(expected) for value in expected]
            assert responsibilities[i, j].tolist() == pytest.approx(bayes, abs=1e-12)
    single = kernels.joint_log_prob(z[1, 2])
    torch.testing.assert_close(single, joint[1, 2], rtol=1e-12, atol=0)
    assert kernels.log_prob(torch.zeros(4, 0, 2)).shape == (4, 0)


@pytest.mark.parametrize("n_latent", [1, 3])
def test_kernel_density_in_other_dimensions_agrees_with_scipy(generator, n_latent):
    """More rows than are held in memory at once, every part as scipy has it, in log space."""
    points = 0.1 * torch.randn(7, n_latent, generator=generator)
    parts = torch.tensor([0, 1, 1, 0, 2, 1, 0])
    z = 0.2 * torch.randn(600, n_latent, generator=generator)
    expected = np.full((600, 3), -np.inf)
    for point, part in zip(points, parts.tolist(), strict=True):
        for h in BANDWIDTHS:
            kernel = multivariate_normal(point, h**2 * np.eye(n_latent)).logpdf(z)
            expected[:, part] = np.logaddexp(expected[:, part], kernel - math.log(35))
    joint = KernelPrior(points, parts).joint_log_prob(z)
    np.testing.assert_allclose(joint.numpy(), expected, rtol=1e-10, atol=1e-10)


def test_kernel_density_integrates_to_one(kernels):
    """int p(z, k) dz is the weight of k, on a grid finer than the narrowest kernel."""
    total = torch.zeros(3)
    side = 0.003
    axis = torch.arange(-0.3, 0.3, side)
    cell = torch.cartesian_prod(axis, axis)
    for centre in kernels.centers:  # the points of a part lie within 0.03 of its centre
        total += kernels.joint_log_prob(centre + cell).exp().sum(0) * side**2
    assert total.tolist() == pytest.approx([2 / 6, 3 / 6, 1 / 6], abs=1e-8)


def test_gradient_of_the_kernel_density_is_its_derivative(kernels, generator):
    """Against finite differences of every part, near points and between them."""
    z = torch.tensor(POINTS) + 0.02 * torch.randn(6, 2, generator=generator)
    assert torch.autograd.gradcheck(kernels.joint_log_prob, z.requires_grad_(), eps=1e-7, atol=1e-4)


def test_gradient_of_one_point_has_a_closed_form():
    """(x - z) / h^2, averaged over bandwidths with their responsibilities."""
    prior = KernelPrior(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    z = torch.tensor([0.012, -0.009], requires_grad=True)
    prior.log_prob(z).backward()
    h = np.array(BANDWIDTHS)
    density = np.exp(-(0.015**2) / (2 * h**2)) / h**2
    expected = -(density / h**2).sum() / density.sum() * z.detach().numpy()
    np.testing.assert_allclose(z.grad.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_latents_are_drawn_home(kernels, dtype):
    """At distance 100 the widest kernel of the nearest point is left: gradient (x - z) / 0.05^2."""
    kernels.to(dtype)
    directions = torch.tensor([[1.0, 0.0], [-0.6, 0.8], [0.0, -1.0]], dtype=dtype)
    z = (100 * directions).requires_grad_()
    log_prob = kernels.log_prob(z)
    log_prob.sum().backward()
    points = torch.tensor(POINTS)
    distances = (z.detach().double().unsqueeze(-2) - points).square().sum(-1)
    nearest = points[distances.argmin(-1)]
    assert log_prob.dtype == dtype
    assert log_prob.isfinite().all()
    expected = (nearest - z.detach().double()) / 0.05**2
    torch.testing.assert_close(z.grad.double(), expected, rtol=1e-3, atol=1e-2)


def test_float32_is_accurate_to_the_narrowest_kernel(generator):
    """Among 2,000 points at coordinates of order 1, against float64."""
    prior = kernel_prior(Square(), 2, np.random.default_rng(3))
    z = prior.sample(256, generator)[0].float().double().requires_grad_()
    single = z.detach().float().requires_grad_()
    # the points themselves are rounded alike, so that arithmetic alone differs
    prior.points.copy_(prior.points.float())
    exact = prior.log_prob(z)
    exact.sum().backward()
    rounded = prior.float().log_prob(single)
    rounded.sum().backward()
    torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=1e-4)
    scale = z.grad.abs().max()
    torch.testing.assert_close(single.grad.double() / scale, z.grad / scale, rtol=0, atol=1e-5)


def test_kernel_samples_have_the_moments_of_the_mixture(kernels, generator):
    """Mean of the points; covariance of the points plus the mean squared bandwidth; to 5 s.e."""
    n = 200_000
    z, part = kernels.sample(n, generator)
    assert z.shape == (n, 2)
    noise = np.mean(np.square(BANDWIDTHS))
    for k, points in enumerate(POINTS_OF_PART):
        rows = z[part == k].numpy()
        weight = len(points) / len(POINTS)
        error = math.sqrt(weight * (1 - weight) / n)
        assert len(rows) / n == pytest.approx(weight, abs=5 * error)
        covariance = np.cov(points.T, bias=True) if len(points) > 1 else np.zeros((2, 2))
        covariance = covariance + noise * np.eye(2)
        centred = rows - points.mean(0)
        assert (abs(centred.mean(0)) < 5 * np.sqrt(np.diag(covariance) / len(rows))).all()
        products = centred[:, :, None] * centred[:, None, :]
        error = products.std(0) / math.sqrt(len(rows))
        assert (abs(products.mean(0) - covariance) < 5 * error).all()


def test_kernel_samples_have_the_density(kernels, generator):
    """Kolmogorov-Smirnov against the distribution function of each coordinate, summed by scipy."""
    z, _ = kernels.sample(5_000, generator)
    for axis in range(2):

        def cdf(value, axis=axis):
            kernels = [norm.cdf(value, x, h) for x in POINTS[:, axis] for h in BANDWIDTHS]
            return np.mean(kernels, axis=0)

        assert kstest(z[:, axis].numpy(), cdf).pvalue > 0.01


def test_kernel_samples_are_reproducible(kernels):
    first = kernels.sample(50, torch.Generator().manual_seed(1))
    again = kernels.sample(50, torch.Generator().manual_seed(1))
    other = kernels.sample(50, torch.Generator().manual_seed(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_kernel_keep_selects_renormalises_and_reorders(kernels):
    """The kept prior is p(z, k) over the kept parts, divided by their total weight."""
    kept = kernels.keep(torch.tensor([2, 0]))
    assert isinstance(kept, KernelPrior)
    np.testing.assert_allclose(kept.log_weights.exp().numpy(), [1 / 3, 2 / 3])
    np.testing.assert_allclose(kept.centers.numpy(), [POINTS[4], POINTS[[1, 3]].mean(0)])
    z = torch.tensor([[-0.41, 0.72], [1.0, 0.45], [0.3, 0.6]])
    expected = kernels.joint_log_prob(z)[:, [2, 0]] - math.log(3 / 6)
    torch.testing.assert_close(kept.joint_log_prob(z), expected)
    assert kernels.n_clusters == 3


def test_kernel_prior_is_restored_from_its_state(kernels, generator):
    """Written, read and loaded into one made of zeros, it is the same prior in every respect."""
    file = io.BytesIO()
    torch.save(kernels.state_dict(), file)
    file.seek(0)
    restored = KernelPrior(torch.zeros(6, 2), torch.zeros(6, dtype=torch.long))
    assert restored.n_clusters == 1
    restored.load_state_dict(torch.load(file))
    assert restored.n_clusters == 3
    z = torch.tensor([[0.0, 0.0], [1.0, 0.45]])
    for method in ("joint_log_prob", "log_prob", "responsibilities"):
        assert torch.equal(getattr(restored, method)(z), getattr(kernels, method)(z))
    assert torch.equal(restored.log_weights, kernels.log_weights)
    assert torch.equal(restored.centers, kernels.centers)
    draws = restored.sample(5, torch.Generator().manual_seed(4))
    expected = kernels.sample(5, torch.Generator().manual_seed(4))
    assert torch.equal(draws[0], expected[0])
    assert torch.equal(draws[1], expected[1])


@pytest.mark.parametrize(
    ("points", "parts", "message"),
    [
        (torch.zeros(3), torch.zeros(3).long(), "table of floats"),
        (torch.zeros(0, 2), torch.zeros(0).long(), "table of floats"),
        (torch.zeros(3, 2).long(), torch.zeros(3).long(), "table of floats"),
        (torch.tensor([[math.nan, 0.0]]), torch.zeros(1).long(), "finite"),
        (torch.zeros(3, 2), torch.zeros(2).long(), "3 integers, one per point"),
        (torch.zeros(3, 2), torch.zeros(3), "3 integers, one per point"),
        (torch.zeros(3, 2), torch.tensor([0, 2, 2]), r"each present, not \[0, 2\]"),
        (torch.zeros(3, 2), torch.tensor([-1, 0, 1]), r"each present, not \[-1, 0, 1\]"),
    ],
)
def test_kernel_prior_refuses_what_is_no_table_with_parts(points, parts, message):
    with pytest.raises(ValueError, match=message):
        KernelPrior(points, parts)


# ------------------------------------------------------------------- from a sampler to a prior


def test_kernel_prior_is_made_of_the_draws_of_a_sampler():
    prior = kernel_prior(Square(), 2, np.random.default_rng(5), n_points=400)
    z, part = Square()(400, np.random.default_rng(5))
    assert prior.points.dtype == torch.get_default_dtype()
    np.testing.assert_array_equal(prior.parts.numpy(), np.sort(part))
    for k in range(10):
        np.testing.assert_array_equal(prior.points[prior.parts == k].numpy(), z[part == k])


def test_a_sampler_without_parts_gives_one_part():
    prior = kernel_prior(lambda n, rng: rng.standard_normal((n, 3)), 3, np.random.default_rng(5))
    assert (prior.n_clusters, prior.n_latent, len(prior.points)) == (1, 3, 2000)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"z has shape \(\), not \(4, 2\)"),
        (np.zeros((4, 3)), r"z has shape \(4, 3\), not \(4, 2\)"),
        (np.zeros((5, 2)), r"z has shape \(5, 2\), not \(4, 2\)"),
        (np.zeros(4), r"z has shape \(4,\)"),
        ([["a", "b"]] * 4, "z is not an array of numbers"),
        ([[0.0, 0.0], [math.inf, 0.0], [0.0, math.nan], [0.0, 0.0]], "not finite in 2 of 4 rows"),
        ((np.zeros((4, 2)),), "not a tuple of 1"),
        ((np.zeros((4, 2)), np.zeros(3, int)), r"parts have shape \(3,\), not \(4,\)"),
        ((np.zeros((4, 2)), np.zeros(4)), "parts are of type float64, not integers"),
        ((np.zeros((4, 2)), np.array([1, 2, 1, 2]) - 2), "parts begin at -1, not 0"),
        ((np.zeros((4, 2)), np.array([1, 2, 1, 2])), "up to 2, yet none of 4 rows is of part 0"),
        ((np.zeros((4, 2)), np.array([0, 3, 1, 3])), "up to 3, yet none of 4 rows is of part 2"),
    ],
)
def test_what_a_sampler_gets_wrong_is_named(returned, message):
    with pytest.raises(ValueError, match=message):
        kernel_prior(lambda n, rng: returned, 2, np.random.default_rng(0), n_points=4)
