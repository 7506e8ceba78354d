"""The posterior q(y, z | x) against its networks and equations written out in numpy."""

import math

import numpy as np
import pytest
import torch

from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_posterior import MAX_LOG_CORRECTION, DiffusionPosterior
from ancestryvi.models.networks import mlp, zero_init
from ancestryvi.models.posterior import LOG_SCALE_RANGE
from ancestryvi.models.schedules import cosine_alpha_bar

SHARPNESS = 1.7


def silu(a):
    return a / (1 + np.exp(-a))


class NaivePosterior:
    """q for one row of x, and one class where there are classes, from its parameters alone."""

    def __init__(self, posterior, x, c=None):
        self.p = {name: value.detach().numpy() for name, value in posterior.named_parameters()}
        self.conditional = posterior.conditional
        self.alpha_bar = cosine_alpha_bar(posterior.diffusion.n_steps).tolist()
        hidden = silu(self.linear("encoder.1.0", SHARPNESS * x))
        features = silu(self.linear("encoder.1.2", hidden))
        if c is not None:
            features = features + self.p["class_features"][c]
        belief = self.linear("belief_head", features)
        self.mean, log_scale = np.split(belief, 2)
        self.scale = np.exp(log_scale)
        # y_T = sqrt(abar_T) z + sqrt(1 - abar_T) eps with z of the belief, then corrected
        shift, log_correction = np.split(self.linear("start_head", features), 2)
        last = self.alpha_bar[-1]
        self.start_mean = math.sqrt(last) * self.mean + shift
        self.start_scale = np.sqrt(last * self.scale**2 + 1 - last) * np.exp(log_correction)
        if self.conditional:
            known = np.concatenate([features, belief])
        else:
            known = np.ones(1) if c is None else np.eye(posterior.n_classes)[c]
        self.context = self.linear("denoiser.from_features", known)

    def linear(self, name, a):
        return self.p[f"{name}.weight"] @ a + self.p[f"{name}.bias"]

    def belief(self, y, t):
        step = self.p["denoiser.from_step.weight"][t - 1]
        hidden = silu(self.p["denoiser.from_y.weight"] @ y + step + self.context)
        shift, log_correction = np.split(
            self.linear("denoiser.output", silu(self.linear("denoiser.hidden", hidden))), 2
        )
        bounded = MAX_LOG_CORRECTION * np.tanh(log_correction / MAX_LOG_CORRECTION)
        mean, scale = self.mean, self.scale
        if not self.conditional:  # r(z | y_t) for z ~ N(0, 1), of correlation sqrt(abar_t)
            mean, scale = math.sqrt(self.alpha_bar[t]) * y, math.sqrt(1 - self.alpha_bar[t])
        return mean + scale * shift, (scale * np.exp(bounded)) ** 2

    def reverse_step(self, y, t):
        """r(y_{t-1} | y_t, z) averaged over the belief, by completing the square."""
        z_mean, z_variance = self.belief(y, t)
        if t == 1:
            return z_mean, z_variance
        a, b = self.alpha_bar[t - 1], self.alpha_bar[t] / self.alpha_bar[t - 1]
        # y_{t-1} has precision 1 / (1 - a) from z and b / (1 - b) from y_t
        variance = 1 / (1 / (1 - a) + b / (1 - b))
        z_gain = variance * math.sqrt(a) / (1 - a)
        y_gain = variance * math.sqrt(b) / (1 - b)
        return z_gain * z_mean + y_gain * y, variance + z_gain**2 * z_variance


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_infer_follows_the_equations_written_out(
    random_ddvi, generator, n_steps, classes, conditional
):
    """y_T ~ q(y_T | x, c), then y_{t-1} ~ q(y_{t-1} | y_t, x, c) down to z (section 3.1).

    Without x in the reverse steps, q(y_{t-1} | y_t, c) (appendix B).
    """
    posterior = random_ddvi(
        n_steps=n_steps, classes=classes, conditional=conditional, sharpness=SHARPNESS
    ).posterior
    x = torch.randn(4, 3, generator=generator)
    noise = torch.randn(n_steps + 1, 4, 2, generator=generator)
    c = torch.eye(3)[[2, 0, 1, 2]] if classes else None
    with torch.no_grad():
        got = posterior.infer(posterior.encode(x, c), noise)
    for row in range(4):
        q = NaivePosterior(posterior, x[row].numpy(), [2, 0, 1, 2][row] if classes else None)
        y = q.start_mean + q.start_scale * noise[0, row].numpy()
        for index, t in enumerate(range(n_steps, 0, -1), start=1):
            mean, variance = q.reverse_step(y, t)
            y = mean + np.sqrt(variance) * noise[index, row].numpy()
        np.testing.assert_allclose(got[row].numpy(), y, rtol=1e-10)


