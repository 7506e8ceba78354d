"""Which device to train on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def resolve_device(device: str) -> torch.device:
    """The torch device of a name; "auto" is a CUDA GPU where there is one, else the CPU.

    Apple's "mps" is used only when it is asked for: for networks this small it is no faster.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not there.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).item()  # "meta" has tensors, but no numbers in them
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"The device {device!r} cannot be used ({str(error).splitlines()[0]}). Choose 'auto', "
            "'cpu', 'cuda' or 'mps'."
        ) from error
    return resolved


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread, and restore the number of threads after.

    Batches of networks this small gain nothing from a second thread, and lose much when another
    process wants the core.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
