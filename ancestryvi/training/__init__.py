"""One loop for every model: phases, objectives, history, device."""

from ancestryvi.device import resolve_device
from ancestryvi.training.device import one_blas_thread, one_thread
from ancestryvi.training.history import History
from ancestryvi.training.loop import Objective, Phase, adam, train_phase

__all__ = [
    "History",
    "Objective",
    "Phase",
    "adam",
    "one_blas_thread",
    "one_thread",
    "resolve_device",
    "train_phase",
]
