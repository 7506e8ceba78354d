"""The phases of the authors' genotype model: turns, steps and gradients, counted and by hand."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from ancestryvi.models.reference import ReferenceDDVI
from ancestryvi.training import reference
from ancestryvi.training.history import History
from ancestryvi.training.loop import train_phase
from ancestryvi.training.reference import reference_phases, separation_weight

T = 3


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


def small_model(n_features=3, n_clusters=4, n_hidden=6, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReferenceDDVI(n_features, n_clusters, 2, T, n_hidden, n_hidden_denoiser=5)


def run(phase, x, batch_size=5, seed=7):
    history = History()
    order = generator(seed)
    train_phase(phase, x, batch_size=batch_size, generator=order, history=history)
    return history


def only(phase, name):
    """The phase with this objective alone."""
    return replace(phase, objectives=[o for o in phase.objectives if o.name == name])


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before, model):
    """Which parts of the model have changed."""
    now = model.state_dict()
    return {name.split(".")[0] for name in now if not torch.equal(before[name], now[name])}


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def x():
    return torch.randn(10, 3, generator=generator())


@pytest.fixture
def short_warm_up(monkeypatch):
    monkeypatch.setattr(reference, "WARM_UP_STEPS", 40)


# ---- turns and steps -----------------------------------------------------------------------


def test_the_warm_up_takes_500_steps_an_epoch_of_the_denoiser_alone(model, x, monkeypatch):
    calls = []
    loss = model.denoising_loss
    monkeypatch.setattr(
        model, "denoising_loss", lambda z, t, eps: calls.append((z, t)) or loss(z, t, eps)
    )
    before = state(model)
    history = run(reference_phases(model, 2, generator())[0], x)
    assert len(calls) == 1000
    assert moved(before, model) == {"denoiser"}
    assert history.phases == ["warm up"] * 2
    assert history["denoiser/loss"][1] < history["denoiser/loss"][0]
    assert all(z.shape == (128, 2) for z, _ in calls)
    steps = torch.cat([t for _, t in calls])
    shares = torch.bincount(steps, minlength=T + 1) / len(steps)
    assert shares.tolist() == pytest.approx([0.0, *[1 / T] * T], abs=0.006)  # 4 sd


def test_after_epoch_e_come_as_many_steps_of_the_means_and_then_the_denoiser(model, x, monkeypatch):
    """Two batches, then e + 1 steps each; a step of the means has a separation before."""
    trace = []

    def traced(name):
        method = getattr(model, name)
        monkeypatch.setattr(model, name, lambda *a: trace.append(name[0]) or method(*a))

    for name in ("wake_loss", "separation", "denoising_loss"):
        traced(name)
    run(reference_phases(model, 3, generator())[1], x)
    assert "".join(trace) == "ww" + "sd" + "d" + "ww" + "sdsd" + "dd" + "ww" + "sdsdsd" + "ddd"


def test_each_objective_moves_its_own_parts(model, x):
    phase = reference_phases(model, 2, generator())[1]
    assert [objective.name for objective in phase.objectives] == ["wake", "means", "denoiser"]
    for name, parts in (
        ("wake", {"encoder", "decoder", "denoiser"}),
        ("means", {"means"}),
        ("denoiser", {"denoiser"}),
    ):
        before = state(model)
        run(only(phase, name), x)
        assert moved(before, model) == parts


def test_learning_rates_are_constant(model, x, short_warm_up):
    phases = reference_phases(model, 2, generator())
    for phase in phases:
        run(phase, x)
    rates = {
        (phase.name, objective.name): [a.param_groups[0]["lr"] for a in objective.optimizers]
        for phase in phases
        for objective in phase.objectives
    }
    assert rates == {
        ("warm up", "denoiser"): [1e-3],
        ("reference", "wake"): [1e-4, 1e-4, 1e-2],
        ("reference", "means"): [1e-2],
        ("reference", "denoiser"): [1e-3],
    }


# ---- means ---------------------------------------------------------------------------------


def test_means_coast_through_wake_steps_on_their_momentum(model, x, monkeypatch):
    """Their path is Adam by hand with gradients 0, 0 | c | 0, 0 | c, c | 0, 0 | c, c, c."""
    slope = torch.tensor([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0], [-0.1, 0.2]])
    monkeypatch.setattr(model, "separation", lambda i, j: (slope * model.means).sum())
    none = next(model.denoiser.parameters())
    monkeypatch.setattr(model, "denoising_loss", lambda z, t, eps: 0.0 * none.sum())
    path = []
    wake_loss = model.wake_loss
    monkeypatch.setattr(
        model,
        "wake_loss",
        lambda *a: path.append(model.means.detach().numpy().copy()) or wake_loss(*a),
    )
    start = model.means.detach().numpy().copy()
    run(reference_phases(model, 3, generator())[1], x)

    means, first, second, t = start, 0.0, 0.0, 0
    at_wake = []
    for gradients in ((0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 1, 1)):
        for index, factor in enumerate(gradients):
            if index < 2:
                at_wake.append(means)
            gradient = factor * slope.numpy()
            t += 1
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            means = means - 0.01 * step
    np.testing.assert_allclose(model.means.detach().numpy(), means, rtol=1e-9)
    np.testing.assert_allclose(path, at_wake, rtol=1e-9)
    coasted = np.abs(path[3] - path[2])  # between the two wake steps of the second epoch
    assert (coasted[slope.numpy() != 0] > 1e-3).all()


def test_the_weight_of_the_separation_rises_by_one_every_ten_epochs_after_100():
    expected = [1] * 101 + [1] * 9 + [w for w in range(2, 11) for _ in range(10)]
    assert [separation_weight(epoch) for epoch in range(200)] == expected


@pytest.mark.parametrize(("n_epochs", "n_batches"), [(200, 98), (199, 1), (187, 7)])
def test_the_loss_of_the_means_knows_its_epoch(model, x, monkeypatch, n_epochs, n_batches):
    """`done` is a quotient, whose rounding must not put a turn into the epoch before."""
    zero = 0.0 * model.means.sum()
    monkeypatch.setattr(model, "separation", lambda i, j: zero + 2.0)
    monkeypatch.setattr(model, "denoising_loss", lambda z, t, eps: zero + 0.25)
    means = reference_phases(model, n_epochs, generator())[1].objectives[1]
    for epoch in range(n_epochs):
        done = (epoch + (n_batches - 1) / n_batches) / n_epochs
        terms = means.loss(x, done)
        assert terms["loss"].item() == 2.0 * separation_weight(epoch) + 0.25


def test_denoising_moves_the_means_too(model, x, monkeypatch):
    monkeypatch.setattr(model, "separation", lambda i, j: torch.zeros(()))
    before = state(model)
    run(only(reference_phases(model, 1, generator())[1], "means"), x)
    assert moved(before, model) == {"means"}


# ---- gradients -----------------------------------------------------------------------------


def test_only_the_gradient_of_the_denoiser_is_shortened(model, x):
    """After one step from rest, Adam's first moment is a tenth of the gradient it was given."""
    x = 1000.0 * x
    wake = only(reference_phases(model, 1, generator())[1], "wake")
    twin, twin_draws = copy.deepcopy(model), generator()
    run(wake, x, batch_size=10)

    rows = torch.randperm(10, generator=generator(7))
    eps = torch.randn((10, 2), generator=twin_draws)
    twin.wake_loss(x[rows], eps, twin_draws)["loss"].backward()
    moments = {
        parameter: values["exp_avg"]
        for optimizer in wake.objectives[0].optimizers
        for parameter, values in optimizer.state.items()
    }
    norms = {
        name: torch.cat([p.grad.flatten() for p in getattr(twin, name).parameters()]).norm().item()
        for name in ("encoder", "decoder", "denoiser")
    }
    assert norms["denoiser"] > 1.0
    assert norms["decoder"] > 100.0  # what the loop shortens where nothing else is said
    pairs = zip(model.named_parameters(), twin.parameters(), strict=True)
    for (name, parameter), other in pairs:
        if name == "means":
            assert not moments[parameter].any()
            continue
        factor = 0.1 / norms["denoiser"] if name.startswith("denoiser") else 1.0
        torch.testing.assert_close(
            moments[parameter], 0.1 * factor * other.grad, rtol=1e-4, atol=1e-12
        )


