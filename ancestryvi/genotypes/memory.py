"""How much memory genotypes need and how much there is, so that what cannot fit is said first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ancestryvi.exceptions import MemoryNeedError
from ancestryvi.genotypes.source import Block

_MEMINFO = "/proc/meminfo"
# Limit, use and what of it is cache, of version 2 of control groups and of version 1.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def available_bytes() -> int | None:
    """Return the memory that this process can still take, in bytes; None where nobody tells.

    The smaller of what the machine has and what a container leaves; files in the cache count as
    free.

    Examples
    --------
    >>> available = available_bytes()
    >>> available is None or available > 0
    True
    """
    amounts = [_of_machine(), *(_of_container(*paths) for paths in _CGROUPS)]
    return min((amount for amount in amounts if amount is not None), default=None)


def keep_freed(n_bytes: int) -> None:
    """Let this process keep pieces of memory up to this size, below 32 MB, for the next ones.

    The C library of Linux gives what is freed back to the system, and each page of the next piece
    is a fault again, unless something larger was freed before (mallopt(3), M_MMAP_THRESHOLD).
    Elsewhere it does nothing.
    """
    np.empty(n_bytes, dtype=np.uint8)


def _of_machine() -> int | None:
    """What Linux holds to be available, or all memory where it does not say."""
    try:
        for line in Path(_MEMINFO).read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _of_container(limit: str, used: str, stat: str) -> int | None:
    """What the limit of a control group leaves; None without one."""
    try:
        most, now = int(Path(limit).read_text()), int(Path(used).read_text())
        cached = dict(line.split() for line in Path(stat).read_text().splitlines())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return max(0, most - now + int(cached.get("inactive_file", 0)))


def check_fits(n_samples: int, n_variants: int, where: str) -> None:
    """Refuse to read a matrix that has no room.

    Parameters
    ----------
    n_samples, n_variants : int
    where : str
        The files, for the message.

    Raises
    ------
    MemoryNeedError
        If it needs more than is available; the message says what would fit.
    """
    available, needed = available_bytes(), n_samples * n_variants
    if available is not None and needed > available:
        raise MemoryNeedError(
            f"{where}: {n_samples:,} samples x {n_variants:,} variants need {size(needed)}, one "
            f"byte a call, and {size(available)} are available. " + _advice(n_samples, available)
        )


def guard(blocks: Iterator[Block], n_samples: int, where: str) -> Iterator[Block]:
    """Pass blocks on that are kept, and stop before memory ends.

    Formats without an index do not say beforehand how much is to come.

    Raises
    ------
    MemoryNeedError
        If the blocks so far take more than was available at the first.
    """
    available, n_variants = available_bytes(), 0
    for block in blocks:
        n_variants += len(block.columns)
        if available is not None and n_samples * n_variants > available:
            raise MemoryNeedError(
                f"{where}: the first {n_variants:,} variants of {n_samples:,} samples fill the "
                f"{size(available)} that are available, one byte a call, and there are more. "
                + _advice(n_samples, available)
            )
        yield block


def _advice(n_samples: int, available: int) -> str:
    """Say what would fit; half is left for the work after reading."""
    return (
        f"About {available // (2 * n_samples):,} variants would leave room to work with: name them "
        "with --variants or --region, or thin them first (`plink2 --maf 0.05 --indep-pairwise "
        "500kb 0.2`); or use a machine with more memory."
    )


def size(n_bytes: int) -> str:
    """Write an amount of memory.

    Examples
    --------
    >>> size(250_400_000), size(3_210_000_000_000)
    ('250 MB', '3,210 GB')
    """
    if n_bytes < 1_000_000:
        return "less than 1 MB"
    if n_bytes < 1_000_000_000:
        return f"{n_bytes / 1_000_000:,.0f} MB"
    return f"{n_bytes / 1_000_000_000:,.{1 if n_bytes < 100_000_000_000 else 0}f} GB"
