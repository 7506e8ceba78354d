"""Noise levels, the variational bound and the samplers, beside closed forms and naive sums."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ancestryvi.models.continuous import (
    LinearSchedule,
    VPSchedule,
    alpha_sigma,
    diffuse,
    gaussian_bound,
    gaussian_noise,
    reverse,
    stratified_times,
    vdm_bound,
)
from ancestryvi.models.noise_predictor import FilmNetwork, NoisePredictor

SCHEDULES = [LinearSchedule(), VPSchedule(), LinearSchedule(-3.0, 2.0)]
COVARIANCE = torch.tensor([[4.0, 0.9, 0.0], [0.9, 0.5, -0.1], [0.0, -0.1, 0.04]]).double()
MEAN = torch.tensor([1.0, -0.5, 0.2]).double()


def exact_noise(x_t: Tensor, gamma: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """E[eps | x_t] for x ~ N(mean, covariance): sigma times the inverse covariance of x_t."""
    alpha, sigma = alpha_sigma(gamma)
    total = alpha.unsqueeze(-1) ** 2 * covariance + sigma.unsqueeze(-1) ** 2 * torch.eye(len(mean))
    return sigma * torch.linalg.solve(total, (x_t - alpha * mean).unsqueeze(-1)).squeeze(-1)


def cubature(n: int) -> Tensor:
    """2 n points of equal weight that integrate polynomials of degree 3 against N(0, I_n)."""
    return math.sqrt(n) * torch.cat([torch.eye(n), -torch.eye(n)])


def ends(x: list[float], first: float, last: float) -> float:
    """-(L_0 + L_prior) of one sample, in plain Python."""
    signal = 1 / (1 + math.exp(last))
    blur = 0.5 * math.log(2 * math.pi * math.e * math.exp(first))
    return -sum(
        blur + 0.5 * (signal * value**2 + (1 - signal) - math.log(1 - signal) - 1) for value in x
    )


def middles(n: int) -> Tensor:
    """Midpoints of n intervals in [0, 1]."""
    return (torch.arange(n) + 0.5) / n


# ---- levels --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_levels_rise_from_the_first_to_the_last(schedule):
    levels = schedule.gamma(torch.linspace(0, 1, 101))
    assert (levels.diff() > 0).all()
    assert levels[0].item() == pytest.approx(schedule.first, rel=1e-12)
    assert levels[-1].item() == pytest.approx(schedule.last, rel=1e-12)
    ends = schedule.spread(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == pytest.approx([schedule.first, schedule.last])


def test_signal_and_noise_of_a_level_have_unit_power_and_its_ratio():
    gamma = torch.tensor([-40.0, -9.0, 0.0, 3.0, 40.0])
    alpha, sigma = alpha_sigma(gamma)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(5, 1))
    torch.testing.assert_close((sigma**2 / alpha**2).log().squeeze(1), gamma)


def test_vp_levels_are_those_of_its_stochastic_differential_equation():
    """d alpha^2 = -beta alpha^2 dt and alpha^2 + sigma^2 = 1, by 20,000 steps of Heun's rule."""
    schedule, n, alpha2 = VPSchedule(), 20_000, 1.0
    beta = [0.1 + 19.9 * i / n for i in range(n + 1)]
    alphas = [alpha2]
    for i in range(n):
        guess = alpha2 * (1 - beta[i] / n)
        alpha2 -= 0.5 / n * (beta[i] * alpha2 + beta[i + 1] * guess)
        alphas.append(alpha2)
    for index in (20, 2_000, 10_000, 20_000):
        time = (index / n - 1e-3) / (1 - 1e-3)
        expected = math.log((1 - alphas[index]) / alphas[index])
        assert schedule.gamma(torch.tensor(time)).item() == pytest.approx(expected, abs=1e-4)


def test_stratified_times_are_even_and_uniform(generator):
    like = torch.zeros(())
    times = torch.stack([stratified_times(8, like, generator) for _ in range(2000)])
    gaps = times.sort(dim=1).values.diff(dim=1)
    torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / 8))
    assert (times >= 0).all()
    assert (times < 1).all()
    share = torch.histc(times[:, 3], 4, 0, 1) / 2000
    assert (share - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 2000)


