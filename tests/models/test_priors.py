"""The mixture prior p(z) = sum_k pi_k N(z; m_k, S_k) (section 4.2, strategy 1)."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from ancestryvi.models.priors import MixturePrior

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
