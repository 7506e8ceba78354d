"""The phases of algorithm 1 on a small cohort of three clusters in five dimensions."""

import random

import numpy as np
import pytest
import torch

from ancestryvi.estimators.layout import flat_layout
from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.latent_class import LatentClassDDVI
from ancestryvi.models.neighbours import neighbour_loss
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training import History, train_phase
from ancestryvi.training.wake_sleep import (
    HELD_SHARE,
    SETTLED,
    Pairs,
    Weights,
    dreaming,
    layout,
    wake_sleep,
    warm_start,
)

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


def new_model(seed=0, *, classes=False, conditional=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = MixturePrior(
            torch.full((N_CLUSTERS,), 1 / N_CLUSTERS),
            torch.randn(N_CLUSTERS, 2),
            torch.eye(2).repeat(N_CLUSTERS, 1, 1),
        )
        posterior = DiffusionPosterior(
            N_FEATURES,
            2,
            GaussianDiffusion(cosine_alpha_bar(4)),
            n_classes=N_CLUSTERS if classes else 0,
            conditional=conditional,
            n_hidden=24,
            n_hidden_denoiser=16,
        )
        kind = LatentClassDDVI if classes else DDVI
        noise = torch.full((N_FEATURES,), 0.3)
        return kind(N_FEATURES, prior, posterior, noise, n_hidden=24)


def train(phase, x, seed=0, labels=None):
    history = History()
    train_phase(phase, x, labels, batch_size=60, generator=generator(seed), history=history)
    return history


def trained_by(objective):
    """The parameters that the optimisers of an objective hold."""
    groups = [group for optimizer in objective.optimizers for group in optimizer.param_groups]
    return [parameter for group in groups for parameter in group["params"]]


def peaks(objective):
    return [g["peak"] for optimizer in objective.optimizers for g in optimizer.param_groups]


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
        warm_start(model, 60, Weights(), noise),
        dreaming(model, 40, Weights(), noise),
        wake_sleep(model, 60, Weights(), noise),
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
    theta, phi = model.generative_parameters(), list(model.posterior.parameters())
    theta_before, phi_before = values(theta), values(phi)
    train(dreaming(model, 3, Weights(), generator(1)), x)
    assert all(same(theta_before, theta))
    assert [parameter.grad for parameter in theta] == [None] * len(theta)
    assert not any(same(phi_before, phi))


def test_dreaming_leaves_a_settled_map_and_its_clusters_as_they_were(x):
    model = new_model(classes=True)
    before = values(model.posterior.parameters())
    place = model.posterior.encoder_belief(x)[0]
    train(dreaming(model, 3, Weights(), generator(1), settled=True), x)
    assert torch.equal(model.posterior.encoder_belief(x)[0], place)
    kept = dict(
        zip(
            dict(model.posterior.named_parameters()),
            same(before, model.posterior.parameters()),
            strict=True,
        )
    )
    assert all(kept[name] == name.startswith(SETTLED) for name in kept)


def test_warm_start_tells_neighbours_from_half_the_batch(x):
    """Each pair from both ends, with the means of the beliefs and no noise."""
    model = new_model()
    nearest = torch.cdist(x, x).fill_diagonal_(torch.inf).topk(3, largest=False).indices
    pairs, n_half = Pairs(x, nearest), N_SAMPLES // 2
    (objective,) = warm_start(model, 1, Weights(beta_neighbors=2.0), generator(1), pairs).objectives
    terms = objective.loss(x, 0.5)
    one, other = pairs.draw(3 * n_half, generator(1))
    a, b, others = (model.posterior.encoder_belief(rows)[0] for rows in (one, other, x[:n_half]))
    expected = (neighbour_loss(a, b, others).mean() + neighbour_loss(b, a, others).mean()) / 2
    assert terms["neighbors"].item() == pytest.approx(expected.item(), rel=1e-5)
    weighed = terms["loss"] + terms["elbo"]
    assert weighed.item() == pytest.approx(2.0 * expected.item(), rel=1e-4)


def test_warm_start_holds_clusters_near_their_places(x):
    """The strain of the layout, weighted, beside less weight of the prior; nothing without one."""
    model, places = new_model(), flat_layout(x, 2)
    terms = {}
    for weight in (0.0, 3.0):
        phase = warm_start(model, 1, Weights(beta_layout=weight), generator(1), None, places)
        terms[weight] = phase.objectives[0].loss(x, 0.5)
    strain = places.strain(x, model.posterior.encoder_belief(x)[0]).item()
    assert "layout" not in terms[0.0]
    assert terms[3.0]["layout"].item() == pytest.approx(strain, rel=1e-5)
    prior = (terms[0.0]["elbo"] - terms[0.0]["reconstruction"]).item()
    added = (terms[3.0]["loss"] - terms[0.0]["loss"]).item()
    assert added == pytest.approx(3.0 * strain + (1.0 - HELD_SHARE) * prior, rel=1e-4)


def test_dreaming_sees_the_data_as_a_number_of_rows_only(x):
    """Dreams come from the model: other data of the same size give the same posterior."""
    first, second = new_model(), new_model()
    train(dreaming(first, 2, Weights(), generator(1)), x)
    train(dreaming(second, 2, Weights(), generator(1)), x.flip(1) + 5.0)
    assert all(same(values(first.parameters()), second.parameters()))


def test_wake_sleep_moves_everything_and_sleeps_over_phi(x):
    """Section 3.4: step 1 over theta and phi, step 2 over phi."""
    model = new_model()
    phase = wake_sleep(model, 3, Weights(beta_diff=0.5), generator(1))
    wake, sleep = phase.objectives
    assert {id(p) for p in trained_by(wake)} == {id(p) for p in model.parameters()}
    assert {id(p) for p in trained_by(sleep)} == {id(p) for p in model.posterior.parameters()}
    assert peaks(sleep) == [0.5 * peak for peak in peaks(wake)]
    before = values(model.parameters())
    train(phase, x)
    assert not any(same(before, model.parameters()))


def test_layout_teaches_encoder_and_decoder_the_given_places(x):
    """The encoder's mean comes to the places, whatever the seed of the network."""
    x = x - x.mean(0)
    places = flat_layout(x, 2)
    wanted = places(x)
    for seed in (0, 1):
        model = new_model(seed)
        taught = {
            id(p)
            for module in (model.posterior.encoder, model.posterior.belief_head, model.decoder)
            for p in module.parameters()
        }
        untouched = [p for p in model.parameters() if id(p) not in taught]
        before = values(untouched)
        (objective,) = layout(model, places, 1).objectives
        place = (model.posterior.encode(x).mean - wanted).square().sum(1)
        decoded = (model.decoder(wanted) - x).square().sum(1)
        expected = (place + decoded).mean().item()
        assert objective.loss(x, 0.0)["loss"].item() == pytest.approx(expected, rel=1e-5)

        history = train(layout(model, places, 150), x)
        assert history.phases[0] == "layout"
        assert all(same(before, untouched))
        error = (model.posterior.encode(x).mean - wanted).square().mean().item()
        assert error < 0.03 * wanted.var().item()


def test_warm_start_leaves_the_prior_and_the_diffusion(x):
    """Line 1 of algorithm 1 trains an autoencoder; nothing of q(y | x) or p(z) is in it."""
    model = new_model()
    untouched = [
        *model.prior.parameters(),
        *model.posterior.denoiser.parameters(),
        *model.posterior.start_head.parameters(),
    ]
    trained = [p for p in model.parameters() if all(p is not other for other in untouched)]
    before_untouched, before_trained = values(untouched), values(trained)
    train(warm_start(model, 3, Weights(), generator(1)), x)
    assert all(same(before_untouched, untouched))
    assert not any(same(before_trained, trained))


# ---- the losses ----------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.0), (0.15, 0.5), (0.3, 1.0), (0.9, 1.0)])
def test_warm_start_turns_the_prior_terms_up(x, done, share):
    """-(reconstruction + w (log p(z) + H)), w from 0 to beta_reg over the first three tenths."""
    model = new_model()
    (objective,) = warm_start(model, 1, Weights(beta_reg=0.4), generator(1)).objectives
    terms = objective.loss(x, done)
    noise = torch.randn(N_SAMPLES, 2, generator=generator(1))
    reconstruction, regularisation = (
        term.mean() for term in model.belief_elbo(x, model.posterior.encoder_belief(x), noise)
    )
    expected = -(reconstruction + 0.4 * share * regularisation)
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["elbo"].item() == pytest.approx((reconstruction + regularisation).item(), rel=1e-5)


def test_wake_loss_weighs_the_regularisation_and_reports_the_bound(x):
    """-(L_rec + beta_reg L_reg); the recorded ELBO has weight 1 (section 3.3)."""
    model = new_model()
    wake, _ = wake_sleep(model, 1, Weights(beta_reg=0.4), generator(1)).objectives
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
    (objective,) = dreaming(model, 1, Weights(), generator(1)).objectives
    source = generator(1)
    z, _, dreamt = model.dream(7, source)
    noise = torch.randn(4, 7, 2, generator=source)
    expected = model.denoising_loss(dreamt, z, noise).mean().item()
    assert objective.loss(x[:7], 0.0)["loss"].item() == pytest.approx(expected, rel=1e-5)


# ---- the variants of section 3.4 -----------------------------------------------------------


def loss_and_gradients(model, objective, x, labels=None):
    """The loss of a batch and its gradient, parameter by parameter, 0 where it does not reach."""
    batch = (x, 0.5) if labels is None else (x, 0.5, labels)
    terms = objective.loss(*batch)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(terms["loss"], parameters, allow_unused=True)
    zeros = [
        torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)
    ]
    return terms["loss"].item(), zeros


