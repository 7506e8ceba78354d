"""The model with an explicit class, equations 10 and 11, against loops over classes and steps."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_posterior import MAX_LOG_CORRECTION, DiffusionPosterior
from ancestryvi.models.latent_class import MAX_ANALYTIC_CLASSES, TEMPERATURE, LatentClassDDVI
from ancestryvi.models.networks import zero_init
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar

TERMS = ("reconstruction", "log_prior", "log_forward", "entropy")


@pytest.fixture
def x(generator):
    return torch.randn(4, 3, generator=generator)


def one_hot(index, n_classes=3):
    return torch.eye(n_classes)[index]


def normal_of_class(prior, c):
    """p(z | c) of one component."""
    factor = prior.precision_factors[c]
    return MultivariateNormal(prior.means[c], precision_matrix=factor.T @ factor)


def naive_terms(model, x, noise, c):
    """The terms of L(x, c) for one row, one class and one path, noise of shape (T + 1, d)."""
    posterior, diffusion = model.posterior, model.posterior.diffusion
    encoding = posterior.encode(x.unsqueeze(0), one_hot([c], model.n_classes))
    q = Normal(encoding.start_mean[0], encoding.start_log_scale[0].exp())
    y = q.mean + q.stddev * noise[0]
    entropy, log_forward = q.entropy().sum(), 0.0
    for index, t in enumerate(range(model.n_steps, 0, -1), start=1):
        mean, variance = posterior.reverse_step(encoding, y.unsqueeze(0), t)
        q = Normal(mean[0], variance[0].sqrt())
        entropy = entropy + q.entropy().sum()
        beta = diffusion.beta[t]
        for sign in (-1, 1):  # two points of half the weight integrate a quadratic exactly
            before = q.mean + sign * q.stddev
            r = Normal((1 - beta).sqrt() * before, beta.sqrt())
            log_forward = log_forward + 0.5 * r.log_prob(y).sum()
        y = q.mean + q.stddev * noise[index]
    likelihood = Normal(model.decoder(y) + model.offsets[c], model.log_noise.exp())
    return {
        "reconstruction": likelihood.log_prob(x).sum().item(),
        "log_prior": normal_of_class(model.prior, c).log_prob(y).item(),
        "log_forward": log_forward.item(),
        "entropy": entropy.item(),
    }


def naive_class_probs(model, x):
    """q(c | x) of one row: the softmax of a quadratic discriminant and its correction, in numpy."""
    posterior = model.posterior
    head, correction = posterior.class_head, posterior.class_correction
    squared = np.concatenate([x.numpy(), x.numpy() ** 2])
    logits = head.weight.numpy() @ squared + head.bias.numpy()
    logits += correction.weight.numpy() @ posterior.encoder(x).numpy() + correction.bias.numpy()
    odds = np.exp(posterior.class_factor.item() * logits)
    return odds / odds.sum()


# ---- the bound of equation 11 --------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("n_latent", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_each_term_of_the_class_bound_agrees_with_a_naive_loop(
    random_ddvi, generator, x, n_steps, n_latent, conditional
):
    """Equation 11: sum_c q(c | x) of every term, sample by sample, draw by draw, class by class."""
    model = random_ddvi(
        n_latent=n_latent, n_steps=n_steps, classes=True, conditional=conditional
    ).requires_grad_(False)
    noise = torch.randn(n_steps + 1, 2, 3, 4, n_latent, generator=generator)
    terms = model.class_elbo(x, noise, model.class_log_probs(x))
    for draw in range(2):
        for row in range(4):
            q = naive_class_probs(model, x[row])
            by_class = [naive_terms(model, x[row], noise[:, draw, c, row], c) for c in range(3)]
            expected = {name: sum(q[c] * by_class[c][name] for c in range(3)) for name in TERMS}
            for name, value in expected.items():
                got = getattr(terms, name)
                assert got.shape == (2, 4), name
                assert got[draw, row].item() == pytest.approx(value, rel=1e-9), name
            divergence = kl_divergence(
                Categorical(probs=torch.tensor(q)), Categorical(logits=model.prior.logits)
            ).item()
            assert divergence > 0
            assert terms.log_class[draw, row].item() == pytest.approx(-divergence, rel=1e-9)
            bound = sum(expected.values()) - divergence
            assert terms.elbo[draw, row].item() == pytest.approx(bound, rel=1e-9)


def test_class_factor_scales_the_logits(random_ddvi, x):
    """q(c | x) proportional to e^(a logit): as calibration sets it."""
    model = random_ddvi(classes=True).requires_grad_(False)
    for factor in (0.5, 2.0):
        model.posterior.class_factor.fill_(factor)
        got = model.class_log_probs(x).exp()
        for row in range(4):
            np.testing.assert_allclose(got[row], naive_class_probs(model, x[row]), rtol=1e-10)


def test_labelled_rows_have_the_supervised_bound_and_others_the_mixed(random_ddvi, generator, x):
    """Equation 10: L(x, l) + log p(l) where l is known, else sum_c q [L + log p(c) - log q]."""
    model = random_ddvi(classes=True).requires_grad_(False)
    noise = torch.randn(4, 3, 4, 2, generator=generator)
    labels = torch.tensor([2, -1, 0, -1])
    bound = model.class_elbo(x, noise, model.class_log_probs(x, labels)).elbo
    p = Categorical(logits=model.prior.logits).probs.tolist()
    for row, label in enumerate(labels.tolist()):
        by_class = [sum(naive_terms(model, x[row], noise[:, c, row], c).values()) for c in range(3)]
        if label >= 0:
            expected = by_class[label] + math.log(p[label])
        else:
            q = naive_class_probs(model, x[row])
            expected = sum(q[c] * (by_class[c] + math.log(p[c]) - math.log(q[c])) for c in range(3))
        assert bound[row].item() == pytest.approx(expected, rel=1e-9)


def test_a_known_class_teaches_no_classifier(random_ddvi, generator, x):
    """L(x, l) of equation 10 holds no q(l | x): its gradient reaches no class head."""
    model = random_ddvi(classes=True)
    noise = torch.randn(4, 3, 4, 2, generator=generator)
    heads = [*model.posterior.class_head.parameters()]
    for labels, teaches in ((torch.tensor([2, 1, 0, 1]), False), (torch.tensor([-1] * 4), True)):
        bound = model.class_elbo(x, noise, model.class_log_probs(x, labels)).elbo.sum()
        gradients = torch.autograd.grad(bound, heads, allow_unused=True)
        reached = any(g is not None and bool(g.abs().max() > 0) for g in gradients)
        assert reached is teaches


def test_offsets_move_the_likelihood_of_their_class(random_ddvi, generator, x):
    """p(x | z, c) = N(f(z) + b_c, diag s^2); without c, the mean over p(c | z)."""
    model = random_ddvi(classes=True).requires_grad_(False)
    z = torch.randn(4, 2, generator=generator)
    c = [2, 0, 1, 1]
    got = model.reconstruction(x, z, one_hot(c))
    for row in range(4):
        mean = model.decoder(z[row]) + model.offsets[c[row]]
        expected = Normal(mean, model.log_noise.exp()).log_prob(x[row]).sum()
        assert got[row].item() == pytest.approx(expected.item(), rel=1e-10)
        joint = [
            math.exp(normal_of_class(model.prior, k).log_prob(z[row]))
            * Categorical(logits=model.prior.logits).probs[k].item()
            for k in range(3)
        ]
        mean = model.decoder(z[row]) + sum(
            joint[k] / sum(joint) * model.offsets[k] for k in range(3)
        )
        torch.testing.assert_close(model.expectation(z[row]), mean)


# ---- draws of the class --------------------------------------------------------------------


def gumbel_noise(shape, generator):
    """-log of standard exponential draws."""
    return -torch.empty(shape).exponential_(generator=generator).log()


def test_a_relaxed_draw_has_the_value_of_its_one_hot_class(random_ddvi, generator, x):
    """Gumbel-max: the class is the argmax of log q + gumbel, and every term is that class's own."""
    model = random_ddvi(classes=True).requires_grad_(False)
    log_q = model.class_log_probs(x)
    noise = torch.randn(4, 4, 2, generator=generator)
    drawn = set()
    for _ in range(8):
        gumbel = gumbel_noise((4, 3), generator)
        terms = model.relaxed_class_elbo(x, noise, log_q, gumbel)
        for row in range(4):
            c = int(np.argmax(log_q[row].numpy() + gumbel[row].numpy()))
            drawn.add(c)
            for name, value in naive_terms(model, x[row], noise[:, row], c).items():
                assert getattr(terms, name)[row].item() == pytest.approx(value, rel=1e-9), name
    assert drawn == {0, 1, 2}


