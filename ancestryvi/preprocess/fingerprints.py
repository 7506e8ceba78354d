"""By which samples are known again whose genotypes are not kept."""

from __future__ import annotations

from hashlib import shake_128

import numpy as np
from numpy.typing import NDArray


def hash_weights(n_variants: int) -> NDArray[np.uint8]:
    """Eight random bytes for each variant, the same always and everywhere."""
    stream = shake_128(b"ancestryvi fingerprints").digest(8 * n_variants)
    return np.frombuffer(stream, np.uint8).reshape(n_variants, 8)


def fingerprints(calls: NDArray[np.int8], weights: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One number per sample, equal for samples with the same call at every variant.

    It tells whether a sample is one of those that components were fitted on, without keeping their
    genotypes: the sum of calls, from 0 for a missing one to 3, times random 64-bit weights, modulo
    2^64, over the variants and alleles of the model. Those of blocks of variants are added. Two
    samples that differ anywhere collide with a probability of at most 2^-62.

    Each byte of the weights is summed by itself in single precision, which is exact below 2^24 and
    so for 21,000 variants at once; blocks have fewer.

    Parameters
    ----------
    calls : ndarray of shape (n_samples, n_variants), int8
    weights : ndarray of shape (n_variants, 8), uint8
        Of these variants, from `hash_weights`.

    Returns
    -------
    fingerprints : ndarray of shape (n_samples,), uint64
    """
    sums = (calls + np.int8(1)).astype(np.float32) @ weights.astype(np.float32)
    places = np.arange(0, 64, 8, dtype=np.uint64)
    return (sums.astype(np.uint64) << places).sum(axis=1, dtype=np.uint64)
