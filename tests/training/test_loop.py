"""The loop against Adam, its schedule and its bookkeeping written out in numpy."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from tqdm import tqdm

from ancestryvi.exceptions import TrainingError
from ancestryvi.training import History, Objective, Phase, adam, train_phase
from ancestryvi.training.loop import MAX_GRADIENT_NORM, batches, warmup_cosine


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


def parameter(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def run(phase, x, *, batch_size=4, seed=5, **options):
    history = History()
    train_phase(
        phase, x, batch_size=batch_size, generator=generator(seed), history=history, **options
    )
    return history


@pytest.fixture
def x():
    return torch.randn(10, 3, generator=generator(), dtype=torch.float64)


# ---- batches and learning rate -------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 100, 256, 1000])
@pytest.mark.parametrize("n_samples", [1, 2, 257])
def test_batches_hold_every_row_once(n_samples, batch_size):
    parts = batches(n_samples, batch_size, generator())
    assert sorted(torch.cat(parts).tolist()) == list(range(n_samples))
    sizes = [len(rows) for rows in parts]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == math.ceil(n_samples / batch_size)


def test_batches_are_shuffled_anew():
    source = generator()
    first, second = (torch.cat(batches(257, 64, source)).tolist() for _ in range(2))
    assert first != second
    assert first != list(range(257))
    assert torch.cat(batches(257, 64, generator())).tolist() == first


def test_learning_rate_rises_over_a_tenth_and_falls_to_zero():
    """Linear from 0.01 to 1, then half a cosine to 0, without a jump between."""
    assert warmup_cosine(0.0) == pytest.approx(0.01)
    assert warmup_cosine(0.05) == pytest.approx((0.01 + 1.0) / 2)
    assert warmup_cosine(0.1 - 1e-12) == pytest.approx(warmup_cosine(0.1))
    assert warmup_cosine(0.1) == pytest.approx(1.0)
    assert warmup_cosine(0.1 + 0.9 / 3) == pytest.approx(0.75)
    assert warmup_cosine(1.0) == pytest.approx(0.0, abs=1e-12)


# ---- steps ---------------------------------------------------------------------------------


class NaiveAdam:
    """Kingma and Ba (2015), algorithm 1, after shortening a long gradient."""

    def __init__(self, size, max_norm=MAX_GRADIENT_NORM):
        self.m, self.v, self.t = np.zeros(size), np.zeros(size), 0
        self.max_norm = max_norm

    def move(self, gradient, rate):
        norm = np.linalg.norm(gradient)
        if norm > self.max_norm:
            gradient = gradient * self.max_norm / norm
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m = self.m / (1 - 0.9**self.t)
        v = self.v / (1 - 0.999**self.t)
        return -rate * m / (np.sqrt(v) + 1e-8)


def test_objectives_take_turns_each_with_its_own_adam(x):
    """Two objectives share b: 3 epochs of 3 batches, against gradients and Adam by hand.

    The scale of the first makes its gradients long enough to be shortened at times.
    """
    a, b = parameter(0.3, -1.0, 0.5), parameter(2.0, 0.1, -0.4)

    def wake(batch, done):
        return {"loss": 20 * ((batch @ a) ** 2 + (b - batch).square().sum(1)).mean()}

    def sleep(batch, done):
        return {"loss": ((b - 1.0) ** 4).sum()}

    objectives = [
        Objective("wake", wake, [adam([a, b], 0.05)]),
        Objective("sleep", sleep, [adam([b], 0.3 * 0.05)]),
    ]
    naive_a, naive_b = a.detach().numpy().copy(), b.detach().numpy().copy()
    run(Phase("test", 3, objectives), x)

    order, wake_adam, sleep_adam = generator(), NaiveAdam(6), NaiveAdam(3)
    norms = []
    for epoch in range(3):
        for index, rows in enumerate(batches(10, 4, order)):
            rate = 0.05 * warmup_cosine((epoch + index / 3) / 3)
            batch = x[rows].numpy()
            # d/da 20 mean (x.a)^2 and d/db 20 mean |b - x|^2
            gradient_a = 40 * (batch @ naive_a) @ batch / len(batch)
            gradient_b = 40 * (naive_b - batch.mean(0))
            gradient = np.concatenate([gradient_a, gradient_b])
            norms.append(np.linalg.norm(gradient))
            step = wake_adam.move(gradient, rate)
            naive_a, naive_b = naive_a + step[:3], naive_b + step[3:]
            naive_b = naive_b + sleep_adam.move(4 * (naive_b - 1) ** 3, 0.3 * rate)
    assert min(norms) < MAX_GRADIENT_NORM < max(norms)
    np.testing.assert_allclose(a.detach().numpy(), naive_a, rtol=1e-6)
    np.testing.assert_allclose(b.detach().numpy(), naive_b, rtol=1e-6)


def test_a_step_moves_the_parameters_of_its_objective_alone(x):
    """No momentum coasts into another objective's turn, and a gradient alone moves nothing."""
    a, b, c = parameter(1.0), parameter(1.0), parameter(1.0)
    trace = []

    def first(batch, done):
        trace.append((a.item(), b.item()))
        return {"loss": (a**2 + b**2 + c**2).sum()}

    def second(batch, done):
        trace.append((a.item(), b.item()))
        return {"loss": (a**2 + b**2 + c**2).sum()}

    objectives = [
        Objective("first", first, [adam([a], 0.1)]),
        Objective("second", second, [adam([b], 0.1)]),
    ]
    run(Phase("test", 5, objectives), x, batch_size=10)
    for turn, (before, after) in enumerate(pairwise(trace)):
        still, moving = (1, 0) if turn % 2 == 0 else (0, 1)
        assert after[still] == before[still]
        assert after[moving] < before[moving]
    assert c.item() == 1.0


