"""The shapes that DDVI is tested on as priors: a pinwheel, a Swiss roll and a square, in 2-d.

Each shape is a sampler: called with a number of draws and a generator, it gives z of shape
(n_samples, 2) and the part (n_samples,) that each draw belongs to. Parts are equally likely.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19),
appendix F. It gives the width of the square alone; the others are those of the authors' program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Draws = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True)
class Pinwheel:
    """Arms around the origin, each a thin Gaussian bent by a rotation that grows with the radius.

    On arm k, f = (1 + radial_std e_0, tangential_std e_1) with standard normal e, and z is f turned
    clockwise by 2 pi k / n_parts + rate exp(f_0) radians.

    Parameters
    ----------
    n_parts : int, default=10
        Number of arms.
    radial_std, tangential_std : float
        Standard deviations of an arm along and across it, before it is bent.
    rate : float, default=0.25
        How strongly arms are bent.

    References
    ----------
    Johnson, Duvenaud, Wiltschko, Datta and Adams (2016), Composing graphical models with neural
    networks for structured representations and fast inference, NeurIPS 29.

    Examples
    --------
    >>> z, part = Pinwheel()(500, np.random.default_rng(0))
    >>> z.shape, sorted(set(part.tolist()))
    ((500, 2), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """

    n_parts: int = 10
    radial_std: float = 0.15
    tangential_std: float = 0.005
    rate: float = 0.25

    def __call__(self, n_samples: int, rng: np.random.Generator) -> Draws:
        part = rng.integers(self.n_parts, size=n_samples)
        along = 1.0 + self.radial_std * rng.standard_normal(n_samples)
        across = self.tangential_std * rng.standard_normal(n_samples)
        angle = 2.0 * np.pi * part / self.n_parts + self.rate * np.exp(along)
        cosine, sine = np.cos(angle), np.sin(angle)
        z = np.column_stack([along * cosine + across * sine, across * cosine - along * sine])
        return z, part


@dataclass(frozen=True)
class SwissRoll:
    """A spiral r = 3 sqrt(u), angle = 4.5 pi sqrt(u), with a position u uniform on [0, 1].

    Parameters
    ----------
    n_parts : int, default=10
        Number of equal intervals that u is cut into, from the centre outwards.
    noise : float, default=0.0
        Standard deviation of Gaussian noise added to both coordinates.

    References
    ----------
    Marsland (2014), Machine Learning: An Algorithmic Perspective, 2nd edition.

    Examples
    --------
    >>> z, part = SwissRoll()(500, np.random.default_rng(0))
    >>> bool(np.hypot(*z[part == 0].T).max() < np.hypot(*z[part == 1].T).min())
    True
    """

    n_parts: int = 10
    noise: float = 0.0

    def __call__(self, n_samples: int, rng: np.random.Generator) -> Draws:
        position, part = _position(self.n_parts, n_samples, rng)
        root = np.sqrt(position)
        angle = 4.5 * np.pi * root
        roll = 3.0 * np.column_stack([root * np.cos(angle), root * np.sin(angle)])
        return roll + self.noise * rng.standard_normal((n_samples, 2)), part


@dataclass(frozen=True)
class Square:
    """The edge of the square [-1, 1]^2, at a uniform position, with noise across the edge.

    Parameters
    ----------
    n_parts : int, default=10
        Number of equal intervals that the edge is cut into, clockwise from the top left corner.
    noise : float, default=0.06
        Standard deviation of the Gaussian noise, perpendicular to the side.

    Examples
    --------
    >>> z, part = Square(n_parts=4, noise=0.0)(500, np.random.default_rng(0))
    >>> z[part == 0][:, 1].min(), z[part == 3][:, 0].max()  # the top, and the left
    (np.float64(1.0), np.float64(-1.0))
    """

    n_parts: int = 10
    noise: float = 0.06

    def __call__(self, n_samples: int, rng: np.random.Generator) -> Draws:
        position, part = _position(self.n_parts, n_samples, rng)
        fraction, side = np.modf(4.0 * position)
        # rounding may give position 1, which is where position 0 is
        side = side.astype(np.int64) % 4
        starts = np.array([[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        directions = np.array([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])
        outwards = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
        across = self.noise * rng.standard_normal(n_samples)
        edge = starts[side] + 2.0 * fraction[:, None] * directions[side]
        return edge + across[:, None] * outwards[side], part


def _position(
    n_parts: int, n_samples: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions uniform on [0, 1], and which of n_parts equal intervals each is in."""
    part = rng.integers(n_parts, size=n_samples)
    return (part + rng.random(n_samples)) / n_parts, part


SHAPES: dict[str, Callable[[int, np.random.Generator], Draws]] = {
    "pinwheel": Pinwheel(),
    "swiss_roll": SwissRoll(),
    "square": Square(),
}
"""The shapes of the paper, by name."""
