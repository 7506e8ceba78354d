"""How many threads training takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from threadpoolctl import threadpool_limits

_LOCK = Lock()
_THREADS: list[int] = []
"""Threads of torch that the first call found, once for every call that is within."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run BLAS on one thread, for the many small matrices that training starts from.

    They gain nothing from a second one, and where another process wants the core, threads lose most
    of their time waiting for each other.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread, and restore the number of threads after.

    Batches of networks this small gain little from a second thread, and lose much when another
    process wants the core. Calls may overlap in threads of Python, and all restore what the first
    has found; they are not nested.
    """
    own = torch.get_num_threads()  # a thread of Python that has not asked is set by all others
    with _LOCK:
        _THREADS.append(_THREADS[0] if _THREADS else own)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            torch.set_num_threads(_THREADS.pop())
