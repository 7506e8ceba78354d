"""The diffusion decoder beside naive integration, exact Gaussians and an exact mixture."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ancestryvi.models.continuous import LinearSchedule, VPSchedule, stratified_times
from ancestryvi.models.vdm import DiffusionDecoder

SCHEDULES = [LinearSchedule(-4.0, 3.0), VPSchedule()]


def random_decoder(n_features: int, schedule, *, simple: bool = False) -> DiffusionDecoder:
    """Every parameter random, the zero-initialised ones too."""
    decoder = DiffusionDecoder(
        n_features, 2, schedule=schedule, simple=simple, n_hidden=6, n_blocks=1
    )
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    decoder.noise.floor.fill_(0.2)
    return decoder.requires_grad_(False)


def random_inputs(n: int, n_features: int, generator: torch.Generator, n_draws: int = 1):
    x, z = torch.randn(n, n_features, generator=generator), torch.randn(n, 2, generator=generator)
    noise = torch.randn(n_draws, n, n_features, generator=generator)
    return x, z, torch.rand(n_draws, n, generator=generator), noise


# ---- the bound -----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("simple", [True, False])
def test_mean_of_log_prob_is_the_bound_integrated_naively(schedule, simple, generator):
    """Loops over even times of the schedule and a grid of eps, for a random network: to 1e-3.

    The weight of each time is the difference of levels, whatever the loss of training is.
    """
    decoder = random_decoder(1, schedule, simple=simple)
    x, z, _, _ = random_inputs(3, 1, generator)
    eps = torch.arange(-6.0, 6.0 + 1e-9, 0.25)
    weights = torch.exp(-0.5 * eps**2) / torch.exp(-0.5 * eps**2).sum()
    noise = eps.reshape(-1, 1, 1)

    signal = 1 / (1 + math.exp(schedule.last))
    expected = -0.5 * (math.log(2 * math.pi * math.e) + schedule.first)
    expected = expected - 0.5 * (signal * x**2 - signal - math.log(1 - signal)).squeeze(1)
    level = [schedule.gamma(torch.tensor((i / 2000) ** 2)).item() for i in range(2001)]
    for low, high in pairwise(level):
        gamma = 0.5 * (low + high)
        alpha2 = 1 / (1 + math.exp(gamma))
        x_t = math.sqrt(alpha2) * x + math.sqrt(1 - alpha2) * noise
        error = (noise - decoder.noise(x_t, torch.tensor([gamma]), z)).squeeze(-1) ** 2
        expected = expected - 0.5 * (high - low) * (weights @ error)

    time = ((torch.arange(1000) + 0.5) / 1000).reshape(-1, 1, 1)
    estimate = decoder.log_prob(x, z, time, noise).mean(0)
    torch.testing.assert_close(weights @ estimate, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_loss_is_minus_the_bound_or_half_the_error_of_the_noise(schedule, generator):
    x, z, time, noise = random_inputs(5, 3, generator, n_draws=2)
    decoder = random_decoder(3, schedule)
    torch.testing.assert_close(
        decoder.loss(x, z, time, noise), -decoder.log_prob(x, z, time, noise)
    )
    simple = random_decoder(3, schedule, simple=True)
    loss = simple.loss(x, z, time, noise)
    for draw in range(2):
        for row in range(5):
            gamma = schedule.gamma(time[draw, row])
            alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
            x_t = alpha * x[row] + sigma * noise[draw, row]
            error = noise[draw, row] - simple.noise(x_t, gamma, z[row])
            assert loss[draw, row].item() == pytest.approx(0.5 * error.square().sum().item())


def test_untrained_decoder_has_the_density_of_a_gaussian_of_the_data(generator):
    """Without variance from draw to draw, and but for the ends of the levels: 0.02 nats."""
    decoder = DiffusionDecoder(3, 2, schedule=LinearSchedule(), n_hidden=8)
    variance = torch.tensor([4.0, 0.5, 0.04])
    decoder.set_variance(variance)
    x, z, time, noise = random_inputs(50, 3, generator, n_draws=4)
    x = x * variance.sqrt()
    bound = decoder.log_prob(x, z, time, noise)
    torch.testing.assert_close(bound, bound[:1].expand_as(bound))
    exact = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(bound[0], exact, rtol=0, atol=0.02)


# ---- decoding ------------------------------------------------------------------------------


def linear_decoder(weight: Tensor, scale: Tensor) -> DiffusionDecoder:
    """p(x | z) = N(weight z, diag scale^2), for which the untrained correction is exact."""
    decoder = DiffusionDecoder(3, 2, schedule=LinearSchedule(), n_hidden=4)
    decoder.set_variance(scale**2)
    decoder.noise.center = nn.Sequential(nn.Linear(2, 3, bias=False))
    decoder.noise.center[0].weight = nn.Parameter(weight)
    return decoder.requires_grad_(False)


def test_decoder_of_a_linear_model_gives_its_mean_and_draws_its_spread(generator):
    """The middle decode within 0.05 standard deviations of E(x | z); draws within 4 %."""
    weight = torch.tensor([[2.0, 0.5], [0.3, -0.4], [0.1, 0.0]])
    scale = torch.tensor([0.5, 0.2, 0.1])
    decoder = linear_decoder(weight, scale)
    z = torch.tensor([[1.0, -0.5], [0.0, 1.5]])
    middle = decoder.decode(z, torch.zeros(3))
    assert ((middle - z @ weight.T) / scale).abs().max() < 0.05
    start = torch.cat([torch.eye(3), -torch.eye(3)]).unsqueeze(1)
    spread = (decoder.decode(z.expand(6, 2, 2), start) - middle) / scale
    torch.testing.assert_close(spread, start.expand(6, 2, 3), rtol=0, atol=0.04)
    draws = decoder.sample(z.expand(20_000, 2, 2), generator)
    assert ((draws.mean(0) - z @ weight.T) / scale).abs().max() < 0.05
    assert (draws.std(0) / scale - 1).abs().max() < 0.04


def test_draw_axes_and_rows_do_not_mix(generator):
    decoder = random_decoder(3, LinearSchedule())
    x, z, time, noise = random_inputs(4, 3, generator, n_draws=5)
    z = z + torch.randn(5, 4, 2, generator=generator)
    bound, decoded = decoder.log_prob(x, z, time, noise), decoder.decode(z, noise)
    for draw in range(5):
        for row in range(4):
            arguments = (x[row : row + 1], z[draw, row : row + 1])
            alone = decoder.log_prob(
                *arguments, time[draw, row : row + 1], noise[draw, row : row + 1]
            )
            torch.testing.assert_close(bound[draw, row], alone[0])
            alone = decoder.decode(z[draw, row], noise[draw, row])
            torch.testing.assert_close(decoded[draw, row], alone)
    assert decoder.decode(z, torch.zeros(3)).shape == (5, 4, 3)


# ---- training ------------------------------------------------------------------------------


class Mixture:
    """Four populations in 4-d with decaying scales, and z the first two scores with noise."""

    noise, blur = 0.2, 0.1
    centers = torch.tensor(
        [
            [2.0, 0.8, 0.6, -0.1],
            [1.8, -0.9, -0.5, 0.3],
            [-2.0, 0.5, -0.6, 0.4],
            [-1.0, -0.5, 0.5, 0.1],
        ]
    ).double()

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.centers[torch.randint(4, (n,), generator=generator)]
        x = x + self.noise * torch.randn(n, 4, generator=generator)
        return x, x[:, :2] + self.blur * torch.randn(n, 2, generator=generator)

    def log_evidence(self, x: Tensor) -> Tensor:
        parts = torch.distributions.Normal(self.centers, self.noise).log_prob(x.unsqueeze(1))
        return parts.sum(-1).logsumexp(1) - math.log(4)

    def conditional_log_evidence(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) = log p(x) + log p(z | x) - log p(z)."""
        likelihood = torch.distributions.Normal(x[:, :2], self.blur).log_prob(z).sum(-1)
        total = math.hypot(self.noise, self.blur)
        parts = torch.distributions.Normal(self.centers[:, :2], total).log_prob(z.unsqueeze(1))
        marginal = parts.sum(-1).logsumexp(1) - math.log(4)
        return self.log_evidence(x) + likelihood - marginal


