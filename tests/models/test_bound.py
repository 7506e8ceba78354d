"""The ELBO is a lower bound: held against evidence known in closed form or by integration."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion, gaussian_log_prob
from ancestryvi.models.diffusion_posterior import MAX_LOG_CORRECTION, DiffusionPosterior
from ancestryvi.models.networks import zero_init
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training import History, train_phase
from ancestryvi.training.wake_sleep import Weights, dreaming, wake_sleep

N_FEATURES = 4


class LinearModel:
    """z ~ N(m, S), x | z ~ N(W z + b, Psi): evidence and posterior in closed form.

    W is such that the posterior of z has independent coordinates, as q has; S has not.
    """

    def __init__(self, n_latent: int) -> None:
        generator = torch.Generator().manual_seed(n_latent)
        self.prior_mean = torch.tensor([0.5, -1.2])[:n_latent]
        prior_precision = torch.tensor([[0.6, 0.3], [0.3, 0.8]])[:n_latent, :n_latent]
        self.prior_covariance = torch.linalg.inv(prior_precision)
        self.variance = torch.tensor([0.35, 0.7])[:n_latent]  # of p(z | x)
        self.noise = torch.tensor([0.5, 0.8, 1.1, 0.6])  # the square root of Psi
        self.bias = torch.randn(N_FEATURES, generator=generator)
        basis, _ = torch.linalg.qr(torch.randn(N_FEATURES, n_latent, generator=generator))
        # S^-1 + W' Psi^-1 W = diag(1 / variance)
        information = torch.diag(1.0 / self.variance) - prior_precision
        self.weight = self.noise.unsqueeze(-1) * basis @ torch.linalg.cholesky(information).T
        # E(z | x) = gain x + offset
        self.gain = self.variance.unsqueeze(-1) * self.weight.T / self.noise**2
        self.offset = self.variance * (prior_precision @ self.prior_mean) - self.gain @ self.bias
        covariance = self.weight @ self.prior_covariance @ self.weight.T
        self.evidence = MultivariateNormal(
            self.bias + self.weight @ self.prior_mean, covariance + torch.diag(self.noise**2)
        )

    def ddvi(self, n_steps: int, **widths: int) -> DDVI:
        """A DDVI whose theta is this model."""
        n_latent = len(self.variance)
        prior = MixturePrior(
            torch.ones(1),
            self.prior_mean.unsqueeze(0),
            torch.linalg.inv(torch.linalg.cholesky(self.prior_covariance)).unsqueeze(0),
        )
        diffusion = GaussianDiffusion(cosine_alpha_bar(n_steps))
        posterior = DiffusionPosterior(N_FEATURES, n_latent, diffusion, **widths)
        model = DDVI(N_FEATURES, prior, posterior, self.noise)
        decoder = nn.Linear(n_latent, N_FEATURES)
        with torch.no_grad():
            decoder.weight.copy_(self.weight)
            decoder.bias.copy_(self.bias)
        model.decoder = nn.Sequential(decoder)
        return model

    def data(self, n_samples: int, generator: torch.Generator) -> Tensor:
        """Draws of x from the evidence."""
        white = torch.randn(n_samples, N_FEATURES, generator=generator)
        return self.evidence.mean + white @ self.evidence.scale_tril.T

    def posterior_mean(self, x: Tensor) -> Tensor:
        return x @ self.gain.T + self.offset


class ExactDenoiser(nn.Module):
    """p(z | y_t, x) of a linear model, in the coordinates of `Denoiser`: shift and log scale."""

    def __init__(self, model: LinearModel, diffusion: GaussianDiffusion) -> None:
        super().__init__()
        self.model, self.diffusion = model, diffusion

    def context(self, features: Tensor) -> Tensor:
        """The belief's mean, out of features that end in its mean and log scale."""
        n_latent = len(self.model.variance)
        return features[..., -2 * n_latent : -n_latent]

    def forward(self, y: Tensor, t: Tensor | int, context: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.diffusion.alpha_bar[t].unsqueeze(-1)
        belief = self.model.variance
        variance = 1.0 / (1.0 / belief + alpha_bar / (1.0 - alpha_bar))
        mean = variance * (context / belief + alpha_bar.sqrt() / (1.0 - alpha_bar) * y)
        correction = 0.5 * (variance / belief).log()
        unbounded = MAX_LOG_CORRECTION * torch.atanh(correction / MAX_LOG_CORRECTION)
        return (mean - context) / belief.sqrt(), unbounded.expand_as(y)


def exact_ddvi(linear: LinearModel, n_steps: int) -> DDVI:
    """The DDVI whose q is the exact posterior of the linear model and of its noised latents.

    q(y_T | x) = r(y_T | z) averaged over the encoder's belief needs no correction then.
    """
    model = linear.ddvi(n_steps)
    posterior, n_latent = model.posterior, len(linear.variance)
    posterior.encoder = nn.Identity()
    posterior.belief_head = nn.Linear(N_FEATURES, 2 * n_latent)
    posterior.start_head = zero_init(nn.Linear(N_FEATURES, 2 * n_latent))
    with torch.no_grad():
        head = posterior.belief_head
        head.weight.copy_(torch.cat([linear.gain, torch.zeros_like(linear.gain)]))
        head.bias.copy_(torch.cat([linear.offset, 0.5 * linear.variance.log()]))
    posterior.denoiser = ExactDenoiser(linear, posterior.diffusion)
    return model.requires_grad_(False)


def cubature(n: int) -> Tensor:
    """2 n points of equal weight that integrate polynomials of degree 3 against N(0, I_n)."""
    return math.sqrt(n) * torch.cat([torch.eye(n), -torch.eye(n)])


# ---- the linear model with q exact: every bound is tight -----------------------------------


@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 3, 10, 50])
def test_elbo_of_the_exact_posterior_is_the_evidence(generator, n_latent, n_steps):
    """Equation 4 without a gap. The terms are quadratic in the noise, so cubature is exact."""
    linear = LinearModel(n_latent)
    model = exact_ddvi(linear, n_steps)
    x = 1.5 * linear.data(5, generator)
    points = cubature((n_steps + 1) * n_latent)
    noise = points.reshape(-1, n_steps + 1, 1, n_latent).transpose(0, 1).expand(-1, -1, 5, -1)
    elbo = model.elbo(x, noise).elbo.mean(0)
    torch.testing.assert_close(elbo, linear.evidence.log_prob(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 3, 10])