def test_mean_over_gumbel_draws_is_the_exact_bound(random_ddvi, generator, x):
    """Unbiased: over 20,000 draws of c every term comes to that of `class_elbo` within 5 s.e."""
    model = random_ddvi(classes=True).requires_grad_(False)
    n = 20_000
    noise = torch.randn(4, 1, 2, generator=generator)
    row = x[:1]
    log_q = model.class_log_probs(row)
    exact = model.class_elbo(row, noise.unsqueeze(1).expand(-1, 3, -1, -1), log_q)
    drawn = model.relaxed_class_elbo(
        row.expand(n, -1), noise, log_q.expand(n, -1), gumbel_noise((n, 3), generator)
    )
    for name in (*TERMS, "elbo"):
        values = getattr(drawn, name)
        error = values.std().item() / math.sqrt(n)
        assert error > 0, name
        assert abs(values.mean() - getattr(exact, name)).item() < 5 * error, name
    torch.testing.assert_close(drawn.log_class, exact.log_class.expand(n))


def test_gradient_of_a_relaxed_draw_is_straight_through(random_ddvi, generator, x):
    """dL/dc at the one-hot class, through the softmax of (log q + gumbel) / temperature.

    The Jacobian of the softmax s is (diag s - s s') / temperature (Jang, Gu and Poole 2017).
    """
    model = random_ddvi(classes=True).requires_grad_(False)
    noise = torch.randn(4, 4, 2, generator=generator)
    gumbel = gumbel_noise((4, 3), generator)
    log_q = model.class_log_probs(x).requires_grad_()
    terms = model.relaxed_class_elbo(x, noise, log_q, gumbel)
    without_class = (terms.elbo - terms.log_class).sum()
    (got,) = torch.autograd.grad(without_class, log_q)
    c = one_hot((log_q + gumbel).argmax(-1)).requires_grad_()
    (slope,) = torch.autograd.grad(model.elbo(x, noise, c).elbo.sum(), c)
    for row in range(4):
        soft = torch.softmax((log_q[row].detach() + gumbel[row]) / TEMPERATURE, 0)
        jacobian = (torch.diag(soft) - torch.outer(soft, soft)) / TEMPERATURE
        torch.testing.assert_close(got[row], jacobian @ slope[row])
    assert got.abs().max() > 1e-3


