"""Scores by Bayes' rule beside closed forms, finite differences and an exact evidence."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ancestryvi.models.continuous import (
    LinearSchedule,
    VPSchedule,
    alpha_sigma,
    diffuse,
    stratified_times,
)
from ancestryvi.models.diffusion import gaussian_log_prob
from ancestryvi.models.score_vae import LOG_SCALE_RANGE, ScoreDecoder, TimeEncoder

SCHEDULE = LinearSchedule()
COVARIANCE = torch.tensor([[4.0, 0.9, 0.0], [0.9, 0.5, -0.1], [0.0, -0.1, 0.04]]).double()
LOADING = torch.tensor([[0.6, -0.3, 1.0]]).double()
LATENT_NOISE = 0.2


def randomise(model: nn.Module, spread: float = 0.4) -> None:
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))


def random_model(n_features: int = 3, *, simple: bool = False, corrector: bool = False):
    """Every parameter random, the zero-initialised ones too."""
    encoder = TimeEncoder(n_features, 2, schedule=SCHEDULE, n_hidden=6, n_blocks=1)
    schedule = VPSchedule() if simple else SCHEDULE
    model = ScoreDecoder(
        n_features,
        2,
        encoder,
        schedule=schedule,
        simple=simple,
        corrector=corrector,
        n_hidden=6,
        n_blocks=1,
    )
    randomise(model)
    model.encoder.set_variance(torch.linspace(2.0, 0.3, n_features))
    return model


class ExactPrior(nn.Module):
    """E[eps | x_t] for x ~ N(0, COVARIANCE)."""

    variance = COVARIANCE.diag()

    def forward(self, x_t: Tensor, gamma: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(gamma)
        total = alpha.unsqueeze(-1) ** 2 * COVARIANCE + sigma.unsqueeze(-1) ** 2 * torch.eye(3)
        return sigma * torch.linalg.solve(total, x_t.unsqueeze(-1)).squeeze(-1)


class ExactEncoder(nn.Module):
    """q_t(z | x_t) for z = LOADING x + noise: the Gaussian belief about x, mapped on."""

    def forward(self, x_t: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = alpha_sigma(gamma)
        alpha, sigma = alpha.unsqueeze(-1), sigma.unsqueeze(-1)
        total = alpha**2 * COVARIANCE + sigma**2 * torch.eye(3)
        gain = alpha * COVARIANCE @ torch.linalg.inv(total)
        mean = (LOADING @ gain @ x_t.unsqueeze(-1)).squeeze(-1)
        left = COVARIANCE - alpha * gain @ COVARIANCE
        variance = LOADING @ left @ LOADING.T + LATENT_NOISE**2
        return mean, 0.5 * variance.squeeze(-1).log().expand(mean.shape)


def exact_model() -> ScoreDecoder:
    model = ScoreDecoder(3, 1, ExactEncoder(), schedule=SCHEDULE)  # type: ignore[arg-type]
    model.prior = ExactPrior()  # type: ignore[assignment]
    return model


def conditional(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x given z, by the formula of a joint Gaussian."""
    total = LOADING @ COVARIANCE @ LOADING.T + LATENT_NOISE**2
    gain = COVARIANCE @ LOADING.T / total
    return z @ gain.T, COVARIANCE - gain @ LOADING @ COVARIANCE


# ---- the linear model, with prior and encoder exact ----------------------------------------


@pytest.mark.parametrize("level", [-9.0, -2.0, 0.5, 8.0])
def test_noise_of_the_linear_model_is_that_of_its_conditional(level, generator):
    """-sigma times the score of p(x_t | z) = N(alpha E(x | z), alpha^2 Cov + sigma^2), to 1e-9."""
    x_t, z = torch.randn(20, 3, generator=generator), 3 * torch.randn(20, 1, generator=generator)
    alpha2 = 1 / (1 + math.exp(level))
    mean, covariance = conditional(z)
    total = alpha2 * covariance + (1 - alpha2) * torch.eye(3)
    score = -(x_t - math.sqrt(alpha2) * mean) @ torch.linalg.inv(total)
    noise = exact_model().noise(x_t, torch.full((20,), level), z)
    torch.testing.assert_close(noise, -math.sqrt(1 - alpha2) * score, rtol=0, atol=1e-9)


