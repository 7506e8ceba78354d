"""Noise schedules, each a function abar(t) whose end does not depend on the number of steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_alpha_bar(n_steps: int, offset: float = 0.008, final: float = 1e-4) -> Tensor:
    """Signal variance kept after each step of the cosine schedule, in (0, 1], decreasing.

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
