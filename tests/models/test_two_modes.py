"""x = |z| + noise: the posterior has two modes, of which DDVI finds both and a Gaussian one."""

import math

import pytest
import torch
from torch import Tensor, nn

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training import History, Phase, train_phase
from ancestryvi.training.wake_sleep import Weights, dreaming, warm_start

NOISE = 0.1
GRID = torch.linspace(-6.0, 6.0, 6001).unsqueeze(-1)


@pytest.fixture(autouse=True)
def double_precision() -> None:
    """Single precision, in place of the fixture for all of these tests: this one trains longer."""


class AbsoluteValue(nn.Module):
    """f(z) = |z|."""

    def forward(self, z: Tensor) -> Tensor:
        return z.abs()


def new_model(n_steps: int) -> DDVI:
    """z ~ N(0, 1) and x = |z| + 0.1 noise; no parameter of theta learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        diffusion = GaussianDiffusion(cosine_alpha_bar(n_steps))
        posterior = DiffusionPosterior(1, 1, diffusion, n_hidden=32, n_hidden_denoiser=64)
    model = DDVI(1, MixturePrior.standard_normal(1), posterior, torch.tensor([NOISE]))
    model.decoder = nn.Sequential(AbsoluteValue())
    for parameter in model.generative_parameters():
        parameter.requires_grad_(False)
    return model


def train(model: DDVI, phase: Phase, rate: float) -> DDVI:
    """Run a phase on draws of x, at the rate of a small network."""
    phase.objectives[0].optimizers[0].param_groups[0]["peak"] = rate
    generator = torch.Generator().manual_seed(5)
    _, _, x = model.dream(2048, generator)
    train_phase(phase, x, batch_size=128, generator=generator, history=History())
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def ddvi() -> DDVI:
    """After dreaming: sleep alone, equation 9."""
    model = new_model(32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trained = train(model, dreaming(model, 280, Weights(), torch.Generator().manual_seed(1)), 2e-2)
    torch.set_num_threads(threads)
    return trained


@pytest.fixture(scope="module")
def aevb() -> DDVI:
    """The encoder's Gaussian belief, up its ELBO."""
    model = new_model(1)
    return train(model, warm_start(model, 100, Weights(), torch.Generator().manual_seed(1)), 5e-3)


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    z = torch.randn(1000, 1, generator=generator)
    return z.abs() + NOISE * torch.randn(1000, 1, generator=generator)


def log_joint(x: Tensor) -> Tensor:
    """log p(z) + log p(x | z) on the grid, written out, of shape (n_samples, n_grid)."""
    prior = -0.5 * GRID.squeeze(1) ** 2 - 0.5 * math.log(2 * math.pi)
    residual = (x - GRID.abs().squeeze(1)) / NOISE
    return prior - 0.5 * residual**2 - math.log(NOISE) - 0.5 * math.log(2 * math.pi)


def log_evidence(x: Tensor) -> Tensor:
    return log_joint(x).logsumexp(1) + math.log(GRID[1] - GRID[0])


def draws_at(model: DDVI, x: float, generator: torch.Generator) -> Tensor:
    """20,000 draws of q(z | x)."""
    row = torch.tensor([[x]])
    noise = torch.randn(model.n_steps + 1, 20_000, 1, 1, generator=generator)
    return model.draw(row, noise, torch.zeros(1)).flatten()


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_ddvi_finds_both_modes_in_their_places(ddvi, generator, value):
    """Half of the draws either side, next to none between, and histograms like the grid's p(z|x).

    The total variation is over bins of width 0.05, half a standard deviation of a mode.
    """
    z = draws_at(ddvi, value, generator)
    assert abs((z > 0).double().mean().item() - 0.5) < 0.1
    assert (z.abs() < value / 2).double().mean() < 0.02
    edges = torch.arange(-3.0, 3.0 + 1e-6, 0.05)
    n_bins = len(edges) + 1
    exact = log_joint(torch.tensor([[value]])).softmax(1)[0]
    bins = torch.bucketize(GRID.flatten(), edges)
    expected = torch.zeros(n_bins).index_add(0, bins, exact)
    found = torch.bincount(torch.bucketize(z, edges), minlength=n_bins) / len(z)
    assert 0.5 * (expected - found).abs().sum() < 0.1
    for side in (-1, 1):
        mode = (side * z)[side * z > 0]
        right = side * GRID.flatten() > 0
        weights = exact[right] / exact[right].sum()
        place = GRID.flatten()[right].abs()
        mean = (weights @ place).item()
        scale = (weights @ (place - mean) ** 2).sqrt().item()
        assert mode.median().item() == pytest.approx(mean, abs=0.3 * scale)
        # quartiles of the mode: the few draws between the modes do not count
        low, high = mode.quantile(torch.tensor([0.25, 0.75])).tolist()
        assert (high - low) / 1.349 == pytest.approx(scale, rel=0.2)


def test_bound_of_ddvi_is_near_the_evidence(ddvi, generator, x):
    """E[log p(x)] - E[ELBO] < 0.1 nats, where one mode of two equal ones costs log 2 = 0.69."""
    noise = torch.randn(33, 100, len(x), 1, generator=generator)
    gap = log_evidence(x) - ddvi.elbo(x, noise).elbo
    error = gap.mean(1).std().item() / math.sqrt(100)
    assert -5 * error < gap.mean().item() < 0.1


def test_a_gaussian_posterior_settles_on_one_mode(aevb, generator, x):
    """AEVB on the same model: all draws on one side, and a gap of more than 0.4 nats."""
    z, _ = aevb.posterior.draw_belief(torch.ones(1, 1), torch.randn(20_000, 1, generator=generator))
    share = (z > 0).double().mean().item()
    assert max(share, 1 - share) > 0.95
    bound = torch.stack(
        aevb.belief_elbo(
            x, aevb.posterior.encoder_belief(x), torch.randn(len(x), 1, generator=generator)
        )
    ).sum(0)
    assert (log_evidence(x) - bound).mean() > 0.4