def test_labelled_rows_always_draw_their_label(random_ddvi, generator, x):
    """However the Gumbel noise falls; log p(l) is their class term (equation 10)."""
    model = random_ddvi(classes=True).requires_grad_(False)
    labels = torch.tensor([1, 0, 2, 0])
    log_q = model.class_log_probs(x, labels)
    noise = torch.randn(4, 4, 2, generator=generator)
    expected = model.elbo(x, noise, one_hot(labels)).elbo + model.prior.log_weights[labels]
    for _ in range(20):
        gumbel = 3 * gumbel_noise((4, 3), generator)
        got = model.relaxed_class_elbo(x, noise, log_q, gumbel).elbo
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("n_classes", [MAX_ANALYTIC_CLASSES, MAX_ANALYTIC_CLASSES + 1])
def test_wake_estimates_the_bound_for_few_classes_and_for_many(
    random_ddvi, generator, x, n_classes
):
    """Its mean is that of `class_elbo` over noise of our own, within 5 s.e., labelled rows too."""
    model = random_ddvi(n_clusters=n_classes, classes=True, spread=0.2).requires_grad_(False)
    model.posterior.belief_head.bias[2:] -= 1.0  # small steps, small errors
    n = 4000
    for label in (-1, 1):
        rows, labels = x[:1].expand(n, -1), torch.full((n,), label)
        got = model.wake(rows, labels, generator).elbo
        noise = torch.randn(4, n_classes, n, 2, generator=generator)
        wanted = model.class_elbo(rows, noise, model.class_log_probs(rows, labels)).elbo
        error = math.sqrt((got.var() + wanted.var()).item() / n)
        assert error < 0.1
        assert abs(got.mean() - wanted.mean()).item() < 5 * error


