"""The path integral sampler (Zhang and Chen 2022) against path measures written out."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from ancestryvi.models.latent_variable import LatentVariableModel
from ancestryvi.models.path_integral import LAST, MAX_PULL, PathIntegralPosterior
from ancestryvi.models.posterior import Encoding
from ancestryvi.models.priors import MixturePrior

N_HIDDEN = 6
LOG_EVIDENCE = 0.8
MEAN, SCALE = torch.tensor([[0.7, -1.6], [0.5, 1.7]], dtype=torch.float64)
"""Of the belief; one coordinate narrower and one wider than the reference."""

TARGET_MEAN, TARGET_SCALE = torch.tensor([[0.2, -0.5], [0.6, 1.1]], dtype=torch.float64)


def belief(n_samples: int = 1) -> Encoding:
    """The encoding of rows with one belief and different features."""
    features = torch.linspace(-1.0, 1.0, n_samples * N_HIDDEN).reshape(n_samples, N_HIDDEN)
    log_scale = SCALE.log().expand(n_samples, 2)
    return Encoding(MEAN.expand(n_samples, 2), log_scale, features)


def sampler(n_steps: int, *, seed: int | None = None, spread: float = 0.8) -> PathIntegralPosterior:
    """A new posterior, or one whose controller and gains are random."""
    q = PathIntegralPosterior(3, 2, n_hidden=N_HIDDEN, n_steps=n_steps)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in q.parameters():
                size = (
                    spread / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.3 * spread
                )
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return q.requires_grad_(False)


def gaussian_target(mean: Tensor, scale: Tensor) -> Callable[[Tensor], Tensor]:
    """log p(x, z) of a known posterior and evidence."""
    return lambda z: LOG_EVIDENCE + Normal(mean, scale).log_prob(z).sum(-1)


TARGET = gaussian_target(TARGET_MEAN, TARGET_SCALE)


def cubature(n_steps: int) -> Tensor:
    """Noise that is exact for polynomials of degree 3."""
    n = 2 * n_steps
    points = math.sqrt(n) * torch.cat([torch.eye(n), -torch.eye(n)])
    return points.reshape(-1, n_steps, 1, 2).transpose(0, 1)


class NaivePath:
    """One path for one row, in numpy, from the parameters alone.

    Transitions follow from the joint Gaussian of the next point and the end of a Brownian path, not
    from formulas of the package; the end is what the controller believes of it.
    """

    def __init__(self, q: PathIntegralPosterior, encoding: Encoding, noise: Tensor, gradient):
        p = {name: value.detach().numpy() for name, value in q.named_parameters()}
        mean, log_scale, features = (
            part[0].numpy() for part in (encoding.mean, encoding.log_scale, encoding.features)
        )
        n_steps = len(p["gain"])
        self.times = [1 - LAST ** (i / max(1, n_steps - 1)) for i in range(n_steps)] + [1.0]
        known = np.concatenate([features, mean, log_scale])
        context = p["controller.from_features.weight"] @ known + p["controller.from_features.bias"]
        self.points, self.means, self.scales = [np.zeros(2)], [], []
        for i in range(n_steps):
            t, after, y = self.times[i], self.times[i + 1], self.points[-1]
            # belief and y_t ~ N(t z, t (1 - t)), the law of a Brownian path at t that ends in z
            prior = np.exp(2 * log_scale)
            slope = t * prior / (t**2 * prior + t * (1 - t)) if i else np.zeros(2)
            aim = mean + slope * (y - t * mean)
            variance = (1 - slope * t) * prior
            hidden = p["controller.from_y.weight"] @ (y / math.sqrt(1 - t)) + context
            hidden = silu(hidden + p["controller.from_step.weight"][i])
            hidden = silu(p["controller.hidden.weight"] @ hidden + p["controller.hidden.bias"])
            output = p["controller.output.weight"] @ hidden + p["controller.output.bias"]
            pull = MAX_PULL * np.tanh(np.sqrt(variance) * gradient(aim) / MAX_PULL)
            aim = aim + np.sqrt(variance) * (output[:2] + p["gain"][i] * pull)
            # y_after given y_t and the end z: regression in the covariance min(s, t) of Brownian
            # motion started from y_t
            slope = (after - t) / (1 - t)
            noise_variance = (after - t) - slope * (after - t) + slope**2 * variance
            self.means.append(y + slope * (aim - y))
            self.scales.append(np.sqrt(noise_variance))
            self.points.append(self.means[-1] + self.scales[-1] * noise[i].numpy())
        self.z = self.points[-1]

    def log_prob(self) -> float:
        """log q(path), its end included."""
        steps = zip(self.points[1:], self.means, self.scales, strict=True)
        return sum(norm.logpdf(y, mean, scale).sum() for y, mean, scale in steps)

    def log_bridge(self) -> float:
        """log r(path | z): the Brownian bridge from 0 to z, at once on the whole grid."""
        inner = np.array(self.times[1:-1])
        if len(inner) == 0:
            return 0.0
        covariance = np.minimum.outer(inner, inner) - np.outer(inner, inner)
        path = np.array(self.points[1:-1])
        return sum(
            multivariate_normal.logpdf(path[:, d], inner * self.z[d], covariance) for d in (0, 1)
        )


def silu(a):
    return a / (1 + np.exp(-a))


def target_gradient(z: np.ndarray) -> np.ndarray:
    """Of `TARGET`."""
    return -(z - TARGET_MEAN.numpy()) / TARGET_SCALE.numpy() ** 2


# ---- the process ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 2, 5, 10])
def test_the_uncontrolled_process_is_brownian_motion_to_a_standard_normal(generator, n_steps):
    """Section 3: for the belief N(0, I) the control is 0, whose end is N(0, I): z = sum sqrt(dt) e.

    Then q(path) is r(path | z) N(z; 0, I), and what the bound adds to the prior is nothing.
    """
    q = sampler(n_steps)
    features = torch.randn(3, N_HIDDEN, generator=generator)
    encoding = Encoding(torch.zeros(3, 2), torch.zeros(3, 2), features)
    noise = torch.randn(n_steps, 7, 3, 2, generator=generator)
    z, log_auxiliary, entropy = q.trajectory(encoding, noise, TARGET)
    times = torch.cat([1 - q.remaining, torch.ones(1)])
    expected = (times.diff().sqrt().reshape(-1, 1, 1, 1) * noise).sum(0)
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-12)
    assert times.diff().sum().item() == pytest.approx(1.0, abs=1e-12)
    log_end = Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(log_auxiliary + entropy, -log_end, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_steps", [1, 2, 5, 10])
def test_untrained_draws_have_the_moments_of_the_belief(n_steps):
    """The Föllmer control of a Gaussian ends in it: mean and covariance by cubature, to 1e-10."""
    q = sampler(n_steps)
    z = q.infer(belief(), cubature(n_steps), TARGET)[:, 0]
    torch.testing.assert_close(z.mean(0), MEAN, rtol=0, atol=1e-10)
    covariance = (z - z.mean(0)).T @ (z - z.mean(0)) / len(z)
    expected = torch.diag(SCALE.square())
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_a_path_follows_the_equations_written_out(generator, n_steps, seed):
    """z and -log q(path) of a loop; noise of squares 1, as they are in expectation; to 1e-9."""
    q = sampler(n_steps, seed=seed)
    encoding = belief()
    for _ in range(5):
        noise = torch.randn(n_steps, 1, 2, generator=generator).sign()
        z, _, entropy = q.trajectory(encoding, noise, TARGET)
        path = NaivePath(q, encoding, noise[:, 0], target_gradient)
        np.testing.assert_allclose(z[0].numpy(), path.z, rtol=0, atol=1e-9)
        assert entropy.item() == pytest.approx(-path.log_prob(), abs=1e-9)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_the_path_measure_is_that_of_the_brownian_bridge(n_steps, seed):
    """log q(path) - log r(path | z), the bridge as one normal over the grid of times.

    The package takes each step's part in expectation given the step before, the loop as it falls.
    Over a tree with two branches a step, of which the mean of a square is exact, they agree; 1e-8.
    """
    q = sampler(n_steps, seed=seed)
    encoding = belief()
    signs = torch.tensor([-1.0, 1.0])
    noise = torch.cartesian_prod(*[signs] * (2 * n_steps)).reshape(-1, n_steps, 2)
    noise = noise.transpose(0, 1).unsqueeze(2)
    _, log_auxiliary, entropy = q.trajectory(encoding, noise, TARGET)
    paths = [
        NaivePath(q, encoding, noise[:, branch, 0], target_gradient)
        for branch in range(noise.shape[1])
    ]
    expected = np.mean([path.log_bridge() - path.log_prob() for path in paths])
    assert (log_auxiliary + entropy).mean().item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_importance_weights_average_to_the_evidence(generator, seed):
    """E[p(x, z) r(path | z) / q(path)] = p(x) for any control (Zhang and Chen, section 4).

    Densities of the loop, 2,000 paths, within five standard errors.
    """
    q = sampler(2, seed=seed, spread=0.2)
    encoding = belief()
    inner = 0.7 * SCALE  # narrower than the belief, so that weights have a variance
    target = gaussian_target(MEAN, inner)

    def gradient(z: np.ndarray) -> np.ndarray:
        return -(z - MEAN.numpy()) / inner.numpy() ** 2

    noise = torch.randn(2000, 2, 2, generator=generator)
    paths = [NaivePath(q, encoding, e, gradient) for e in noise]
    ends = torch.as_tensor(np.array([path.z for path in paths]))
    log_weights = target(ends).numpy() + [path.log_bridge() - path.log_prob() for path in paths]
    weights = np.exp(log_weights - LOG_EVIDENCE)
    error = weights.std() / math.sqrt(2000)
    assert error < 0.1
    assert abs(weights.mean() - 1) < 5 * error


# ---- the bound -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 2, 5, 10, 30])
def test_the_bound_of_the_exact_belief_is_the_evidence(n_steps):
    """Theorem 1 on a grid: optimal control has no gap, for any number of steps; to 1e-9."""
    target = gaussian_target(MEAN, SCALE)
    z, log_auxiliary, entropy = sampler(n_steps).trajectory(belief(), cubature(n_steps), target)
    bound = (target(z) + log_auxiliary + entropy).mean(0)
    assert bound.item() == pytest.approx(LOG_EVIDENCE, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_steps", [2, 3, 10])
def test_the_bound_of_any_control_is_below_the_evidence(generator, n_steps, seed):
    """Controller and gains at random: mean of 4,000 draws, five standard errors to spare."""
    q = sampler(n_steps, seed=seed)
    noise = torch.randn(n_steps, 4000, 1, 2, generator=generator)
    for target in (TARGET, gaussian_target(MEAN, SCALE)):
        z, log_auxiliary, entropy = q.trajectory(belief(), noise, target)
        bound = target(z) + log_auxiliary + entropy
        assert bound.mean() + 5 * bound.std() / math.sqrt(4000) < LOG_EVIDENCE


@pytest.mark.parametrize(("n_steps", "seed"), [(1, None), (6, None), (1, 0), (1, 1)])
def test_the_bound_lacks_the_divergence_of_a_gaussian_end(n_steps, seed):
    """KL(q || posterior) and nothing else, to 1e-9: untrained, or in one step of any control."""
    noise = cubature(n_steps)
    z, log_auxiliary, entropy = sampler(n_steps, seed=seed).trajectory(belief(), noise, TARGET)
    end = Normal(z.mean(0), z.std(0, correction=0))
    gap = torch.distributions.kl_divergence(end, Normal(TARGET_MEAN, TARGET_SCALE)).sum()
    bound = (TARGET(z) + log_auxiliary + entropy).mean()
    assert (LOG_EVIDENCE - bound).item() == pytest.approx(gap.item(), abs=1e-9)


# ---- the pull of the target ----------------------------------------------------------------


def test_the_pull_is_the_gradient_of_the_joint_density(generator):
    """Equation 12 uses the score of the target: against finite differences, to 1e-6.

    No gradient flows through it, inside `no_grad` or outside.
    """
    torch.manual_seed(0)
    q = sampler(3)
    prior = MixturePrior(torch.ones(2) / 2, torch.randn(2, 2), torch.eye(2).repeat(2, 1, 1))
    model = LatentVariableModel(3, prior, q, torch.ones(3), n_hidden=8)
    x = torch.randn(4, 3, generator=generator)
    log_joint = model.log_joint(x)
    aim = torch.randn(4, 2, generator=generator, requires_grad=True)
    pull = q._pull(aim, log_joint)
    assert not pull.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(q._pull(aim, log_joint), pull, rtol=0, atol=0)
        for d in range(2):
            step = 1e-5 * torch.eye(2)[d]
            slope = (log_joint(aim + step) - log_joint(aim - step)) / 2e-5
            torch.testing.assert_close(pull[:, d], slope, rtol=0, atol=1e-6)


def test_a_gain_moves_draws_towards_the_target():
    """A belief at the wrong place, one step, and a target far off: the move is MAX_PULL at most."""
    far = gaussian_target(torch.tensor([50.0, -50.0]), torch.ones(2))
    moves = []
    for gain in (0.0, 0.5, 1.0):
        q = sampler(1)
        q.gain.fill_(gain)
        moves.append(q.infer(belief(), torch.zeros(1, 1, 2), far)[0] - MEAN)
    scale = SCALE
    torch.testing.assert_close(moves[0], torch.zeros(2))
    for move, gain in zip(moves[1:], (0.5, 1.0), strict=True):
        reach = torch.tensor([1.0, -1.0]) * gain * MAX_PULL * scale
        torch.testing.assert_close(move, reach, rtol=1e-3, atol=0)


def test_training_reaches_both_modes_of_a_bimodal_target():
    """The best Gaussian takes one of two modes, which costs log 2; half of that is won and more.

    250 training steps on one x, 16 of the process; draws of the trained process are in both modes.
    """
    target = MixtureSameFamily(
        Categorical(torch.ones(2)), Normal(torch.tensor([-2.0, 2.0]), torch.tensor([0.7, 0.7]))
    )

    def log_joint(z: Tensor) -> Tensor:
        return target.log_prob(z.squeeze(-1))

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q = PathIntegralPosterior(1, 1, n_hidden=8, n_steps=16)
    with torch.no_grad():
        q.belief_head.weight.zero_()
        q.belief_head.bias.copy_(torch.tensor([0.0, math.log(2.0)]))
    optimizer = torch.optim.Adam(q.parameters(), 5e-3)
    x = torch.ones(1, 1)

    def bound(n_draws: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(q.n_noise, n_draws, 1, 1, generator=generator)
        z, log_auxiliary, entropy = q.trajectory(q.encode(x), noise, log_joint)
        return (log_joint(z) + log_auxiliary + entropy).mean(), z

    for step in range(250):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 250)
        optimizer.zero_grad()
        (-bound(64)[0]).backward()
        optimizer.step()
    with torch.no_grad():
        reached, z = bound(4000)
    assert -0.5 * math.log(2) < reached.item() < 0.05
    assert 0.2 < (z > 0).double().mean() < 0.8