def test_infer_with_the_exact_steps_draws_from_the_exact_posterior(generator, n_latent, n_steps):
    """Mean and covariance of z, which is linear in the noise: cubature again, to 1e-10."""
    linear = LinearModel(n_latent)
    model = exact_ddvi(linear, n_steps)
    x = linear.data(3, generator)
    points = cubature((n_steps + 1) * n_latent)
    noise = points.reshape(-1, n_steps + 1, 1, n_latent).transpose(0, 1).expand(-1, -1, 3, -1)
    z = model.posterior.infer(model.posterior.encode(x), noise)
    torch.testing.assert_close(z.mean(0), linear.posterior_mean(x), rtol=0, atol=1e-10)
    centred = (z - z.mean(0)).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / len(points)
    expected = torch.diag(linear.variance).expand_as(covariance)
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 3, 10])
def test_denoising_loss_of_the_exact_posterior_is_its_entropy(n_latent, n_steps):
    """L_diff = L_sleep = 0 (equations 8, 9): the mean loss is the conditional entropy of z | x."""
    linear = LinearModel(n_latent)
    model = exact_ddvi(linear, n_steps)
    points = cubature(n_latent + N_FEATURES + n_steps * n_latent)
    root = torch.linalg.cholesky(linear.prior_covariance)
    z = linear.prior_mean + points[:, :n_latent] @ root.T
    x = model.decoder(z) + linear.noise * points[:, n_latent : n_latent + N_FEATURES]
    noise = points[:, n_latent + N_FEATURES :].reshape(len(points), n_steps, n_latent)
    loss = model.denoising_loss(x, z, noise.transpose(0, 1)).mean().item()
    entropy = 0.5 * (linear.variance.log() + math.log(2 * math.pi) + 1).sum().item()
    assert loss == pytest.approx(entropy, abs=1e-9)


