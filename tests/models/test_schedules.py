"""The cosine schedule (Nichol and Dhariwal 2021, equation 17) and the linear one (Ho et al.)."""

import math

import pytest
import torch

from ancestryvi.models.schedules import cosine_alpha_bar, linear_alpha_bar

STEPS = [1, 2, 5, 10, 20, 50, 100]


@pytest.mark.parametrize("final", [1e-4, 0.02])
@pytest.mark.parametrize("n_steps", STEPS)
def test_the_ends_do_not_depend_on_the_number_of_steps(n_steps, final):
    """abar_0 = 1 and abar_T = final: y_T is noise for every T (method, section 1)."""
    alpha_bar = cosine_alpha_bar(n_steps, final=final)
    assert alpha_bar.shape == (n_steps + 1,)
    assert alpha_bar[0].item() == 1.0
    assert alpha_bar[-1].item() == pytest.approx(final, rel=1e-12)


@pytest.mark.parametrize("n_steps", STEPS)
def test_signal_falls_at_every_step(n_steps):
    """abar_t < abar_{t-1}, and beta_t = 1 - abar_t / abar_{t-1} lies in (0, 1)."""
    alpha_bar = cosine_alpha_bar(n_steps)
    assert (alpha_bar.diff() < 0).all()
    beta = 1.0 - alpha_bar[1:] / alpha_bar[:-1]
    assert (beta > 0).all()
    assert (beta < 1).all()


@pytest.mark.parametrize(("n_steps", "offset"), [(1, 0.008), (7, 0.008), (20, 0.05)])
def test_is_the_published_formula_lifted_off_zero(n_steps, offset):
    """abar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) pi/2), equation 17."""

    def f(t):
        return math.cos((t / n_steps + offset) / (1 + offset) * math.pi / 2) ** 2

    final = 0.003
    expected = [final + (1 - final) * f(t) / f(0) for t in range(n_steps + 1)]
    got = cosine_alpha_bar(n_steps, offset, final).tolist()
    assert got == pytest.approx(expected, abs=1e-14)


def test_more_steps_refine_the_same_curve():
    """abar is a function of t / T alone."""
    coarse, fine = cosine_alpha_bar(5), cosine_alpha_bar(100)
    torch.testing.assert_close(coarse, fine[::20], rtol=0, atol=1e-15)


def test_is_float64_whatever_the_default():
    """1 - abar_1 is small: rounding abar to float32 before the betas would cost digits."""
    torch.set_default_dtype(torch.float32)
    assert cosine_alpha_bar(3).dtype == torch.float64
    assert linear_alpha_bar(3).dtype == torch.float64


@pytest.mark.parametrize("n_steps", STEPS)
def test_linear_schedule_is_the_product_of_evenly_spaced_betas(n_steps):
    """abar_t = prod_s (1 - beta_s), beta from 1e-4 to 0.02 in T values (Ho et al., section 4)."""
    expected = [1.0]
    for step in range(n_steps):
        beta = 1e-4 + (0.02 - 1e-4) * step / max(1, n_steps - 1)
        expected.append(expected[-1] * (1.0 - beta))
    assert linear_alpha_bar(n_steps).tolist() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("n_steps", "end"), [(5, 0.951), (10, 0.904), (20, 0.817), (100, 0.364)])
def test_the_end_of_the_linear_schedule_depends_on_the_number_of_steps(n_steps, end):
    assert linear_alpha_bar(n_steps)[-1].item() == pytest.approx(end, abs=5e-4)