def test_bound_of_the_linear_model_is_its_conditional_evidence(generator):
    """E log p(x | z) - E bound is in [-0.01, 0.02] nats, by 400,000 draws of x, z, noise and t."""
    n = 4000
    x = torch.randn(n, 3, generator=generator) @ torch.linalg.cholesky(COVARIANCE).T
    z = x @ LOADING.T + LATENT_NOISE * torch.randn(n, 1, generator=generator)
    mean, covariance = conditional(z)
    evidence = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
    times = stratified_times(100, x, generator).unsqueeze(1)
    with torch.no_grad():
        bound = exact_model().log_prob(x, z, times, torch.randn(100, n, 3, generator=generator))
    gap = evidence - bound
    error = gap.mean(0).std() / math.sqrt(n)  # of independent samples
    assert error < 0.02
    assert -0.01 - 5 * error < gap.mean() < 0.02 + 5 * error


def test_decoding_the_linear_model_gives_its_conditional_mean_and_covariance(generator):
    """Means within 0.08 standard deviations, as x_1 is not quite noise; covariances within 5 %."""
    model, z = exact_model(), torch.tensor([[-2.0], [1.0]])
    mean, covariance = conditional(z)
    scale = covariance.diag().sqrt()
    with torch.no_grad():
        middle = model.decode(z, torch.zeros(3))
        ends = model.decode(z.expand(3, 2, 1), torch.eye(3).unsqueeze(1))
        draws = model.sample(z.expand(10_000, 2, 1), generator)
    assert ((middle - mean) / scale).abs().max() < 0.08
    assert ((draws.mean(0) - mean) / scale).abs().max() < 0.08
    for row in range(2):
        root = ends[:, row] - middle[row]
        for found in (root.T @ root, draws[:, row].T.cov()):
            error = (found - covariance) / scale / scale.unsqueeze(1)
            assert error.abs().max() < 0.05


# ---- the score of an encoder whose scale depends on x --------------------------------------


