"""The adversarial auto-encoder (Makhzani et al. 2015): losses and critic against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Normal

from ancestryvi.models.adversarial import (
    FIRST_NOISE,
    Critic,
    PointPosterior,
    critic_loss,
    critic_noise,
    encoder_loss,
)
from ancestryvi.models.latent_variable import LatentVariableModel
from ancestryvi.models.priors import MixturePrior

# ---- the losses ----------------------------------------------------------------------------


def test_losses_are_those_of_probabilities_written_out(generator):
    """Equation 1 (Goodfellow et al. 2014), -log D(real) - log(1 - D(fake)); and -log D(fake)."""
    real, fake = (2 * torch.randn(50, generator=generator) for _ in range(2))
    d_real, d_fake = (1 / (1 + np.exp(-odds.numpy())) for odds in (real, fake))
    expected = -np.log(d_real).mean() - np.log(1 - d_fake).mean()
    assert critic_loss(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert encoder_loss(fake).item() == pytest.approx(-np.log(d_fake).mean(), rel=1e-12)


def test_a_critic_that_does_not_know_pays_two_bits():
    nothing = torch.zeros(9)
    assert critic_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2), rel=1e-14)
    assert encoder_loss(nothing).item() == pytest.approx(math.log(2), rel=1e-14)


def test_losses_of_a_critic_that_is_sure_are_finite():
    sure = torch.full((3,), 1e4, requires_grad=True)
    for loss in (critic_loss(sure, -sure), critic_loss(-sure, sure), encoder_loss(-sure)):
        assert loss.isfinite()
        assert torch.autograd.grad(loss, sure)[0].isfinite().all()


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (-0.5, 2.0), (3.0, 0.5)])
def test_the_least_loss_is_two_log_two_less_twice_the_jensen_shannon_divergence(shift, scale):
    """Goodfellow et al., theorem 1: at the log odds of the two densities, and above it elsewhere.

    Draws are 20,001 quantiles, so that means are integrals to 1e-4; the divergence is quad's.
    """
    levels = (torch.arange(20001) + 0.5) / 20001
    p, q = Normal(0.0, 1.0), Normal(shift, scale)
    real, fake = p.icdf(levels), q.icdf(levels)

    def odds(z: Tensor) -> Tensor:
        return p.log_prob(z) - q.log_prob(z)

    def divergence_from_the_middle(z: float, density: object) -> float:
        own = density.logpdf(z)
        both = np.logaddexp(norm.logpdf(z), norm.logpdf(z, shift, scale)) - math.log(2)
        return math.exp(own) * (own - both)

    jensen_shannon = 0.5 * sum(
        quad(divergence_from_the_middle, -12, 12, args=(density,), limit=200)[0]
        for density in (norm(), norm(shift, scale))
    )
    least = critic_loss(odds(real), odds(fake)).item()
    assert least == pytest.approx(2 * math.log(2) - 2 * jensen_shannon, abs=1e-4)
    for factor, offset in ((1.0, 0.3), (1.0, -0.3)):
        other = critic_loss(factor * odds(real) + offset, factor * odds(fake) + offset).item()
        assert other > least + 1e-3


def test_gradients_push_the_two_sides_apart_and_the_encoder_after_the_prior(generator):
    """d loss / d odds: D - 1 for draws of the prior, D for latents; D - 1 for the encoder."""
    real, fake = (torch.randn(8, generator=generator).requires_grad_() for _ in range(2))
    of_real, of_fake = torch.autograd.grad(critic_loss(real, fake), (real, fake))
    torch.testing.assert_close(of_real, (real.sigmoid() - 1) / 8)
    torch.testing.assert_close(of_fake, fake.sigmoid() / 8)
    (of_encoder,) = torch.autograd.grad(encoder_loss(fake), fake)
    torch.testing.assert_close(of_encoder, (fake.sigmoid() - 1) / 8)
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    assert (of_encoder < 0).all()


def test_noise_of_the_critic_falls_in_a_line_and_is_gone_in_the_last_quarter():
    for done in (0.0, 0.1, 0.3, 0.6):
        assert critic_noise(done) == pytest.approx(FIRST_NOISE * (1 - done / 0.75))
    assert critic_noise(0.75) == critic_noise(0.9) == critic_noise(1.0) == 0.0


# ---- the critic ----------------------------------------------------------------------------


def silu(a):
    return a / (1 + np.exp(-a))


@pytest.mark.parametrize("n_parts", [0, 3])
def test_the_critic_is_its_network_written_out(generator, n_parts):
    """A row of (z, one-hot label): one more column says that the label is not known."""
    critic = Critic(2, n_parts, n_hidden=5)
    z = torch.randn(6, 2, generator=generator)
    parts = torch.tensor([0, 2, -1, 1, -1, 2])
    columns = [z.numpy()]
    if n_parts:
        one_hot = np.zeros((6, 4))
        for row, column in enumerate([0, 2, 3, 1, 3, 2]):
            one_hot[row, column] = 1.0
        columns.append(one_hot)
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for p in critic.parameters())
    hidden = silu(silu(np.hstack(columns) @ w1.T + b1) @ w2.T + b2)
    expected = (hidden @ w3.T + b3)[:, 0]
    odds = critic(z, parts if n_parts else None)
    assert odds.shape == (6,)
    np.testing.assert_allclose(odds.detach().numpy(), expected, rtol=1e-10)


# ---- the encoder ---------------------------------------------------------------------------


def test_every_draw_of_a_point_is_the_mean_of_the_encoder(generator):
    """A deterministic encoder (section 2): no noise, no spread, no terms for a bound."""
    prior = MixturePrior.standard_normal(2)
    model = LatentVariableModel(3, prior, PointPosterior(3, 2, n_hidden=6), torch.ones(3))
    x = torch.randn(4, 3, generator=generator)
    encoding = model.posterior.encode(x)
    assert model.n_noise == 0
    z, log_auxiliary, entropy = model.posterior.trajectory(
        encoding, torch.zeros(0, 7, 4, 2), model.log_joint(x)
    )
    assert z.shape == (7, 4, 2)
    assert torch.equal(z, encoding.mean.expand(7, 4, 2))
    assert log_auxiliary.shape == entropy.shape == (7, 4)
    assert log_auxiliary.abs().max() == entropy.abs().max() == 0
    assert torch.equal(model.place(x), encoding.mean)
    assert torch.equal(model.draw(x, torch.zeros(0, 5, 1, 2), torch.zeros(5, 1)), z[:5])


def test_probabilities_of_a_point_are_the_responsibilities_there(generator):
    prior = MixturePrior(
        torch.tensor([0.2, 0.5, 0.3]),
        torch.randn(3, 2, generator=generator),
        torch.eye(2).repeat(3, 1, 1),
    )
    model = LatentVariableModel(3, prior, PointPosterior(3, 2, n_hidden=6), torch.ones(3))
    x = torch.randn(4, 3, generator=generator)
    z = model.posterior.encode(x).mean
    density = [
        w * Normal(m, 1.0).log_prob(z).sum(-1).exp()
        for w, m in zip([0.2, 0.5, 0.3], prior.means, strict=True)
    ]
    expected = torch.stack(density, -1)
    torch.testing.assert_close(
        model.probabilities(x, torch.zeros(0, 32, 1, 2)), expected / expected.sum(-1, keepdim=True)
    )
