"""How many threads training takes.

Threads and limits are those of the whole process: of several calls at a time in threads of Python,
the first finds them, and all leave them as it found them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from threadpoolctl import threadpool_limits

_LOCK = Lock()
_LIMITS: list[threadpool_limits] = []
_THREADS: list[int] = []
"""What was found, once for every call that is within."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run BLAS on one thread, for the many small matrices that training starts from.

    They gain nothing from a second one, and where another process wants the core, threads lose most
    of their time waiting for each other.
    """
    with _LOCK:
        _LIMITS.append(_LIMITS[0] if _LIMITS else threadpool_limits(1, user_api="blas"))
    try:
        yield
    finally:
        with _LOCK:
            found = _LIMITS.pop()
            if not _LIMITS:
                found.restore_original_limits()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread, and restore the number of threads after.

    Batches of networks this small gain little from a second thread, and lose much when another
    process wants the core.
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