# ---- the bound -----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gaussian_bound_is_its_definition_summed_naively(schedule):
    """L_0, L_prior and 1/2 int |eps - eps_hat|^2 dgamma for each x, in plain Python, to 1e-4.

    The error of a linear predictor is quadratic in eps, so eps = -1 and 1 integrate it.
    """
    mean, variance, n = 0.4, 0.3, 20_000
    width = schedule.last - schedule.first
    for x in (-1.0, 0.4, 2.5):
        middle = 0.0
        for i in range(n):
            gamma = schedule.first + width * (i + 0.5) / n
            alpha2 = 1 / (1 + math.exp(gamma))
            alpha, sigma = math.sqrt(alpha2), math.sqrt(1 - alpha2)
            for eps in (-1.0, 1.0):
                x_t = alpha * x + sigma * eps
                guess = sigma * (x_t - alpha * mean) / (alpha2 * variance + sigma**2)
                middle += 0.5 * width / n * 0.5 * (eps - guess) ** 2
        bound = gaussian_bound(
            torch.tensor([[x]]), torch.tensor([mean]), torch.tensor([variance]), schedule
        )
        expected = ends([x], schedule.first, schedule.last) - middle
        assert bound.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_mean_of_the_bound_does_not_depend_on_its_control_variate(schedule):
    """Unbiased: averaged over levels and noise, each Gaussian gives the naive sum's value."""
    x = torch.tensor([[0.5, -1.0]])
    noise, time = cubature(2).unsqueeze(1), middles(4000).reshape(-1, 1, 1)
    gamma = schedule.spread(time)
    predicted = 0.3 * diffuse(x, gamma, noise) - 0.2
    naive = 0.5 * (schedule.last - schedule.first) * (noise - predicted).square().sum(-1).mean()
    expected = ends([0.5, -1.0], schedule.first, schedule.last) - naive.item()
    for mean, variance in (([0.0, 0.0], [1.0, 1.0]), ([2.0, -1.0], [0.1, 5.0])):
        bound = vdm_bound(
            x, gamma, noise, predicted, schedule, torch.tensor(mean), torch.tensor(variance)
        )
        assert bound.mean().item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gap_of_the_best_predictor_of_gaussian_data_is_that_of_the_two_ends(schedule):
    """E[log p(x)] - E[bound] = KL(q(x_1) || N(0, I)) + E KL(q(x | x_0) || p(x | x_0)).

    The sum over a chain telescopes. Data of mean 0 and covariance given; expectations exact.
    """
    covariance = COVARIANCE
    points = cubature(3) @ torch.linalg.cholesky(covariance).T
    noise, gamma = cubature(3), schedule.spread(middles(3000))
    x = points.repeat_interleave(6, 0).unsqueeze(0)
    noise = noise.repeat(6, 1).unsqueeze(0)  # exact: no term has a product of x and eps alone
    predicted = exact_noise(diffuse(x, gamma[:, None], noise), gamma[:, None], 0 * MEAN, covariance)
    bound = vdm_bound(
        x, gamma[:, None], noise, predicted, schedule, torch.zeros(3), covariance.diag()
    ).mean()
    evidence = -0.5 * (torch.logdet(2 * math.pi * covariance) + 3)

    scales = torch.linalg.eigvalsh(covariance)
    end = torch.sigmoid(torch.tensor(-schedule.last)) * (scales - 1) + 1
    last = 0.5 * (end - 1 - end.log()).sum()
    blur = math.exp(schedule.first)  # of p(x | x_0)
    share = 1 / (1 + blur / scales)
    first = 0.5 * (share - 1 - share.log() + (1 - share) ** 2 * (scales + blur) / blur).sum()
    assert (evidence - bound).item() == pytest.approx((first + last).item(), abs=1e-4)
    assert evidence - bound > 0