def test_wake_takes_no_labels_for_none_observed(random_ddvi, x):
    model = random_ddvi(classes=True)
    sources = (torch.Generator().manual_seed(3) for _ in range(2))
    first = model.wake(x, None, next(sources)).elbo
    torch.testing.assert_close(model.wake(x, torch.full((4,), -1), next(sources)).elbo, first)


# ---- classes in the posterior --------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_features_of_a_class_move_the_chain_of_that_class_alone(
    random_ddvi, generator, x, conditional
):
    """q(y, z | x, c) depends on c through its start, and through every step."""
    model = random_ddvi(classes=True, conditional=conditional).requires_grad_(False)
    posterior = model.posterior
    c = torch.eye(3).unsqueeze(1)
    noise = torch.randn(4, 3, 4, 2, generator=generator)
    y = torch.randn(4, 2, generator=generator)

    def everything():
        encoding = posterior.encode(x, c)
        step = posterior.reverse_step(encoding, y.expand(3, -1, -1), 2)[0]
        return encoding.start_mean, step, posterior.infer(encoding, noise)

    before = everything()
    for part in before:
        assert (part[0] - part[1]).abs().min() > 1e-6
    if conditional:
        posterior.class_features[1] += 0.5
    else:
        posterior.denoiser.from_features.weight[:, 1] += 0.5
    start, step, z = (a - b for a, b in zip(everything(), before, strict=True))
    for change in (start, step, z):
        assert (change[[0, 2]] == 0).all()
    assert (step[1].abs() > 1e-6).all()
    assert (z[1].abs() > 1e-6).all()
    assert (start[1].abs() > 1e-6).all() if conditional else (start[1] == 0).all()


@pytest.mark.parametrize("conditional", [True, False])
def test_sleep_is_the_denoising_loss_and_the_cross_entropy_of_dreams(random_ddvi, conditional):
    """Equation 9 at the class that was dreamt, and -log q(c | x) of that class."""
    model = random_ddvi(classes=True, conditional=conditional).requires_grad_(False)
    got = model.sleep(6, torch.Generator().manual_seed(8))
    source = torch.Generator().manual_seed(8)
    z, part, x = model.dream(6, source)
    noise = torch.randn(3, 6, 2, generator=source)
    assert len(part.unique()) > 1
    for row in range(6):
        one = slice(row, row + 1)
        c = int(part[row])
        loss = model.denoising_loss(x[one], z[one], noise[:, one], one_hot([c])).item()
        expected = loss - math.log(naive_class_probs(model, x[row])[c])
        assert got[row].item() == pytest.approx(expected, rel=1e-9)


def test_dreams_of_a_class_have_its_offset(random_ddvi, generator):
    """x = f(z) + b_c + s eps with the class of z (equation 8): residual means within 5 s.e."""
    model = random_ddvi(classes=True).requires_grad_(False)
    z, part, x = model.dream(60_000, generator)
    for c in range(3):
        rows = part == c
        residual = (x - model.decoder(z) - model.offsets[c])[rows] / model.log_noise.exp()
        assert residual.mean(0).abs().max() < 5 / math.sqrt(int(rows.sum()))
        assert model.offsets[c].abs().max() > 0.1


# ---- the read-out --------------------------------------------------------------------------


def test_draws_pick_classes_as_often_as_q_says(random_ddvi, generator, x):
    """For evenly spread uniforms the shares are q(c | x), to one draw in a thousand.

    With the noise 0 the draws of a class are one point, by which it is known.
    """
    model = random_ddvi(classes=True).requires_grad_(False)
    n = 1000
    uniform = ((torch.arange(n) + 0.5) / n)[torch.randperm(n, generator=generator)].unsqueeze(1)
    z = model.draw(x, torch.zeros(4, n, 1, 2), uniform)
    assert z.shape == (n, 4, 2)
    for row in range(4):
        q = naive_class_probs(model, x[row])
        one = x[row : row + 1]
        for c in range(3):
            encoding = model.posterior.encode(one, one_hot([c]))
            point = model.posterior.infer(encoding, torch.zeros(4, 1, 2))
            share = ((z[:, row] - point).abs().max(-1).values < 1e-9).double().mean().item()
            assert share == pytest.approx(q[c], abs=1.5 / n)


