"""The one training loop: phases of epochs, in which objectives take turns at every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ancestryvi.exceptions import TrainingError
from ancestryvi.training.history import History

MAX_GRADIENT_NORM = 100.0
"""Gradients longer than this are shortened; one bad draw must not undo the training."""

MOST_PER_EPOCH = 2**16
"""Rows of an epoch, a new random choice of more than these, so that a phase of one epoch stays a
short one."""

LossFunction = Callable[..., Mapping[str, Tensor]]
"""``loss(x, done)``, or ``loss(x, done, labels)`` where training has labels: from a batch of shape
(n, n_features), the share of the phase that is done, in [0, 1), and the label of each row, to
terms. The one named ``loss`` is minimised, the others are only recorded."""


def warmup_cosine(done: float) -> float:
    """Factor of the learning rate after a share `done` of a phase, in [0, 1].

    Examples
    --------
    >>> [round(warmup_cosine(done), 3) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.01, 0.505, 1.0, 0.5, 0.0]
    """
    rising = 0.1
    if done < rising:
        return 0.01 + 0.99 * done / rising
    return 0.5 * (1.0 + math.cos(math.pi * (done - rising) / (1.0 - rising)))


@dataclass(frozen=True)
class Objective:
    """A loss and the optimisers that step down its gradient.

    Separate optimisers keep the momentum of one objective out of the other's parameters.

    Parameters
    ----------
    name : str
    loss : LossFunction
    optimizers : sequence of Adam
        As `adam` makes them.
    repeats : callable, default=once
        Number of steps that the objective takes in its turn, by epoch (from 0).
    per_epoch : bool, default=False
        Whether its turn comes after each epoch, with the last batch of it, not at every batch.
    """

    name: str
    loss: LossFunction
    optimizers: Sequence[torch.optim.Adam]
    repeats: Callable[[int], int] = lambda epoch: 1
    per_epoch: bool = False


@dataclass(frozen=True)
class Phase:
    """A stretch of training: some epochs of some objectives.

    `schedule` gives the factor of every learning rate after a share of the phase in [0, 1). No
    gradient is taken of what is `held`: parameters that losses go through and no objective trains.
    """

    name: str
    n_epochs: int
    objectives: Sequence[Objective]
    schedule: Callable[[float], float] = warmup_cosine
    held: Sequence[nn.Parameter] = ()


def adam(
    parameters: Iterable[nn.Parameter], peak: float, max_norm: float = MAX_GRADIENT_NORM
) -> torch.optim.Adam:
    """Adam with a peak learning rate, whose gradient is shortened to a norm of `max_norm`."""
    return torch.optim.Adam(
        [{"params": list(parameters), "peak": peak, "max_norm": max_norm}], fused=True
    )


def batches(n_samples: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A random partition of an epoch's rows into batches of near equal size, at most as asked.

    Examples
    --------
    >>> [len(b) for b in batches(10, 4, torch.Generator().manual_seed(0))]
    [4, 3, 3]
    """
    order = torch.randperm(n_samples, generator=generator)[:MOST_PER_EPOCH]
    return order.tensor_split(n_batches(n_samples, batch_size))


def n_batches(n_samples: int, batch_size: int) -> int:
    """Number of batches of an epoch."""
    return math.ceil(min(n_samples, MOST_PER_EPOCH) / batch_size)


def train_phase(
    phase: Phase,
    x: Tensor,
    labels: Tensor | None = None,
    *,
    batch_size: int,
    generator: torch.Generator,
    history: History,
    progress: tqdm | None = None,
) -> None:
    """Run one phase and append its epochs to `history`.

    Parameters
    ----------
    phase : Phase
    x : Tensor of shape (n_samples, n_features)
    labels : Tensor of shape (n_samples,), optional
        Handed to the losses with the rows of x.
    batch_size : int
    generator : torch.Generator
        Of the CPU; orders the rows.
    history : History
    progress : tqdm, optional
        Advanced by one per epoch.

    Raises
    ------
    TrainingError
        At the first loss or gradient that is not finite; parameters keep their values of the step
        before.
    """
    with _without_gradients(phase.held):
        for epoch in range(phase.n_epochs):
            sums: dict[str, Tensor] = {}
            parts = batches(len(x), batch_size, generator)
            n_rows = sum(map(len, parts))
            for index, rows in enumerate(parts):
                rows = rows.to(x.device)
                batch = (x[rows],) if labels is None else (x[rows], labels[rows])
                done = (epoch + index / len(parts)) / phase.n_epochs
                last = index + 1 == len(parts)
                for objective in phase.objectives:
                    if objective.per_epoch and not last:
                        continue
                    repeats = objective.repeats(epoch)
                    share = (1.0 if objective.per_epoch else len(rows) / n_rows) / max(1, repeats)
                    for _ in range(repeats):
                        terms = objective.loss(batch[0], done, *batch[1:])
                        where = f"epoch {epoch + 1} of the phase '{phase.name}', batch {index + 1}"
                        _step(objective, terms["loss"], phase.schedule(done), where)
                        for name, value in terms.items():
                            key = f"{objective.name}/{name}"
                            part = value.detach() * share
                            sums[key] = sums[key] + part if key in sums else part
            history.append(phase.name, {name: float(value) for name, value in sums.items()})
            if progress is not None:
                progress.set_postfix_str(phase.name, refresh=False)
                progress.update()


@contextmanager
def _without_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def _step(objective: Objective, loss: Tensor, factor: float, where: str) -> None:
    """One step down the gradient, if that and the loss are finite."""
    groups = [group for optimizer in objective.optimizers for group in optimizer.param_groups]
    parameters = [group["params"] for group in groups]
    for parameter in chain(*parameters):
        parameter.grad = None
    loss.backward()
    norms = [
        nn.utils.get_total_norm([p.grad for p in of_group if p.grad is not None]).item()
        for of_group in parameters
    ]
    for what, value in (("", loss.item()), *(("gradient of the ", norm) for norm in norms)):
        if not math.isfinite(value):
            raise TrainingError(
                f"The {what}{objective.name} loss became {value:g} in {where}. Look for extreme "
                "values or a column of another scale in the input, or lower the learning rate."
            )
    for group, norm in zip(groups, norms, strict=True):
        if norm > group["max_norm"]:
            nn.utils.clip_grads_with_norm_(group["params"], group["max_norm"], torch.tensor(norm))
        group["lr"] = group["peak"] * factor
    for optimizer in objective.optimizers:
        optimizer.step()