def test_first_step_is_as_long_as_the_rate(x):
    """Adam's first step does not depend on the scale of the loss: each optimiser has its own."""
    a, b = parameter(1.0), parameter(1.0)
    objective = Objective(
        "wake", lambda batch, done: {"loss": 7 * a.sum() + b.sum()}, [adam([a], 0.1), adam([b], 0)]
    )
    run(Phase("test", 1, [objective]), x, batch_size=10)
    assert 1.0 - a.item() == pytest.approx(0.1 * warmup_cosine(0.0), rel=1e-6)
    assert b.item() == 1.0


def test_gradients_are_shortened_for_each_optimiser_alone(x):
    """Two optimisers of one objective: the long gradient of a leaves the step of b as it is."""
    a, b = parameter(1.0, 1.0), parameter(1.0)
    slopes = []

    def loss(batch, done):
        slope = 10.0 if len(slopes) == 0 else 0.1
        slopes.append(slope)
        return {"loss": slope * (a.sum() + b.sum())}

    optimizers = [adam([a], 0.1, max_norm=0.5), adam([b], 0.1, max_norm=20.0)]
    naive_a, naive_b = NaiveAdam(2, 0.5), NaiveAdam(1, 20.0)
    expected_a, expected_b = np.ones(2), np.ones(1)
    run(Phase("test", 2, [Objective("wake", loss, optimizers)]), x, batch_size=10)
    for epoch, slope in enumerate((10.0, 0.1)):
        rate = 0.1 * warmup_cosine(epoch / 2)
        expected_a = expected_a + naive_a.move(np.full(2, slope), rate)
        expected_b = expected_b + naive_b.move(np.full(1, slope), rate)
    np.testing.assert_allclose(a.detach(), expected_a, rtol=1e-6)
    np.testing.assert_allclose(b.detach(), expected_b, rtol=1e-6)
    assert 1 - a[0].item() != pytest.approx(1 - b.item(), rel=1e-3)


def test_objectives_may_share_an_optimiser_and_its_momentum(x):
    """One Adam, two losses in turn: the moments run through both."""
    a = parameter(0.5, -1.0)
    shared = adam([a], 0.1)
    objectives = [
        Objective("first", lambda batch, done: {"loss": a.square().sum()}, [shared]),
        Objective("second", lambda batch, done: {"loss": (a - 3).pow(4).sum()}, [shared]),
    ]
    naive, expected = NaiveAdam(2), np.array([0.5, -1.0])
    run(Phase("test", 4, objectives), x, batch_size=10)
    for epoch in range(4):
        rate = 0.1 * warmup_cosine(epoch / 4)
        expected = expected + naive.move(2 * expected, rate)
        expected = expected + naive.move(4 * (expected - 3) ** 3, rate)
    np.testing.assert_allclose(a.detach(), expected, rtol=1e-6)


# ---- turns ---------------------------------------------------------------------------------


def recorder(trace, name, a):
    def loss(batch, done):
        trace.append((name, len(batch), done))
        return {"loss": a.square().sum()}

    return loss


