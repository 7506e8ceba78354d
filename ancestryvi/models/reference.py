"""The genotype model of the authors of DDVI, as their program has it and not as the paper has it.

z follows from y_T ~ N(mu(x), s^2(x)) by a deterministic chain whose denoiser never sees x, trained
on the prior alone; the prior is a mixture of equal components whose means are learned. `DDVI` in
`ddvi` is the model of the paper.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
Song, Meng and Ermon (2020), Denoising Diffusion Implicit Models, arXiv:2010.02502.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ancestryvi.models.diffusion import GaussianDiffusion, gaussian_kl, gaussian_log_prob
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import linear_alpha_bar

PRIOR_SCALE = 0.125
"""Standard deviation of every component of the prior, in units of z."""

KL_WEIGHT = 0.005
"""Weight of KL(q(y_T | x) || N(0, I)) beside the mean squared error of a feature."""

MIN_DISTANCE = 1.5
"""Distance in z at which two means no longer repel each other."""

BOX = 2.5
"""Largest absolute coordinate of a mean that costs nothing."""

BOX_WEIGHT = 100.0

DROPOUT = 0.2

MIN_NOISE = 1e-3
"""Smallest standard deviation of p(x | z), in units of x."""


class DropoutMLP(nn.Module):
    """Fully connected network with four hidden layers, LeakyReLU(0.2) and dropout after each.

    Parameters
    ----------
    n_inputs, n_hidden, n_outputs : int
        Widths.
    """

    def __init__(self, n_inputs: int, n_hidden: int, n_outputs: int) -> None:
        super().__init__()
        widths = [n_inputs] + [n_hidden] * 4
        self.hidden = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.output = nn.Linear(n_hidden, n_outputs)

    def forward(self, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Outputs of shape (..., n_outputs); units drop out only where a generator is given.

        torch's own dropout draws from the global generator, and would tie the result to whatever
        else runs in the process.
        """
        hidden = inputs
        for layer in self.hidden:
            hidden = functional.leaky_relu(layer(hidden), 0.2)
            if generator is not None:
                kept = torch.empty_like(hidden).bernoulli_(1.0 - DROPOUT, generator=generator)
                hidden = hidden * kept / (1.0 - DROPOUT)
        return self.output(hidden)


class UnconditionalDenoiser(nn.Module):
    """The noise in y_t, predicted from y_t and t alone.

    Parameters
    ----------
    n_latent : int
        Dimension of y_t.
    n_steps : int
        Number T of diffusion steps; each has a learned offset in each hidden layer.
    n_hidden : int
        Width of the four hidden layers.
    """

    def __init__(self, n_latent: int, n_steps: int, n_hidden: int) -> None:
        super().__init__()
        widths = [n_latent] + [n_hidden] * 4
        self.hidden = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.from_step = nn.ParameterList(torch.rand(n_steps, n_hidden) for _ in self.hidden)
        self.output = nn.Linear(n_hidden, n_latent)

    def forward(self, y: Tensor, t: Tensor | int) -> Tensor:
        """Predicted noise of shape (..., n_latent), for steps t of 1 to T, of shape (...)."""
        hidden = y
        for layer, offsets in zip(self.hidden, self.from_step, strict=True):
            hidden = torch.relu(layer(hidden) + offsets[t - 1])
        return self.output(hidden)


