"""Whether a decomposition is computed on the CPU or on a GPU."""

from __future__ import annotations

import ctypes
import sys
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess import decomposition
from ancestryvi.preprocess.decomposition import Loadings, ScaledDosages
from ancestryvi.preprocess.passes import is_on_cluster

WORTH_A_GPU = 1e12
"""Multiplications from which `device="auto"` looks for a GPU; on the CPU fewer are done before
torch is loaded."""

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class Arithmetic(Protocol):
    """The passes of a decomposition, by `preprocess.decomposition` or `preprocess.gpu`."""

    def exact_eigenpairs(
        self, source: IndexedDosages, matrix: ScaledDosages, n_leading: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]: ...

    def product(
        self,
        source: IndexedDosages,
        matrix: ScaledDosages,
        factor: NDArray[np.float64],
        blocks: list[slice],
    ) -> NDArray[np.float64]: ...

    def loadings(
        self, source: IndexedDosages, matrix: ScaledDosages, basis: NDArray[np.float32]
    ) -> Loadings: ...


def arithmetic(device: str, n_multiplications: float) -> Arithmetic:
    """Where to compute.

    torch, which takes seconds to load, is loaded only where a GPU is asked for, or where "auto"
    finds the driver of one and the work is worth it. Apple's GPUs have no double precision, so for
    "mps" it is the CPU, as it is while passes run on a cluster.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda", "cuda:1" and so on, or "mps".
    n_multiplications : float
        About how many the work takes.

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    auto = device == "auto"
    if device in ("cpu", "mps") or is_on_cluster():
        return decomposition
    if auto and (n_multiplications < WORTH_A_GPU or not has_driver()):
        return decomposition
    from ancestryvi.preprocess.gpu import OnDevice, resolve_device

    resolved = resolve_device(device)
    return OnDevice(resolved) if resolved.type == "cuda" else decomposition


def has_driver() -> bool:
    """Whether the driver of NVIDIA's GPUs is installed."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True