def test_draws_of_z_follow_the_noise_of_their_class(random_ddvi, generator, x):
    """A draw is the path of its class with its own noise."""
    model = random_ddvi(classes=True).requires_grad_(False)
    noise = torch.randn(4, 5, 4, 2, generator=generator)
    uniform = torch.rand(5, 4, generator=generator)
    z = model.draw(x, noise, uniform)
    for draw in range(5):
        for row in range(4):
            edges = np.cumsum(naive_class_probs(model, x[row]))
            c = int(np.searchsorted(edges, uniform[draw, row].item(), side="right"))
            encoding = model.posterior.encode(x[row : row + 1], one_hot([c]))
            alone = model.posterior.infer(encoding, noise[:, draw, row : row + 1])
            torch.testing.assert_close(z[draw, row], alone[0])


def test_place_is_the_mean_over_classes(random_ddvi, x):
    """sum_c q(c | x) times the end of the path of means of c; probabilities are q(c | x)."""
    model = random_ddvi(classes=True).requires_grad_(False)
    place = model.place(x)
    probabilities = model.probabilities(x, torch.zeros(4, 1, 1, 2))
    for row in range(4):
        q = naive_class_probs(model, x[row])
        expected = torch.zeros(2)
        for c in range(3):
            encoding = model.posterior.encode(x[row : row + 1], one_hot([c]))
            expected += q[c] * model.posterior.infer(encoding, torch.zeros(4, 1, 2))[0]
        torch.testing.assert_close(place[row], expected)
        np.testing.assert_allclose(probabilities[row], q, rtol=1e-10)


@pytest.mark.parametrize(
    ("n_draws", "taken"),
    [
        (2, [0, 1]),
        (4, range(4)),
        (12, [0, 1, 6, 7]),
        (60, [*range(10), *range(30, 40)]),
    ],
)
def test_bound_gives_each_class_its_share_of_the_draws(random_ddvi, generator, x, n_draws, taken):
    """Equation 11 over as many draws of either half, the same for all three classes: a third of
    them, but eight where there are eight; each coordinate with a mean square of 1.
    """
    model = random_ddvi(classes=True).requires_grad_(False)
    noise = torch.randn(4, n_draws, 4, 2, generator=generator)
    bound = model.bound(x, noise)
    some = noise[:, list(taken)]
    some = some / (some**2).mean(1, keepdim=True).sqrt()
    p = Categorical(logits=model.prior.logits).probs.tolist()
    for row in range(4):
        q = naive_class_probs(model, x[row])
        by_draw = [
            q[c] * (sum(naive_terms(model, x[row], some[:, draw, row], c).values()))
            + q[c] * math.log(p[c] / q[c])
            for draw in range(len(taken))
            for c in range(3)
        ]
        assert bound[row].item() == pytest.approx(sum(by_draw) / len(taken), rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 9])
def test_bound_keeps_mirrored_draws_in_pairs(random_ddvi, generator, x, monkeypatch, n_classes):
    """Draws whose second half mirrors the first: those taken have the mean 0, at every step."""
    model = random_ddvi(n_clusters=n_classes, classes=True).requires_grad_(False)
    taken, elbo = [], model.elbo

    def spy(x, noise, c):
        taken.append(noise)
        return elbo(x, noise, c)

    monkeypatch.setattr(model, "elbo", spy)
    half = torch.randn(4, 16, 1, 2, generator=generator)
    model.bound(x, torch.cat([half, -half], dim=1))
    assert taken[0].mean(1).abs().max() < 1e-12


