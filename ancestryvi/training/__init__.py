"""One loop for every model: phases, objectives, history, threads."""

from ancestryvi.device import resolve_device
from ancestryvi.training.history import History
from ancestryvi.training.loop import Objective, Phase, adam, train_phase
from ancestryvi.training.threads import one_blas_thread, one_thread

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
