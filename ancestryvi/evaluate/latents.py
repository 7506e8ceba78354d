"""How two clouds of points differ: latents and prior samples, generated and real features."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import euclidean_distances

from ancestryvi.exceptions import SampleError

KDE_BANDWIDTHS: Final = (0.005, 0.008, 0.01, 0.03, 0.05)
"""Standard deviations of the kernels of the density of latents (DDVI, appendix F)."""

MMD_VARIANCES: Final = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""What the kernels of the discrepancy divide squared distances by (DDVI, section 5.1)."""

_BLOCK_ELEMENTS: Final = 1_000_000  # distances held at once: 8 MB, and a few such arrays


def latent_nll(
    latents: ArrayLike,
    prior_samples: ArrayLike,
    bandwidths: Sequence[float] = KDE_BANDWIDTHS,
) -> float:
    """Negative log-likelihood of prior samples under a density of the latents, nats per sample.

    Low where the aggregated posterior fills all of the prior; a region of the prior that no latent
    comes near costs the squared distance over twice the squared bandwidth. The density is an equal
    mixture of Gaussians at every latent with every bandwidth (DDVI, section 5.1 and appendix F).

    Parameters
    ----------
    latents : array-like of shape (n_samples, n_latent)
        Latents of samples that were held out from training; rows with a NaN have no place and are
        left out.
    prior_samples : array-like of shape (n_prior_samples, n_latent)
        Draws from the prior.
    bandwidths : sequence of float, default=KDE_BANDWIDTHS
        Standard deviations of the Gaussian kernels, in map units.

    Returns
    -------
    nll : float

    Raises
    ------
    SampleError
        If either has no finite row, or the two differ in the number of columns.
    ValueError
        If there is no bandwidth, or one is not positive.

    Examples
    --------
    >>> nll = latent_nll([[0.0]], [[0.0], [0.1]], bandwidths=[0.1])
    >>> round(nll, 4)  # log(0.1 sqrt(2 pi)), plus half of 1/2
    -1.1336
    """
    means, points = _two_clouds(latents, prior_samples, ("latents", "prior samples"))
    widths = np.asarray(bandwidths, dtype=np.float64)
    if widths.size == 0 or not (widths > 0).all():
        raise ValueError(f"the bandwidths are {list(bandwidths)}; give one or more above 0.")
    n_latent = means.shape[1]
    log_normaliser = 0.5 * n_latent * np.log(2 * np.pi) + np.log(len(means) * len(widths))
    total = 0.0
    for block in _blocks(points, len(means)):
        # differences, not inner products: far from the origin these lose the small distances
        squared = cdist(block, means, "sqeuclidean")
        nearest = squared.min(axis=1)
        squared -= nearest[:, None]  # the nearest latent counts exp(0): no sum of zeros
        by_width = [
            np.log(np.exp(squared / (-2 * h**2)).sum(axis=1))
            - nearest / (2 * h**2)
            - n_latent * np.log(h)
            for h in widths
        ]
        total += float(np.logaddexp.reduce(by_width, axis=0).sum())
    return float(log_normaliser - total / len(points))


def mmd(x: ArrayLike, y: ArrayLike, variances: Sequence[float] = MMD_VARIANCES) -> float:
    """Maximum mean discrepancy of two samples, 0 for equal ones, at most sqrt(2 n_variances).

    The square root of the sum, over variances s, of the biased estimate of the squared discrepancy
    (Gretton et al. 2012, equation 5) with the kernel exp(-d² / (2 s)), as in DDVI, section 5.1.

    Parameters
    ----------
    x : array-like of shape (n_samples, n_features)
        Rows with a NaN are left out.
    y : array-like of shape (n_others, n_features)
        As x; for a model of genotypes, features that it generated against held-out ones.
    variances : sequence of float, default=MMD_VARIANCES
        Variances of the kernels, in squared units of the features.

    Returns
    -------
    discrepancy : float

    Raises
    ------
    SampleError
        If either has no finite row, or the two differ in the number of columns.
    ValueError
        If there is no variance, or one is not positive.

    Examples
    --------
    >>> mmd([[0.0], [1.0]], [[1.0], [0.0]])
    0.0
    >>> round(mmd([[0.0]], [[2.0]], variances=[2.0]), 4)  # sqrt(2 - 2 / e)
    1.1244
    """
    a, b = _two_clouds(x, y, ("samples", "others"))
    scales = np.asarray(variances, dtype=np.float64)
    if scales.size == 0 or not (scales > 0).all():
        raise ValueError(f"the variances are {list(variances)}; give one or more above 0.")
    centre = np.vstack([a, b]).mean(axis=0)  # inner products are exact enough about the middle
    a, b = a - centre, b - centre
    squared = _mean_kernel(a, a, scales) + _mean_kernel(b, b, scales)
    squared -= 2 * _mean_kernel(a, b, scales)
    return float(np.sqrt(max(squared, 0.0)))  # rounding can take equal samples below 0


def _mean_kernel(
    a: NDArray[np.float64], b: NDArray[np.float64], variances: NDArray[np.float64]
) -> float:
    """Sum over variances of the mean kernel over all pairs."""
    total = 0.0
    for block in _blocks(a, len(b)):
        squared = euclidean_distances(block, b, squared=True)
        total += sum(float(np.exp(squared / (-2 * s)).sum()) for s in variances)
    return total / (len(a) * len(b))


def _blocks(rows: NDArray[np.float64], n_others: int) -> Iterator[NDArray[np.float64]]:
    """The rows in runs whose distances to all the others fit into one block."""
    n_rows = max(1, _BLOCK_ELEMENTS // n_others)
    for start in range(0, len(rows), n_rows):
        yield rows[start : start + n_rows]


def _two_clouds(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Finite rows of both, with the same columns."""
    clouds = []
    for values, name in zip((first, second), names, strict=True):
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim != 2:
            raise SampleError(f"the {name} have {rows.ndim} dimensions; give rows and columns.")
        finite = rows[np.isfinite(rows).all(axis=1)]
        if len(finite) == 0:
            raise SampleError(f"none of the {len(rows)} {name} is finite; give at least one.")
        clouds.append(finite)
    a, b = clouds
    if a.shape[1] != b.shape[1]:
        raise SampleError(
            f"the {names[0]} have {a.shape[1]} columns but the {names[1]} have {b.shape[1]}; "
            "give both in the same space."
        )
    return a, b