@pytest.mark.parametrize("conditional", [True, False])
def test_kept_classes_are_a_model_of_those_classes_alone(random_ddvi, generator, x, conditional):
    """Classes 2 and 0 of three: p(c) and q(c | x) renormalised, all else as it was."""
    model = random_ddvi(classes=True, conditional=conditional).requires_grad_(False)
    kept, order = copy.deepcopy(model), torch.tensor([2, 0])
    kept.keep_clusters(order)
    assert kept.n_classes == kept.prior.n_clusters == 2

    # the model of two classes, built anew from the parameters of theirs
    built = random_ddvi(n_clusters=2, classes=True, conditional=conditional, seed=9)
    built.requires_grad_(False)
    by_class = {"offsets", "posterior.class_features"}
    by_class |= {f"posterior.class_{head}.weight" for head in ("head", "correction")}
    by_class |= {f"posterior.class_{head}.bias" for head in ("head", "correction")}
    for name, parameter in built.named_parameters():
        value = model.get_parameter(name)
        if name in by_class or name.startswith("prior."):
            value = value[order]
        if name == "posterior.denoiser.from_features.weight" and not conditional:
            value = value[:, order]
        parameter.copy_(value)

    log_q = model.class_log_probs(x)[:, order]
    torch.testing.assert_close(kept.class_log_probs(x), log_q.log_softmax(-1))
    noise = torch.randn(4, 2, 4, 2, generator=generator)
    for c in range(2):
        for row in range(4):
            old = naive_terms(model, x[row], noise[:, c, row], int(order[c]))
            new = naive_terms(kept, x[row], noise[:, c, row], c)
            assert new == pytest.approx(old, rel=1e-9)
    got = kept.class_elbo(x, noise, kept.class_log_probs(x)).elbo
    expected = built.class_elbo(x, noise, built.class_log_probs(x)).elbo
    torch.testing.assert_close(got, expected)
    uniform = torch.rand(5, 4, generator=generator)
    noise = torch.randn(4, 5, 4, 2, generator=generator)
    torch.testing.assert_close(kept.draw(x, noise, uniform), built.draw(x, noise, uniform))


# ---- a lower bound -------------------------------------------------------------------------

NODES = torch.arange(-7.0, 7.0 + 1e-9, 0.25, dtype=torch.float64)
NODE_WEIGHTS = torch.exp(-0.5 * NODES**2) / torch.exp(-0.5 * NODES**2).sum()


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_steps", [1, 2])
def test_class_bound_is_below_the_evidence(random_ddvi, generator, n_steps, seed, conditional):
    """Equation 11 <= log sum_c p(c) int p(z | c) p(x | z, c) dz, both sides integrated."""
    model = random_ddvi(
        n_features=2,
        n_latent=1,
        n_clusters=2,
        n_steps=n_steps,
        seed=seed,
        classes=True,
        conditional=conditional,
    ).requires_grad_(False)
    x = 2 * torch.randn(5, 2, generator=generator)
    z = torch.linspace(-20.0, 20.0, 8001).unsqueeze(-1)
    log_joint = torch.stack(
        [
            normal_of_class(model.prior, c).log_prob(z)
            + model.prior.log_weights[c]
            + Normal(model.decoder(z) + model.offsets[c], model.log_noise.exp())
            .log_prob(x.unsqueeze(1))
            .sum(-1)
            for c in range(2)
        ]
    )
    evidence = log_joint.logsumexp((0, 2)) + math.log(z[1] - z[0])
    grid = torch.cartesian_prod(*[NODES] * (n_steps + 1))
    weights = torch.cartesian_prod(*[NODE_WEIGHTS] * (n_steps + 1)).prod(-1)
    noise = grid.T.reshape(n_steps + 1, -1, 1, 1, 1).expand(-1, -1, 2, 5, -1)
    bound = model.class_elbo(x, noise, model.class_log_probs(x)).elbo
    assert (evidence - (weights.unsqueeze(-1) * bound).sum(0) > 0).all()


