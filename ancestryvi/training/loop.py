"""The one training loop: phases of epochs, in which objectives take turns at every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ancestryvi.exceptions import TrainingError
from ancestryvi.training.history import History

MAX_GRADIENT_NORM = 100.0
"""Gradients longer than this are shortened; one bad draw must not undo the training."""

LossFunction = Callable[[Tensor, float], Mapping[str, Tensor]]
"""From a batch of shape (n, n_features) and the share of the phase that is done, in [0, 1), to
terms; the one named ``loss`` is minimised, the others are only recorded."""


@dataclass(frozen=True)
class Objective:
    """A loss and the parameters that it trains, by an Adam of its own.

    Separate optimisers keep the momentum of one objective out of the other's parameters. Adam's
    steps do not depend on the scale of a loss, so `weight` scales the learning rate instead.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    loss: LossFunction
    weight: float = 1.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training: some epochs of some objectives, at a peak learning rate.

    The rate rises over the first tenth of the phase and falls to 0 along a cosine.
    """

    name: str
    n_epochs: int
    objectives: Sequence[Objective]
    learning_rate: float


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


def batches(n_samples: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A random partition of all rows into batches of near equal size, none larger than asked.

    Examples
    --------
    >>> [len(b) for b in batches(10, 4, torch.Generator().manual_seed(0))]
    [4, 3, 3]
    """
    order = torch.randperm(n_samples, generator=generator)
    return order.tensor_split(math.ceil(n_samples / batch_size))


def train_phase(
    phase: Phase,
    x: Tensor,
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
    optimizers = [
        torch.optim.Adam(objective.parameters, lr=phase.learning_rate)
        for objective in phase.objectives
    ]
    for epoch in range(phase.n_epochs):
        sums: dict[str, Tensor] = {}
        parts = batches(len(x), batch_size, generator)
        for index, rows in enumerate(parts):
            batch = x[rows.to(x.device)]
            done = (epoch + index / len(parts)) / phase.n_epochs
            for objective, optimizer in zip(phase.objectives, optimizers, strict=True):
                terms = objective.loss(batch, done)
                _step(objective, optimizer, terms["loss"], done, phase, epoch, index)
                for name, value in terms.items():
                    key = f"{objective.name}/{name}"
                    share = value.detach() * (len(rows) / len(x))
                    sums[key] = sums[key] + share if key in sums else share
        history.append(phase.name, {name: float(value) for name, value in sums.items()})
        if progress is not None:
            progress.set_postfix_str(phase.name, refresh=False)
            progress.update()


def _step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    done: float,
    phase: Phase,
    epoch: int,
    batch: int,
) -> None:
    """One step down the gradient, if that and the loss are finite."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(objective.parameters, MAX_GRADIENT_NORM)
    for what, value in (("", loss.item()), ("gradient of the ", norm.item())):
        if not math.isfinite(value):
            raise TrainingError(
                f"The {what}{objective.name} loss became {value:g} in epoch {epoch + 1} of the "
                f"phase '{phase.name}', batch {batch + 1}. Look for extreme values or a column of "
                "another scale in the input, or lower the learning rate."
            )
    for group in optimizer.param_groups:
        group["lr"] = objective.weight * phase.learning_rate * warmup_cosine(done)
    optimizer.step()