# ---- the linear model with the real networks -----------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_steps", [1, 4])
def test_random_posteriors_stay_below_the_evidence(generator, n_steps, seed):
    """Equation 5 for any phi: the mean of 2,000 draws, with five standard errors to spare."""
    linear = LinearModel(2)
    model = linear.ddvi(n_steps, n_hidden=8, n_hidden_denoiser=8).requires_grad_(False)
    generator.manual_seed(seed)
    for parameter in model.posterior.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    x = linear.data(6, generator)
    draws = model.elbo(x, torch.randn(n_steps + 1, 2000, 6, 2, generator=generator)).elbo
    above = draws.mean(0) + 5 * draws.std(0) / math.sqrt(2000)
    assert (above < linear.evidence.log_prob(x)).all()


def train_posterior(model: DDVI, x: Tensor, n_dreaming: int, generator: torch.Generator) -> None:
    """The package's own phases in phi alone: dreams, then wake-sleep on x with theta fixed.

    Networks this small learn well at ten times the rate of the phase.
    """
    for parameter in model.generative_parameters():
        parameter.requires_grad_(False)
    dreams = dreaming(model, n_dreaming, Weights(), generator)
    dreams.objectives[0].optimizers[0].param_groups[0]["peak"] = 1e-2
    for phase in (dreams, wake_sleep(model, 5, Weights(), generator)):
        train_phase(phase, x, batch_size=256, generator=generator, history=History())
    model.requires_grad_(False)


@pytest.mark.parametrize("n_latent", [1, 2])
def test_training_the_posterior_closes_the_gap(generator, n_latent):
    """The posterior comes out right, not only plausible: E[log p(x)] - E[ELBO] < 0.05 nats.

    The draws of `infer` have the exact posterior's mean and standard deviation within a tenth.
    """
    linear = LinearModel(n_latent)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = linear.ddvi(4, n_hidden=24, n_hidden_denoiser=24)
    theta = [parameter.detach().clone() for parameter in model.generative_parameters()]
    train_posterior(model, linear.data(1024, generator), 130, generator)
    for before, after in zip(theta, model.generative_parameters(), strict=True):
        assert torch.equal(before, after)

    x = linear.data(100, generator)
    noise = torch.randn(5, 400, 100, n_latent, generator=generator)
    gap = linear.evidence.log_prob(x) - model.elbo(x, noise).elbo
    error = gap.mean(1).std().item() / math.sqrt(400)
    assert -5 * error < gap.mean().item() < 0.05
    z = model.posterior.infer(model.posterior.encode(x), noise)
    scale = linear.variance.sqrt()
    off = (z.mean(0) - linear.posterior_mean(x)) / scale
    assert off.square().mean().sqrt() < 0.1
    assert (z.std(0).mean(0) / scale - 1).abs().max() < 0.1


# ---- a nonlinear model, by integration -----------------------------------------------------

NODES = torch.arange(-7.0, 7.0 + 1e-9, 0.25, dtype=torch.float64)
NODE_WEIGHTS = torch.exp(-0.5 * NODES**2) / torch.exp(-0.5 * NODES**2).sum()
Z = torch.linspace(-20.0, 20.0, 8001, dtype=torch.float64).unsqueeze(-1)


def log_evidence(model: DDVI, x: Tensor) -> Tensor:
    """log int p(z) p(x | z) dz on a grid, of shape (n_samples,)."""
    log_joint = model.prior.log_prob(Z) + model.reconstruction(x.unsqueeze(1), Z)
    return log_joint.logsumexp(1) + math.log(Z[1] - Z[0])