def test_without_sleep_the_elbo_is_all_there_is(x):
    """Unregularised DDVI (section 3.2): one objective over theta and phi, the ELBO itself."""
    model = new_model()
    phase = wake_sleep(model, 2, Weights(), generator(1), sleep=None)
    (wake,) = phase.objectives
    assert {id(p) for p in trained_by(wake)} == {id(p) for p in model.parameters()}
    noise = torch.randn(5, N_SAMPLES, 2, generator=generator(1))
    expected = -model.elbo(x, noise).elbo.mean().item()
    assert wake.loss(x, 0.5)["loss"].item() == pytest.approx(expected, rel=1e-5)
    history = train(phase, x)
    assert history.phases == ["wake", "wake"]
    assert not any(name.startswith("sleep") for name in history)


@pytest.mark.parametrize("beta_diff", [0.0, 0.3, 2.0])
def test_sleep_in_latent_space_is_one_step_on_the_weighted_sum(x, beta_diff):
    """-ELBO + beta_diff (-L_diff), value and gradient (section 3.4, equation 12)."""
    model = new_model(conditional=False)
    with torch.no_grad():  # the head that starts from 0 would hide the layers before it
        model.posterior.denoiser.output.weight.add_(0.1)
    weights = Weights(beta_diff=beta_diff)
    (both,) = wake_sleep(model, 1, weights, generator(1), sleep="latent").objectives
    value, gradients = loss_and_gradients(model, both, x)

    source = generator(1)
    elbo = model.elbo(x, torch.randn(5, N_SAMPLES, 2, generator=source)).elbo.mean()
    with torch.no_grad():
        z, _, dreamt = model.dream(N_SAMPLES, source)
    noise = torch.randn(4, N_SAMPLES, 2, generator=source)
    diffusion = model.denoising_loss(dreamt, z, noise).mean()
    total = -elbo + beta_diff * diffusion
    assert value == pytest.approx(total.item(), rel=1e-5)
    expected = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    for got, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, torch.zeros_like(got) if wanted is None else wanted)
    assert {id(p) for p in trained_by(both)} == {id(p) for p in model.parameters()}


