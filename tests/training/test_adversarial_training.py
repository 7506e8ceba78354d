"""The phase of an adversarial auto-encoder, on two blobs in four dimensions."""

import math
from dataclasses import replace

import pytest
import torch

from ancestryvi.evaluate import mmd
from ancestryvi.models.adversarial import Critic, PointPosterior, critic_noise
from ancestryvi.models.latent_variable import LatentVariableModel
from ancestryvi.models.priors import MixturePrior
from ancestryvi.training import History, train_phase
from ancestryvi.training.adversarial import (
    CRITIC_RATE,
    ENCODER_RATE,
    RECONSTRUCTION_RATE,
    adversarial,
)
from ancestryvi.training.courses import Plan, adversarial_course
from ancestryvi.training.wake_sleep import Weights

N_SAMPLES, N_FEATURES = 200, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def x():
    source = generator(3)
    centres = torch.tensor([[1.5, 1.0, -1.0, 0.0], [-1.5, -1.0, 1.0, 0.5]])
    return centres.repeat(N_SAMPLES // 2, 1) + 0.3 * torch.randn(
        N_SAMPLES, N_FEATURES, generator=source
    )


def mixture(n_parts):
    """Parts on a line."""
    means = torch.stack([2.0 * torch.arange(n_parts), torch.zeros(n_parts)], -1)
    factors = 4 * torch.eye(2).repeat(n_parts, 1, 1)
    return MixturePrior(torch.ones(n_parts) / n_parts, means, factors)


