"""What training asks of a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run BLAS on one thread, for the many small matrices that training starts from.

    They gain nothing from a second one. Where another process wants the core, threads wait for each
    other, ten times as long as the work takes.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread, and restore the number of threads after.

    Batches of networks this small gain little from a second thread, and lose much when another
    process wants the core.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
