"""The objective, equations 5, 6, 8 and 9, against naive loops, integrals and finite differences."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ancestryvi.models.diffusion import gaussian_log_prob

# E f(N(0, 1)) = sum_i WEIGHTS[i] f(NODES[i])
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
WEIGHTS = WEIGHTS / WEIGHTS.sum()

# the same as a fine trapezoidal rule, for functions that are no polynomials
FINE = torch.arange(-8.0, 8.0 + 1e-9, 0.25, dtype=torch.float64)
FINE_WEIGHTS = torch.exp(-0.5 * FINE**2) / torch.exp(-0.5 * FINE**2).sum()


def log_normal(value, mean, variance):
    """log N(value; mean, variance) of a number."""
    return -0.5 * ((value - mean) ** 2 / variance + math.log(2 * math.pi * variance))


def log_mixture(prior, z):
    """log p(z) of one z, component by component."""
    z, weights = np.asarray(z), prior.logits.exp() / prior.logits.exp().sum()
    density = 0.0
    for weight, mean, factor in zip(weights, prior.means, prior.precision_factors, strict=True):
        precision = factor.T.numpy() @ factor.numpy()
        centred = z - mean.numpy()
        density += (
            weight.item()
            * math.exp(-0.5 * centred @ precision @ centred)
            * math.sqrt(np.linalg.det(precision / (2 * math.pi)))
        )
    return math.log(density)


# ---- the Markovian ELBO --------------------------------------------------------------------


def naive_elbo(model, x, noise):
    """The four terms of equations 5 and 6 for one x and one path, a number at a time."""
    n_latent = model.n_latent
    encoding = model.posterior.encode(x.unsqueeze(0))
    y = [
        encoding.start_mean[0, d].item() + encoding.start_log_scale[0, d].exp().item() * noise[0, d]
        for d in range(n_latent)
    ]
    entropy = sum(
        0.5 * (1 + math.log(2 * math.pi)) + encoding.start_log_scale[0, d].item()
        for d in range(n_latent)
    )
    log_forward = 0.0
    for index, t in enumerate(range(model.posterior.diffusion.n_steps, 0, -1), start=1):
        beta = model.posterior.diffusion.beta[t].item()
        mean, variance = (
            m[0].tolist() for m in model.posterior.reverse_step(encoding, torch.tensor([y]), t)
        )
        before = []
        for d in range(n_latent):
            scale = math.sqrt(variance[d])
            # E log r(y_t | y_{t-1}) over y_{t-1} ~ q(. | y_t, x)
            log_forward += sum(
                weight * log_normal(y[d], math.sqrt(1 - beta) * (mean[d] + scale * node), beta)
                for node, weight in zip(NODES, WEIGHTS, strict=True)
            )
            entropy += 0.5 * (1 + math.log(2 * math.pi)) + 0.5 * math.log(variance[d])
            before.append(mean[d] + scale * noise[index, d])
        y = before
    x_mean = model.decoder(torch.tensor([y]))[0].tolist()
    reconstruction = sum(
        log_normal(x[j].item(), x_mean[j], math.exp(2 * model.log_noise[j].item()))
        for j in range(len(x))
    )
    return {
        "reconstruction": reconstruction,
        "log_prior": log_mixture(model.prior, y),
        "log_forward": log_forward,
        "entropy": entropy,
    }


@pytest.fixture
def x(generator):
    return torch.randn(3, 3, generator=generator)


@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 4])
def test_each_term_of_the_elbo_agrees_with_a_naive_loop(
    random_ddvi, generator, x, n_latent, n_steps
):
    """E log p(x|z), log p(z), sum_t log r(y_t | y_{t-1}) and H(q) of equations 5 and 6."""
    model = random_ddvi(n_latent=n_latent, n_steps=n_steps).requires_grad_(False)
    noise = torch.randn(n_steps + 1, 3, n_latent, generator=generator)
    terms = model.elbo(x, noise)
    for row in range(3):
        expected = naive_elbo(model, x[row], noise[:, row].numpy())
        for name, value in expected.items():
            assert getattr(terms, name)[row].item() == pytest.approx(value, rel=1e-9), name
        regularisation = sum(expected.values()) - expected["reconstruction"]
        assert terms.regularisation[row].item() == pytest.approx(regularisation, rel=1e-9)
        assert terms.elbo[row].item() == pytest.approx(sum(expected.values()), rel=1e-9)


def test_several_draws_equal_a_loop_over_draws(random_ddvi, generator, x):
    """Noise of shape (T + 1, draws, rows, d), and of two draw axes."""
    model = random_ddvi()
    noise = torch.randn(4, 2, 5, 3, 2, generator=generator)
    together = model.elbo(x, noise)
    for name in ("reconstruction", "log_prior", "log_forward", "entropy", "elbo"):
        assert getattr(together, name).shape == (2, 5, 3), name
        for i in range(2):
            for j in range(5):
                alone = getattr(model.elbo(x, noise[:, i, j]), name)
                torch.testing.assert_close(getattr(together, name)[i, j], alone)


def test_mean_of_the_elbo_is_equation_5_without_any_closed_form(random_ddvi, generator):
    """E_q[log p(x|z) + log p(z) + sum_t log r(y_t|y_{t-1}) - log q(y, z|x)] over 30,000 paths.

    Every expectation is taken over the drawn path, where the code takes two in closed form; the
    paired difference has mean 0 within five standard errors.
    """
    model = random_ddvi(n_steps=4, spread=0.2).requires_grad_(False)
    model.posterior.belief_head.bias[2:] -= 1.5  # small steps, small errors
    n = 30_000
    x = torch.randn(1, 3, generator=generator)
    noise = torch.randn(5, n, 1, 2, generator=generator)
    encoding = model.posterior.encode(x)
    start = Normal(encoding.start_mean, encoding.start_log_scale.exp())
    y = start.mean + start.stddev * noise[0]
    integrand = -start.log_prob(y).sum(-1)
    for index, t in enumerate(range(4, 0, -1), start=1):
        mean, variance = model.posterior.reverse_step(encoding, y, t)
        q = Normal(mean, variance.sqrt())
        before = mean + q.stddev * noise[index]
        beta = model.posterior.diffusion.beta[t]
        r = Normal((1 - beta).sqrt() * before, beta.sqrt())
        integrand += (r.log_prob(y) - q.log_prob(before)).sum(-1)
        y = before
    likelihood = Normal(model.decoder(y), model.log_noise.exp())
    integrand += likelihood.log_prob(x).sum(-1) + model.prior.log_prob(y)

    difference = model.elbo(x, noise).elbo - integrand
    error = difference.std().item() / math.sqrt(n)
    assert error < 0.05
    assert abs(difference.mean().item()) < 5 * error


# ---- the denoising loss --------------------------------------------------------------------


def naive_denoising_loss(model, x, z, noise, c=None):
    """-E_r[log q(z|y_1,x) - sum_{t>1} KL(r_t || q_t)] + KL(r(y_T|z) || q(y_T|x)), equation 9."""
    n_steps = model.posterior.diffusion.n_steps
    alpha_bar = [1.0]
    for t in range(1, n_steps + 1):
        alpha_bar.append(alpha_bar[-1] * (1 - model.posterior.diffusion.beta[t].item()))
    encoding = model.posterior.encode(x.unsqueeze(0), c)
    loss = 0.0
    for t in range(1, n_steps + 1):
        a, b = alpha_bar[t - 1], alpha_bar[t] / alpha_bar[t - 1]
        y = math.sqrt(alpha_bar[t]) * z + math.sqrt(1 - alpha_bar[t]) * noise[t - 1]
        mean, variance = (m[0] for m in model.posterior.reverse_step(encoding, y.unsqueeze(0), t))
        for d in range(model.n_latent):
            q = Normal(mean[d], variance[d].sqrt())
            if t == 1:
                loss -= q.log_prob(z[d]).item()
                continue
            precision = 1 / (1 - a) + b / (1 - b)
            r_mean = (math.sqrt(a) / (1 - a) * z[d] + math.sqrt(b) / (1 - b) * y[d]) / precision
            loss += kl_divergence(Normal(r_mean, precision**-0.5), q).item()
    for d in range(model.n_latent if model.posterior.conditional else 0):
        r = Normal(math.sqrt(alpha_bar[-1]) * z[d], math.sqrt(1 - alpha_bar[-1]))
        q = Normal(encoding.start_mean[0, d], encoding.start_log_scale[0, d].exp())
        loss += kl_divergence(r, q).item()
    return loss


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_denoising_loss_agrees_with_a_naive_loop(
    random_ddvi, generator, x, n_latent, n_steps, classes, conditional
):
    """Equation 9, sample by sample and step by step; without its y_T term if q does not see x."""
    model = random_ddvi(
        n_latent=n_latent, n_steps=n_steps, classes=classes, conditional=conditional
    ).requires_grad_(False)
    z = torch.randn(3, n_latent, generator=generator)
    noise = torch.randn(n_steps, 3, n_latent, generator=generator)
    c = torch.eye(3)[[1, 0, 2]] if classes else None
    loss = model.denoising_loss(x, z, noise, c)
    assert loss.shape == (3,)
    for row in range(3):
        part = None if c is None else c[[row]]
        expected = naive_denoising_loss(model, x[row], z[row], noise[:, row], part)
        assert loss[row].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("conditional", [True, False])
def test_sleep_in_latent_space_needs_no_pairs(random_ddvi, generator, x, conditional):
    """Without x in the reverse steps L_diff depends on z alone (appendix B); with x it does not."""
    model = random_ddvi(conditional=conditional).requires_grad_(False)
    z = torch.randn(3, 2, generator=generator)
    noise = torch.randn(3, 3, 2, generator=generator)
    change = model.denoising_loss(x, z, noise) - model.denoising_loss(x.flip(0) + 1, z, noise)
    assert (change.abs() > 1e-3).all() if conditional else (change == 0).all()


def expected_denoising_loss(model, x, z):
    """E over y of the loss of one pair (z, x): each step of the sum has its own noise."""
    n_nodes = len(FINE)
    loss = model.denoising_loss(
        x.expand(n_nodes, -1),
        z.expand(n_nodes, -1),
        FINE.view(1, -1, 1).expand(model.posterior.diffusion.n_steps, -1, -1),
    )
    return (FINE_WEIGHTS * loss).sum().item()


def test_equation_9_is_the_definition_of_appendix_k(random_ddvi, x):
    """E_r[log q(y, z | x) - log r(y | z)] of the whole path, y integrated out on a grid, T = 2."""
    model = random_ddvi(n_latent=1, n_steps=2).requires_grad_(False)
    z = torch.tensor([[0.7]])
    first, second = (n.reshape(-1, 1) for n in torch.meshgrid(FINE, FINE, indexing="ij"))
    weights = (FINE_WEIGHTS[:, None] * FINE_WEIGHTS).reshape(-1)
    for row in range(3):
        encoding = model.posterior.encode(x[[row]])
        mean, variance = model.posterior.diffusion.forward_step(z.expand_as(first), 1)
        y1 = mean + variance.sqrt() * first
        log_ratio = -gaussian_log_prob(y1, mean, variance)
        mean, variance = model.posterior.diffusion.forward_step(y1, 2)
        y2 = mean + variance.sqrt() * second
        log_ratio -= gaussian_log_prob(y2, mean, variance)
        start_variance = (2 * encoding.start_log_scale).exp()
        log_ratio += gaussian_log_prob(y2, encoding.start_mean, start_variance)
        log_ratio += gaussian_log_prob(y1, *model.posterior.reverse_step(encoding, y2, 2))
        log_ratio += gaussian_log_prob(
            z.expand_as(y1), *model.posterior.reverse_step(encoding, y1, 1)
        )
        definition = -(weights * log_ratio).sum().item()
        assert expected_denoising_loss(model, x[row], z[0]) == pytest.approx(definition, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_l_diff_is_below_l_sleep_by_the_divergence_of_the_paths(random_ddvi, x, seed):
    """Equation 8: log q(z|x) - (-loss) = KL(r(y|z) || q(y|z, x)) >= 0, on a grid, T = 1.

    The conditional entropy of p(z | x) is on both sides of L_diff <= L_sleep and cancels.
    """
    model = random_ddvi(n_latent=1, n_steps=1, seed=seed).requires_grad_(False)
    y = torch.linspace(-12.0, 12.0, 24001).unsqueeze(-1)
    step = (y[1] - y[0]).item()
    for row, z in enumerate((-0.8, 0.1, 1.9)):
        latent = torch.tensor([[z]])
        encoding = model.posterior.encode(x[[row]])
        log_start = gaussian_log_prob(y, encoding.start_mean, (2 * encoding.start_log_scale).exp())
        log_joint = log_start + gaussian_log_prob(
            latent.expand_as(y), *model.posterior.reverse_step(encoding, y, 1)
        )
        log_q = math.log(log_joint.exp().sum().item() * step)
        log_r = gaussian_log_prob(y, *model.posterior.diffusion.marginal(latent.expand_as(y), 1))
        divergence = ((log_r - (log_joint - log_q)) * log_r.exp()).sum().item() * step
        gap = log_q + expected_denoising_loss(model, x[row], latent[0])
        assert divergence > 1e-4
        assert gap == pytest.approx(divergence, rel=1e-5)


# ---- gradients -----------------------------------------------------------------------------


def check_gradients(model, loss, names):
    """Three random coordinates of every named parameter by central differences."""
    choose = np.random.default_rng(3)
    parameters = {name: p for name, p in model.named_parameters() if name in names}
    assert parameters.keys() == set(names)
    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    nonzero = 0
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        flat, step = parameter.data.view(-1), 1e-5
        for index in choose.choice(len(flat), min(3, len(flat)), replace=False):
            centre = flat[index].item()
            with torch.no_grad():
                flat[index] = centre + step
                above = loss().item()
                flat[index] = centre - step
                below = loss().item()
                flat[index] = centre
            expected = (above - below) / (2 * step)
            got = gradient.reshape(-1)[index].item()
            assert got == pytest.approx(expected, rel=1e-5, abs=1e-6), (name, index)
            nonzero += abs(got) > 1e-4
    assert nonzero > len(parameters)


def names_of(model, parameters):
    wanted = {id(p) for p in parameters}
    return [name for name, p in model.named_parameters() if id(p) in wanted]


def test_gradient_of_the_elbo_by_finite_differences(random_ddvi, generator, x):
    """d ELBO / d (theta, phi), through the whole reparameterised path."""
    model = random_ddvi()
    noise = torch.randn(4, 3, 2, generator=generator)
    names = [name for name, _ in model.named_parameters()]
    check_gradients(model, lambda: model.elbo(x, noise).elbo.sum(), names)


def test_gradient_of_the_denoising_loss_by_finite_differences(random_ddvi, generator, x):
    """d L_diff / d phi."""
    model = random_ddvi()
    z = torch.randn(3, 2, generator=generator)
    noise = torch.randn(3, 3, 2, generator=generator)
    names = names_of(model, model.posterior.parameters())
    check_gradients(model, lambda: model.denoising_loss(x, z, noise).sum(), names)


def test_wake_gradient_reaches_every_parameter(random_ddvi, generator, x):
    """The wake step trains theta and phi (section 3.4, step 1)."""
    model = random_ddvi()
    model.elbo(x, torch.randn(4, 3, 2, generator=generator)).elbo.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sleep_gradient_reaches_phi_alone(random_ddvi, generator):
    """The sleep step trains phi only, on dreams drawn without a gradient (step 2)."""
    model = random_ddvi()
    with torch.no_grad():
        z, _, x = model.dream(5, generator)
    noise = torch.randn(3, 5, 2, generator=generator)
    model.denoising_loss(x, z, noise).sum().backward()
    for name in names_of(model, model.posterior.parameters()):
        assert model.get_parameter(name).grad.abs().max() > 0, name
    for name in names_of(model, model.generative_parameters()):
        assert model.get_parameter(name).grad is None, name


# ---- dreams and the warm start -------------------------------------------------------------


def test_dreams_have_the_moments_of_the_model(random_ddvi, generator):
    """z ~ p(z) with its component, x = f(z) + s eps with fresh noise (equation 8), to 5 s.e."""
    model = random_ddvi(spread=0.7).requires_grad_(False)
    n = 100_000
    z, component, x = model.dream(n, generator)
    prior = model.prior
    for k, weight in enumerate(prior.log_weights.exp().tolist()):
        rows = component == k
        share = rows.double().mean().item()
        assert share == pytest.approx(weight, abs=5 * math.sqrt(weight * (1 - weight) / n))
        white = (z[rows] - prior.means[k]) @ prior.precision_factors[k].T
        error = 5 / math.sqrt(len(white))
        assert white.mean(0).abs().max() < error
        assert (white.T.cov() - torch.eye(2)).abs().max() < error * math.sqrt(2)
    residual = (x - model.decoder(z)) / model.log_noise.exp()
    error = 5 / math.sqrt(n)
    assert residual.mean(0).abs().max() < error
    assert (residual.var(0) - 1).abs().max() < error * math.sqrt(2)
    # the noise is independent from feature to feature and of z
    together = torch.cat([residual, z], dim=1).T
    off_diagonal = torch.corrcoef(together)[:3].triu(1)
    assert off_diagonal.abs().max() < error


def test_dreams_repeat_with_their_generator(random_ddvi):
    model = random_ddvi()
    first, second = (model.dream(7, torch.Generator().manual_seed(4)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_belief_elbo_agrees_with_a_naive_loop(random_ddvi, generator, x):
    """log p(x|z), and log p(z) + H of the encoder's Gaussian, z = m + s eps (AEVB)."""
    model = random_ddvi().requires_grad_(False)
    noise = torch.randn(3, 2, generator=generator)
    reconstruction, regularisation = model.belief_elbo(x, model.posterior.encoder_belief(x), noise)
    encoding = model.posterior.encode(x)
    for row in range(3):
        q = Normal(encoding.mean[row], encoding.log_scale[row].exp())
        z = q.mean + q.stddev * noise[row]
        likelihood = Normal(model.decoder(z), model.log_noise.exp())
        expected = likelihood.log_prob(x[row]).sum().item()
        assert reconstruction[row].item() == pytest.approx(expected, rel=1e-10)
        expected = log_mixture(model.prior, z.tolist()) + q.entropy().sum().item()
        assert regularisation[row].item() == pytest.approx(expected, rel=1e-10)