def test_draws_between_the_axes_equal_a_loop_over_draws(random_ddvi, generator):
    """Noise of shape (T + 1, draws, rows, d) is `draws` calls with noise (T + 1, rows, d)."""
    model = random_ddvi()
    x = torch.randn(4, 3, generator=generator)
    noise = torch.randn(4, 6, 4, 2, generator=generator)
    encoding = model.posterior.encode(x)
    together = model.posterior.infer(encoding, noise)
    assert together.shape == (6, 4, 2)
    for draw in range(6):
        torch.testing.assert_close(together[draw], model.posterior.infer(encoding, noise[:, draw]))


def test_a_row_does_not_depend_on_its_batch(random_ddvi, generator):
    model = random_ddvi()
    x = torch.randn(4, 3, generator=generator)
    noise = torch.randn(4, 4, 2, generator=generator)
    together = model.posterior.infer(model.posterior.encode(x), noise)
    for row in range(4):
        alone = model.posterior.infer(model.posterior.encode(x[[row]]), noise[:, [row]])
        torch.testing.assert_close(alone[0], together[row])


def test_training_starts_from_the_posterior_of_aevb(generator):
    """Zero-initialised heads: every belief about z is the encoder's, and y_T is it, noised.

    q(y_T | x) is then r(y_T | z) averaged over the belief, whose moments two points give exactly.
    """
    posterior = DiffusionPosterior(3, 2, GaussianDiffusion(cosine_alpha_bar(4, final=0.3)))
    encoding = posterior.encode(torch.randn(5, 3, generator=generator))
    y = torch.randn(5, 2, generator=generator)
    for t in range(1, 5):
        mean, variance = posterior.belief(encoding, y, t)
        torch.testing.assert_close(mean, encoding.mean)
        torch.testing.assert_close(variance, (2 * encoding.log_scale).exp())
    signs = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1)
    z = encoding.mean + signs * encoding.log_scale.exp()
    means, variances = posterior.diffusion.marginal(z, 4)
    torch.testing.assert_close(encoding.start_mean, means.mean(0))
    expected = variances.mean(0) + means.var(0, unbiased=False)
    torch.testing.assert_close((2 * encoding.start_log_scale).exp(), expected)


# ---- reverse steps without x ---------------------------------------------------------------