class ExactDenoiser(nn.Module):
    """p(z | y_t, x, c) where p(z | x, c) is the encoder's belief, of one variance for all."""

    def __init__(self, variance: float, diffusion: GaussianDiffusion) -> None:
        super().__init__()
        self.variance, self.diffusion = variance, diffusion

    def context(self, features: Tensor) -> Tensor:
        """The belief's mean, out of features that end in its mean and log scale."""
        return features[..., -2:-1]

    def forward(self, y: Tensor, t: Tensor | int, context: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.diffusion.alpha_bar[t].unsqueeze(-1)
        variance = 1 / (1 / self.variance + alpha_bar / (1 - alpha_bar))
        pull = context / self.variance + alpha_bar.sqrt() / (1 - alpha_bar) * y
        correction = 0.5 * (variance / self.variance).log()
        unbounded = MAX_LOG_CORRECTION * torch.atanh(correction / MAX_LOG_CORRECTION)
        shift = (variance * pull - context) / math.sqrt(self.variance)
        return shift, unbounded.expand_as(y)


@pytest.mark.parametrize("n_steps", [1, 4, 20])
def test_class_bound_of_the_exact_posterior_is_the_evidence(generator, n_steps):
    """Equation 11 without a gap: z | c ~ N(m_c, s^2), x | z, c ~ N(w z + b_c, Psi).

    q(c | x) is then a linear discriminant and q(z | x, c) a Gaussian around a plane. Every term is
    quadratic in the noise, so that two points for each noise integrate it exactly.
    """
    weights, means, prior_scale = torch.tensor([0.5, 0.2, 0.3]), torch.tensor([-1.0, 0.4, 2.0]), 0.7
    slope, noise_scale = torch.tensor([0.8, -0.5, 1.3]), torch.tensor([0.4, 0.9, 0.6])
    offsets = 0.7 * torch.randn(3, 3, generator=generator)
    covariance = prior_scale**2 * torch.outer(slope, slope) + torch.diag(noise_scale**2)
    centres = means.unsqueeze(1) * slope + offsets
    x = centres[[0, 1, 1, 2, 0]] + torch.randn(5, 3, generator=generator)
    by_class = MultivariateNormal(centres, covariance).log_prob(x.unsqueeze(1))
    evidence = (weights.log() + by_class).logsumexp(1)

    posterior = DiffusionPosterior(
        3, 1, GaussianDiffusion(cosine_alpha_bar(n_steps)), n_classes=3, n_hidden=3
    )
    prior = MixturePrior(weights, means.unsqueeze(1), torch.full((3, 1, 1), 1 / prior_scale))
    model = LatentClassDDVI(3, prior, posterior, noise_scale).requires_grad_(False)
    decoder = nn.Linear(1, 3).requires_grad_(False)
    decoder.weight.copy_(slope.unsqueeze(1))
    decoder.bias.zero_()
    model.decoder = nn.Sequential(decoder)
    model.offsets.copy_(offsets)
    # E(z | x, c) = variance (m_c / s^2 + w' Psi^-1 (x - b_c))
    information = slope / noise_scale**2
    variance = 1 / (1 / prior_scale**2 + information @ slope).item()
    posterior.encoder = nn.Identity()
    posterior.belief_head = nn.Linear(3, 2).requires_grad_(False)
    posterior.belief_head.weight.copy_(torch.stack([variance * information, torch.zeros(3)]))
    posterior.belief_head.bias.copy_(torch.tensor([0.0, 0.5 * math.log(variance)]))
    # b_c is taken off x, and w times what lifts w' Psi^-1 x by m_c / s^2 is added
    lift = means / prior_scale**2 / (information @ slope)
    posterior.class_features.copy_(lift.unsqueeze(1) * slope - offsets)
    posterior.start_head = zero_init(nn.Linear(3, 2)).requires_grad_(False)
    posterior.denoiser = ExactDenoiser(variance, posterior.diffusion)
    # log p(c) + log N(x; mu_c, Sigma), but for what all classes share
    discriminant = torch.linalg.solve(covariance, centres.T).T
    posterior.class_head.weight.copy_(
        torch.cat([discriminant, torch.zeros_like(discriminant)], dim=1)
    )
    posterior.class_head.bias.copy_(weights.log() - 0.5 * (discriminant * centres).sum(1))

    responsibilities = (weights.log() + by_class).softmax(1)
    torch.testing.assert_close(model.probabilities(x, torch.zeros(1)), responsibilities)
    n = n_steps + 1
    points = math.sqrt(n) * torch.cat([torch.eye(n), -torch.eye(n)])
    noise = points.T.reshape(n, 2 * n, 1, 1, 1).expand(-1, -1, 3, 5, -1)
    bound = model.class_elbo(x, noise, model.class_log_probs(x)).elbo.mean(0)
    torch.testing.assert_close(bound, evidence, rtol=0, atol=1e-9)
    labels = torch.tensor([0, 2, 1, -1, 1])
    bound = model.class_elbo(x, noise, model.class_log_probs(x, labels)).elbo.mean(0)
    for row, label in enumerate(labels.tolist()):
        known = weights[label].log() + by_class[row, label]  # log p(x, l)
        expected = evidence[row] if label < 0 else known
        assert bound[row].item() == pytest.approx(expected.item(), abs=1e-9)
