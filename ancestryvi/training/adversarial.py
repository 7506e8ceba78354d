"""The phase that trains an adversarial auto-encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ancestryvi.models.adversarial import Critic, critic_loss, critic_noise, encoder_loss
from ancestryvi.models.latent_variable import LatentVariableModel, normal
from ancestryvi.training.loop import Objective, Phase, adam
from ancestryvi.training.wake_sleep import Weights

RECONSTRUCTION_RATE = 2e-3
CRITIC_RATE = 1e-3
ENCODER_RATE = 5e-4
"""Peak learning rates; `beta_reg` scales that of the encoder against the critic."""


def adversarial(
    model: LatentVariableModel,
    critic: Critic,
    name: str,
    n_epochs: int,
    weights: Weights,
    generator: torch.Generator,
) -> Phase:
    """Reconstruct; tell latents from draws of the prior; make the latents harder to tell.

    Makhzani et al. (2015), sections 2 and 2.3: the reconstruction phase, then the two steps of the
    regularisation phase, at every batch. The critic is told the label of a latent where there is
    one, and of draws of the prior their part, as often. The prior itself stays as it is.

    Parameters
    ----------
    model : LatentVariableModel
        With a `PointPosterior`.
    critic : Critic
        Its parts are the labels; 0 of them to use none.
    name : str
        Of the phase.
    n_epochs : int
    weights : Weights
    generator : torch.Generator
    """

    def parts_of(n_samples: int, labels: Tensor | None) -> Tensor | None:
        """Labels, once the prior has a part for each."""
        if not critic.n_parts:
            return None
        unknown = torch.full((n_samples,), -1, device=model.log_noise.device)
        return unknown if labels is None or model.prior.n_clusters < critic.n_parts else labels

    def odds(z: Tensor, parts: Tensor | None, done: float) -> Tensor:
        return critic(z + critic_noise(done) * normal(tuple(z.shape), z, generator), parts)

    def reconstruct(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        reconstruction = model.reconstruction(x, model.posterior.encode(x).mean).mean()
        return {"loss": -reconstruction, "reconstruction": reconstruction}

    def tell(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        with torch.no_grad():
            fake = model.posterior.encode(x).mean
            real, drawn = model.prior.sample(len(x), generator)
        parts = parts_of(len(x), labels)
        said = None if parts is None else torch.where(parts < 0, -1, drawn)
        return {"loss": critic_loss(odds(real, said, done), odds(fake, parts, done))}

    def fool(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        fake = model.posterior.encode(x).mean
        return {"loss": encoder_loss(odds(fake, parts_of(len(x), labels), done))}

    encoder = [
        *model.posterior.encoder.parameters(),
        *model.posterior.belief_head.parameters(),
    ]
    everything = [*encoder, *model.decoder.parameters(), model.log_noise]
    return Phase(
        name,
        n_epochs,
        [
            Objective("reconstruct", reconstruct, [adam(everything, RECONSTRUCTION_RATE)]),
            Objective("critic", tell, [adam(critic.parameters(), CRITIC_RATE)]),
            Objective("encoder", fool, [adam(encoder, weights.beta_reg * ENCODER_RATE)]),
        ],
    )