# ---- draws ---------------------------------------------------------------------------------


def trained(seed, x):
    model = small_model()
    for phase in reference_phases(model, 2, generator(seed)):
        run(phase, x)
    return model.state_dict()


def test_a_seed_gives_one_model_and_no_draw_is_global(x, short_warm_up):
    before = torch.get_rng_state()
    first, again, other = trained(1, x), trained(1, x), trained(2, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["means"], other["means"])
    assert not torch.equal(first["encoder.hidden.0.weight"], other["encoder.hidden.0.weight"])


# ---- recovery ------------------------------------------------------------------------------


def test_three_clear_clusters_come_apart_and_are_reconstructed(short_warm_up):
    """Clusters of sd 0.1 in 5-d, of centres about 2 apart, and three means that start as one.

    That a cluster has a mean of its own is more than the algorithm promises: after so few of its
    mild steps, z stays where the encoder puts it.
    """
    source = generator()
    label = torch.arange(150) % 3
    centres = 1.5 * torch.eye(3, 5)
    x = centres[label] + 0.1 * torch.randn(150, 5, generator=source)
    x = x - x.mean(0)
    model = small_model(n_features=5, n_clusters=3, n_hidden=100)
    assert torch.pdist(model.means.detach()).max() < 0.15
    for phase in reference_phases(model, 20, source):
        run(phase, x.repeat(5, 1), batch_size=15)

    with torch.no_grad():
        assert torch.pdist(model.means).min() > 1.0
        place = model.place(x)
        residual = x - model.decoder(place)
    assert (residual**2).mean() < 0.1 * (x**2).mean()
    distance = torch.cdist(place, place)
    same = label[:, None] == label
    assert distance[same].max() < 0.5 * distance[~same].min()
