"""AEVB (Kingma and Welling 2014) on models whose evidence and posterior are known."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from ancestryvi.models.aevb import GaussianPosterior
from ancestryvi.models.hierarchical import HierarchicalPosterior
from ancestryvi.models.iaf import FlowPosterior
from ancestryvi.models.latent_variable import LatentVariableModel
from ancestryvi.models.path_integral import PathIntegralPosterior
from ancestryvi.models.posterior import Posterior
from ancestryvi.models.priors import MixturePrior

N_FEATURES = 4
NOISE = 0.6


class LinearModel:
    """z ~ N(0, I), x | z ~ N(W z + b, s^2 I): evidence and posterior in closed form.

    Columns of W are orthogonal, so that coordinates of z given x are independent, as q's are.
    """

    def __init__(self, n_latent: int) -> None:
        generator = torch.Generator().manual_seed(n_latent)
        basis, _ = torch.linalg.qr(torch.randn(N_FEATURES, n_latent, generator=generator))
        self.weight = basis * torch.tensor([1.4, 0.5])[:n_latent]
        self.bias = torch.randn(N_FEATURES, generator=generator)
        covariance = self.weight @ self.weight.T + NOISE**2 * torch.eye(N_FEATURES)
        self.evidence = MultivariateNormal(self.bias, covariance)
        self.variance = 1.0 / (1.0 + self.weight.square().sum(0) / NOISE**2)
        self.gain = self.variance.unsqueeze(-1) * self.weight.T / NOISE**2

    def posterior(self, x: Tensor) -> Normal:
        """p(z | x)."""
        return Normal((x - self.bias) @ self.gain.T, self.variance.sqrt())

    def aevb(self, *, exact: bool) -> LatentVariableModel:
        """AEVB whose theta is this model; q the exact posterior, or any other."""
        n_latent = len(self.variance)
        q = GaussianPosterior(N_FEATURES, n_latent, n_hidden=6)
        if exact:
            q.encoder = nn.Identity()
            q.belief_head = nn.Linear(N_FEATURES, 2 * n_latent)
            with torch.no_grad():
                q.belief_head.weight.copy_(torch.cat([self.gain, torch.zeros_like(self.gain)]))
                offset = -self.gain @ self.bias
                q.belief_head.bias.copy_(torch.cat([offset, 0.5 * self.variance.log()]))
        else:
            randomise(q, 1.0)
        prior = MixturePrior.standard_normal(n_latent)
        model = LatentVariableModel(N_FEATURES, prior, q, torch.full((N_FEATURES,), NOISE))
        model.decoder = nn.Sequential(nn.Linear(n_latent, N_FEATURES))
        with torch.no_grad():
            model.decoder[0].weight.copy_(self.weight)
            model.decoder[0].bias.copy_(self.bias)
        return model.requires_grad_(False)


def randomise(module: nn.Module, spread: float, seed: int = 0) -> None:
    """Give every parameter a random value, of a size that keeps outputs of order `spread`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            size = spread / math.sqrt(parameter.shape[-1] if parameter.ndim > 1 else 1)
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def cubature(n_latent: int, n_samples: int) -> Tensor:
    """Noise of 2 D draws whose mean is exact for polynomials of degree 3 in one noise vector."""
    points = math.sqrt(n_latent) * torch.cat([torch.eye(n_latent), -torch.eye(n_latent)])
    return points.reshape(1, -1, 1, n_latent).expand(-1, -1, n_samples, -1)


# ---- the linear model ----------------------------------------------------------------------