def test_sleep_in_latent_space_records_its_term(x):
    model = new_model(conditional=False)
    phase = wake_sleep(model, 1, Weights(), generator(1), sleep="latent")
    history = train(phase, x)
    assert history.phases == ["wake-sleep"]
    terms = history.epochs[0]
    expected = -terms["wake/elbo"] + terms["wake/diffusion"]
    assert terms["wake/loss"] == pytest.approx(expected, rel=1e-4)
    assert not any(name.startswith("sleep") for name in history)


@pytest.mark.parametrize("n_sleep_steps", [1, 3])
def test_wake_steps_are_followed_by_so_many_sleep_steps(x, n_sleep_steps):
    """m of algorithm 1: four batches of an epoch, each with a wake step and m sleep steps."""
    model = new_model()
    phase = wake_sleep(model, 2, Weights(), generator(1), n_sleep_steps=n_sleep_steps)
    wake, sleep = phase.objectives
    train(phase, x)
    steps = [o.optimizers[0].state[trained_by(o)[0]]["step"].item() for o in (wake, sleep)]
    assert steps == [8, 8 * n_sleep_steps]


# ---- labels --------------------------------------------------------------------------------


@pytest.fixture
def labels():
    labels = torch.arange(N_SAMPLES) % N_CLUSTERS
    labels[torch.rand(N_SAMPLES, generator=generator(6)) < 0.7] = -1
    assert 0 < (labels >= 0).sum() < N_SAMPLES
    return labels


