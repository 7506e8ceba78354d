"""Which device to compute on."""

from __future__ import annotations

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
