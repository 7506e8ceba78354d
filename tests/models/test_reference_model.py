"""The authors' genotype model against loops over single numbers, integrals and scipy."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.reference import DropoutMLP, ReferenceDDVI
from ancestryvi.models.schedules import cosine_alpha_bar

T = 4


def random_model(n_features=3, n_clusters=3, n_latent=2, seed=0, spread=0.4):
    """A small model, every parameter and the noise random."""
    generator = torch.Generator().manual_seed(seed)
    model = ReferenceDDVI(n_features, n_clusters, n_latent, T, n_hidden=7, n_hidden_denoiser=6)
    with torch.no_grad():
        for value in (*model.parameters(), model.log_noise):
            value.copy_(spread * torch.randn(value.shape, generator=generator))
    return model


@pytest.fixture
def model():
    return random_model()


@pytest.fixture
def x(generator):
    return torch.randn(5, 3, generator=generator)


def noise(generator, n_draws, n_samples, n_latent=2):
    return torch.randn((T + 1, n_draws, n_samples, n_latent), generator=generator)


# ---- one number at a time ------------------------------------------------------------------


def naive_linear(layer, values):
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [
        bias[o] + sum(w * v for w, v in zip(weight[o], values, strict=True))
        for o in range(len(bias))
    ]


def naive_mlp(network, values):
    for layer in network.hidden:
        values = [v if v > 0 else 0.2 * v for v in naive_linear(layer, values)]
    return naive_linear(network.output, values)


def naive_denoiser(network, y, t):
    for layer, offsets in zip(network.hidden, network.from_step, strict=True):
        before = naive_linear(layer, y)
        y = [max(0.0, v + o) for v, o in zip(before, offsets[t - 1].tolist(), strict=True)]
    return naive_linear(network.output, y)


def naive_alpha_bar(t):
    return math.prod(1.0 - (1e-4 + (0.02 - 1e-4) * s / (T - 1)) for s in range(t))


def naive_ddim(model, y):
    """Song, Meng and Ermon (2020), equation 12 with sigma_t = 0."""
    y = list(y)
    for t in range(T, 0, -1):
        now, before = naive_alpha_bar(t), naive_alpha_bar(t - 1)
        eps = naive_denoiser(model.denoiser, y, t)
        for k, e in enumerate(eps):
            predicted = (y[k] - math.sqrt(1 - now) * e) / math.sqrt(now)
            y[k] = math.sqrt(before) * predicted + math.sqrt(1 - before) * e
    return y


# ---- networks and chain --------------------------------------------------------------------


def test_networks_have_four_hidden_layers_of_their_width():
    model = ReferenceDDVI(20, 5, n_hidden=11, n_hidden_denoiser=8, n_steps=T)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    for part, n_in, n_hidden, n_out in (
        ("encoder", 20, 11, 4),
        ("decoder", 2, 11, 20),
        ("denoiser", 2, 8, 2),
    ):
        widths = [n_in, *[n_hidden] * 4]
        for index, (before, after) in enumerate(pairwise(widths)):
            assert shapes[f"{part}.hidden.{index}.weight"] == (after, before)
        assert shapes[f"{part}.output.weight"] == (n_out, n_hidden)
    assert sum(name.startswith("denoiser.from_step") for name in shapes) == 4


def test_means_and_step_offsets_start_uniform():
    """Means U(0, 0.1), offsets U(0, 1): extremes and average of many."""
    model = ReferenceDDVI(3, 2000, n_hidden=4)
    offsets = torch.cat([table.flatten() for table in model.denoiser.from_step])
    for values, top in ((model.means, 0.1), (offsets, 1.0)):
        assert 0 <= values.min() < 0.01 * top
        assert 0.99 * top < values.max() < top
        assert values.mean().item() == pytest.approx(top / 2, rel=0.03)


def test_start_and_decoder_are_the_naive_networks(model, x):
    mean, log_variance = model.start(x)
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    decoded = model.decoder(z)
    for row in range(5):
        expected = naive_mlp(model.encoder, x[row].tolist())
        assert [*mean[row].tolist(), *log_variance[row].tolist()] == pytest.approx(expected)
        assert decoded[row].tolist() == pytest.approx(naive_mlp(model.decoder, z[row].tolist()))


def test_units_drop_out_with_probability_a_fifth_and_the_rest_are_scaled_up(generator):
    """Layers that copy their input: a unit survives four dropouts with 0.8^4, as 0.8^-4."""
    network = DropoutMLP(1000, 1000, 1000)
    with torch.no_grad():
        for layer in (*network.hidden, network.output):
            layer.weight.copy_(torch.eye(1000))
            layer.bias.zero_()
        ones = torch.ones(20, 1000)
        outputs = network(ones, generator)
        torch.testing.assert_close(network(ones), ones)
    kept = outputs > 0
    torch.testing.assert_close(outputs[kept], torch.full((int(kept.sum()),), 0.8**-4))
    assert kept.double().mean().item() == pytest.approx(0.8**4, abs=0.015)  # 4 sd


def test_chain_is_the_published_one(model, generator):
    y = torch.randn(2, 5, 2, generator=generator)
    z = model.ddim(y)
    assert z.shape == y.shape
    for index in np.ndindex(2, 5):
        expected = naive_ddim(model, y[index].tolist())
        assert z[index].tolist() == pytest.approx(expected, rel=1e-10)


class PerfectDenoiser(nn.Module):
    """E[eps | y_t] when z is N(0, v)."""

    def __init__(self, variance, alpha_bar):
        super().__init__()
        self.variance, self.alpha_bar = variance, alpha_bar

    def forward(self, y, t):
        kept = self.alpha_bar[t]
        return (1 - kept).sqrt() * y / (kept * self.variance + 1 - kept)


def test_chain_with_a_perfect_denoiser_keeps_quantiles_in_the_limit():
    """y_T = a quantile of N(0, abar v + 1 - abar) goes to that of N(0, v), with error O(1 / T)."""
    variance, final = 0.3, 0.2
    model = random_model()
    errors = []
    for n_steps in (50, 200, 800):
        alpha_bar = cosine_alpha_bar(n_steps, final=final)
        model.diffusion = GaussianDiffusion(alpha_bar)
        model.denoiser = PerfectDenoiser(variance, alpha_bar)
        white = torch.linspace(-2.0, 2.0, 8).reshape(4, 2)
        z = model.ddim(white * math.sqrt(final * variance + 1 - final))
        errors.append((z / white - math.sqrt(variance)).abs().max().item())
    assert errors[-1] < 2e-3
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4.0, rel=0.2)


# ---- objectives ----------------------------------------------------------------------------


def test_denoising_loss_is_huber_by_loops(model, generator):
    """Half the square of an error below 1, its absolute value less a half above."""
    z, eps = torch.randn(2, 40, 2, generator=generator)
    t = torch.randint(1, T + 1, (40,), generator=generator)
    eps = 2 * eps
    parts = []
    for row in range(40):
        kept = naive_alpha_bar(int(t[row]))
        y = (math.sqrt(kept) * z[row] + math.sqrt(1 - kept) * eps[row]).tolist()
        predicted = naive_denoiser(model.denoiser, y, int(t[row]))
        for p, e in zip(predicted, eps[row].tolist(), strict=True):
            error = abs(p - e)
            parts.append(error - 0.5 if error > 1 else 0.5 * error**2)
    assert min(parts) < 0.5 < max(parts)
    loss = model.denoising_loss(z, t, eps).item()
    assert loss == pytest.approx(sum(parts) / len(parts), rel=1e-10)


def test_wake_loss_is_mean_squared_error_and_a_small_kl(model, x, generator):
    eps = torch.randn(5, 2, generator=generator)
    terms = model.wake_loss(x, eps)
    squares, kls = [], []
    for row in range(5):
        head = torch.tensor(naive_mlp(model.encoder, x[row].tolist()))
        mean, sd = head[:2], (head[2:] / 2).exp()
        unit = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        kls.append(kl_divergence(Independent(Normal(mean, sd), 1), unit).item())
        z = naive_ddim(model, (mean + sd * eps[row]).tolist())
        for fitted, value in zip(naive_mlp(model.decoder, z), x[row].tolist(), strict=True):
            squares.append((fitted - value) ** 2)
    assert terms["squared_error"].item() == pytest.approx(np.mean(squares), rel=1e-10)
    assert terms["kl"].item() == pytest.approx(np.mean(kls), rel=1e-10)
    expected = np.mean(squares) + 0.005 * np.mean(kls)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_wake_loss_drops_units_in_both_networks(model, x, generator):
    eps = torch.zeros(5, 2)
    plain = model.wake_loss(x, eps)
    dropped = model.wake_loss(x, eps, generator)
    assert dropped["kl"] != plain["kl"]
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    errors = {model.wake_loss(x, eps, generator)["squared_error"].item() for _ in range(3)}
    assert len(errors) == 3


def test_wake_loss_reaches_encoder_decoder_and_denoiser_alone(model, x, generator):
    model.wake_loss(x, torch.randn(5, 2, generator=generator))["loss"].backward()
    assert model.means.grad is None
    for part in (model.encoder, model.decoder, model.denoiser):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())


def test_separation_is_hinge_and_box_by_loops(generator):
    model = random_model(n_clusters=8)
    with torch.no_grad():
        model.means.copy_(2 * torch.randn(8, 2, generator=generator))
    i, j = torch.randint(8, (2, 50), generator=generator)
    means = model.means.tolist()
    hinges, boxes = [], []
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        hinges.append(max(0.0, 1.5 - math.sqrt(math.dist(means[a], means[b]) ** 2 + 1e-6)))
        boxes += [100 * max(0.0, abs(value) - 2.5) for value in means[a]]
    assert sum(hinge == 0 for hinge in hinges) > 0
    assert sum(box > 0 for box in boxes) > 0
    assert model.separation(i, j).item() == pytest.approx(np.mean(hinges) + np.mean(boxes))


def test_separation_pushes_near_means_apart_and_stray_ones_back(model):
    with torch.no_grad():
        model.means.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]))
    index = torch.tensor([0, 0, 1, 2])
    model.separation(index, torch.tensor([0, 1, 0, 2])).backward()
    gradient = model.means.grad
    assert gradient[0].tolist() == pytest.approx([0.5, 0.0], rel=1e-5)  # two of four pairs
    assert gradient[1].tolist() == pytest.approx([-0.5, 0.0], rel=1e-5)
    assert gradient[2].tolist() == pytest.approx([0.0, 100 / 8])  # one of eight coordinates


# ---- the prior -----------------------------------------------------------------------------


def test_prior_is_an_equal_mixture_of_round_components(model, generator):
    z = torch.randn(6, 2, generator=generator)
    prior = model.prior
    density = np.stack(
        [multivariate_normal(m, 0.125**2 * np.eye(2)).pdf(z) for m in model.means.detach().numpy()]
    )
    np.testing.assert_allclose(prior.log_prob(z).numpy(), np.log(density.mean(0)), rtol=1e-9)
    np.testing.assert_allclose(
        prior.responsibilities(z).numpy(), (density / density.sum(0)).T, rtol=1e-9, atol=1e-300
    )
    assert not any(parameter.requires_grad for parameter in prior.parameters())


def test_draws_of_the_prior_have_its_moments_and_move_with_its_means(model, generator):
    with torch.no_grad():
        model.means.mul_(3)
    z, component = model.sample_prior(60_000, generator)
    counts = torch.bincount(component, minlength=3)
    assert (counts / 60_000).tolist() == pytest.approx([1 / 3] * 3, abs=0.008)  # 4 sd
    for k in range(3):
        own = z[component == k].detach()
        torch.testing.assert_close(own.mean(0), model.means[k].detach(), rtol=0, atol=0.004)
        torch.testing.assert_close(own.T.cov(), 0.125**2 * torch.eye(2), rtol=0, atol=4e-4)
    z.sum().backward()
    torch.testing.assert_close(model.means.grad, counts[:, None].expand(3, 2).double())


# ---- the read-out --------------------------------------------------------------------------


def test_places_and_draws_follow_the_chain(model, x, generator):
    """z is the chain from mu + s eps with the first noise alone, and the place that with eps 0."""
    many = noise(generator, 3, 1)
    drawn = model.draw(x, many, torch.rand(3, 1, generator=generator))
    assert drawn.shape == (3, 5, 2)
    for row in range(5):
        head = naive_mlp(model.encoder, x[row].tolist())
        assert model.place(x)[row].tolist() == pytest.approx(naive_ddim(model, head[:2]))
        for draw in range(3):
            eps = many[0, draw, 0].tolist()
            y = [head[k] + math.exp(head[2 + k] / 2) * eps[k] for k in range(2)]
            assert drawn[draw, row].tolist() == pytest.approx(naive_ddim(model, y))


def test_probabilities_are_responsibilities_averaged_over_draws(model, x, generator):
    many = noise(generator, 4, 5)
    drawn = model.draw(x, many, torch.zeros(4, 5)).detach().numpy()
    means = model.means.detach().numpy()
    expected = np.zeros((5, 3))
    for draw, row in np.ndindex(4, 5):
        density = [
            multivariate_normal(m, 0.125**2 * np.eye(2)).pdf(drawn[draw, row]) for m in means
        ]
        expected[row] += np.array(density) / sum(density) / 4
    np.testing.assert_allclose(model.probabilities(x, many).detach().numpy(), expected, rtol=1e-7)


def test_under_equal_weights_the_most_probable_component_is_the_nearest(generator):
    """The rule of the authors, for one draw."""
    model = random_model(n_clusters=6)
    x = torch.randn(50, 3, generator=generator)
    one = noise(generator, 1, 50)
    z = model.draw(x, one, torch.zeros(1, 50))[0]
    nearest = torch.cdist(z, model.means).argmin(-1)
    assert len(nearest.unique()) > 1
    assert model.probabilities(x, one).argmax(-1).tolist() == nearest.tolist()


def test_reading_out_is_the_same_in_training_mode_and_touches_no_global_noise(model, x, generator):
    many = noise(generator, 3, 5)
    before = torch.get_rng_state()
    model.eval()
    first = model.place(x), model.probabilities(x, many), model.bound(x, many)
    model.train()
    second = model.place(x), model.probabilities(x, many), model.bound(x, many)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    model.dream(10, generator)
    model.wake_loss(x, torch.zeros(5, 2), generator)
    assert torch.equal(torch.get_rng_state(), before)


# ---- the bound -----------------------------------------------------------------------------


def log_normal(value, mean, sd):
    return -0.5 * ((value - mean) / sd) ** 2 - np.log(sd) - 0.5 * math.log(2 * math.pi)


def test_bound_is_the_change_of_variables_by_finite_differences(model, x, generator):
    """log p(x | z) + log p(z) - log q(y_T | x) + log |det dz/dy_T|, one draw at a time."""
    many = noise(generator, 3, 5)
    bound = model.bound(x, many)
    mean, log_variance = model.start(x)
    expected = np.zeros(5)
    step = 1e-5
    for draw, row in np.ndindex(3, 5):
        mu, sd = mean[row].tolist(), (log_variance[row] / 2).exp().tolist()
        eps = many[0, draw, row].tolist()
        y = [mu[k] + sd[k] * eps[k] for k in range(2)]
        z = naive_ddim(model, y)
        jacobian = np.zeros((2, 2))
        for k in range(2):
            up, down = list(y), list(y)
            up[k] += step
            down[k] -= step
            jacobian[:, k] = np.subtract(naive_ddim(model, up), naive_ddim(model, down)) / (
                2 * step
            )
        fitted, scale = naive_mlp(model.decoder, z), model.log_noise.exp().numpy()
        log_x = log_normal(x[row].numpy(), np.array(fitted), scale).sum()
        log_z = np.log(
            np.mean(
                [multivariate_normal(m, 0.125**2 * np.eye(2)).pdf(z) for m in model.means.tolist()]
            )
        )
        log_y = log_normal(np.array(y), np.array(mu), np.array(sd)).sum()
        log_q = log_y - math.log(abs(np.linalg.det(jacobian)))
        expected[row] += (log_x + log_z - log_q) / 3
    np.testing.assert_allclose(bound.detach().numpy(), expected, rtol=1e-6)


def test_bound_against_integrals_over_a_line():
    """In 1-d with a one-to-one chain: int q = 1, E_q[e^bound] = p(x), and E_q[bound] <= log p(x).

    Single draws of the bound give q(z | x) = p(x, z) / e^bound along a fine grid of noise.
    """
    model = random_model(n_latent=1, seed=3)
    with torch.no_grad():
        model.means.mul_(0.3)
        model.log_noise.add_(0.5)
    x = torch.tensor([[0.3, -0.4, 0.8]])
    eps = torch.linspace(-9.0, 9.0, 6001)
    many = torch.zeros(T + 1, len(eps), 1, 1)
    many[0, :, 0, 0] = eps
    with torch.no_grad():
        z = model.draw(x, many, torch.zeros(len(eps), 1))[:, 0]
        # each value of the noise as a sample of its own, since the bound averages over draws
        bound = model.bound(x.expand(len(eps), -1), many.transpose(1, 2))
        grid = torch.linspace(-6.0, 6.0, 20001).unsqueeze(-1)
        density = [Normal(mean, 0.125).log_prob(grid[:, 0]) for mean in model.means[:, 0]]
        log_prior = torch.stack(density).logsumexp(0) - math.log(3)
        log_x = Normal(model.decoder(grid), model.log_noise.exp()).log_prob(x).sum(-1)
        evidence = torch.trapezoid((log_prior + log_x).exp(), grid[:, 0]).item()
        log_joint = model.reconstruction(x, z) + model.prior.log_prob(z)
    assert (z[:, 0].diff() > 0).all() or (z[:, 0].diff() < 0).all()
    posterior = (log_joint - bound).exp()
    assert abs(torch.trapezoid(posterior, z[:, 0]).item()) == pytest.approx(1.0, abs=1e-5)
    weight = Normal(0.0, 1.0).log_prob(eps).exp()
    weighted = torch.trapezoid(weight * bound.exp(), eps).item()
    assert weighted == pytest.approx(evidence, rel=1e-4)
    average = torch.trapezoid(weight * bound, eps).item()
    assert average < math.log(evidence)


def test_bound_needs_no_gradients_around_it(model, x, generator):
    many = noise(generator, 3, 5)
    expected = model.bound(x, many).detach()
    with torch.no_grad():
        bound = model.bound(x, many)
    torch.testing.assert_close(bound, expected)
    assert not bound.requires_grad


# ---- after training ------------------------------------------------------------------------


def test_noise_is_the_root_mean_square_residual(model, x):
    with torch.no_grad():
        place, constant = model.place(x), torch.tensor([0.7, -0.2, 0.4])
        model.decoder.output.weight.zero_()
        model.decoder.output.bias.copy_(constant)
        x = x.clone()
        x[:, 2] = constant[2]
        assert not torch.equal(model.place(x), place)
    model.set_noise(x)
    expected = [
        math.sqrt(sum((value - constant[f].item()) ** 2 for value in x[:, f].tolist()) / 5)
        for f in range(2)
    ]
    assert model.log_noise.exp().tolist() == pytest.approx([*expected, 1e-3])


def test_dreams_have_the_noise_of_the_model(model, generator):
    with torch.no_grad():
        z, component, x = model.dream(40_000, generator)
        residual = x - model.decoder(z)
    torch.testing.assert_close(residual.std(0), model.log_noise.exp(), rtol=0.02, atol=0)
    assert residual.mean(0).abs().max() < 0.03
    assert ((z - model.means[component]).norm(dim=-1) < 0.125 * 6).all()


def test_kept_clusters_are_in_the_order_asked_for(x, generator):
    model = random_model(n_clusters=5)
    means = model.means.detach().clone()
    many = noise(generator, 2, 5)
    z = model.draw(x, many, torch.zeros(2, 5))
    order = torch.tensor([4, 0, 2])
    model.keep_clusters(order)
    assert torch.equal(model.means, means[order])
    assert model.prior.n_clusters == 3
    density = (-0.5 * (torch.cdist(z, means[order]) / 0.125) ** 2).softmax(-1).mean(0)
    torch.testing.assert_close(model.probabilities(x, many), density)


def test_a_model_comes_back_from_its_state(x, generator):
    model = random_model(n_clusters=5)
    model.keep_clusters(torch.tensor([3, 1]))
    other = ReferenceDDVI(3, 2, 2, T, n_hidden=7, n_hidden_denoiser=6)
    other.load_state_dict(model.state_dict())
    many = noise(generator, 2, 5)
    for name in ("probabilities", "bound"):
        assert torch.equal(getattr(other, name)(x, many), getattr(model, name)(x, many))
