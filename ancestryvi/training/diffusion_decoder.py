"""The phases that train auto-encoders with a diffusion decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ancestryvi.models.continuous import stratified_times
from ancestryvi.models.diffusion_autoencoder import DiffusionAutoencoder, ScoreAutoencoder
from ancestryvi.models.latent_variable import normal
from ancestryvi.training.loop import Objective, Phase, adam
from ancestryvi.training.wake_sleep import Layout

RATE = 3e-3
SETTLED_RATE = 5e-4
"""Peak learning rates, before and after the clusters have come in."""

WARM_UP = 0.3
"""Share of the first phase over which the weight of the prior terms rises to its value."""


def orient(model: DiffusionAutoencoder, places: Layout, n_epochs: int) -> Phase:
    """Teach the encoder the `places` of x: the map unfolds from the same picture every time."""

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        mean = model.posterior.encode(x).mean
        return {"loss": (mean - places(x)).square().sum(-1).mean()}

    return Phase(
        "layout", n_epochs, [Objective("layout", loss, [adam(model.posterior.parameters(), RATE)])]
    )


def encode_decode(
    model: DiffusionAutoencoder,
    name: str,
    parameters: Iterable[nn.Parameter],
    n_epochs: int,
    beta: float,
    generator: torch.Generator,
    *,
    rate: float = RATE,
    warm_up: float = WARM_UP,
) -> Phase:
    """Descend the decoder's loss plus `beta` times the KL of q(z | x) from p(z).

    Equation 12 of Batzolis et al., with a decoder that learns too if its parameters are given.
    """

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        decoding, kl = (term.mean() for term in model.losses(x, labels, generator))
        weight = beta * min(1.0, done / warm_up if warm_up else 1.0)
        return {"loss": decoding + weight * kl, "decoding": decoding, "kl": kl}

    return Phase(name, n_epochs, [Objective(name, loss, [adam(parameters, rate)])])


def decoder_alone(
    model: ScoreAutoencoder,
    name: str,
    part: nn.Module,
    loss_of: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    n_epochs: int,
    generator: torch.Generator,
) -> Phase:
    """Train one part of the decoder, the encoder fixed.

    `loss_of` takes x, z, time and noise, and gives a loss per sample.
    """

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        with torch.no_grad():
            z, _ = model.posterior.draw_belief(x, normal((len(x), model.n_latent), x, generator))
        time = stratified_times(len(x), x, generator)
        return {"loss": loss_of(x, z, time, normal(tuple(x.shape), x, generator)).mean()}

    return Phase(name, n_epochs, [Objective(name, loss, [adam(part.parameters(), RATE)])])