@pytest.mark.parametrize("classes", [True, False])
def test_unconditional_reverse_steps_know_y_and_not_x(random_ddvi, generator, classes):
    """q(y_{t-1} | y_t) of appendix B: other rows give the same step; x moves y_T alone."""
    posterior = random_ddvi(conditional=False, classes=classes).posterior
    c = torch.eye(3)[[1, 1, 0, 2]] if classes else None
    first, second = (posterior.encode(torch.randn(4, 3, generator=generator), c) for _ in range(2))
    y = torch.randn(4, 2, generator=generator)
    for t in range(1, 4):
        for a, b in zip(
            posterior.reverse_step(first, y, t), posterior.reverse_step(second, y, t), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert ((first.start_mean - second.start_mean).abs() > 1e-3).all()
    noise = torch.randn(4, 4, 2, generator=generator)
    z = posterior.infer(first, noise) - posterior.infer(second, noise)
    assert (z.abs() > 1e-6).all()


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_unconditional_chain_reverses_r_under_a_standard_normal_prior(generator, n_steps):
    """Zero denoiser: q(y_{t-1} | y_t) = r(y_{t-1} | y_t) for z ~ N(0, I) (appendix B).

    Then every y_t is standard normal, and y_{t-1} given y_t the regression of two such variables of
    correlation rho = sqrt(1 - beta_t): N(rho y_t, 1 - rho^2).
    """
    posterior = DiffusionPosterior(
        3, 2, GaussianDiffusion(cosine_alpha_bar(n_steps)), conditional=False
    )
    encoding = posterior.encode(torch.randn(5, 3, generator=generator))
    y = torch.randn(5, 2, generator=generator)
    for t in range(1, n_steps + 1):
        rho = (1 - posterior.diffusion.beta[t]).sqrt()
        mean, variance = posterior.reverse_step(encoding, y, t)
        torch.testing.assert_close(mean, rho * y)
        torch.testing.assert_close(variance, (1 - rho**2).expand_as(y))


@pytest.mark.parametrize("push", [-1e6, 1e6])
def test_correction_of_the_scale_is_bounded(random_ddvi, generator, push):
    """However far the denoiser goes, the variance stays within e^(+-2 MAX_LOG_CORRECTION)."""
    model = random_ddvi()
    with torch.no_grad():
        model.posterior.denoiser.output.bias[2:] = push
    encoding = model.posterior.encode(torch.randn(5, 3, generator=generator))
    _, variance = model.posterior.belief(encoding, torch.randn(5, 2, generator=generator), 2)
    expected = (2 * encoding.log_scale + math.copysign(2 * MAX_LOG_CORRECTION, push)).exp()
    torch.testing.assert_close(variance, expected)


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
def test_samples_far_from_the_training_data_get_finite_answers(random_ddvi, generator, distance):
    """Networks extrapolate linearly: no scale may grow like the exponential of that, nor vanish."""
    model = random_ddvi(seed=2)
    x = distance * torch.randn(5, 3, generator=generator)
    noise = torch.randn(4, 5, 2, generator=generator)
    z = model.posterior.infer(model.posterior.encode(x), noise)
    assert z.abs().max() < 1e3 * distance
    elbo = model.elbo(x, noise).elbo
    assert elbo.isfinite().all()
    for gradient in torch.autograd.grad(elbo.sum(), list(model.parameters())):
        assert gradient.isfinite().all()


def test_scales_within_their_range_are_those_of_the_heads(random_ddvi, generator):
    """The range cuts; it does not bend what lies inside."""
    model = random_ddvi()
    low, high = LOG_SCALE_RANGE
    with torch.no_grad():
        for head in (model.posterior.belief_head, model.posterior.start_head):
            head.weight.zero_()
        model.posterior.belief_head.bias[2:] = torch.tensor([low - 1, high - 0.1])
        model.posterior.start_head.bias[2:] = torch.tensor([low - 1, high + 1])
    x = torch.randn(1, 3, generator=generator)
    encoding = model.posterior.encode(x)
    assert encoding.log_scale[0].tolist() == [low, high - 0.1]
    assert encoding.start_log_scale[0].tolist() == [low, high]
    with torch.no_grad():
        model.posterior.start_head.bias[2:] = torch.tensor([low + 1, high - 1])
    _, scale = model.posterior.draw_belief(x, torch.zeros(1, 2))
    torch.testing.assert_close(scale.log()[0], encoding.log_scale[0])
    # abar_T is 1e-4: the scale of y_T before its correction is 1 to four digits, or little more
    before = 0.5 * (1e-4 * (2 * encoding.log_scale).exp() + 1 - 1e-4).log()
    expected = before + torch.tensor([low + 1, high - 1])
    torch.testing.assert_close(model.posterior.encode(x).start_log_scale, expected)


def test_every_parameter_is_generative_or_inferential(random_ddvi):
    """theta and phi share nothing and leave nothing out; no parameter is listed twice."""
    model = random_ddvi()
    theta = [id(p) for p in model.generative_parameters()]
    phi = [id(p) for p in model.posterior.parameters()]
    assert len(set(theta)) == len(theta)
    assert len(set(phi)) == len(phi)
    assert not set(theta) & set(phi)
    assert set(theta) | set(phi) == {id(p) for p in model.parameters()}


def test_changing_theta_leaves_q_and_changing_phi_leaves_p(random_ddvi, generator):
    """The lists are right about what each distribution depends on."""
    model = random_ddvi()
    x = torch.randn(4, 3, generator=generator)
    z = torch.randn(4, 2, generator=generator)
    noise = torch.randn(4, 4, 2, generator=generator)

    def q():
        return model.posterior.infer(model.posterior.encode(x), noise)

    def p():
        return model.prior.log_prob(z) + model.reconstruction(x, z)

    def perturb(parameters):
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.1)

    q_before, p_before = q(), p()
    perturb(model.generative_parameters())
    torch.testing.assert_close(q(), q_before, rtol=0, atol=0)
    p_moved = p()
    assert ((p_moved - p_before).abs() > 1e-3).all()
    perturb(model.posterior.parameters())
    torch.testing.assert_close(p(), p_moved, rtol=0, atol=0)
    assert ((q() - q_before).abs() > 1e-3).all()


# ---- networks ------------------------------------------------------------------------------


def test_mlp_has_the_layers_asked_for(generator):
    """n_layers hidden layers with SiLU and a linear output, by hand."""
    network = mlp(3, 5, 2, 4)
    widths = [(w.shape[1], w.shape[0]) for w in network.parameters() if w.ndim == 2]
    assert widths == [(3, 5), (5, 5), (5, 4)]
    x = torch.randn(7, 3, generator=generator)
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for p in network.parameters())
    expected = silu(silu(x.numpy() @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-10)


def test_zero_init_silences_a_layer_that_can_still_learn(generator):
    layer = zero_init(torch.nn.Linear(3, 2))
    output = layer(torch.randn(4, 3, generator=generator))
    assert output.abs().max() == 0
    output.sum().backward()
    assert layer.weight.grad.abs().min() > 0
