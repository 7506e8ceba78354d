"""The phases of algorithm 1 on a small cohort of three clusters in five dimensions."""

import random

import numpy as np
import pytest
import torch

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training import History, train_phase
from ancestryvi.training.wake_sleep import dreaming, layout, wake_sleep, warm_start

N_SAMPLES, N_FEATURES, N_CLUSTERS = 240, 5, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def x():
    source = generator(3)
    centres = 2 * torch.randn(N_CLUSTERS, 2, generator=source)
    latent = centres.repeat(N_SAMPLES // N_CLUSTERS, 1)
    latent = latent + 0.4 * torch.randn(latent.shape, generator=source)
    loadings = torch.randn(2, N_FEATURES, generator=source)
    x = torch.tanh(latent @ loadings) + 0.2 * latent @ loadings.flip(0)
    return x + 0.1 * torch.randn(x.shape, generator=source)


def new_model(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = MixturePrior(
            torch.full((N_CLUSTERS,), 1 / N_CLUSTERS),
            torch.randn(N_CLUSTERS, 2),
            torch.eye(2).repeat(N_CLUSTERS, 1, 1),
        )
        diffusion = GaussianDiffusion(cosine_alpha_bar(4))
        noise = torch.full((N_FEATURES,), 0.3)
        return DDVI(N_FEATURES, prior, diffusion, noise, n_hidden=24, n_hidden_denoiser=16)


def train(phase, x, seed=0):
    history = History()
    train_phase(phase, x, batch_size=60, generator=generator(seed), history=history)
    return history


def values(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def same(before, parameters):
    return [torch.equal(a, b.detach()) for a, b in zip(before, parameters, strict=True)]


@pytest.fixture(scope="module")
def trained(x):
    """The three phases one after the other: the model and their histories."""
    model, noise = new_model(), generator(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    phases = [
        warm_start(model, 60, 1.0, noise),
        dreaming(model, 40, noise),
        wake_sleep(model, 60, 1.0, 1.0, noise),
    ]
    histories = [train(phase, x) for phase in phases]
    torch.set_num_threads(threads)
    return model, histories


# ---- they learn ----------------------------------------------------------------------------


def test_warm_start_improves_the_reconstruction(trained):
    curve = trained[1][0]["wake/reconstruction"]
    assert np.mean(curve[-5:]) > np.mean(curve[:5]) + 1.0


def test_dreaming_improves_the_posterior(trained):
    """The denoising loss on dreams falls (equation 9)."""
    curve = trained[1][1]["sleep/loss"]
    assert np.mean(curve[-5:]) < np.mean(curve[:5]) - 0.5


def test_the_elbo_rises_during_wake_sleep(trained):
    curve = trained[1][2]["wake/elbo"]
    assert np.mean(curve[-10:]) > np.mean(curve[:10]) + 0.5


def test_phases_name_themselves_and_their_terms(trained):
    warm, dreams, joint = trained[1]
    assert (warm.phases[0], dreams.phases[0], joint.phases[0]) == (
        "warm start",
        "dreaming",
        "wake-sleep",
    )
    assert list(dreams) == ["sleep/loss"]
    assert set(joint) == {
        "sleep/loss",
        *(f"wake/{term}" for term in ("loss", "elbo", "reconstruction")),
        *(f"wake/{term}" for term in ("log_prior", "log_forward", "entropy")),
    }


# ---- who is trained by what ----------------------------------------------------------------


def test_dreaming_moves_phi_and_leaves_theta_as_it_was(x):
    """The sleep step is over phi only (section 3.3)."""
    model = new_model()
    theta, phi = model.generative_parameters(), model.inference_parameters()
    theta_before, phi_before = values(theta), values(phi)
    train(dreaming(model, 3, generator(1)), x)
    assert all(same(theta_before, theta))
    assert [parameter.grad for parameter in theta] == [None] * len(theta)
    assert not any(same(phi_before, phi))


def test_dreaming_sees_the_data_as_a_number_of_rows_only(x):
    """Dreams come from the model: other data of the same size give the same posterior."""
    first, second = new_model(), new_model()
    train(dreaming(first, 2, generator(1)), x)
    train(dreaming(second, 2, generator(1)), x.flip(1) + 5.0)
    assert all(same(values(first.parameters()), second.parameters()))


def test_wake_sleep_moves_everything_and_sleeps_over_phi(x):
    """Section 3.4: step 1 over theta and phi, step 2 over phi."""
    model = new_model()
    phase = wake_sleep(model, 3, 1.0, 0.5, generator(1))
    wake, sleep = phase.objectives
    assert {id(p) for p in wake.parameters} == {id(p) for p in model.parameters()}
    assert {id(p) for p in sleep.parameters} == {id(p) for p in model.inference_parameters()}
    assert (wake.weight, sleep.weight) == (1.0, 0.5)
    before = values(model.parameters())
    train(phase, x)
    assert not any(same(before, model.parameters()))


def test_layout_teaches_encoder_and_decoder_the_given_axes(x):
    """The encoder's mean comes to x @ axes, whatever the seed of the network."""
    axes = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:2].T
    wanted = x @ axes
    for seed in (0, 1):
        model = new_model(seed)
        taught = {
            id(p)
            for module in (model.encoder, model.belief_head, model.decoder)
            for p in module.parameters()
        }
        untouched = [p for p in model.parameters() if id(p) not in taught]
        before = values(untouched)
        (objective,) = layout(model, axes, 1).objectives
        place = (model.encode(x).mean - wanted).square().sum(1)
        decoded = (model.decoder(wanted) - x).square().sum(1)
        expected = (place + decoded).mean().item()
        assert objective.loss(x, 0.0)["loss"].item() == pytest.approx(expected, rel=1e-5)

        history = train(layout(model, axes, 60), x)
        assert history.phases[0] == "layout"
        assert all(same(before, untouched))
        error = (model.encode(x).mean - wanted).square().mean().item()
        assert error < 0.03 * wanted.var().item()


def test_warm_start_leaves_the_prior_and_the_diffusion(x):
    """Line 1 of algorithm 1 trains an autoencoder; nothing of q(y | x) or p(z) is in it."""
    model = new_model()
    untouched = [
        *model.prior.parameters(),
        *model.denoiser.parameters(),
        *model.start_head.parameters(),
    ]
    trained = [p for p in model.parameters() if all(p is not other for other in untouched)]
    before_untouched, before_trained = values(untouched), values(trained)
    train(warm_start(model, 3, 1.0, generator(1)), x)
    assert all(same(before_untouched, untouched))
    assert not any(same(before_trained, trained))


# ---- the losses ----------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.0), (0.15, 0.5), (0.3, 1.0), (0.9, 1.0)])
def test_warm_start_turns_the_prior_terms_up(x, done, share):
    """-(reconstruction + w (log p(z) + H)), w from 0 to beta_reg over the first three tenths."""
    model = new_model()
    (objective,) = warm_start(model, 1, 0.4, generator(1)).objectives
    terms = objective.loss(x, done)
    noise = torch.randn(N_SAMPLES, 2, generator=generator(1))
    reconstruction, regularisation = (term.mean() for term in model.belief_elbo(x, noise))
    expected = -(reconstruction + 0.4 * share * regularisation)
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["elbo"].item() == pytest.approx((reconstruction + regularisation).item(), rel=1e-5)


def test_wake_loss_weighs_the_regularisation_and_reports_the_bound(x):
    """-(L_rec + beta_reg L_reg); the recorded ELBO has weight 1 (section 3.3)."""
    model = new_model()
    wake, _ = wake_sleep(model, 1, 0.4, 1.0, generator(1)).objectives
    terms = {name: value.item() for name, value in wake.loss(x, 0.5).items()}
    elbo = model.elbo(x, torch.randn(5, N_SAMPLES, 2, generator=generator(1)))
    expected = -(elbo.reconstruction + 0.4 * elbo.regularisation).mean().item()
    assert terms["loss"] == pytest.approx(expected, rel=1e-5)
    parts = ("reconstruction", "log_prior", "log_forward", "entropy")
    assert terms["elbo"] == pytest.approx(sum(terms[part] for part in parts), rel=1e-5)
    assert terms["elbo"] == pytest.approx(elbo.elbo.mean().item(), rel=1e-5)


def test_sleep_loss_is_the_denoising_loss_of_as_many_dreams(x):
    """Equation 9 on pairs (z, x) of the model."""
    model = new_model()
    (objective,) = dreaming(model, 1, generator(1)).objectives
    source = generator(1)
    z, _, dreamt = model.dream(7, source)
    noise = torch.randn(4, 7, 2, generator=source)
    expected = model.denoising_loss(dreamt, z, noise).mean().item()
    assert objective.loss(x[:7], 0.0)["loss"].item() == pytest.approx(expected, rel=1e-5)


# ---- randomness ----------------------------------------------------------------------------


def all_phases(seed, x):
    model, noise = new_model(), generator(seed)
    for phase in (
        warm_start(model, 2, 1.0, noise),
        dreaming(model, 2, noise),
        wake_sleep(model, 2, 1.0, 1.0, noise),
    ):
        train(phase, x, seed)
    return values(model.parameters())


def test_same_seeds_give_identical_parameters(x):
    first, again, other = all_phases(1, x), all_phases(1, x), all_phases(2, x)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_global_random_states_are_untouched(x):
    """All noise is from private generators (one random_state, no global seed)."""
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    all_phases(1, x)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)


def test_seeding_the_world_changes_nothing(x):
    torch.manual_seed(1)
    first = all_phases(1, x)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, all_phases(1, x), strict=True))
