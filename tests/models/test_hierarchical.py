"""The hierarchical posterior (Ranganath et al. 2016) where its marginal and r are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from ancestryvi.models.hierarchical import HierarchicalPosterior

NODES = torch.arange(-8.0, 8.0 + 1e-9, 0.1, dtype=torch.float64)
NODE_WEIGHTS = torch.exp(-0.5 * NODES**2) / torch.exp(-0.5 * NODES**2).sum()
LOG_EVIDENCE = -2.3


def randomised(module: nn.Module, spread: float, seed: int = 0) -> nn.Module:
    """The same with random parameters, zero-initialised ones too, of a size that tells."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            size = spread / math.sqrt(parameter.shape[-1] if parameter.ndim > 1 else 1)
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return module.requires_grad_(False)


def scaled(density: torch.distributions.Distribution) -> Callable[[Tensor], Tensor]:
    """log p(x, z) of a known posterior and evidence."""
    return lambda z: LOG_EVIDENCE + density.log_prob(z).reshape(z.shape[:-1])


class LinearHierarchy:
    """y ~ N(a, b^2), z | y ~ N(w y + d, c^2) for each coordinate: everything is Gaussian."""

    def __init__(self, n_latent: int) -> None:
        generator = torch.Generator().manual_seed(n_latent)
        self.a, self.w, self.d = torch.randn(3, n_latent, generator=generator)
        self.b, self.c = 0.4 + torch.rand(2, n_latent, generator=generator)
        self.mean = self.w * self.a + self.d
        self.variance = self.w**2 * self.b**2 + self.c**2

    def y_given(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of y given z, by Bayes' rule."""
        variance = 1.0 / (1.0 / self.b**2 + self.w**2 / self.c**2)
        return variance * (self.a / self.b**2 + self.w * (z - self.d) / self.c**2), variance

    def posterior(self, *, exact: bool) -> HierarchicalPosterior:
        """q with this hierarchy; r(y | z) right, or off by a constant shift."""
        n = len(self.a)
        q = HierarchicalPosterior(3, n, n_hidden=4)
        none = torch.zeros(n, 4)
        white = HandMade(torch.diag(self.w), none, self.d, self.c)
        at_0, variance = self.y_given(torch.zeros(n))
        slope = self.y_given(torch.ones(n))[0] - at_0
        q.down = white
        q.up = HandMade(torch.diag(slope), none, at_0 + (0.0 if exact else 0.5), variance.sqrt())
        with torch.no_grad():
            for head, mean, scale in (
                (q.top_head, self.a, self.b),
                (q.belief_head, torch.zeros(n), torch.ones(n)),
            ):
                head.weight.zero_()
                head.bias.copy_(torch.cat([mean, scale.log()]))
        return q.requires_grad_(False)


class HandMade(nn.Module):
    """In place of a network: linear in (value, features), with constant log scales."""

    def __init__(self, of_value: Tensor, of_features: Tensor, offset: Tensor, scale: Tensor):
        super().__init__()
        self.weight = torch.cat([of_value, of_features], -1)
        self.offset, self.log_scale = offset, scale.log()

    def forward(self, inputs: Tensor) -> Tensor:
        mean = inputs @ self.weight.T + self.offset
        return torch.cat([mean, self.log_scale.expand_as(mean)], -1)


def cubature(n_latent: int) -> Tensor:
    """Noise of y and z that is exact for polynomials of degree 3."""
    n = 2 * n_latent
    points = math.sqrt(n) * torch.cat([torch.eye(n), -torch.eye(n)])
    return points.reshape(-1, 2, 1, n_latent).transpose(0, 1)


def bound(q: HierarchicalPosterior, noise: Tensor, log_joint: Callable[[Tensor], Tensor]) -> Tensor:
    """Draws of the bound (equation 5), for one x."""
    z, log_auxiliary, entropy = q.trajectory(q.encode(torch.ones(1, 3)), noise, log_joint)
    return (log_joint(z) + log_auxiliary + entropy).squeeze(-1)


# ---- a linear hierarchy --------------------------------------------------------------------


@pytest.mark.parametrize("n_latent", [1, 2])
def test_the_bound_is_the_evidence_where_q_and_r_are_exact(n_latent):
    """Equation 5 without a gap: q(z | x) is p(z | x), r(y | z, x) is q(y | z, x); to 1e-10."""
    hierarchy = LinearHierarchy(n_latent)
    target = MultivariateNormal(hierarchy.mean, torch.diag(hierarchy.variance))
    draws = bound(hierarchy.posterior(exact=True), cubature(n_latent), scaled(target))
    assert draws.mean().item() == pytest.approx(LOG_EVIDENCE, abs=1e-10)


@pytest.mark.parametrize("n_latent", [1, 2])
def test_a_wrong_r_costs_its_divergence(n_latent):
    """Section 3.2: the gap is E[KL(q(y | z, x) || r(y | z, x))], here of a shift by 0.5."""
    hierarchy = LinearHierarchy(n_latent)
    target = MultivariateNormal(hierarchy.mean, torch.diag(hierarchy.variance))
    draws = bound(hierarchy.posterior(exact=False), cubature(n_latent), scaled(target))
    _, variance = hierarchy.y_given(torch.zeros(n_latent))
    expected = LOG_EVIDENCE - (0.5 * 0.25 / variance).sum().item()
    assert draws.mean().item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n_latent", [1, 2])
def test_draws_have_the_marginal_of_the_hierarchy(n_latent):
    """Mean and variance of z with y integrated out, by cubature, to 1e-12."""
    hierarchy = LinearHierarchy(n_latent)
    q = hierarchy.posterior(exact=True)
    z = q.infer(q.encode(torch.ones(1, 3)), cubature(n_latent), scaled(Normal(0.0, 1.0)))[:, 0]
    torch.testing.assert_close(z.mean(0), hierarchy.mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(z.var(0, correction=0), hierarchy.variance, rtol=0, atol=1e-12)


# ---- random networks -----------------------------------------------------------------------


def random_posterior(seed: int, n_latent: int = 1) -> HierarchicalPosterior:
    return randomised(HierarchicalPosterior(3, n_latent, n_hidden=5), 0.9, seed)


def test_terms_are_the_densities_written_out(generator):
    """log r(y | z, x) and the entropies, from the networks' own outputs, for one x."""
    q = random_posterior(0, 2)
    x = torch.randn(1, 3, generator=generator)
    noise = torch.randn(2, 5, 1, 2, generator=generator).sign()  # squares are as expected
    encoding = q.encode(x)
    z, log_auxiliary, entropy = q.trajectory(encoding, noise, scaled(Normal(0.0, 1.0)))
    scale = encoding.log_scale[0].exp()
    top = q.top_head(encoding.features[0]).chunk(2)
    for draw in range(5):
        of_y = Normal(top[0], top[1].exp())
        y = of_y.mean + of_y.stddev * noise[0, draw, 0]
        shift, log_correction = q.down(torch.cat([y, encoding.features[0]])).chunk(2)
        of_z = Normal(encoding.mean[0] + scale * shift, scale * log_correction.exp())
        torch.testing.assert_close(z[draw, 0], of_z.mean + of_z.stddev * noise[1, draw, 0])
        white = (z[draw, 0] - encoding.mean[0]) / scale
        mean, log_scale = q.up(torch.cat([white, encoding.features[0]])).chunk(2)
        r = Normal(mean, log_scale.exp()).log_prob(y).sum()
        torch.testing.assert_close(log_auxiliary[draw, 0], r)
        log_q = of_y.log_prob(y).sum() + of_z.log_prob(z[draw, 0]).sum()
        torch.testing.assert_close(entropy[draw, 0], -log_q)


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_below_the_evidence_for_any_networks(seed):
    """Equation 5 with both noises integrated on a grid, for a bimodal target of known evidence.

    And what it lacks is made of two divergences: of z from the target, which a grid for z gives,
    and of y given z from r; so that the bound without the first is still below 0.
    """
    q = random_posterior(seed)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.4, 0.6])),
        Normal(torch.tensor([-1.2, 1.0]), torch.tensor([0.6, 0.8])),
    )
    noise = torch.cartesian_prod(NODES, NODES).T.reshape(2, -1, 1, 1)
    weights = torch.cartesian_prod(NODE_WEIGHTS, NODE_WEIGHTS).prod(-1)
    total = (weights * bound(q, noise, scaled(mixture))).sum().item()

    # q(z) = E_y[q(z | y)] on a grid, and its divergence from the target
    encoding = q.encode(torch.ones(1, 3))
    scale = encoding.log_scale.exp()
    mean, log_scale = q.top_head(encoding.features).chunk(2, dim=-1)
    y = mean + log_scale.exp() * NODES.unsqueeze(-1)
    features = encoding.features.expand(len(NODES), -1)
    shift, log_correction = q.down(torch.cat([y, features], -1)).chunk(2, dim=-1)
    of_z = Normal(encoding.mean + scale * shift, scale * log_correction.exp())
    z = torch.linspace(-20.0, 20.0, 8001)
    log_q = (of_z.log_prob(z) + NODE_WEIGHTS.log().unsqueeze(-1)).logsumexp(0)
    cell = z[1] - z[0]
    assert (log_q.exp().sum() * cell).item() == pytest.approx(1.0, abs=1e-6)
    divergence = (log_q.exp() * (log_q - mixture.log_prob(z))).sum().item() * cell.item()
    assert divergence > 0.01
    assert total < LOG_EVIDENCE - divergence - 1e-4