def test_repeats_are_steps_in_a_turn_by_epoch(x):
    """None in epoch 0, three at every batch of epoch 1; the record is their mean."""
    a, b, trace = parameter(1.0), parameter(2.0), []
    objectives = [
        Objective("wake", recorder(trace, "wake", a), [adam([a], 0.1)]),
        Objective(
            "sleep", recorder(trace, "sleep", b), [adam([b], 0.1)], repeats=lambda epoch: 3 * epoch
        ),
    ]
    history = run(Phase("test", 2, objectives), x, batch_size=5)
    names = [name for name, _, _ in trace]
    assert names == ["wake"] * 2 + ["wake", *["sleep"] * 3] * 2
    assert math.isnan(history["sleep/loss"][0])
    naive, value, seen = NaiveAdam(1), np.array([2.0]), []
    for index in range(2):
        for _ in range(3):
            seen.append(value.item() ** 2)
            value = value + naive.move(2 * value, 0.1 * warmup_cosine((1 + index / 2) / 2))
    assert history["sleep/loss"][1] == pytest.approx(np.mean(seen), rel=1e-6)
    assert b.item() == pytest.approx(value.item(), rel=1e-6)


def test_a_turn_per_epoch_comes_after_its_last_batch(x):
    """Batches of 4, 3 and 3 rows; the record is the mean of the turn's own steps."""
    a, b, trace = parameter(1.0), parameter(2.0), []
    objectives = [
        Objective(
            "sleep",
            recorder(trace, "sleep", b),
            [adam([b], 0.1)],
            repeats=lambda epoch: 2,
            per_epoch=True,
        ),
        Objective("wake", recorder(trace, "wake", a), [adam([a], 0.1)]),
    ]
    history = run(Phase("test", 2, objectives), x)
    epoch = [("wake", 4), ("wake", 3), ("sleep", 3), ("sleep", 3), ("wake", 3)]
    assert [(name, rows) for name, rows, _ in trace] == 2 * epoch
    dones = [done for name, _, done in trace if name == "sleep"]
    assert dones == pytest.approx([2 / 6, 2 / 6, 5 / 6, 5 / 6])
    # Adam's first step has the length of its rate
    after = 2.0 - 0.1 * warmup_cosine(2 / 6)
    assert history["sleep/loss"][0] == pytest.approx((4 + after**2) / 2, rel=1e-6)


def test_schedule_of_a_phase_sets_every_rate(x):
    """A constant schedule, where the default warms up; halves from the middle of the phase on."""
    a, b = parameter(1.0), parameter(1.0)
    steps = []

    def loss(batch, done):
        steps.append((a.item(), b.item()))
        return {"loss": a.sum() + b.sum()}

    objective = Objective("wake", loss, [adam([a], 0.1), adam([b], 0.3)])
    phase = Phase("test", 4, [objective], schedule=lambda done: 1.0 if done < 0.5 else 0.5)
    run(phase, x, batch_size=10)
    steps.append((a.item(), b.item()))
    for column, peak in enumerate((0.1, 0.3)):
        lengths = [before[column] - after[column] for before, after in pairwise(steps)]
        # a constant gradient: every step of Adam is its rate
        assert lengths == pytest.approx([peak, peak, peak / 2, peak / 2], rel=1e-6)


def test_labels_go_with_their_rows(x):
    """Losses of a training with labels get them as a third argument, in the order of the batch."""
    a = parameter(1.0)
    labels = torch.arange(10)
    seen = []

    def loss(batch, done, label):
        torch.testing.assert_close(batch, x[label], rtol=0, atol=0)
        seen.extend(label.tolist())
        return {"loss": a.square().sum()}

    history = History()
    phase = Phase("test", 1, [Objective("wake", loss, [adam([a], 0.1)])])
    train_phase(phase, x, labels, batch_size=4, generator=generator(), history=history)
    assert sorted(seen) == list(range(10))
    assert seen != sorted(seen)


def test_done_is_the_share_of_the_phase(x):
    seen = []

    def loss(batch, done):
        seen.append(done)
        return {"loss": a.sum()}

    a = parameter(1.0)
    run(Phase("test", 2, [Objective("wake", loss, [adam([a], 0.1)])]), x)
    assert seen == pytest.approx([i / 6 for i in range(6)])


# ---- records -------------------------------------------------------------------------------


