"""Noise schedules: the share abar_t of signal variance that is left after t of T steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_alpha_bar(n_steps: int, offset: float = 0.008, final: float = 1e-4) -> Tensor:
    """Signal variance kept after each step of the cosine schedule, in (0, 1], decreasing.

    Its end does not depend on the number of steps.

    Parameters
    ----------
    n_steps : int
        Number T of diffusion steps, at least 1.
    offset : float, default=0.008
        Keeps the first step from being too small to matter.
    final : float, default=1e-4
        abar_T, the share of signal left at the end; the curve is lifted to reach exactly this
        value, where the published formula reaches 0 and clips.

    Returns
    -------
    alpha_bar : Tensor of shape (n_steps + 1,), float64
        abar_0 = 1 to abar_T = `final`.

    References
    ----------
    Nichol and Dhariwal (2021), Improved Denoising Diffusion Probabilistic Models, equation 17.

    Examples
    --------
    >>> cosine_alpha_bar(2).tolist()
    [1.0, 0.493..., 0.0001]
    """
    time = torch.linspace(0.0, 1.0, n_steps + 1, dtype=torch.float64)
    curve = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    curve = (curve - curve[-1]) / (curve[0] - curve[-1])
    return final + (1.0 - final) * curve


def linear_alpha_bar(n_steps: int) -> Tensor:
    """Signal variance kept after each step when beta rises evenly from 1e-4 to 0.02.

    The ends of beta are those of 1,000 steps, and beta is not rescaled for fewer. So the end of
    abar depends on T: 4e-5 at T = 1,000, but abar_T = 0.817 at T = 20, where y_T is mostly signal.

    Parameters
    ----------
    n_steps : int
        Number T of diffusion steps, at least 1; a single one has beta = 1e-4.

    Returns
    -------
    alpha_bar : Tensor of shape (n_steps + 1,), float64
        abar_0 = 1 to abar_T.

    References
    ----------
    Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, section 4.

    Examples
    --------
    >>> [round(linear_alpha_bar(n_steps)[-1].item(), 3) for n_steps in (10, 20, 100)]
    [0.904, 0.817, 0.364]
    """
    beta = torch.linspace(1e-4, 0.02, n_steps, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1.0 - beta).cumprod(0)])