class ReferenceDDVI(nn.Module):
    """Encoder, unconditional diffusion, decoder and learned means of the authors' program.

    Parameters
    ----------
    n_features : int
        Dimension of x.
    n_clusters : int
        Number K of components of the prior.
    n_latent : int, default=2
        Dimension of z.
    n_steps : int, default=20
        Number T of diffusion steps.
    n_hidden : int, default=1000
        Width of the encoder and the decoder.
    n_hidden_denoiser : int, default=128
        Width of the denoiser.

    Notes
    -----
    Parameters start from torch's global generator, as those of every torch module; nothing else
    draws from it. Where the program of the authors gave random answers (dropout stays on after
    training, and labels follow from one draw of y_T), this class gives expectations or places.

    `noise`, standard normal in the methods that read results out, has the shape
    (T + 1, n_draws, n_samples or 1, n_latent) that a chain with noise in each step needs. This one
    is deterministic and takes ``noise[0]`` alone, for y_T; it has no use for `uniform` either.
    """

    log_noise: Tensor

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        n_latent: int = 2,
        n_steps: int = 20,
        n_hidden: int = 1000,
        n_hidden_denoiser: int = 128,
    ) -> None:
        super().__init__()
        self.diffusion = GaussianDiffusion(linear_alpha_bar(n_steps))
        self.encoder = DropoutMLP(n_features, n_hidden, 2 * n_latent)
        self.decoder = DropoutMLP(n_latent, n_hidden, n_features)
        self.denoiser = UnconditionalDenoiser(n_latent, n_steps, n_hidden_denoiser)
        self.means = nn.Parameter(0.1 * torch.rand(n_clusters, n_latent))
        self.register_buffer("log_noise", torch.zeros(n_features))

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.means.shape[-1]

    @property
    def n_steps(self) -> int:
        """Number T of diffusion steps."""
        return self.diffusion.n_steps

    @property
    def n_noise(self) -> int:
        """T + 1, as for the posterior of DDVI."""
        return self.n_steps + 1

    @property
    def prior(self) -> MixturePrior:
        """p(z) at the present means, with equal weights; nothing of it is trained further."""
        n_clusters = len(self.means)
        weights = self.means.new_full((n_clusters,), 1.0 / n_clusters)
        factor = torch.eye(self.n_latent, dtype=self.means.dtype, device=self.means.device)
        factors = (factor / PRIOR_SCALE).repeat(n_clusters, 1, 1)
        return MixturePrior(weights, self.means.detach(), factors).requires_grad_(False)

    def sample_prior(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws of p(z), of shape (n_samples, n_latent), and the component of each.

        A draw is its mean plus noise, so that gradients reach the means.
        """
        device = self.means.device
        component = torch.randint(len(self.means), (n_samples,), generator=generator, device=device)
        means = self.means[component]
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype, device=device)
        return means + PRIOR_SCALE * noise, component

    # ------------------------------------------------------------------ the posterior q(z | x)

    def start(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(y_T | x), each of shape (n_samples, n_latent).

        Units drop out only where a generator is given.
        """
        mean, log_variance = self.encoder(x, generator).chunk(2, dim=-1)
        return mean, log_variance

    def ddim(self, y: Tensor) -> Tensor:
        """The end z of the deterministic chain from y_T = y, of the same shape (..., n_latent).

        Each step moves to abar_{t-1} with the noise that the denoiser finds at t (Song et al.,
        equation 12 with sigma = 0).
        """
        for t in range(self.n_steps, 0, -1):
            y = self._ddim_step(y, t)
        return y

    # -------------------------------------------------------------------------- the objectives

    def denoising_loss(self, z: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Mean Huber loss (threshold 1) of the noise predicted at y_t.

        The paper has the squared error.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_latent)
            Draws of the prior.
        t : Tensor of shape (n_samples,), int64
            Steps, of 1 to T.
        eps : Tensor of shape (n_samples, n_latent)
            Standard normal.
        """
        mean, variance = self.diffusion.marginal(z, t)
        predicted = self.denoiser(mean + variance.sqrt() * eps, t)
        return functional.smooth_l1_loss(predicted, eps)

    def wake_loss(
        self, x: Tensor, eps: Tensor, generator: torch.Generator | None = None
    ) -> Mapping[str, Tensor]:
        """Squared error plus the weighted KL(q(y_T | x) || N(0, I)); neither p(z) nor an entropy.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        eps : Tensor of shape (n_samples, n_latent)
            Standard normal.
        generator : torch.Generator, optional
            Of the units that drop out; without it, none do.

        Returns
        -------
        terms : dict of Tensor of shape ()
            ``squared_error``, a mean over features, ``kl`` in nats and the ``loss`` of both.
        """
        mean, log_variance = self.start(x, generator)
        z = self.ddim(mean + (0.5 * log_variance).exp() * eps)
        squared_error = functional.mse_loss(self.decoder(z, generator), x)
        unit = torch.ones_like(mean)
        kl = gaussian_kl(mean, log_variance.exp(), torch.zeros_like(mean), unit).mean()
        loss = squared_error + KL_WEIGHT * kl
        return {"loss": loss, "squared_error": squared_error, "kl": kl}

    def separation(self, i: Tensor, j: Tensor) -> Tensor:
        """What pushes means apart, and keeps them in a box.

        The mean over pairs of ``max(0, 1.5 - |m_i - m_j|)``, and 100 times the mean excess of a
        coordinate of m_i over 2.5 in absolute value.

        Parameters
        ----------
        i, j : Tensor of shape (n_pairs,), int64
            Components; a pair of one and the same costs a constant.
        """
        first, second = self.means[i], self.means[j]
        # without the small number, the gradient of a distance of 0 would not be finite
        distance = ((first - second).square().sum(-1) + 1e-6).sqrt()
        hinge = torch.relu(MIN_DISTANCE - distance).mean()
        excess = torch.relu(first - BOX).mean() + torch.relu(-first - BOX).mean()
        return hinge + BOX_WEIGHT * excess

    # -------------------------------------------------------------------------- reading out

    def place(self, x: Tensor) -> Tensor:
        """Places of shape (n_samples, n_latent): the end of the chain from the mean of y_T.

        No unit drops out, so that a sample has one place. The authors leave dropout on and draw
        y_T, which gives another place at every call.
        """
        return self.ddim(self.start(x)[0])

    def draw(self, x: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """Draws of q(z | x), of shape (n_draws, n_samples, n_latent)."""
        return self.ddim(self._draw_start(x, noise)[0])

    def probabilities(self, x: Tensor, noise: Tensor) -> Tensor:
        """E_q(z|x)[p(k | z)] over the draws, of shape (n_samples, n_clusters).

        The authors take the mean nearest to one draw, which is its most probable component.
        """
        z = self.ddim(self._draw_start(x, noise)[0])
        return self.prior.responsibilities(z).mean(0)

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """E_q(z|x)[log p(x | z) + log p(z) - log q(z | x)] over the draws, in nats, (n_samples,).

        log q(z | x) is log q(y_T | x) - log |det dz/dy_T|, the change of variables through the
        chain. It is the density where the chain is one-to-one, and the result then is a lower
        bound of log p(x) in expectation; training makes this likely, and nothing enforces it.
        The value is for reading out: no gradient flows through the chain.
        """
        y, log_start = self._draw_start(x, noise)
        z, log_volume = self._ddim_with_log_volume(y)
        log_joint = self.reconstruction(x, z) + self.prior.log_prob(z)
        return (log_joint - (log_start - log_volume)).mean(0)

    def expectation(self, z: Tensor) -> Tensor:
        """Mean of p(x | z)."""
        return self.decoder(z)

    def reconstruction(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats, summed over features."""
        return gaussian_log_prob(x, self.decoder(z), (2.0 * self.log_noise).exp())

    def dream(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw z, its prior component and x from the model, observation noise included."""
        z, component = self.sample_prior(n_samples, generator)
        mean = self.decoder(z)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return z, component, mean + self.log_noise.exp() * noise

    # ------------------------------------------------------------------------ after training

    def set_noise(self, x: Tensor) -> None:
        """Set the standard deviations of p(x | z) to those of the residuals at the places of x.

        The squared error of training is the likelihood of a fixed noise, and so learns none.
        """
        with torch.no_grad():
            residual = x - self.decoder(self.place(x))
            scale = residual.square().mean(0).sqrt().clamp(min=MIN_NOISE)
            self.log_noise.copy_(scale.log())

    def keep_clusters(self, order: Tensor) -> None:
        """Keep these components alone, in this order."""
        kept = self.means.detach()[order].clone()
        self.means = nn.Parameter(kept, requires_grad=self.means.requires_grad)

    def _draw_start(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draws of y_T, of shape (n_draws, n_samples, n_latent), and their log q(y_T | x)."""
        mean, log_variance = self.start(x)
        y = mean + (0.5 * log_variance).exp() * noise[0]
        return y, gaussian_log_prob(y, mean, log_variance.exp())

    def _ddim_step(self, y: Tensor, t: int) -> Tensor:
        """y_{t-1} from y_t = y."""
        noise = self.denoiser(y, t)
        mean, variance = self.diffusion.marginal(self.diffusion.z_from_noise(noise, y, t), t - 1)
        return mean + variance.sqrt() * noise

    def _ddim_with_log_volume(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z of shape (..., n_latent), and log |det dz/dy_T| of shape (...), both without gradient.

        The sum over steps, each differentiated on its own: a graph of all steps would be large.
        """
        log_volume = y.new_zeros(y.shape[:-1])
        for t in range(self.n_steps, 0, -1):
            with torch.enable_grad():
                before = y.detach().requires_grad_()
                y = self._ddim_step(before, t)
                # rows of y do not depend on each other, so that a sum gives all their gradients
                rows = [
                    torch.autograd.grad(y[..., k].sum(), before, retain_graph=True)[0]
                    for k in range(self.n_latent)
                ]
            log_volume = log_volume + torch.linalg.slogdet(torch.stack(rows, -2)).logabsdet
        return y.detach(), log_volume
