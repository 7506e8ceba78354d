"""The phases that train DDVI: layout, warm start, dreaming, wake-sleep (algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.latent_class import LatentClassModel
from ancestryvi.models.latent_variable import LatentVariableModel, normal
from ancestryvi.models.neighbours import neighbour_loss
from ancestryvi.training.loop import Objective, Phase, adam

LAYOUT_RATE = 2e-3
WARM_START_RATE = 5e-3
HELD_RATE = 1e-2
DREAMING_RATE = 1e-3
WAKE_SLEEP_RATE = 1e-3
SETTLED_RATE = 1e-4
"""Peak learning rates. The warm start goes faster where a layout holds the map together: there 600
batches at 1e-2 make the maps of 750 at 5e-3. Where it has settled the map and a mixture has been
fitted, wake-sleep refines at a low rate, because generative model and posterior chase each other:
at 5e-4 the bound falls before it rises, at 1e-4 it rises from the start. A fixed prior, or no warm
start, leaves the learning to wake-sleep, at a rate that can do it."""

SETTLED = ("encoder.", "belief_head.", "class_head.", "class_correction.")
"""Parts of a posterior that need no dreams where a warm start and a mixture have made them."""

WARM_UP = 0.3
"""Share of the warm start over which the weight of the prior terms rises from 0."""

LARGE = 10_000
"""Samples from which on a third of the pairs does: among so many, a neighbour that is put a few
places off is nearly as near. UMAP takes fewer epochs from the same number on."""

HELD_SHARE = 0.3
"""Share of `beta_reg` that it rises to where a layout holds the map together. Beside a layout the
whole weight does harm: a standard normal, which the prior is until clusters come in, packs samples
closer than their neighbours can be told."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the objective.

    Attributes
    ----------
    beta_reg, beta_diff : float
        Of the prior terms and of the sleep term (section 3.3).
    alpha : float
        Of the classification of labelled samples (section 4.1).
    beta_neighbors : float
        Of the neighbour term of the warm start.
    beta_layout : float
        Of the term of the warm start that holds clusters near their places in the layout.
    """

    beta_reg: float = 1.0
    beta_diff: float = 1.0
    alpha: float = 1.0
    beta_neighbors: float = 0.0
    beta_layout: float = 0.0


class Layout(Protocol):
    """Where a map starts from."""

    def __call__(self, x: Tensor) -> Tensor:
        """Places of shape (n_samples, n_latent) of rows of x."""

    def strain(self, x: Tensor, z: Tensor) -> Tensor:
        """How far clusters are from their places if rows of x are at z; of shape ()."""


@dataclass(frozen=True)
class Pairs:
    """Samples and their nearest ones, to draw pairs of neighbours from.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
    nearest : Tensor of shape (n_samples, n_neighbours)
        Rows of `x` nearest to each, itself left out.
    """

    x: Tensor
    nearest: Tensor

    def beside(self, n_rows: int) -> int:
        """How many pairs to draw beside so many rows: three for two, in large cohorts one."""
        return (n_rows if len(self.x) >= LARGE else 3 * n_rows) // 2

    def draw(self, n_pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random samples and one random neighbour of each, both of shape (n_pairs, n_features)."""
        n_samples, n_neighbours = self.nearest.shape

        def index(n: int) -> Tensor:
            return torch.randint(n, (n_pairs,), generator=generator, device=self.x.device)

        rows = index(n_samples)
        return self.x[rows], self.x[self.nearest[rows, index(n_neighbours)]]


def layout(model: LatentVariableModel, places: Layout, n_epochs: int) -> Phase:
    """Teach the encoder the `places` of x, and the decoder to read x off them.

    The warm start then unfolds the same picture whatever the seed, with its axes turned alike.

    Parameters
    ----------
    model : LatentVariableModel
    places : Layout
    n_epochs : int
    """

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        z = places(x)
        place = (model.posterior.encode(x).mean - z).square().sum(-1)
        return {"loss": (place + (model.decoder(z) - x).square().sum(-1)).mean()}

    posterior = model.posterior
    modules = (posterior.encoder, posterior.belief_head, model.decoder)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return Phase("layout", n_epochs, [Objective("layout", loss, [adam(parameters, LAYOUT_RATE)])])


