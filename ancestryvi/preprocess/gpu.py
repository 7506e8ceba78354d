"""The work of a decomposition on a GPU; the only file of `preprocess` that imports torch.

Blocks are read by threads as ever and copied to the device as calls, of one byte each. Scaling and
products are in single precision there, as on the CPU, and sums over blocks in double.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ancestryvi.device import resolve_device
from ancestryvi.exceptions import MemoryNeedError
from ancestryvi.genotypes.source import IndexedDosages
from ancestryvi.preprocess.decomposition import Loadings, ScaledDosages
from ancestryvi.preprocess.fingerprints import fingerprints, hash_weights
from ancestryvi.preprocess.passes import map_here

__all__ = ["OnDevice", "resolve_device"]

BLOCK_BYTES = 2**28
"""Size of a block in single precision: enough to keep a device busy."""

WORKSPACE = 3
"""Matrices in single precision that an eigenvalue solver takes beside the one it is given."""


@dataclass(frozen=True)
class OnDevice:
    """`exact_eigenpairs`, `product` and `loadings` of `preprocess.decomposition` on a device.

    Parameters
    ----------
    device : torch.device
    """

    device: torch.device

    def relationship_matrix(self, source: IndexedDosages, matrix: ScaledDosages) -> torch.Tensor:
        """As the function of this name in `preprocess.decomposition`, on the device.

        Raises
        ------
        MemoryNeedError
            If the matrix does not fit the memory of the device.
        """
        n_samples, _ = matrix.shape
        self._check_memory(n_samples)
        gram = torch.zeros((n_samples, n_samples), dtype=torch.float64, device=self.device)
        with _full_precision():
            for block, calls, _ in self._read(source, matrix, "relationship matrix"):
                scaled = self._scaled(matrix, block, calls)
                gram += scaled.T @ scaled
        return gram

    def exact_eigenpairs(
        self, source: IndexedDosages, matrix: ScaledDosages, n_leading: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """As the function of this name in `preprocess.decomposition`.

        Raises
        ------
        MemoryNeedError
            As `relationship_matrix`.
        """
        gram = self.relationship_matrix(source, matrix)
        trace_of_square = float(torch.linalg.vector_norm(gram)) ** 2
        # As on the CPU: vectors in single precision, and one step of Rayleigh and Ritz in double.
        _, vectors = torch.linalg.eigh(gram.float())
        basis, _ = torch.linalg.qr(vectors[:, -n_leading:].double())
        del vectors
        values, weights = torch.linalg.eigh(basis.T @ (gram @ basis))
        leading = (basis @ weights).flip(1)
        return _numpy(values.flip(0)), _numpy(leading), trace_of_square

    def product(
        self,
        source: IndexedDosages,
        matrix: ScaledDosages,
        factor: NDArray[np.float64],
        blocks: list[slice],
    ) -> NDArray[np.float64]:
        """As the function of this name in `preprocess.decomposition`."""
        here = torch.from_numpy(factor.astype(np.float32)).to(self.device)
        total = torch.zeros(factor.shape, dtype=torch.float64, device=self.device)
        with _full_precision():
            for block, calls, _ in self._read(source, matrix, "components", blocks):
                scaled = self._scaled(matrix, block, calls)
                total += scaled.T @ (scaled @ here)
        return _numpy(total)

    def loadings(
        self, source: IndexedDosages, matrix: ScaledDosages, basis: NDArray[np.float32]
    ) -> Loadings:
        """As the function of this name in `preprocess.decomposition`."""
        n_samples, n_variants = matrix.shape
        here = torch.from_numpy(basis).to(self.device)
        squares = torch.zeros(n_samples, dtype=torch.float64, device=self.device)
        known_by = np.zeros(n_samples, np.uint64)
        parts = []
        with _full_precision():
            weights = hash_weights(n_variants)
            for block, calls, numbers in self._read(source, matrix, "loadings", weights=weights):
                scaled = self._scaled(matrix, block, calls)
                parts.append(_numpy(scaled @ here).T)
                squares += scaled.square().sum(dim=0)
                known_by += numbers
        return Loadings(np.concatenate(parts, axis=1), _numpy(squares), known_by)

    def _read(
        self,
        source: IndexedDosages,
        matrix: ScaledDosages,
        name: str,
        blocks: list[slice] | None = None,
        weights: NDArray[np.uint8] | None = None,
    ) -> Iterator[tuple[slice, NDArray[np.int8], NDArray[np.uint64]]]:
        """Each block, its calls, and their fingerprints where weights are given."""
        blocks = matrix.blocks(BLOCK_BYTES // 4) if blocks is None else blocks
        read = _Read(matrix, weights)
        return map_here(read, source, blocks, name=name, partial_bytes=BLOCK_BYTES // 4)

    def _scaled(self, matrix: ScaledDosages, block: slice, calls: NDArray[np.int8]) -> torch.Tensor:
        """A block of Z', one variant a row."""
        raw = torch.from_numpy(calls.T).to(self.device)
        mean = torch.from_numpy(matrix.mean[block].astype(np.float32)).to(self.device)
        inverse = torch.from_numpy((1.0 / matrix.scale[block]).astype(np.float32)).to(self.device)
        scaled = raw.float().sub_(mean[:, None]).mul_(inverse[:, None])
        return scaled.masked_fill_(raw < 0, 0.0)

    def _check_memory(self, n_samples: int) -> None:
        """Refuse a relationship matrix that cannot fit."""
        if self.device.type != "cuda":
            return
        need = (8 + 4 * (1 + WORKSPACE)) * n_samples**2 + 3 * BLOCK_BYTES
        free, _ = torch.cuda.mem_get_info(self.device)
        if need > free:
            raise MemoryNeedError(
                f"The relationship matrix of {n_samples:,} samples takes {need / 2**30:.1f} GiB on "
                f"the GPU, and {free / 2**30:.1f} are free; use the CPU (device='cpu', --device "
                "cpu) or the randomised solver (solver='randomized', --pca-solver randomized)."
            )


@dataclass(frozen=True)
class _Read:
    """What `OnDevice` needs of a block."""

    matrix: ScaledDosages
    weights: NDArray[np.uint8] | None

    def __call__(
        self, source: IndexedDosages, block: slice
    ) -> tuple[slice, NDArray[np.int8], NDArray[np.uint64]]:
        calls = self.matrix.calls(source, block)
        if self.weights is None:
            return block, calls, np.zeros(0, np.uint64)
        return block, calls, fingerprints(calls, self.weights[block])


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    values: NDArray[np.float64] = tensor.cpu().numpy()
    return values


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply in single precision, and not in the shorter TF32 that a program may have allowed."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
