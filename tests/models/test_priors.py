"""The mixture prior p(z) = sum_k pi_k N(z; m_k, s_k^2 I) (section 4.2, strategy 1)."""

import math

import pytest
import torch

from ancestryvi.models.priors import MixturePrior

MEANS = [[1.0, -0.5], [-2.0, 0.3], [0.2, 2.2]]
WEIGHTS = [0.5, 0.2, 0.3]
SCALES = [0.4, 0.9, 0.25]


@pytest.fixture
def prior():
    return MixturePrior(torch.tensor(MEANS), torch.tensor(WEIGHTS), torch.tensor(SCALES))


def naive_joint(z):
    """pi_k N(z; m_k, s_k^2 I) for every k, in plain Python."""
    return [
        weight
        * math.prod(
            math.exp(-0.5 * ((value - centre) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
            for value, centre in zip(z, mean, strict=True)
        )
        for mean, weight, scale in zip(MEANS, WEIGHTS, SCALES, strict=True)
    ]


def test_densities_agree_with_a_naive_loop(prior, generator):
    """log p(z), log p(z, k) and Bayes' p(k | z), for points of any leading shape."""
    points = 2 * torch.randn(4, 5, 2, generator=generator)
    joint, marginal = prior.joint_log_prob(points), prior.log_prob(points)
    responsibilities = prior.responsibilities(points)
    assert joint.shape == (4, 5, 3)
    assert marginal.shape == (4, 5)
    for i in range(4):
        for j in range(5):
            expected = naive_joint(points[i, j].tolist())
            assert joint[i, j].exp().tolist() == pytest.approx(expected, rel=1e-10)
            assert marginal[i, j].exp().item() == pytest.approx(sum(expected), rel=1e-10)
            bayes = [value / sum(expected) for value in expected]
            assert responsibilities[i, j].tolist() == pytest.approx(bayes, abs=1e-12)
    torch.testing.assert_close(responsibilities.sum(-1), torch.ones(4, 5))


def test_density_integrates_to_one(prior):
    """int p(z) dz on a grid that holds all the mass."""
    axis = torch.linspace(-8.0, 8.0, 641)
    grid = torch.cartesian_prod(axis, axis)
    cell = (axis[1] - axis[0]) ** 2
    assert (prior.log_prob(grid).exp().sum() * cell).item() == pytest.approx(1.0, abs=1e-9)


def test_far_points_have_finite_density_and_one_owner(prior):
    """Where every component underflows, log p(z) is finite and memberships still sum to 1."""
    far = torch.tensor([[1e3, 1e3], [-1e4, 0.0]])
    assert (prior.joint_log_prob(far).exp() == 0).all()
    assert prior.log_prob(far).isfinite().all()
    torch.testing.assert_close(prior.responsibilities(far).sum(-1), torch.ones(2))
    # the widest component decays slowest
    assert prior.responsibilities(far).argmax(-1).tolist() == [1, 1]


def test_sample_has_the_moments_of_the_mixture(prior, generator):
    """Component frequencies pi_k, and mean m_k and variance s_k^2 within each, to 5 s.e."""
    n = 100_000
    z, component = prior.sample(n, generator)
    assert z.shape == (n, 2)
    for k, (mean, weight, scale) in enumerate(zip(MEANS, WEIGHTS, SCALES, strict=True)):
        rows = z[component == k]
        error = math.sqrt(weight * (1 - weight) / n)
        assert len(rows) / n == pytest.approx(weight, abs=5 * error)
        error = scale / math.sqrt(len(rows))
        assert rows.mean(0).tolist() == pytest.approx(mean, abs=5 * error)
        error = scale**2 * math.sqrt(2 / len(rows))
        assert rows.var(0).tolist() == pytest.approx([scale**2] * 2, abs=5 * error)
    again, _ = prior.sample(n, torch.Generator().manual_seed(20))
    torch.testing.assert_close(again, z, rtol=0, atol=0)


def test_weights_stay_a_distribution_when_logits_move(prior, generator):
    """pi = softmax(logits), so any step of an optimiser leaves positive weights of sum 1."""
    torch.testing.assert_close(prior.log_weights.exp(), torch.tensor(WEIGHTS))
    with torch.no_grad():
        prior.logits.add_(3 * torch.randn(3, generator=generator))
    weights = prior.log_weights.exp()
    assert weights.min() > 0
    assert weights.sum().item() == pytest.approx(1.0)


def test_keep_selects_renormalises_and_reorders(prior):
    """The kept mixture is p(z, k) over the kept components, divided by their total weight."""
    kept = prior.keep(torch.tensor([2, 0]))
    assert kept.n_clusters == 2
    torch.testing.assert_close(kept.means, prior.means[[2, 0]])
    torch.testing.assert_close(kept.log_weights.exp(), torch.tensor([0.375, 0.625]))
    z = torch.tensor([[0.3, 0.1], [-1.0, 2.0]])
    expected = prior.joint_log_prob(z)[:, [2, 0]] - math.log(0.8)
    torch.testing.assert_close(kept.joint_log_prob(z), expected)
    assert prior.n_clusters == 3


@pytest.mark.parametrize("trainable", [True, False])
def test_keep_is_a_copy_as_trainable_as_its_origin(prior, trainable):
    prior.requires_grad_(trainable)
    kept = prior.keep(torch.arange(3))
    assert [p.requires_grad for p in kept.parameters()] == [trainable] * 3
    with torch.no_grad():
        kept.means.zero_()
        kept.logits.zero_()
    assert prior.means.tolist() == MEANS
    torch.testing.assert_close(prior.log_weights.exp(), torch.tensor(WEIGHTS))
