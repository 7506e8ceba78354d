"""The forward process r and its closed forms (Ho, Jain and Abbeel 2020, equations 2 to 7)."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from ancestryvi.models.diffusion import (
    GaussianDiffusion,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
)
from ancestryvi.models.schedules import cosine_alpha_bar

T = 6


@pytest.fixture
def diffusion():
    return GaussianDiffusion(cosine_alpha_bar(T))


def normal(mean, variance):
    return Independent(Normal(mean, variance.sqrt()), 1)


# ---- Gaussians -----------------------------------------------------------------------------


@pytest.fixture
def two_gaussians(generator):
    """Value, means and variances of shape (4, 3), variances from 0.02 to 50."""
    value, mean_p, mean_q = torch.randn(3, 4, 3, generator=generator)
    variance_p, variance_q = (2 * torch.randn(2, 4, 3, generator=generator)).exp()
    return value, mean_p, variance_p, mean_q, variance_q


def test_gaussian_functions_agree_with_torch_distributions(two_gaussians):
    """log N, H and KL of diagonal Gaussians, summed over the last axis."""
    value, mean_p, variance_p, mean_q, variance_q = two_gaussians
    p, q = normal(mean_p, variance_p), normal(mean_q, variance_q)
    close = torch.testing.assert_close
    close(gaussian_log_prob(value, mean_p, variance_p), p.log_prob(value))
    close(gaussian_entropy(variance_p), p.entropy())
    close(gaussian_kl(mean_p, variance_p, mean_q, variance_q), kl_divergence(p, q))
    assert gaussian_kl(mean_p, variance_p, mean_p, variance_p).abs().max() == 0


def test_gaussian_functions_agree_with_integrals():
    """1 = int p, H = -int p log p and KL = int p (log p - log q), on a grid."""
    mean_p, variance_p, mean_q, variance_q = (torch.tensor([v]) for v in (0.7, 0.4, -0.5, 1.9))
    grid = torch.linspace(-12.0, 12.0, 20001).unsqueeze(-1)
    log_p = gaussian_log_prob(grid, mean_p, variance_p)
    log_q = gaussian_log_prob(grid, mean_q, variance_q)
    step = (grid[1] - grid[0]).item()

    def integral(values):
        return values.sum().item() * step

    assert integral(log_p.exp()) == pytest.approx(1.0, abs=1e-9)
    assert integral(-log_p.exp() * log_p) == pytest.approx(gaussian_entropy(variance_p).item())
    assert integral(log_p.exp() * (log_p - log_q)) == pytest.approx(
        gaussian_kl(mean_p, variance_p, mean_q, variance_q).item()
    )


# ---- the forward process -------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 2, 10, 100])
def test_coefficients_are_those_of_the_papers(n_steps):
    """Equations 4, 6 and 7 of Ho et al., evaluated one step at a time from the betas."""
    alpha_bar = cosine_alpha_bar(n_steps).tolist()
    diffusion = GaussianDiffusion(torch.tensor(alpha_bar))
    assert diffusion.n_steps == n_steps
    product = 1.0
    for t in range(1, n_steps + 1):
        beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
        before, product = product, product * (1 - beta)
        assert diffusion.beta[t].item() == pytest.approx(beta, rel=1e-13)
        assert diffusion.alpha_bar[t].item() == pytest.approx(product, rel=1e-10)
        for name, expected in (
            ("posterior_variance", (1 - before) / (1 - product) * beta),
            ("z_coefficient", math.sqrt(before) * beta / (1 - product)),
            ("y_coefficient", math.sqrt(1 - beta) * (1 - before) / (1 - product)),
        ):
            got = getattr(diffusion, name)[t].item()
            assert got == pytest.approx(expected, rel=1e-9, abs=1e-13), (name, t)


def test_marginal_composes_the_forward_steps(diffusion, generator):
    """r(y_t | z) from t Gaussian steps: the mean is carried, a variance v becomes (1-b) v + b."""
    z = torch.randn(5, 2, generator=generator)
    mean, variance = z, torch.zeros_like(z)
    for t in range(1, T + 1):
        gain = diffusion.forward_step(torch.ones_like(z), t)[0]
        mean, beta = diffusion.forward_step(mean, t)
        variance = gain**2 * variance + beta
        expected_mean, expected_variance = diffusion.marginal(z, t)
        torch.testing.assert_close(mean, expected_mean)
        torch.testing.assert_close(variance, expected_variance)


def test_marginal_by_monte_carlo(diffusion, generator):
    """Moments of y_t over 200,000 simulated chains, within five standard errors."""
    n = 200_000
    y = torch.tensor([1.5, -0.3]).expand(n, 2)
    for t in range(1, T + 1):
        mean, variance = diffusion.forward_step(y, t)
        y = mean + variance.sqrt() * torch.randn(y.shape, generator=generator)
        mean, variance = (m[0] for m in diffusion.marginal(torch.tensor([[1.5, -0.3]]), t))
        assert ((y.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
        assert ((y.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / n)).all()


@pytest.mark.parametrize("t", range(2, T + 1))
def test_reverse_is_bayes_rule(diffusion, generator, t):
    """log r(y_{t-1} | y_t, z) = log r(y_{t-1} | z) + log r(y_t | y_{t-1}) - log r(y_t | z)."""
    z, before, y = torch.randn(3, 50, 2, generator=generator)
    bayes = (
        gaussian_log_prob(before, *diffusion.marginal(z, t - 1))
        + gaussian_log_prob(y, *diffusion.forward_step(before, t))
        - gaussian_log_prob(y, *diffusion.marginal(z, t))
    )
    got = gaussian_log_prob(before, *diffusion.reverse(z, y, t))
    torch.testing.assert_close(got, bayes, rtol=1e-9, atol=1e-9)


def test_first_step_reverses_to_z_itself(diffusion, generator):
    """r(y_0 | y_1, z) is a point at z: mean z, variance 0."""
    z, y = torch.randn(2, 4, 2, generator=generator)
    mean, variance = diffusion.reverse(z, y, 1)
    torch.testing.assert_close(mean, z, rtol=0, atol=0)
    assert (variance == 0).all()


# ---- averaging the reverse over a belief ---------------------------------------------------


def test_reverse_of_belief_by_monte_carlo(diffusion, generator):
    """y_{t-1} ~ r(. | y_t, z) with z ~ N(m, s^2): moments within five standard errors."""
    n = 200_000
    z_mean, z_variance, y = torch.tensor([[0.4, -1.0], [0.09, 2.0], [1.2, 0.1]])
    for t in range(1, T + 1):
        z = z_mean + z_variance.sqrt() * torch.randn(n, 2, generator=generator)
        mean, variance = diffusion.reverse(z, y.expand(n, 2), t)
        draws = mean + variance.sqrt() * torch.randn(n, 2, generator=generator)
        mean, variance = diffusion.reverse_of_belief(z_mean, z_variance, y, t)
        assert ((draws.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
        assert ((draws.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / n)).all()


@pytest.mark.parametrize("t", range(2, T + 1))
def test_reverse_of_the_exact_belief_is_the_reverse_chain(diffusion, t):
    """For z ~ N(m, s^2) the chain is jointly Gaussian: condition (z, y_{t-1}, y_t) on y_t."""
    m, s2, y = 0.6, 0.3, -1.1
    a, b = diffusion.alpha_bar[t - 1].item(), 1 - diffusion.beta[t].item()
    # rows: z, y_{t-1}, y_t as linear maps of (z - m, noise to t-1, noise of step t)
    rows = np.array([[1, 0, 0], [a**0.5, 1, 0], [(a * b) ** 0.5, b**0.5, 1]])
    covariance = rows @ np.diag([s2, 1 - a, 1 - b]) @ rows.T
    centre = m * rows[:, 0]
    gain = covariance[:2, 2] / covariance[2, 2]
    mean = centre[:2] + gain * (y - centre[2])
    left = np.diag(covariance)[:2] - gain * covariance[:2, 2]
    got_mean, got_variance = diffusion.reverse_of_belief(
        *torch.tensor([[mean[0]], [left[0]], [y]]), t
    )
    assert got_mean.item() == pytest.approx(mean[1], rel=1e-10)
    assert got_variance.item() == pytest.approx(left[1], rel=1e-10)


def test_reverse_of_belief_is_the_belief_at_the_first_step(diffusion, generator):
    """q(z | y_1, x) is the belief itself, and y_1 enters only through it."""
    z_mean, y = torch.randn(2, 4, 2, generator=generator)
    z_variance = torch.rand(4, 2, generator=generator) + 0.01
    mean, variance = diffusion.reverse_of_belief(z_mean, z_variance, y, 1)
    torch.testing.assert_close(mean, z_mean, rtol=0, atol=0)
    torch.testing.assert_close(variance, z_variance, rtol=0, atol=0)


def test_noise_and_latent_are_two_names_of_one_thing(diffusion, generator):
    """y_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps, solved for either."""
    z, noise = torch.randn(2, 4, 2, generator=generator)
    for t in range(1, T + 1):
        a = diffusion.alpha_bar[t].item()
        y = math.sqrt(a) * z + math.sqrt(1 - a) * noise
        torch.testing.assert_close(diffusion.noise_from_z(z, y, t), noise)
        torch.testing.assert_close(diffusion.z_from_noise(noise, y, t), z)


def test_steps_may_differ_by_row(diffusion, generator):
    """A tensor of steps does to each row what its own number does."""
    z, y, z_mean = torch.randn(3, T, 2, generator=generator)
    z_variance = torch.rand(T, 2, generator=generator)
    steps = torch.arange(1, T + 1)
    for function, arguments in (
        (diffusion.marginal, (z,)),
        (diffusion.forward_step, (y,)),
        (diffusion.reverse, (z, y)),
        (diffusion.reverse_of_belief, (z_mean, z_variance, y)),
    ):
        together = function(*arguments, steps)
        for row in range(T):
            alone = function(*(argument[row] for argument in arguments), row + 1)
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[row], b)


@pytest.mark.parametrize("n_steps", [10, 100])
def test_float32_buffers_round_the_float64_values(n_steps):
    """Coefficients are computed in float64 and rounded once, to half a unit in the last place."""
    exact = GaussianDiffusion(cosine_alpha_bar(n_steps))
    torch.set_default_dtype(torch.float32)
    rounded = GaussianDiffusion(cosine_alpha_bar(n_steps))
    for name, value in exact.named_buffers():
        assert getattr(rounded, name).dtype == torch.float32
        torch.testing.assert_close(getattr(rounded, name).double(), value, rtol=6e-8, atol=0)


def test_the_chain_joint_is_that_of_the_reverse_chain(diffusion):
    """prod_t r(y_t | y_{t-1}) = r(y_T | z) prod_{t>1} r(y_{t-1} | y_t, z), one joint Gaussian."""
    z = torch.tensor([0.8])
    path = torch.tensor([0.5, 0.9, -0.2, 0.1, -1.0, 0.4]).unsqueeze(-1)
    forward = sum(
        gaussian_log_prob(path[t - 1], *diffusion.forward_step(path[t - 2] if t > 1 else z, t))
        for t in range(1, T + 1)
    )
    backward = gaussian_log_prob(path[-1], *diffusion.marginal(z, T)) + sum(
        gaussian_log_prob(path[t - 2], *diffusion.reverse(z, path[t - 1], t))
        for t in range(2, T + 1)
    )
    # a third, independent way: Cov(y_s, y_t) = sqrt(abar_t / abar_s) (1 - abar_s) for s <= t
    a = diffusion.alpha_bar[1:]
    low, high = torch.minimum(a[:, None], a), torch.maximum(a[:, None], a)
    joint = MultivariateNormal(a.sqrt() * z, (low / high).sqrt() * (1 - high))
    assert forward.item() == pytest.approx(joint.log_prob(path.squeeze(-1)).item(), rel=1e-9)
    assert backward.item() == pytest.approx(forward.item(), rel=1e-9)
