"""Priors over latents, mixtures of parts: the components that are learned, or known partitions.

Two kinds share one face. `MixturePrior` learns its components, which are the clusters (section 4.2
of DDVI, strategy 1). `KernelPrior` is fixed, and known by draws alone (appendix F).

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ancestryvi.models.diffusion import LOG_2PI

Sampler = Callable[[int, np.random.Generator], Any]
"""Draws of a prior: from ``(n_samples, rng)`` to z, or to (z, part) where its parts are known."""

BANDWIDTHS = (0.005, 0.008, 0.01, 0.03, 0.05)
"""Standard deviations of the Gaussian kernels of appendix F, in units of z."""

NEGLIGIBLE = -60.0
"""Kernels are taken to be at least e^-60 of the largest: less would change no digit of a density,
and an exponential that underflows takes fifty times as long."""

BLOCK_ROWS = 256
"""Latents whose distances to the points are held in memory at once."""


class Prior(nn.Module, ABC):
    """p(z) = sum_k p(k) p(z | k), a mixture of n_clusters parts."""

    @property
    @abstractmethod
    def n_clusters(self) -> int:
        """Number K of parts."""

    @property
    @abstractmethod
    def n_latent(self) -> int:
        """Dimension of z."""

    @property
    @abstractmethod
    def log_weights(self) -> Tensor:
        """log p(k), of shape (n_clusters,)."""

    @property
    @abstractmethod
    def centers(self) -> Tensor:
        """Mean of each part, of shape (n_clusters, n_latent)."""

    @abstractmethod
    def joint_log_prob(self, z: Tensor) -> Tensor:
        """log p(k) + log p(z | k) in nats, of shape (..., n_clusters)."""

    @abstractmethod
    def sample(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws of p(z), of shape (n_samples, n_latent), and the part of each."""

    @abstractmethod
    def keep(self, parts: Tensor) -> Prior:
        """The prior of these parts alone, in this order, weights rescaled to sum to 1."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, of shape (...)."""
        return self.joint_log_prob(z).logsumexp(-1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z), of shape (..., n_clusters); rows sum to 1."""
        return self.joint_log_prob(z).softmax(-1)


class MixturePrior(Prior):
    """p(z) = sum_k pi_k N(z; m_k, S_k) with learned weights, means and covariances.

    Parameters
    ----------
    weights : Tensor of shape (n_clusters,)
        Starting weights, positive, of sum 1.
    means : Tensor of shape (n_clusters, n_latent)
        Starting means.
    precision_factors : Tensor of shape (n_clusters, n_latent, n_latent)
        Lower triangular L_k with a positive diagonal and S_k^-1 = L_k' L_k, so that
        L_k (z - m_k) is standard normal.
    """

    def __init__(self, weights: Tensor, means: Tensor, precision_factors: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(weights.log())
        self.means = nn.Parameter(means.clone())
        self.log_diagonal = nn.Parameter(precision_factors.diagonal(dim1=-2, dim2=-1).log())
        self.below_diagonal = nn.Parameter(precision_factors.tril(-1))

    @classmethod
    def standard_normal(cls, n_latent: int) -> MixturePrior:
        """N(0, I) as a mixture of one component."""
        return cls(torch.ones(1), torch.zeros(1, n_latent), torch.eye(n_latent).unsqueeze(0))

    @property
    def n_clusters(self) -> int:
        """Number K of components."""
        return len(self.logits)

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.means.shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """Log mixture weights, of shape (n_clusters,)."""
        return self.logits.log_softmax(-1)

    @property
    def centers(self) -> Tensor:
        """The means m_k."""
        return self.means

    @property
    def precision_factors(self) -> Tensor:
        """The factors L_k, of shape (n_clusters, n_latent, n_latent)."""
        return self.below_diagonal.tril(-1) + torch.diag_embed(self.log_diagonal.exp())

    def joint_log_prob(self, z: Tensor) -> Tensor:
        """log pi_k + log N(z; m_k, S_k) in nats, of shape (..., n_clusters)."""
        factors = self.precision_factors
        shift = -(factors @ self.means.unsqueeze(-1)).flatten()
        white = nn.functional.linear(z, factors.flatten(0, 1), shift)
        distance = white.unflatten(-1, self.means.shape).square().sum(-1)
        log_unit = self.log_diagonal.sum(-1) - 0.5 * self.n_latent * LOG_2PI
        return self.log_weights + log_unit - 0.5 * distance

    def sample(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws of p(z), of shape (n_samples, n_latent), and the component of each."""
        weights = self.log_weights.exp()
        component = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        white = torch.randn(
            (n_samples, self.n_latent, 1),
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        factors = self.precision_factors[component]
        centred = torch.linalg.solve_triangular(factors, white, upper=False).squeeze(-1)
        return self.means[component] + centred, component

    def keep(self, parts: Tensor) -> MixturePrior:
        """The prior of these components alone, in this order, weights rescaled to sum to 1."""
        with torch.no_grad():
            weights = self.log_weights[parts].exp()
            kept = MixturePrior(
                weights / weights.sum(),
                self.means[parts],
                self.precision_factors[parts],
            )
        return kept.requires_grad_(self.means.requires_grad)


class KernelPrior(Prior):
    """A prior known by draws: equal Gaussian kernels of every bandwidth around every draw.

    p(z) = 1 / (N H) sum_i sum_h N(z; x_i, h^2 I), over N points x_i and the H `BANDWIDTHS`. That
    mixture *is* the prior, and no estimate of another: `joint_log_prob` is its exact density and
    `sample` draws from it, so that a bound of log p(x) under it is a bound in this very model. It
    has no parameters to learn.

    Parameters
    ----------
    points : Tensor of shape (n_points, n_latent)
        The draws x_i, of a floating-point type.
    parts : Tensor of shape (n_points,)
        The part that each draw belongs to, integers 0..K-1, each present. A part weighs its share
        of the points.

    Raises
    ------
    ValueError
        If the points are no finite table of at least one row, or the parts no such labels.

    Notes
    -----
    Densities stay in log space, so that their gradient shows the way home from anywhere. A
    ``state_dict`` holds the points and the parts: to restore a prior, construct one from zeros of
    the same shapes and load it.

    References
    ----------
    Piriyakulkij, Wang and Kuleshov (2025), appendix F.

    Examples
    --------
    >>> prior = KernelPrior(torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]]), torch.arange(3) % 2)
    >>> prior.n_clusters, prior.n_latent
    (2, 2)
    >>> prior.centers
    tensor([[1.5000, 2.0000], [3.0000, 4.0000]])
    >>> prior.responsibilities(torch.tensor([0.01, -0.02]))
    tensor([1., 0.])
    """

    points: Tensor
    parts: Tensor

    def __init__(self, points: Tensor, parts: Tensor) -> None:
        super().__init__()
        if points.ndim != 2 or not points.is_floating_point() or 0 in points.shape:
            raise ValueError(f"points must be a table of floats, not {_describe(points)}")
        if not points.isfinite().all():
            raise ValueError("points must be finite")
        if parts.shape != points.shape[:1] or parts.is_floating_point() or parts.is_complex():
            raise ValueError(
                f"parts must be {len(points)} integers, one per point, not {_describe(parts)}"
            )
        labels = parts.unique()
        if not torch.equal(labels, torch.arange(len(labels)).to(labels)):
            raise ValueError(f"parts must be 0 to K - 1, each present, not {labels.tolist()}")
        order = parts.argsort(stable=True)
        self.register_buffer("points", points[order])
        self.register_buffer("parts", parts[order].long())

    @property
    def n_clusters(self) -> int:
        """Number K of parts."""
        return int(self.parts[-1]) + 1

    @property
    def n_latent(self) -> int:
        """Dimension of z."""
        return self.points.shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """Log shares of the points, of shape (n_clusters,)."""
        shares = self.parts.bincount().to(self.points) / len(self.points)
        return shares.log()

    @property
    def centers(self) -> Tensor:
        """Mean of the points of each part: kernels are symmetric."""
        return torch.stack([points.mean(0) for points in self._points_of_parts()])

    def joint_log_prob(self, z: Tensor) -> Tensor:
        """Log share of part k, plus log density of its kernels, of shape (..., n_clusters)."""
        parts = self._points_of_parts()
        blocks = [
            torch.stack([_KernelSum.apply(rows, points) for points in parts], dim=-1)
            for rows in z.reshape(-1, self.n_latent).split(BLOCK_ROWS)
        ]
        joint = torch.cat(blocks) - math.log(len(self.points) * len(BANDWIDTHS))
        return joint.reshape(*z.shape[:-1], len(parts))

    def sample(self, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws of p(z), of shape (n_samples, n_latent), and the part of each."""
        device = self.points.device
        shape = (n_samples,)
        index = torch.randint(len(self.points), shape, generator=generator, device=device)
        kernel = torch.randint(len(BANDWIDTHS), shape, generator=generator, device=device)
        bandwidths = torch.tensor(BANDWIDTHS).to(self.points)[kernel].unsqueeze(-1)
        white = torch.randn(
            (n_samples, self.n_latent),
            generator=generator,
            dtype=self.points.dtype,
            device=device,
        )
        return self.points[index] + bandwidths * white, self.parts[index]

    def keep(self, parts: Tensor) -> KernelPrior:
        """The prior of these parts alone, in this order, each weighing its share of what is kept.

        Weights are rescaled to sum to 1, and parts are numbered anew.
        """
        points = self._points_of_parts()
        kept = [points[part] for part in parts.tolist()]
        sizes = torch.tensor([len(points) for points in kept], device=self.parts.device)
        labels = torch.arange(len(kept), device=self.parts.device).repeat_interleave(sizes)
        return KernelPrior(torch.cat(kept), labels)

    def _points_of_parts(self) -> tuple[Tensor, ...]:
        """The points of each part; the counts are taken from the buffer, which may be loaded."""
        return self.points.split(self.parts.bincount().tolist())


class _KernelSum(torch.autograd.Function):
    """log sum_i sum_h N(z; x_i, h^2 I) over points and bandwidths, and its gradient in closed form.

    z of shape (n_samples, n_latent) and points (n_points, n_latent) give shape (n_samples,). The
    gradient, sum_ih r_ih (x_i - z) / h^2 with the responsibilities r_ih of the kernels, is taken
    on the way forward: to remember it costs less than to remember every kernel.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, points: Tensor) -> Tensor:
        bandwidths = torch.tensor(BANDWIDTHS, dtype=torch.float64)
        log_peaks = (-points.shape[-1] * (bandwidths.log() + 0.5 * LOG_2PI)).to(z)
        rates = (0.5 / bandwidths**2).to(z)
        # differences, not |z|^2 + |x|^2 - 2 z'x, whose rounding is wider than a kernel in float32
        difference = points - z.unsqueeze(-2)
        distance = difference.square().sum(-1)
        nearest = distance.amin(-1, keepdim=True)
        exponents = (distance - nearest).unsqueeze(-2) * -rates.unsqueeze(-1)
        kernels = exponents.clamp_(min=NEGLIGIBLE).exp_()  # relative to the nearest point's
        sums = kernels.sum(-1)
        log_sums = log_peaks - nearest * rates + sums.log()
        if ctx.needs_input_grad[0]:
            shares = log_sums.softmax(-1) / sums * 2.0 * rates
            pulls = (shares.unsqueeze(-2) @ kernels) @ difference
            ctx.save_for_backward(pulls.squeeze(-2))
        return log_sums.logsumexp(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.unsqueeze(-1) * ctx.saved_tensors[0], None


def kernel_prior(
    sampler: Sampler, n_latent: int, rng: np.random.Generator, n_points: int = 2000
) -> KernelPrior:
    """The kernel prior of the draws of a sampler, such as one of `shapes` or a user's own.

    Parameters
    ----------
    sampler : callable
        From ``(n_samples, rng)`` to z of shape (n_samples, n_latent), or to a tuple (z, part) with
        integers from 0 without gaps, one per row. Without parts, everything is one part.
    n_latent : int
        Dimension of z.
    rng : numpy.random.Generator
        Handed to the sampler.
    n_points : int, default=2000
        Number of draws.

    Returns
    -------
    prior : KernelPrior
        Of torch's default floating-point type.

    Raises
    ------
    ValueError
        If the sampler returned anything else, with what is wrong.

    Examples
    --------
    >>> def ring(n_samples, rng):
    ...     angle = rng.uniform(0.0, 2.0 * np.pi, n_samples)
    ...     return np.column_stack([np.cos(angle), np.sin(angle)])
    >>> prior = kernel_prior(ring, 2, np.random.default_rng(0))
    >>> on, off = prior.log_prob(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    >>> bool(on > off)
    True
    """
    drawn = sampler(n_points, rng)
    if not isinstance(drawn, tuple):
        drawn = drawn, np.zeros(n_points, dtype=np.int64)
    if len(drawn) != 2:
        raise ValueError(f"a sampler returns z or (z, part), not a tuple of {len(drawn)}")
    z, part = _checked_latents(drawn[0], n_points, n_latent), _checked_parts(drawn[1], n_points)
    return KernelPrior(torch.tensor(z, dtype=torch.get_default_dtype()), torch.tensor(part))


def _checked_latents(z: Any, n_points: int, n_latent: int) -> NDArray[np.float64]:
    try:
        z = np.asarray(z, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("the sampler's z is not an array of numbers") from error
    if z.shape != (n_points, n_latent):
        raise ValueError(f"the sampler's z has shape {z.shape}, not {(n_points, n_latent)}")
    n_bad = int((~np.isfinite(z)).any(axis=1).sum())
    if n_bad:
        raise ValueError(f"the sampler's z is not finite in {n_bad} of {n_points} rows")
    return z


def _checked_parts(part: Any, n_points: int) -> NDArray[np.int64]:
    part = np.asarray(part)
    if part.shape != (n_points,):
        raise ValueError(f"the sampler's parts have shape {part.shape}, not {(n_points,)}")
    if not np.issubdtype(part.dtype, np.integer):
        raise ValueError(f"the sampler's parts are of type {part.dtype}, not integers")
    if part.min() < 0:
        raise ValueError(f"the sampler's parts begin at {part.min()}, not 0")
    absent = sorted(set(range(int(part.max()))) - set(part.tolist()))
    if absent:
        raise ValueError(
            f"the sampler's parts go up to {part.max()}, yet none of {n_points} rows is of part "
            f"{absent[0]}"
        )
    return part.astype(np.int64)


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
