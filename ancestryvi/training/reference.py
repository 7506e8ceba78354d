"""The phases in which the authors' genotype model is trained, as their program has them.

References
----------
Piriyakulkij, Wang and Kuleshov (2025), Denoising Diffusion Variational Inference, AAAI 39(19).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ancestryvi.models.reference import ReferenceDDVI
from ancestryvi.training.loop import LossFunction, Objective, Phase, adam

WARM_UP_STEPS = 500
"""Steps of the warm up in an epoch: 100,000 in the 200 epochs of the authors."""

N_DRAWS = 128
"""Draws of the prior, and pairs of means, in a step that uses no data."""

WAKE_RATE = 1e-4
DENOISER_RATE = 1e-3
MEANS_RATE = 1e-2

MAX_DENOISER_NORM = 0.1
"""Gradients of the denoiser in a wake step are shortened to this norm."""


def separation_weight(epoch: int) -> int:
    """Weight of the separation of the means in an epoch, from 0: 1, and rising after 100 epochs.

    Examples
    --------
    >>> [separation_weight(epoch) for epoch in (0, 100, 109, 110, 199)]
    [1, 1, 1, 2, 10]
    """
    return 1 if epoch <= 100 else (epoch - 100) // 10 + 1


def reference_phases(
    model: ReferenceDDVI, n_epochs: int, generator: torch.Generator
) -> list[Phase]:
    """The warm up of the denoiser on the first prior, then the training of everything.

    Parameters
    ----------
    model : ReferenceDDVI
    n_epochs : int
        Of each phase; 200 in the paper.
    generator : torch.Generator
        Of all draws and dropped units, on the device of the model.

    Notes
    -----
    The authors train on batches of 128 of the panel repeated five times; batches and repeats are
    the caller's. Nothing in an epoch depends on `n_epochs`, as learning rates are constant. The
    steps that use no data come after each epoch, and their number is that of the epoch.

    In wake steps the means take the step of a gradient of 0: Adam coasts on with the momentum that
    their own steps left behind, by up to 9 learning rates (0.09) an epoch where a component has a
    standard deviation of 0.125.
    """
    return [
        Phase("warm up", n_epochs, [_warm_up(model, generator)], _constant),
        Phase("reference", n_epochs, _in_turns(model, n_epochs, generator), _constant),
    ]


def _constant(done: float) -> float:
    """Learning rates stay at their peak."""
    return 1.0


def _warm_up(model: ReferenceDDVI, generator: torch.Generator) -> Objective:
    """The denoiser alone, many steps an epoch."""
    return Objective(
        "denoiser",
        _denoiser_loss(model, generator),
        [adam(model.denoiser.parameters(), DENOISER_RATE, math.inf)],
        repeats=lambda epoch: WARM_UP_STEPS,
        per_epoch=True,
    )


def _in_turns(model: ReferenceDDVI, n_epochs: int, generator: torch.Generator) -> list[Objective]:
    """Wake steps at every batch; after epoch e, e + 1 steps of the means, then of the denoiser."""
    means_adam = adam([model.means], MEANS_RATE, math.inf)

    def wake_loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        eps = torch.randn(
            (len(x), model.n_latent), generator=generator, dtype=x.dtype, device=x.device
        )
        terms = model.wake_loss(x, eps, generator)
        # a gradient of 0, and not none, lets the means coast
        return {**terms, "loss": terms["loss"] + 0.0 * model.means.sum()}

    def means_loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        epoch = math.floor(done * n_epochs + 1e-6)  # done has the rounding error of a quotient
        pairs = torch.randint(
            len(model.means), (2, N_DRAWS), generator=generator, device=model.means.device
        )
        separation = model.separation(*pairs)
        denoising = _prior_denoising(model, generator)
        loss = separation_weight(epoch) * separation + denoising
        return {"loss": loss, "separation": separation, "denoising": denoising}

    wake_adams = [
        adam([*model.encoder.parameters(), *model.decoder.parameters()], WAKE_RATE, math.inf),
        adam(model.denoiser.parameters(), WAKE_RATE, MAX_DENOISER_NORM),
    ]
    denoiser_adam = adam(model.denoiser.parameters(), DENOISER_RATE, math.inf)
    return [
        Objective("wake", wake_loss, [*wake_adams, means_adam]),
        Objective("means", means_loss, [means_adam], _one_more_each_epoch, per_epoch=True),
        Objective(
            "denoiser",
            _denoiser_loss(model, generator),
            [denoiser_adam],
            _one_more_each_epoch,
            per_epoch=True,
        ),
    ]


def _one_more_each_epoch(epoch: int) -> int:
    return epoch + 1


def _denoiser_loss(model: ReferenceDDVI, generator: torch.Generator) -> LossFunction:
    def loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        return {"loss": _prior_denoising(model, generator)}

    return loss


def _prior_denoising(model: ReferenceDDVI, generator: torch.Generator) -> Tensor:
    """The denoising loss of draws of the present prior, each at its own step."""
    z, _ = model.sample_prior(N_DRAWS, generator)
    t = torch.randint(1, model.n_steps + 1, (N_DRAWS,), generator=generator, device=z.device)
    eps = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    return model.denoising_loss(z, t, eps)