def test_default_levels_cost_less_than_a_hundredth_of_a_nat_per_feature():
    """For features of variance 0.01 to 20, which PC scores of one common scale span."""
    variance = torch.tensor([20.0, 1.0, 0.1, 0.02, 0.01])
    for schedule in (LinearSchedule(), VPSchedule()):
        for index, v in enumerate(variance):
            x = v.sqrt().reshape(1, 1)  # E x^2 is all the bound depends on
            bound = gaussian_bound(x, torch.zeros(1), variance[index : index + 1], schedule)
            gap = -0.5 * (math.log(2 * math.pi * v) + 1) - bound.item()
            assert 0 < gap < 0.01


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_bound_of_many_steps_approaches_that_of_continuous_time_from_below(schedule):
    """The discrete sum with weights SNR(s) - SNR(t) on the error of x, in the schedule's time.

    Kingma et al., equation 13, for the best predictor of N(0, 0.3). Its distance halves as the
    steps double. The weight, the predictor and the time are all other than the code's.
    """
    x, variance = 0.7, 0.3
    continuous = gaussian_bound(
        torch.tensor([[x]]), torch.zeros(1), torch.tensor([variance]), schedule
    ).item()

    def bound(n_steps: int) -> float:
        total = ends([x], schedule.first, schedule.last)
        for s, t in pairwise(schedule.gamma(torch.linspace(0, 1, n_steps + 1)).tolist()):
            snr = math.exp(-t)
            gain = snr * variance / (1 + snr * variance)
            error = (1 - gain) ** 2 * x**2 + gain**2 / snr  # of x_hat = gain x_t / alpha
            total -= 0.5 * (math.exp(-s) - snr) * error
        return total

    gaps = [continuous - bound(n_steps) for n_steps in (4000, 8000, 16000)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[1] / gaps[2] == pytest.approx(2.0, rel=0.05)
    assert gaps[2] < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_random_predictors_stay_below_the_evidence_of_a_mixture(generator, seed):
    """E[bound] <= E[log p(x)] for any network, with five standard errors to spare."""
    predictor = random_predictor(2, seed)
    centers = torch.tensor([[2.0, 0.3], [-1.0, -0.4], [0.5, 0.8]])
    x = centers[torch.randint(3, (4000,), generator=generator)]
    x = x + 0.2 * torch.randn(4000, 2, generator=generator)
    parts = torch.distributions.Normal(centers, 0.2).log_prob(x.unsqueeze(1)).sum(-1)
    evidence = parts.logsumexp(1) - math.log(3)
    schedule = LinearSchedule()
    noise, gamma = torch.randn(50, 4000, 2, generator=generator), schedule.spread(middles(50))
    gamma = gamma.unsqueeze(1)
    with torch.no_grad():
        predicted = predictor(diffuse(x, gamma, noise), gamma)
        bound = vdm_bound(
            x, gamma, noise, predicted, schedule, predictor.mean(None), predictor.variance
        )
    gap = evidence - bound.mean(0)
    assert gap.mean() > 5 * gap.std() / math.sqrt(4000)


# ---- the network ---------------------------------------------------------------------------


def random_predictor(n_features: int, seed: int, n_latent: int = 0) -> NoisePredictor:
    generator = torch.Generator().manual_seed(seed)
    predictor = NoisePredictor(n_features, n_latent, n_hidden=8, n_blocks=2)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return predictor


def test_untrained_predictor_is_the_best_of_the_gaussian_of_the_data(generator):
    predictor = NoisePredictor(3, 2, n_hidden=8)
    predictor.set_variance(COVARIANCE.diag())
    x_t, z = torch.randn(2, 50, 3, generator=generator), torch.randn(50, 2, generator=generator)
    gamma = torch.linspace(-9, 6, 50)
    expected = exact_noise(x_t, gamma, 0 * MEAN, torch.diag(COVARIANCE.diag()))
    torch.testing.assert_close(predictor(x_t, gamma, z), expected)
    torch.testing.assert_close(
        gaussian_noise(x_t, gamma, torch.zeros(3), COVARIANCE.diag()), expected
    )


def test_correction_fades_where_the_noise_is_unknowable_or_known(generator):
    """At the ends of the levels the best predictor is the Gaussian's, whatever the data are."""
    predictor = random_predictor(3, seed=1)
    gaussian = random_predictor(3, seed=1)
    torch.nn.init.zeros_(gaussian.network.output.weight)
    torch.nn.init.zeros_(gaussian.network.output.bias)
    x_t = torch.randn(200, 3, generator=generator)

    def correction(level: float) -> float:
        gamma = torch.full((1,), level)
        return (predictor(x_t, gamma) - gaussian(x_t, gamma)).abs().max().item()

    assert correction(0.0) > 0.3
    assert correction(-14.0) < 0.01
    assert correction(14.0) < 0.01


def test_variances_are_kept_in_the_state(generator):
    predictor, other = NoisePredictor(3), NoisePredictor(3)
    predictor.set_variance(COVARIANCE.diag())
    other.load_state_dict(predictor.state_dict())
    torch.testing.assert_close(other.variance, COVARIANCE.diag())
    assert other.floor.item() == pytest.approx(0.04)


def test_rows_of_a_network_do_not_depend_on_each_other(generator):
    network = FilmNetwork(3, 2, 4, 8, 2)
    inputs = torch.randn(5, 6, 3, generator=generator)
    context, gamma = torch.randn(6, 2, generator=generator), torch.randn(5, 1, generator=generator)
    together = network(inputs, gamma, context)
    for draw in range(5):
        for row in range(6):
            alone = network(inputs[draw, row], gamma[draw, 0], context[row])
            torch.testing.assert_close(together[draw, row], alone)


# ---- samplers ------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [LinearSchedule(), VPSchedule()])
def test_probability_flow_of_a_gaussian_has_its_mean_and_covariance(schedule):
    """The flow is linear in its start, so the images of 0 and of the axes tell both.

    Mean within 0.02 standard deviations, covariance within 0.04 of the scales' product.
    """
    end = reverse(
        lambda x_t, gamma: exact_noise(x_t, gamma, MEAN, COVARIANCE),
        torch.cat([torch.zeros(1, 3), torch.eye(3)]),
        schedule,
        30,
    )
    root = end[1:] - end[0]
    scale = COVARIANCE.diag().sqrt()
    assert ((end[0] - MEAN) / scale).abs().max() < 0.02
    error = (root.T @ root - COVARIANCE) / scale / scale.unsqueeze(1)
    assert error.abs().max() < 0.04


@pytest.mark.parametrize("schedule", [LinearSchedule(), VPSchedule()])
def test_draws_of_a_gaussian_have_its_mean_and_covariance(schedule, generator):
    n = 40_000
    x = reverse(
        lambda x_t, gamma: exact_noise(x_t, gamma, MEAN, COVARIANCE),
        torch.randn(n, 3, generator=generator),
        schedule,
        50,
        generator,
    )
    scale = COVARIANCE.diag().sqrt()
    assert ((x.mean(0) - MEAN) / scale).abs().max() < 0.02
    error = (x.T.cov() - COVARIANCE) / scale / scale.unsqueeze(1)
    assert error.abs().max() < 0.04


@pytest.mark.parametrize("stochastic", [True, False])
def test_draws_of_a_mixture_have_its_distribution(stochastic, generator):
    """Three narrow parts of unequal weight: the distribution function within 0.02."""
    weights, centers = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([-1.5, 0.2, 2.0])
    scale, n = 0.15, 20_000

    def predict(x_t: Tensor, gamma: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(gamma)
        total = alpha**2 * scale**2 + sigma**2
        log_parts = weights.log() - 0.5 * (x_t - alpha * centers) ** 2 / total
        return sigma * (log_parts.softmax(-1) * (x_t - alpha * centers)).sum(-1, True) / total

    start = torch.randn(n, 1, generator=generator)
    x = reverse(predict, start, LinearSchedule(), 50, generator if stochastic else None)
    x = x.squeeze(1).sort().values
    parts = torch.distributions.Normal(centers, scale).cdf(x.unsqueeze(1))
    empirical = (torch.arange(n) + 0.5) / n
    assert (parts @ weights - empirical).abs().max() < 0.02