def test_history_holds_the_mean_over_rows_of_each_epoch(x):
    """Batches of 4, 3 and 3 rows: a mean weighted by rows, every term under its objective."""
    a = parameter(0.0)
    calls = []

    def loss(batch, done):
        calls.append((len(batch), batch.sum().item(), a.item()))
        return {"loss": (a - 1).square().sum(), "total": batch.sum()}

    history = run(Phase("test", 2, [Objective("wake", loss, [adam([a], 0.1)])]), x)
    assert history.phases == ["test", "test"]
    assert list(history) == ["wake/loss", "wake/total"]
    for epoch in range(2):
        part = calls[3 * epoch : 3 * epoch + 3]
        assert [n for n, _, _ in part] == [4, 3, 3]
        total = sum(n * value for n, value, _ in part) / 10
        assert history["wake/total"][epoch] == pytest.approx(total)
        mean = sum(n * (value - 1) ** 2 for n, _, value in part) / 10
        assert history["wake/loss"][epoch] == pytest.approx(mean)


def test_history_is_appended_to(x):
    a = parameter(0.0)
    history = History()
    history.append("earlier", {"wake/loss": 5.0})
    objective = Objective(
        "wake", lambda batch, done: {"loss": (a - 1).square().sum()}, [adam([a], 0.1)]
    )
    phase = Phase("later", 2, [objective])
    train_phase(phase, x, batch_size=4, generator=generator(), history=history)
    assert history.phases == ["earlier", "later", "later"]


@pytest.mark.parametrize("fails", [False, True])
def test_no_gradient_is_taken_of_what_is_held(x, fails):
    """While the phase runs; afterwards, and after an error, it can be trained again."""
    a, b, fixed = parameter(0.0), parameter(2.0), parameter(1.0).requires_grad_(False)
    seen = []

    def loss(batch, done):
        seen.append((a.requires_grad, b.requires_grad, fixed.requires_grad))
        value = (a - b * fixed).square().sum()
        return {"loss": value / 0.0 if fails else value}

    phase = Phase("rest", 3, [Objective("wake", loss, [adam([a], 0.1)])], held=[b, fixed])
    if fails:
        with pytest.raises(TrainingError):
            run(phase, x)
    else:
        run(phase, x)
        assert a.item() > 0.1
    assert set(seen) == {(True, False, False)}
    assert b.item() == 2.0
    assert b.grad is None
    assert (a.requires_grad, b.requires_grad, fixed.requires_grad) == (True, True, False)


def test_progress_advances_once_an_epoch(x):
    a = parameter(0.0)
    objective = Objective("wake", lambda batch, done: {"loss": a.square().sum()}, [adam([a], 0.1)])
    with tqdm(total=7, file=io.StringIO()) as bar:
        bar.update(2)
        run(Phase("warm start", 5, [objective]), x, progress=bar)
        assert bar.n == 7
        assert bar.postfix == "warm start"


def test_same_generator_same_result(x):
    def fit(seed):
        a = parameter(0.0, 0.0, 0.0)

        def loss(batch, done):
            return {"loss": (a - batch).square().mean() * (1 + batch[0, 0] ** 2)}

        history = run(Phase("test", 4, [Objective("wake", loss, [adam([a], 0.1)])]), x, seed=seed)
        return a.detach().tolist(), history

    assert fit(1) == fit(1)
    assert fit(1) != fit(2)


# ---- failures ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_at_once(x, bad):
    """The error names objective, epoch, phase and batch; parameters are those of the last step."""
    a = parameter(1.0, 2.0)
    seen = []

    def loss(batch, done):
        seen.append(a.detach().clone())
        # the fifth call is batch 2 of epoch 2
        return {"loss": a.square().sum() * (bad if len(seen) == 5 else 1.0)}

    phase = Phase("warm start", 3, [Objective("wake", loss, [adam([a], 0.1)])])
    history = History()
    with pytest.raises(
        TrainingError, match=rf"wake loss became {bad} in epoch 2 .*'warm start', batch 2\b"
    ):
        train_phase(phase, x, batch_size=4, generator=generator(), history=history)
    assert len(seen) == 5
    assert torch.equal(a.detach(), seen[-1])
    assert not torch.equal(seen[-1], seen[-2])
    assert len(history) == 1


def test_a_gradient_that_is_not_finite_is_named_as_such(x):
    """sqrt has a finite value and no derivative at 0; the loss is not to blame."""
    a = parameter(0.0)
    objective = Objective(
        "sleep", lambda batch, done: {"loss": a.sqrt().sum() + 0.5}, [adam([a], 0.1)]
    )
    with pytest.raises(TrainingError, match="gradient of the sleep loss became inf in epoch 1"):
        run(Phase("dreaming", 1, [objective]), x)
    assert a.item() == 0.0