@pytest.mark.parametrize("n_latent", [1, 2])
def test_elbo_of_the_exact_posterior_is_the_evidence(generator, n_latent):
    """Equation 3 without a gap, to 1e-10: terms are quadratic in the noise."""
    linear = LinearModel(n_latent)
    model = linear.aevb(exact=True)
    x = 1.5 * torch.randn(6, N_FEATURES, generator=generator)
    elbo = model.elbo(x, cubature(n_latent, 6)).elbo.mean(0)
    torch.testing.assert_close(elbo, linear.evidence.log_prob(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_latent", [1, 2])
def test_the_gap_of_any_posterior_is_its_divergence_from_the_exact_one(generator, n_latent):
    """Equation 1: log p(x) = ELBO + KL(q(z | x) || p(z | x)), to 1e-10."""
    linear = LinearModel(n_latent)
    model = linear.aevb(exact=False)
    x = torch.randn(6, N_FEATURES, generator=generator)
    encoding = model.posterior.encode(x)
    q = Normal(encoding.mean, encoding.log_scale.exp())
    gap = kl_divergence(q, linear.posterior(x)).sum(-1)
    assert gap.min() > 0.01
    elbo = model.elbo(x, cubature(n_latent, 6)).elbo.mean(0)
    torch.testing.assert_close(elbo + gap, linear.evidence.log_prob(x), rtol=0, atol=1e-10)


def test_prior_and_entropy_are_the_divergence_in_closed_form(generator):
    """Appendix B: -KL(q || N(0, I)) = (1 + log s^2 - m^2 - s^2) / 2, summed over coordinates."""
    model = LinearModel(2).aevb(exact=False)
    x = torch.randn(6, N_FEATURES, generator=generator)
    encoding = model.posterior.encode(x)
    variance = (2 * encoding.log_scale).exp()
    expected = 0.5 * (1 + variance.log() - encoding.mean**2 - variance).sum(-1)
    terms = model.elbo(x, cubature(2, 6))
    torch.testing.assert_close(terms.regularisation.mean(0), expected, rtol=0, atol=1e-12)
    assert terms.log_forward.abs().max() == 0
    assert terms.log_class.abs().max() == 0


def test_draws_have_the_moments_of_the_belief(generator):
    """z = m + s noise (section 2.4): mean and covariance by cubature, to 1e-12."""
    model = LinearModel(2).aevb(exact=False)
    x = torch.randn(3, N_FEATURES, generator=generator)
    hidden = model.posterior.encoder(x)
    mean, log_scale = model.posterior.belief_head(hidden).chunk(2, dim=-1)
    z = model.infer(x, cubature(2, 3))
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=1e-12)
    centred = (z - mean).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / len(z)
    torch.testing.assert_close(
        covariance, torch.diag_embed((2 * log_scale).exp()), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(model.place(x), mean, rtol=0, atol=0)


def test_warm_start_uses_the_bound_of_aevb(generator):
    """`belief_elbo` is the bound of this posterior, term by term."""
    model = LinearModel(2).aevb(exact=False)
    x = torch.randn(6, N_FEATURES, generator=generator)
    noise = torch.randn(1, 6, 2, generator=generator)
    terms = model.elbo(x, noise)
    reconstruction, regularisation = model.belief_elbo(
        x, model.posterior.encoder_belief(x), noise[0]
    )
    torch.testing.assert_close(reconstruction, terms.reconstruction, rtol=0, atol=1e-12)
    torch.testing.assert_close(regularisation, terms.regularisation, rtol=0, atol=1e-12)


# ---- every posterior of the comparison, on a nonlinear model -------------------------------

KINDS = {
    "aevb": GaussianPosterior,
    "aevb-iaf": FlowPosterior,
    "h-aevb": HierarchicalPosterior,
    "pis": lambda *sizes, **widths: PathIntegralPosterior(*sizes, n_steps=2, **widths),
}
NODES = torch.arange(-7.0, 7.0 + 1e-9, 0.2, dtype=torch.float64)
NODE_WEIGHTS = torch.exp(-0.5 * NODES**2) / torch.exp(-0.5 * NODES**2).sum()
Z = torch.linspace(-25.0, 25.0, 10001, dtype=torch.float64).unsqueeze(-1)


def nonlinear_model(posterior: Posterior, seed: int) -> LatentVariableModel:
    """Two components, a curved decoder."""
    prior = MixturePrior(torch.ones(2) / 2, torch.zeros(2, 1), torch.ones(2, 1, 1))
    model = LatentVariableModel(3, prior, posterior, torch.ones(3), n_hidden=6)
    randomise(model, 0.5, seed)
    with torch.no_grad():
        prior.means.mul_(3.0)
    return model.requires_grad_(False)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_elbo_of_a_nonlinear_model_is_below_its_evidence(generator, kind, seed):
    """Both sides by numerical integration, all parameters random, for every x."""
    model = nonlinear_model(KINDS[kind](3, 1, n_hidden=5), seed)
    x = torch.randn(3, 3, generator=generator)
    log_joint = model.prior.log_prob(Z) + model.reconstruction(x.unsqueeze(1), Z)
    evidence = log_joint.logsumexp(1) + math.log(Z[1] - Z[0])
    n = model.n_noise
    grid = torch.cartesian_prod(*[NODES] * n).reshape(-1, n)
    weights = torch.cartesian_prod(*[NODE_WEIGHTS] * n).reshape(-1, n).prod(-1)
    noise = grid.T.reshape(n, -1, 1, 1).expand(-1, -1, 3, -1)
    elbo = (weights.unsqueeze(-1) * model.elbo(x, noise).elbo).sum(0)
    assert (elbo < evidence - 1e-4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_neither_on_its_batch_nor_on_other_draws(generator, kind):
    posterior = KINDS[kind](3, 2, n_hidden=5)
    model = LatentVariableModel(3, MixturePrior.standard_normal(2), posterior, torch.ones(3))
    randomise(model, 0.5)
    x = torch.randn(4, 3, generator=generator)
    noise = torch.randn(model.n_noise, 5, 4, 2, generator=generator)
    together = model.elbo(x, noise).elbo
    assert together.shape == (5, 4)
    for draw in range(5):
        for row in range(4):
            alone = model.elbo(x[[row]], noise[:, draw, [row]]).elbo[0]
            torch.testing.assert_close(alone, together[draw, row], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_moves_the_posterior_and_many_may_be_tried_at_once(generator, kind):
    """q(z | x, c): classes on an axis of their own are as many calls with one class each."""
    posterior = KINDS[kind](3, 2, n_classes=3, n_hidden=5)
    model = LatentVariableModel(3, MixturePrior.standard_normal(2), posterior, torch.ones(3))
    randomise(model, 0.8)
    x = torch.randn(4, 3, generator=generator)
    noise = torch.randn(model.n_noise, 1, 4, 2, generator=generator)
    classes = torch.eye(3)
    together = model.infer(x, noise, classes.unsqueeze(1))
    assert together.shape == (3, 4, 2)
    for c in range(3):
        alone = model.infer(x, noise, classes[[c]])
        torch.testing.assert_close(alone[0], together[c], rtol=0, atol=1e-12)
    assert ((together[0] - together[1]).abs() > 1e-6).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "aevb"])
def test_training_starts_from_aevb(generator, kind):
    """Untrained, every posterior is the encoder's belief: draws have its moments, to 1e-10.

    The mean of the bound over cubature points is that of AEVB with the same encoder.
    """
    posterior = KINDS[kind](N_FEATURES, 2, n_hidden=6)
    belief = GaussianPosterior(N_FEATURES, 2, n_hidden=6)
    belief.load_state_dict(posterior.state_dict(), strict=False)
    models = [LinearModel(2).aevb(exact=True) for _ in range(2)]
    models[0].posterior, models[1].posterior = posterior, belief
    x = torch.randn(3, N_FEATURES, generator=generator)
    n = posterior.n_noise
    points = math.sqrt(2 * n) * torch.cat([torch.eye(2 * n), -torch.eye(2 * n)])
    noise = points.reshape(-1, n, 1, 2).transpose(0, 1).expand(-1, -1, 3, -1)
    z = models[0].infer(x, noise)
    encoding = belief.encode(x)
    torch.testing.assert_close(z.mean(0), encoding.mean, rtol=0, atol=1e-10)
    variance = z.var(0, correction=0)
    torch.testing.assert_close(variance, (2 * encoding.log_scale).exp(), rtol=0, atol=1e-10)
    elbo = models[0].elbo(x, noise).elbo.mean(0)
    of_aevb = models[1].elbo(x, cubature(2, 3)).elbo.mean(0)
    torch.testing.assert_close(elbo, of_aevb, rtol=0, atol=1e-10)