def integrated_elbo(model: DDVI, x: Tensor) -> Tensor:
    """The ELBO with its noise integrated out, of shape (n_samples,)."""
    n_noise = model.posterior.diffusion.n_steps + 1
    grid = torch.cartesian_prod(*[NODES] * n_noise)
    weights = torch.cartesian_prod(*[NODE_WEIGHTS] * n_noise).prod(-1)
    noise = grid.T.reshape(n_noise, -1, 1, 1).expand(-1, -1, len(x), -1)
    return (weights.unsqueeze(-1) * model.elbo(x, noise).elbo).sum(0)


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_steps", [1, 2])
def test_elbo_of_a_nonlinear_model_is_below_its_evidence(
    random_ddvi, generator, n_steps, seed, conditional
):
    """Equation 5 for every x: mixture prior, curved decoder, both sides integrated.

    The bound holds too where the reverse steps do not see x (appendix B).
    """
    model = random_ddvi(
        n_features=2,
        n_latent=1,
        n_clusters=2,
        n_steps=n_steps,
        seed=seed,
        conditional=conditional,
    ).requires_grad_(False)
    x = 2 * torch.randn(6, 2, generator=generator)
    gap = log_evidence(model, x) - integrated_elbo(model, x)
    assert (gap > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_gap_is_the_two_divergences_of_equation_4(random_ddvi, generator, seed):
    """log p(x) - ELBO = KL(q(z|x) || p(z|x)) + E_q KL(q(y|x,z) || r(y|z)), on a (y, z) grid."""
    model = random_ddvi(
        n_features=2, n_latent=1, n_clusters=2, n_steps=1, seed=seed
    ).requires_grad_(False)
    y = torch.linspace(-24.0, 24.0, 961).unsqueeze(-1)
    z = torch.linspace(-36.0, 36.0, 1441).reshape(-1, 1, 1)
    cell = 0.05**2
    for x in torch.randn(2, 1, 2, generator=generator):
        encoding = model.posterior.encode(x)
        log_start = gaussian_log_prob(y, encoding.start_mean, (2 * encoding.start_log_scale).exp())
        log_q = log_start + gaussian_log_prob(z, *model.posterior.reverse_step(encoding, y, 1))
        log_r = gaussian_log_prob(y, *model.posterior.diffusion.forward_step(z, 1))
        evidence = log_evidence(model, x)
        log_likelihood = model.reconstruction(x, z.squeeze(-1)).unsqueeze(-1)
        log_posterior = model.prior.log_prob(z) + log_likelihood - evidence
        q = log_q.exp() * cell
        assert q.sum().item() == pytest.approx(1.0, abs=1e-6)
        divergences = (q * (log_q - log_posterior - log_r)).sum().item()
        gap = (evidence - integrated_elbo(model, x)).item()
        assert gap == pytest.approx(divergences, rel=1e-5)


class Curve(nn.Module):
    """f(z) = (z, sin z, tanh(z) / 2), along which E(z | x) is no straight line."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z, torch.sin(z), 0.5 * torch.tanh(z)], dim=-1)


def test_training_the_posterior_closes_the_gap_of_a_nonlinear_model(generator):
    """E[log p(x)] - E[ELBO] < 0.05 nats beside the evidence of a grid, from many times that.

    The draws of z have the mean and standard deviation of the grid's posterior, the former within
    0.15 of the latter, the latter within a tenth.
    """
    prior = MixturePrior(
        torch.tensor([0.4, 0.6]), torch.tensor([[-1.0], [1.2]]), torch.tensor([[[2.0]], [[1.5]]])
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        posterior = DiffusionPosterior(
            3, 1, GaussianDiffusion(cosine_alpha_bar(4)), n_hidden=32, n_hidden_denoiser=32
        )
    model = DDVI(3, prior, posterior, torch.tensor([0.6, 0.5, 0.7]))
    model.decoder = nn.Sequential(Curve())
    with torch.no_grad():
        (_, _, x), (_, _, fresh) = (model.dream(n, generator) for n in (1024, 200))
    noise = torch.randn(5, 300, 200, 1, generator=generator)

    def gap() -> Tensor:
        with torch.no_grad():
            return log_evidence(model, fresh) - model.elbo(fresh, noise).elbo

    assert gap().mean() > 0.5
    train_posterior(model, x, 250, generator)
    after = gap()
    error = after.mean(1).std().item() / math.sqrt(300)
    assert -5 * error < after.mean().item() < 0.05

    z = posterior.infer(posterior.encode(fresh), noise).squeeze(-1)
    exact = (model.prior.log_prob(Z) + model.reconstruction(fresh.unsqueeze(1), Z)).softmax(1)
    mean = exact @ Z.squeeze(1)
    scale = (exact @ Z.squeeze(1) ** 2 - mean**2).sqrt()
    assert ((z.mean(0) - mean) / scale).square().mean().sqrt() < 0.15
    assert (z.std(0) / scale - 1).abs().mean() < 0.1