def classification(model, x, labels):
    """Mean of -log q(l | x) over labelled rows, one at a time."""
    log_q = model.class_log_probs(x)
    terms = [-log_q[row, label] for row, label in enumerate(labels.tolist()) if label >= 0]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("sleep", [None, "full", "latent"])
def test_alpha_weighs_the_classification_and_beta_does_not(x, labels, sleep):
    """loss(alpha) - loss(0) = alpha E[-log q(l | x)], whatever beta_reg (section 4.1)."""
    model = new_model(classes=True, conditional=sleep != "latent")

    def loss(**weights):
        phase = wake_sleep(model, 1, Weights(**weights), generator(1), sleep=sleep)
        return loss_and_gradients(model, phase.objectives[0], x, labels)

    term = classification(model, x, labels)
    expected = torch.autograd.grad(term, list(model.posterior.class_head.parameters()))
    head = [id(p) for p in model.posterior.class_head.parameters()]
    for beta_reg in (0.0, 0.3, 1.0):
        with_alpha, gradients = loss(alpha=2.5, beta_reg=beta_reg)
        without, others = loss(alpha=0.0, beta_reg=beta_reg)
        assert with_alpha - without == pytest.approx(2.5 * term.item(), rel=1e-4)
        difference = [
            a - b
            for a, b, p in zip(gradients, others, model.parameters(), strict=True)
            if id(p) in head
        ]
        for got, wanted in zip(difference, expected, strict=True):
            torch.testing.assert_close(got, 2.5 * wanted, rtol=1e-3, atol=1e-5)


def test_classification_is_recorded_and_0_without_a_labelled_row(x, labels):
    model = new_model(classes=True)
    wake, _ = wake_sleep(model, 1, Weights(), generator(1)).objectives
    terms = wake.loss(x, 0.5, labels)
    expected = classification(model, x, labels).item()
    assert terms["classification"].item() == pytest.approx(expected, rel=1e-5)
    none = torch.full((N_SAMPLES,), -1)
    first = wake_sleep(model, 1, Weights(alpha=7.0), generator(1)).objectives[0].loss(x, 0.5, none)
    other = wake_sleep(model, 1, Weights(alpha=0.0), generator(1)).objectives[0].loss(x, 0.5)
    assert first["classification"].item() == 0.0
    assert "classification" not in other
    assert first["loss"].item() == pytest.approx(other["loss"].item(), rel=1e-6)


def test_wake_loss_of_labelled_rows_is_their_supervised_bound(x, labels):
    """Equation 10: the wake step knows the class of labelled rows."""
    model = new_model(classes=True)
    (wake,) = wake_sleep(model, 1, Weights(alpha=0.0), generator(1), sleep=None).objectives
    noise = torch.randn(5, N_CLUSTERS, N_SAMPLES, 2, generator=generator(1))
    terms = model.class_elbo(x, noise, model.class_log_probs(x, labels))
    recorded = wake.loss(x, 0.5, labels)
    assert recorded["loss"].item() == pytest.approx(-terms.elbo.mean().item(), rel=1e-5)
    assert recorded["log_class"].item() == pytest.approx(terms.log_class.mean().item(), rel=1e-5)


def test_dreaming_learns_labels_too(x, labels):
    """-L_diff of dreams and alpha times the classification of the cohort's labelled rows."""
    model = new_model(classes=True)
    (objective,) = dreaming(model, 1, Weights(alpha=0.7), generator(1)).objectives
    diffusion = model.sleep(N_SAMPLES, generator(1)).mean().item()
    expected = diffusion + 0.7 * classification(model, x, labels).item()
    assert objective.loss(x, 0.0, labels)["loss"].item() == pytest.approx(expected, rel=1e-5)
    train(dreaming(model, 30, Weights(), generator(1)), x, labels=labels)
    assert classification(model, x, labels).item() < 1.0  # log 3 = 1.10 for a guess


# ---- randomness ----------------------------------------------------------------------------


def all_phases(seed, x):
    model, noise = new_model(), generator(seed)
    for phase in (
        warm_start(model, 2, Weights(), noise),
        dreaming(model, 2, Weights(), noise),
        wake_sleep(model, 2, Weights(), noise),
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