def warm_start(
    model: LatentVariableModel,
    n_epochs: int,
    weights: Weights,
    generator: torch.Generator,
    pairs: Pairs | None = None,
    places: Layout | None = None,
) -> Phase:
    """Train decoder and encoder as AEVB, with the encoder's Gaussian belief as the posterior.

    This is the pre-training of algorithm 1, line 1. The prior stays as it is. With `pairs`, the
    means of the beliefs of neighbours are drawn together, and apart from those of half the batch,
    each pair from both ends. With a weight `beta_layout`, clusters are held near their `places`, in
    which neighbours have no say, and samples within are free.
    """
    held_to = places if weights.beta_layout else None
    rate, share = (WARM_START_RATE, 1.0) if held_to is None else (HELD_RATE, HELD_SHARE)
    highest = weights.beta_reg * share

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        n_rows = len(x)
        both = () if pairs is None else pairs.draw(pairs.beside(n_rows), generator)
        mean, scale = model.posterior.encoder_belief(torch.cat([x, *both]))
        noise = normal((n_rows, model.n_latent), x, generator)
        belief = mean[:n_rows], scale[:n_rows]
        reconstruction, regularisation = model.belief_elbo(x, belief, noise)
        weight = highest * min(1.0, done / WARM_UP)
        total = -(reconstruction + weight * regularisation).mean()
        terms = {
            "reconstruction": reconstruction.mean(),
            "elbo": (reconstruction + regularisation).mean(),
        }
        if both:
            ends = mean[n_rows:]
            partners = ends.roll(len(ends) // 2, 0)
            others = mean[: (n_rows + 1) // 2]
            terms["neighbors"] = neighbour_loss(ends, partners, others).mean()
            total = total + weights.beta_neighbors * terms["neighbors"]
        if held_to is not None:
            terms["layout"] = held_to.strain(x, mean[:n_rows])
            total = total + weights.beta_layout * terms["layout"]
        return {"loss": total, **terms}

    parameters = [
        *model.decoder.parameters(),
        model.log_noise,
        *model.posterior.encoder.parameters(),
        *model.posterior.belief_head.parameters(),
    ]
    objective = Objective("wake", loss, [adam(parameters, rate)])
    return Phase("warm start", n_epochs, [objective], held=list(model.prior.parameters()))


def dreaming(
    model: DDVI,
    n_epochs: int,
    weights: Weights,
    generator: torch.Generator,
    *,
    settled: bool = False,
) -> Phase:
    """Train the posterior alone on dreams of the model: wake-sleep then starts from a good one.

    Where there are labels, they are learned too. With `settled`, the encoder and its belief, which
    the warm start has made, and q(c | x), which is a mixture's, stay as they are: dreams of a model
    that is still rough would spoil them.
    """

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        diffusion = model.sleep(len(x), generator).mean()
        if labels is None:
            return {"loss": diffusion}
        classification = _classification(model, x, labels)
        return {
            "loss": diffusion + weights.alpha * classification,
            "classification": classification,
        }

    parameters = dict(model.posterior.named_parameters())
    held = [parameters.pop(n) for n in list(parameters) if settled and n.startswith(SETTLED)]
    objective = Objective("sleep", loss, [adam(parameters.values(), DREAMING_RATE)])
    return Phase("dreaming", n_epochs, [objective], held=held)


def wake_sleep(
    model: LatentVariableModel,
    n_epochs: int,
    weights: Weights,
    generator: torch.Generator,
    *,
    sleep: str | None = "full",
    n_sleep_steps: int = 1,
    rate: float = WAKE_SLEEP_RATE,
) -> Phase:
    """Climb the ELBO, and keep the posterior right on dreams.

    Parameters
    ----------
    model : LatentVariableModel
    n_epochs : int
    weights : Weights
    generator : torch.Generator
    sleep : {"full", "latent"} or None
        "full": after every wake step (over theta and phi, up the ELBO), steps of the posterior's
        parameters down -L_diff (section 3.4). "latent": one step on the sum of both, for a
        posterior whose reverse steps do not see x (appendix B). None: the ELBO alone.
    n_sleep_steps : int
        Sleep steps for each wake step, m of algorithm 1; "full" only.
    rate : float
        Peak learning rate.
    """

    def loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        terms = model.wake(x, labels, generator)
        total = -(terms.reconstruction + weights.beta_reg * terms.regularisation).mean()
        recorded = {
            "reconstruction": terms.reconstruction.mean(),
            "log_prior": terms.log_prior.mean(),
            "log_forward": terms.log_forward.mean(),
            "entropy": terms.entropy.mean(),
            "elbo": terms.elbo.mean(),
        }
        if isinstance(model, LatentClassModel):
            recorded["log_class"] = terms.log_class.mean()
        if labels is not None:
            recorded["classification"] = _classification(model, x, labels)
            total = total + weights.alpha * recorded["classification"]
        if sleep == "latent":
            recorded["diffusion"] = cast(DDVI, model).sleep(len(x), generator).mean()
            total = total + weights.beta_diff * recorded["diffusion"]
        return {"loss": total, **recorded}

    def sleep_loss(x: Tensor, done: float, labels: Tensor | None = None) -> Mapping[str, Tensor]:
        return {"loss": cast(DDVI, model).sleep(len(x), generator).mean()}

    phi = list(model.posterior.parameters())
    theta = model.generative_parameters()
    objectives = [Objective("wake", loss, [adam([*theta, *phi], rate)])]
    if sleep == "full":
        # Adam's steps do not depend on the scale of a loss, so the weight scales the rate
        optimizer = adam(phi, weights.beta_diff * rate)
        objectives.append(
            Objective("sleep", sleep_loss, [optimizer], repeats=lambda epoch: n_sleep_steps)
        )
    return Phase("wake" if sleep is None else "wake-sleep", n_epochs, objectives)


def _classification(model: LatentVariableModel, x: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log q(l | x) over the labelled rows, in nats; 0 without any."""
    rows = labels >= 0
    if not rows.any():
        return x.new_zeros(())
    log_q = model.posterior.class_log_probs(x[rows])
    return -log_q.gather(1, labels[rows].unsqueeze(1)).mean()
