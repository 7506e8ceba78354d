"""PIS: the posterior is the end of a controlled diffusion that starts from a point.

The authors of DDVI released no code for it; this follows the method's own paper, amortised: one
controller serves all x.

References
----------
Zhang and Chen (2022), Path Integral Sampler: a Stochastic Control Approach for Sampling, ICLR.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestryvi.models.diffusion import gaussian_entropy, gaussian_log_prob
from ancestryvi.models.networks import Denoiser
from ancestryvi.models.posterior import EncoderPosterior, Encoding, LogJoint, Trajectory

N_STEPS = 12

LAST = 1e-3
"""Time that is left before the last step, of a total of 1. It bounds the noise of z from below, at
0.03 units of the map; steps shrink geometrically towards it, as the path homes in."""

MAX_PULL = 3.0
"""Largest move of the aim by the gradient of the target, in standard deviations of the belief."""


class PathIntegralPosterior(EncoderPosterior):
    """z = y_1 of dy = u(y, t, x) dt + dW from y_0 = 0; parameters as for `EncoderPosterior`.

    Notes
    -----
    The reference process is Brownian motion, whose end is N(0, I). The path measure of the
    controlled process relative to it, on the grid of times, makes the bound exact there (Zhang and
    Chen, equation 8, is its limit for small steps): r(y | z) is the Brownian bridge to z.

    The control steers to an aim, u = (aim - y) / (1 - t). It starts as the optimal (Föllmer)
    control for the encoder's belief N(m, s^2), under which z given y_t is Gaussian in closed form,
    and learns to move that aim: by a network of (y, t, x), and by the gradient of log p(x, z) at
    the aim, with a gain for each step (their equation 12). The gradient is taken as an input;
    training does not differentiate through it. The noise of a step is that of the process for the
    belief, which is not controlled.
    """

    remaining: Tensor

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        *,
        n_classes: int = 0,
        n_hidden: int = 256,
        n_steps: int = N_STEPS,
    ) -> None:
        super().__init__(n_features, n_latent, n_classes=n_classes, n_hidden=n_hidden)
        self.controller = Denoiser(n_latent, n_hidden + 2 * n_latent, n_steps, 128)
        self.gain = nn.Parameter(torch.zeros(n_steps))
        shares = torch.arange(n_steps) / max(1, n_steps - 1)
        self.register_buffer("remaining", LAST**shares, persistent=False)

    @property
    def n_noise(self) -> int:
        """One vector for each step."""
        return len(self.gain)

    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """Follow the controlled process; E[log r] is exact over each step given the one before."""
        features = torch.cat([encoding.features, encoding.mean, encoding.log_scale], -1)
        context = self.controller.context(features)
        precision = (-2.0 * encoding.log_scale).exp()
        y = torch.zeros_like(encoding.mean + noise[0])
        entropy = log_reference = y.new_zeros(y.shape[:-1])
        for index in range(self.n_noise):
            left = self.remaining[index]
            after = self.remaining[index + 1] if index + 1 < self.n_noise else 0.0 * left
            step = left - after
            variance = 1.0 / (precision - 1.0 + 1.0 / left).clamp(min=1e-6)
            aim = variance * (precision * encoding.mean + y / left)
            pull = self._pull(aim, log_joint) * variance.sqrt()
            pull = MAX_PULL * torch.tanh(pull / MAX_PULL)
            shift, _ = self.controller(y / left.sqrt(), index + 1, context)
            aim = aim + variance.sqrt() * (shift + self.gain[index] * pull)
            mean = y + step / left * (aim - y)
            variance = step * after / left + (step / left) ** 2 * variance
            log_reference = log_reference + gaussian_log_prob(mean, y, step.expand_as(y))
            log_reference = log_reference - 0.5 * (variance / step).sum(-1)
            entropy = entropy + gaussian_entropy(variance)
            y = mean + variance.sqrt() * noise[index]
        log_end = gaussian_log_prob(y, torch.zeros_like(y), torch.ones_like(y))
        return Trajectory(y, log_reference - log_end, entropy)

    def _pull(self, aim: Tensor, log_joint: LogJoint) -> Tensor:
        """Gradient of log p(x, z) at the aim."""
        assert log_joint is not None, "the controller looks at log p(x, z)"
        with torch.enable_grad():
            z = aim.detach().requires_grad_()
            return torch.autograd.grad(log_joint(z).sum(), z)[0]
