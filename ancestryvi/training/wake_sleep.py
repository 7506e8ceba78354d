"""The phases that train DDVI: layout, warm start, dreaming, wake-sleep (algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ancestryvi.models.ddvi import DDVI
from ancestryvi.training.loop import Objective, Phase

LAYOUT_RATE = 2e-3
WARM_START_RATE = 5e-3
DREAMING_RATE = 1e-3
WAKE_SLEEP_RATE = 1e-4
"""Peak learning rates. The wake-sleep rate is low because generative model and posterior chase each
other: at 5e-4 the bound falls before it rises, at 1e-4 it rises from the start."""

WARM_UP = 0.3
"""Share of the warm start over which the weight of the prior terms rises from 0 to `beta_reg`."""


def layout(model: DDVI, axes: Tensor, n_epochs: int) -> Phase:
    """Teach the encoder to read `axes` off x, and the decoder to read x off them.

    The warm start then unfolds the same picture whatever the seed, with its axes turned alike.

    Parameters
    ----------
    model : DDVI
    axes : Tensor of shape (n_features, n_latent)
        The latents to start from are ``x @ axes``.
    n_epochs : int
    """

    def loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        z = x @ axes
        place = (model.encode(x).mean - z).square().sum(-1)
        return {"loss": (place + (model.decoder(z) - x).square().sum(-1)).mean()}

    modules = (model.encoder, model.belief_head, model.decoder)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return Phase("layout", n_epochs, [Objective("layout", parameters, loss)], LAYOUT_RATE)


def warm_start(model: DDVI, n_epochs: int, beta_reg: float, generator: torch.Generator) -> Phase:
    """Train decoder and encoder as AEVB, with the encoder's Gaussian belief as the posterior.

    This is the pre-training of algorithm 1, line 1. The prior stays as it is.
    """

    def loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        noise = _normal((len(x), model.n_latent), x, generator)
        reconstruction, regularisation = model.belief_elbo(x, noise)
        weight = beta_reg * min(1.0, done / WARM_UP)
        return {
            "loss": -(reconstruction + weight * regularisation).mean(),
            "reconstruction": reconstruction.mean(),
            "elbo": (reconstruction + regularisation).mean(),
        }

    parameters = [
        *model.decoder.parameters(),
        model.log_noise,
        *model.encoder.parameters(),
        *model.belief_head.parameters(),
    ]
    return Phase("warm start", n_epochs, [Objective("wake", parameters, loss)], WARM_START_RATE)


def dreaming(model: DDVI, n_epochs: int, generator: torch.Generator) -> Phase:
    """Train the posterior alone on dreams of the model: wake-sleep then starts from a good one."""
    return Phase("dreaming", n_epochs, [_sleep(model, 1.0, generator)], DREAMING_RATE)


def wake_sleep(
    model: DDVI,
    n_epochs: int,
    beta_reg: float,
    beta_diff: float,
    generator: torch.Generator,
) -> Phase:
    """Alternate steps up the ELBO (wake, theta and phi) and down L_diff (sleep, phi only)."""

    def loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        n_noise = model.diffusion.n_steps + 1
        terms = model.elbo(x, _normal((n_noise, len(x), model.n_latent), x, generator))
        return {
            "loss": -(terms.reconstruction + beta_reg * terms.regularisation).mean(),
            "reconstruction": terms.reconstruction.mean(),
            "log_prior": terms.log_prior.mean(),
            "log_forward": terms.log_forward.mean(),
            "entropy": terms.entropy.mean(),
            "elbo": terms.elbo.mean(),
        }

    wake = Objective("wake", [*model.generative_parameters(), *model.inference_parameters()], loss)
    return Phase(
        "wake-sleep", n_epochs, [wake, _sleep(model, beta_diff, generator)], WAKE_SLEEP_RATE
    )


def _sleep(model: DDVI, weight: float, generator: torch.Generator) -> Objective:
    """L_diff on as many dreams as the batch has rows (equations 8 and 9)."""

    def loss(x: Tensor, done: float) -> Mapping[str, Tensor]:
        with torch.no_grad():
            z, _, dreamt = model.dream(len(x), generator)
        noise = _normal((model.diffusion.n_steps, len(x), model.n_latent), x, generator)
        return {"loss": model.denoising_loss(dreamt, z, noise).mean()}

    return Objective("sleep", model.inference_parameters(), loss, weight)


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of this shape on the device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