def new_model(prior=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        posterior = PointPosterior(N_FEATURES, 2, n_hidden=24)
        prior = MixturePrior.standard_normal(2) if prior is None else prior
        noise = torch.full((N_FEATURES,), 0.3)
        return LatentVariableModel(N_FEATURES, prior, posterior, noise, n_hidden=24)


def new_critic(n_parts=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Critic(2, n_parts, n_hidden=24)


def new_phase(model, critic, n_epochs=1, weights=None, seed=1):
    return adversarial(
        model, critic, "adversarial", n_epochs, weights or Weights(), generator(seed)
    )


def train(phase, x, labels=None):
    history = History()
    train_phase(phase, x, labels, batch_size=50, generator=generator(), history=history)
    return history


def objective(phase, name):
    (found,) = [objective for objective in phase.objectives if objective.name == name]
    return found


def copies(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def moved(before, module):
    """Modules and parameters that are not what they were."""
    now = dict(module.named_parameters())
    return {name.split(".")[0] for name in now if not torch.equal(before[name], now[name])}


@pytest.fixture
def heard():
    """A list of what a critic is asked, (z, parts) each, and how to listen to one."""
    asked = []

    def listen(critic):
        critic.register_forward_pre_hook(
            lambda _, inputs: asked.append([None if i is None else i.detach() for i in inputs])
        )
        return critic

    return asked, listen


# ---- who moves -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of_posterior", "others", "of_critic"),
    [
        ("reconstruct", True, {"decoder", "log_noise"}, False),
        ("critic", False, set(), True),
        ("encoder", True, set(), False),
    ],
)
def test_each_objective_moves_its_own_parameters_alone(x, name, of_posterior, others, of_critic):
    """Sections 2 and 2.3; the prior stays, and of the posterior the classes that it has not."""
    model, critic = new_model(), new_critic()
    phase = new_phase(model, critic)
    before, before_critic = copies(model), copies(critic)
    train(replace(phase, objectives=[objective(phase, name)]), x)
    assert moved(before, model) == others | ({"posterior"} if of_posterior else set())
    assert bool(moved(before_critic, critic)) == of_critic
    if of_posterior:
        of_posterior = moved(
            {k.removeprefix("posterior."): v for k, v in before.items()}, model.posterior
        )
        assert of_posterior == {"encoder", "belief_head"}


def test_objectives_take_turns_and_the_prior_never_moves(x):
    model, critic = new_model(mixture(2)), new_critic()
    phase = new_phase(model, critic, 3)
    assert [o.name for o in phase.objectives] == ["reconstruct", "critic", "encoder"]
    before, before_critic = copies(model), copies(critic)
    train(phase, x)
    assert moved(before, model) == {"posterior", "decoder", "log_noise"}
    assert moved(before_critic, critic) == {"network"}


def test_turns_leave_no_gradient_behind_for_the_critic(x):
    """The encoder's loss reaches the critic's parameters; its own step must not see that."""
    models = [new_model() for _ in range(2)]
    critics = [new_critic() for _ in range(2)]
    for parameter in critics[1].parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    for model, critic in zip(models, critics, strict=True):
        phase = new_phase(model, critic)
        train(replace(phase, objectives=[objective(phase, "critic")]), x)
    for a, b in zip(critics[0].parameters(), critics[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_learning_rates(x):
    """`beta_reg` weighs the encoder against the critic, and nothing else."""
    phase = new_phase(new_model(), new_critic(), weights=Weights(beta_reg=3.0))
    rates = {
        o.name: [g["peak"] for a in o.optimizers for g in a.param_groups] for o in phase.objectives
    }
    assert rates == {
        "reconstruct": [RECONSTRUCTION_RATE],
        "critic": [CRITIC_RATE],
        "encoder": [3.0 * ENCODER_RATE],
    }


# ---- what the critic is asked --------------------------------------------------------------


@pytest.mark.parametrize("done", [0.0, 0.3, 0.75, 0.99])
def test_inputs_of_the_critic_have_the_noise_of_the_schedule(heard, done):
    """Deviation of its inputs from the latents: critic_noise(done) over 8,000 numbers, to 5 %."""
    asked, listen = heard
    model = new_model()
    phase = new_phase(model, listen(new_critic()))
    many = torch.randn(4000, N_FEATURES, generator=generator(5))
    objective(phase, "encoder").loss(many, done)
    off = asked[0][0] - model.posterior.encode(many).mean.detach()
    assert off.std().item() == pytest.approx(critic_noise(done), rel=0.05, abs=1e-12)


def test_the_critic_compares_draws_of_the_prior_with_latents(x, heard):
    """Without noise: first as many draws of p(z), then the means of the encoder."""
    asked, listen = heard
    model = new_model(mixture(3))
    phase = new_phase(model, listen(new_critic()), seed=8)
    objective(phase, "critic").loss(x, 0.9)
    drawn, _ = model.prior.sample(len(x), generator(8))
    torch.testing.assert_close(asked[0][0], drawn, rtol=0, atol=0)
    torch.testing.assert_close(asked[1][0], model.posterior.encode(x).mean, rtol=0, atol=0)
    assert asked[0][1] is asked[1][1] is None


def test_labels_are_told_once_the_prior_has_a_part_for_each(x, heard):
    """Section 2.3: a latent's label, a draw's part; -1 for as many draws as there are latents."""
    asked, listen = heard
    labels = torch.arange(N_SAMPLES) % 3
    labels[::5] = -1
    critic = listen(new_critic(3))
    unknown = torch.full((N_SAMPLES,), -1)
    for prior, expected in ((None, unknown), (mixture(3), labels)):
        model = new_model(prior)
        phase = new_phase(model, critic, seed=8)
        for name in ("critic", "encoder"):
            asked.clear()
            objective(phase, name).loss(x, 0.9, labels)
            assert torch.equal(asked[-1][1], expected)
            if name == "critic":
                _, parts = model.prior.sample(N_SAMPLES, generator(8))
                assert torch.equal(asked[0][1], torch.where(expected < 0, -1, parts))
        asked.clear()
        objective(phase, "critic").loss(x, 0.9)  # a fit without labels, critic with parts
        assert all(torch.equal(parts, unknown) for _, parts in asked)


# ---- what comes of it ----------------------------------------------------------------------


def test_latents_come_to_look_like_the_prior(x):
    """Two blobs towards one standard normal: the MMD falls by a quarter, and x is rebuilt."""
    model, critic = new_model(), new_critic()
    with torch.no_grad():
        drawn, _ = model.prior.sample(500, generator(2))

    def read() -> tuple[float, float]:
        with torch.no_grad():
            z = model.place(x)
            rest = (x - model.expectation(z)).square().mean().sqrt()
        return mmd(z, drawn), rest.item()

    before = read()
    history = train(new_phase(model, critic, 150), x)
    after = read()
    assert after[0] < 0.75 * before[0]
    assert after[1] < 0.5 * before[1]
    assert all(math.isfinite(value) for value in history["critic/loss"])


@pytest.mark.parametrize("swapped", [False, True])
def test_labelled_samples_go_to_their_part(x, swapped):
    """Section 2.3: each blob ends nearest to the part of the prior of its label, either way."""
    labels = torch.arange(N_SAMPLES) % 2
    told = 1 - labels if swapped else labels
    factors = math.e * torch.eye(2).repeat(2, 1, 1)
    prior = MixturePrior(torch.ones(2) / 2, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), factors)
    model, critic = new_model(prior), new_critic(2)
    train(new_phase(model, critic, 300, weights=Weights(beta_reg=4.0)), x, told)
    with torch.no_grad():
        nearest = torch.cdist(model.place(x), prior.means).argmin(1)
    assert (nearest == told).double().mean() > 0.95


@pytest.mark.parametrize("n_labels", [0, 2])
def test_the_course_starts_clusters_between_and_after_the_phases(x, n_labels):
    """Layout, against one Gaussian, clusters, against them, and clusters where the latents went."""
    model = new_model()
    events = []
    plan = Plan(
        layout=lambda rows: rows[:, :2],
        n_epochs={"layout": 1, "adversarial": 2, "settling": 3},
        weights=Weights(),
        generator=generator(4),
        seed=5,
        start_clusters=lambda: events.append("clusters"),
        settled=True,
        n_labels=n_labels,
    )
    critics = []
    for phase in adversarial_course(model, plan):
        events.append((phase.name, phase.n_epochs))
        if phase.name != "layout":
            (group,) = objective(phase, "critic").optimizers[0].param_groups
            critics.append(group["params"])
    assert events == [
        ("layout", 1),
        ("adversarial", 2),
        "clusters",
        ("settling", 3),
        "clusters",
    ]
    assert all(a is b for a, b in zip(*critics, strict=True))  # one critic for both
    assert critics[0][0].shape[1] == 2 + (n_labels + 1 if n_labels else 0)