class BentEncoder(nn.Module):
    """Mean and log scale both curved functions of x_t and of the level."""

    def forward(self, x_t: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        level = gamma.unsqueeze(-1)
        mean = torch.sin(x_t[..., :2]) + 0.1 * level * x_t[..., 2:]
        return mean, 0.5 * torch.tanh(x_t[..., 1:]) - 0.3 + 0.05 * level


def test_latent_score_has_the_gradient_of_the_normaliser(generator):
    """Beside central differences of log N(z; mean(x_t), scale(x_t)^2) written out, to 1e-6."""
    model = ScoreDecoder(3, 2, BentEncoder(), schedule=SCHEDULE, n_hidden=4)  # type: ignore[arg-type]
    x_t, z = torch.randn(10, 3, generator=generator), torch.randn(10, 2, generator=generator)
    gamma = torch.linspace(-4, 3, 10)

    def log_q(point: Tensor) -> Tensor:
        mean, log_scale = model.encoder(point, gamma)
        pull = ((z - mean) / log_scale.exp()) ** 2
        return -(0.5 * pull + log_scale + 0.5 * math.log(2 * math.pi)).sum(1)

    step = 1e-5 * torch.eye(3)
    slope = torch.stack([(log_q(x_t + h) - log_q(x_t - h)) / 2e-5 for h in step], dim=1)
    sigma = torch.sigmoid(gamma).sqrt().unsqueeze(1)
    found = (model.prior(x_t, gamma) - model.noise(x_t, gamma, z)) / sigma
    torch.testing.assert_close(found, slope, rtol=1e-6, atol=1e-6)


def test_latent_score_is_0_on_average_over_its_own_latents(generator):
    """E_q(z|x_t)[grad log q(z | x_t)] = 0, which only a normalised density fulfils."""
    model = ScoreDecoder(3, 2, BentEncoder(), schedule=SCHEDULE, n_hidden=4)  # type: ignore[arg-type]
    x_t, gamma = torch.randn(6, 3, generator=generator), torch.linspace(-4, 3, 6)
    mean, log_scale = model.encoder(x_t, gamma)
    points = math.sqrt(2) * torch.cat([torch.eye(2), -torch.eye(2)])  # exact to degree 3
    z = mean + log_scale.exp() * points.unsqueeze(1)
    with torch.no_grad():
        average = model.noise(x_t, gamma, z).mean(0)
        torch.testing.assert_close(average, model.prior(x_t, gamma), rtol=0, atol=1e-12)


# ---- gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize("simple", [True, False])
def test_gradient_of_the_loss_in_the_encoder_is_that_of_finite_differences(simple, generator):
    """Through z and through the score, at every parameter: central differences to 1e-6."""
    model = random_model(simple=simple)
    x, time = torch.randn(4, 3, generator=generator), torch.rand(4, generator=generator)
    noise, xi = (torch.randn(4, n, generator=generator) for n in (3, 2))

    def loss() -> Tensor:
        mean, log_scale = model.encoder.encode(x)
        return model.loss(x, mean + log_scale.exp() * xi, time, noise).mean()

    loss().backward()
    assert all(parameter.grad is None for parameter in model.prior.parameters())
    for parameter in model.encoder.parameters():
        found = parameter.grad.flatten()
        expected = torch.zeros_like(found)
        flat = parameter.data.view(-1)
        for index in range(len(flat)):
            value = flat[index].item()
            ends = []
            for h in (1e-5, -1e-5):
                flat[index] = value + h
                ends.append(loss().item())
            flat[index] = value
            expected[index] = (ends[0] - ends[1]) / 2e-5
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_each_stage_trains_its_own_part_alone(generator):
    model = random_model(corrector=True)
    x, z = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
    time, noise = torch.rand(4, generator=generator), torch.randn(4, 3, generator=generator)
    stages = {
        "prior": model.prior_loss(x, time, noise),
        "encoder": model.loss(x, z, time, noise),
        "corrector": model.corrector_loss(x, z, time, noise),
    }
    for part, loss in stages.items():
        model.zero_grad()
        loss.sum().backward()
        moved = {
            name.split(".")[0]
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().sum() > 0
        }
        assert moved == {part}


def test_read_outs_are_the_same_without_gradients_and_keep_no_graph(generator):
    model = random_model(corrector=True)
    x, z = torch.randn(4, 3, generator=generator), torch.randn(5, 4, 2, generator=generator)
    time, noise = torch.rand(5, 4, generator=generator), torch.randn(5, 4, 3, generator=generator)
    bound, decoded = model.log_prob(x, z, time, noise), model.decode(z, noise)
    with torch.no_grad():
        quiet = model.log_prob(x, z, time, noise), model.decode(z, noise)
    assert bound.requires_grad
    assert not any(part.requires_grad for part in quiet)
    torch.testing.assert_close(quiet, (bound, decoded))


# ---- parts ---------------------------------------------------------------------------------


def test_losses_are_minus_the_bound_or_half_the_error_of_the_noise(generator):
    """The stages' losses from the noise that each stage predicts, row by row."""
    x, z = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
    time, noise = torch.rand(4, generator=generator), torch.randn(4, 3, generator=generator)
    model = random_model()
    torch.testing.assert_close(model.loss(x, z, time, noise), -model.log_prob(x, z, time, noise))
    simple = random_model(simple=True)
    gamma = simple.schedule.gamma(time)
    x_t = diffuse(x, gamma, noise)
    for loss, predicted in (
        (simple.loss(x, z, time, noise), simple.noise(x_t, gamma, z)),
        (simple.prior_loss(x, time, noise), simple.prior(x_t, gamma)),
    ):
        for row in range(4):
            error = (noise[row] - predicted[row]).square().sum().item()
            assert loss[row].item() == pytest.approx(0.5 * error)


def test_bound_of_the_prior_is_that_of_a_gaussian_before_training(generator):
    """log N(x; 0, variances) for every draw of level and noise, but for the ends: 0.02 nats."""
    variance = torch.tensor([4.0, 0.5, 0.04])
    encoder = TimeEncoder(3, 2, schedule=SCHEDULE)
    model = ScoreDecoder(3, 2, encoder, schedule=SCHEDULE)
    model.set_variance(variance)
    x = variance.sqrt() * torch.randn(20, 3, generator=generator)
    exact = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(x).sum(-1)
    loss = model.prior_loss(
        x, torch.rand(5, 20, generator=generator), torch.randn(5, 20, 3, generator=generator)
    )
    torch.testing.assert_close(-loss, exact.expand(5, 20), rtol=0, atol=0.02)


def test_corrector_changes_nothing_before_training(generator):
    encoder = TimeEncoder(3, 2, schedule=SCHEDULE, n_hidden=6)
    plain = ScoreDecoder(3, 2, encoder, schedule=SCHEDULE, n_hidden=6)
    plus = ScoreDecoder(3, 2, encoder, schedule=SCHEDULE, corrector=True, n_hidden=6)
    randomise(plain)
    plus.prior = plain.prior
    x, z = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
    time, noise = torch.rand(4, generator=generator), torch.randn(4, 3, generator=generator)
    expected = plain.loss(x, z, time, noise)
    torch.testing.assert_close(plus.corrector_loss(x, z, time, noise), expected)
    torch.testing.assert_close(plus.log_prob(x, z, time, noise), -expected)
    randomise(plus.corrector)
    assert not torch.allclose(plus.corrector_loss(x, z, time, noise), expected)


def test_encoder_that_ignores_x_leaves_the_prior(generator):
    model = random_model()
    nn.init.zeros_(model.encoder.network.output.weight)
    start, z = torch.randn(4, 3, generator=generator), torch.randn(2, 4, 2, generator=generator)
    decoded = model.decode(z, start)
    torch.testing.assert_close(decoded[0], decoded[1])
    gamma = torch.linspace(-5, 5, 4)
    torch.testing.assert_close(model.noise(start, gamma, z[0]), model.prior(start, gamma))


def test_encoder_sees_less_of_features_that_noise_covers(generator):
    """At equal noise the weak feature is lost first, and clean data is taken as it is."""
    encoder = TimeEncoder(2, 1, schedule=SCHEDULE, n_hidden=6)
    encoder.set_variance(torch.tensor([4.0, 0.01]))
    seen = []
    encoder.network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = torch.randn(3, 2, generator=generator)
    encoder.encode(x)
    torch.testing.assert_close(seen[0], x, rtol=0.02, atol=0)
    encoder(x, torch.zeros(()))  # alpha^2 = sigma^2 = 1/2
    share = torch.tensor([4.0 / 5.0, 0.01 / 1.01]) * math.sqrt(2)
    torch.testing.assert_close(seen[1], share * x)


def test_log_scales_stay_in_their_range_far_from_the_data(generator):
    encoder = TimeEncoder(3, 2, schedule=SCHEDULE, n_hidden=6)
    randomise(encoder, spread=2.0)
    x = 1e4 * torch.randn(50, 3, generator=generator)
    _, log_scale = encoder.encode(x)
    low, high = LOG_SCALE_RANGE
    assert (log_scale >= low).all()
    assert (log_scale <= high).all()
    assert log_scale.max() - log_scale.min() > 1.0


def test_variances_are_kept_in_the_state():
    models = [random_model(corrector=True) for _ in range(2)]
    models[0].set_variance(COVARIANCE.diag())
    models[1].load_state_dict(models[0].state_dict())
    torch.testing.assert_close(models[1].prior.variance, COVARIANCE.diag())
    assert torch.equal(models[1].encoder.variance, COVARIANCE.diag())


# ---- training ------------------------------------------------------------------------------


def train(loss, parameters, x: Tensor, n_steps: int, peak: float, generator) -> None:
    optimizer = torch.optim.Adam(parameters, peak)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        rows = x[torch.randint(len(x), (256,), generator=generator)]
        noise = torch.randn(rows.shape, generator=generator)
        optimizer.zero_grad()
        loss(rows, stratified_times(256, x, generator), noise).mean().backward()
        optimizer.step()


def test_three_stages_of_training_close_the_gap_to_the_evidence(generator):
    """Each stage ends where it should, on three populations in 3-d and a latent of 1-d.

    The prior's bound is within 0.15 nats of log p(x) on new data. The encoder's is above that
    evidence by more than 2.5 nats, but below log p(x | z) = log p(x) + log q(z | x) - log q(z) with
    q(z) averaged over 20,000 samples: q_t(z | x_t) is no Gaussian here, between populations. The
    corrector brings it nearer, by more than five standard errors, to within 0.7 nats.
    """

    centers = torch.tensor([[2.0, 0.5, 0.1], [-1.0, 0.8, -0.2], [-1.5, -0.8, 0.2]])

    def draw(n: int) -> Tensor:
        x = centers[torch.randint(3, (n,), generator=generator)]
        return x + 0.2 * torch.randn(n, 3, generator=generator)

    def encode(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_scale = model.encoder.encode(x)
        xi = torch.randn(mean.shape, generator=generator)
        return mean, log_scale, mean + log_scale.exp() * xi

    def encoder_loss(x: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        mean, log_scale, z = encode(x)
        divergence = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(-1)
        return model.loss(x, z, time, noise) + 0.1 * divergence

    def corrector_loss(x: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad():
            _, _, z = encode(x)
        return model.corrector_loss(x, z, time, noise)

    x = draw(4000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = TimeEncoder(3, 1, schedule=SCHEDULE, n_hidden=32)
        model = ScoreDecoder(3, 1, encoder, schedule=SCHEDULE, corrector=True, n_hidden=32)
    model.set_variance(x.var(0))
    train(model.prior_loss, model.prior.parameters(), x, 500, 1e-2, generator)
    train(encoder_loss, encoder.parameters(), x, 400, 1e-2, generator)
    before = copy.deepcopy(model)
    train(corrector_loss, model.corrector.parameters(), x, 300, 5e-3, generator)

    x, others = draw(1000), draw(20_000)
    parts = torch.distributions.Normal(centers, 0.2).log_prob(x.unsqueeze(1)).sum(-1)
    evidence = parts.logsumexp(1) - math.log(3)
    times = stratified_times(32, x, generator).unsqueeze(1)
    noise = torch.randn(32, 1000, 3, generator=generator)
    with torch.no_grad():
        mean, log_scale, z = encode(x)
        from_x = gaussian_log_prob(z, mean, (2 * log_scale).exp())
        mean, log_scale = encoder.encode(others)
        from_all = gaussian_log_prob(z.unsqueeze(1), mean, (2 * log_scale).exp())
        conditional = evidence + from_x - from_all.logsumexp(1) + math.log(len(others))
        prior_gap = evidence + model.prior_loss(x, times, noise).mean(0)
        gaps = [conditional - m.log_prob(x, z, times, noise).mean(0) for m in (before, model)]
    error = max(gap.std().item() / math.sqrt(1000) for gap in (prior_gap, *gaps))
    assert -5 * error < prior_gap.mean() < 0.15
    assert (conditional - gaps[0] - evidence).mean() > 2.5
    assert -5 * error < gaps[1].mean() < 0.7
    better = gaps[0] - gaps[1]
    assert better.mean() > 5 * better.std() / math.sqrt(1000)