@pytest.mark.parametrize(("schedule", "simple"), [(LinearSchedule(), False), (VPSchedule(), True)])
def test_trained_decoder_uses_what_z_tells(schedule, simple, generator):
    """Within 0.35 nats of the exact conditional evidence on new data, not above it.

    It is more than 2.4 nats above the evidence without z, which no decoder blind to z can pass.
    Draws given z have the exact conditional mean within a third of its standard deviation.
    """
    mixture = Mixture()
    x, z = mixture.draw(2000, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        decoder = DiffusionDecoder(4, 2, schedule=schedule, simple=simple, n_hidden=48, n_blocks=2)
    decoder.set_variance(x.var(0))
    n_steps, peak = 500, 1e-2
    optimizer = torch.optim.Adam(decoder.parameters(), peak)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        rows = torch.randint(2000, (256,), generator=generator)
        noise = torch.randn(256, 4, generator=generator)
        times = stratified_times(256, x, generator)
        optimizer.zero_grad()
        decoder.loss(x[rows], z[rows], times, noise).mean().backward()
        optimizer.step()
    decoder.requires_grad_(False)

    x, z = mixture.draw(1000, generator)
    times = stratified_times(64, x, generator).unsqueeze(1)
    bound = decoder.log_prob(x, z, times, torch.randn(64, 1000, 4, generator=generator)).mean(0)
    gap = mixture.conditional_log_evidence(x, z) - bound
    assert -5 * gap.std() / math.sqrt(1000) < gap.mean() < 0.35
    assert (bound - mixture.log_evidence(x)).mean() > 2.4

    draws = decoder.sample(z[:200].expand(50, 200, 2), generator)
    total = mixture.noise**2 + mixture.blur**2
    parts = torch.distributions.Normal(mixture.centers[:, :2], math.sqrt(total))
    share = parts.log_prob(z[:200].unsqueeze(1)).sum(-1).softmax(1)
    gain = mixture.noise**2 / total
    expected = share @ mixture.centers
    expected[:, :2] = (1 - gain) * expected[:, :2] + gain * z[:200]
    error = (draws.mean(0) - expected) / mixture.noise
    assert error.square().mean().sqrt() < 1 / 3
