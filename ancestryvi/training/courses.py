"""The courses of training: which phases a method goes through, and when clusters come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ancestryvi.models.adversarial import Critic
from ancestryvi.models.diffusion_autoencoder import DiffusionAutoencoder, ScoreAutoencoder
from ancestryvi.training.adversarial import adversarial
from ancestryvi.training.diffusion_decoder import SETTLED_RATE as DECODER_SETTLED_RATE
from ancestryvi.training.diffusion_decoder import decoder_alone, encode_decode, orient
from ancestryvi.training.loop import Phase
from ancestryvi.training.wake_sleep import (
    SETTLED_RATE,
    WAKE_SLEEP_RATE,
    Layout,
    Pairs,
    Weights,
    dreaming,
    layout,
    wake_sleep,
    warm_start,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a course is told.

    Attributes
    ----------
    layout : Layout
        Where the map starts from.
    n_epochs : mapping of str to int
        Epochs of each phase; a phase that is not named is left out where that is possible.
    weights : Weights
    generator : torch.Generator
        Of all draws, on the device of the model.
    seed : int
        Of networks that are needed in training only.
    start_clusters : callable
        Gives prior and classes their start from the present latents; does nothing where the prior
        is fixed.
    settled : bool
        Whether the prior is learned, so that phases after `start_clusters` refine.
    n_labels : int
        Number of labels; 0 without any.
    sleep, n_sleep_steps
        As for `wake_sleep`.
    pairs : Pairs, optional
        Neighbours for the warm start.
    """

    layout: Layout
    n_epochs: Mapping[str, int]
    weights: Weights
    generator: torch.Generator
    seed: int
    start_clusters: Callable[[], None]
    settled: bool
    n_labels: int = 0
    sleep: str | None = None
    n_sleep_steps: int = 1
    pairs: Pairs | None = None


Course = Callable[[Any, Plan], Iterator[Phase]]
"""From an untrained model and a plan to phases, each to be run before the next is asked for."""

WAKE_SLEEP_SHARES = {"layout": 0.08, "warm start": 0.6, "dreaming": 0.12, "wake-sleep": 0.2}
SETTLED_SHARES = {"layout": 0.1, "warm start": 0.73, "dreaming": 0.1, "wake-sleep": 0.07}
WAKE_SHARES = {"layout": 0.08, "warm start": 0.6, "wake-sleep": 0.2}
ADVERSARIAL_SHARES = {"layout": 0.08, "adversarial": 0.6, "settling": 0.2}
DECODER_SHARES = {"layout": 0.08, "auto-encoder": 0.6, "settling": 0.2}
SCORE_SHARES = {"diffusion": 0.3, "layout": 0.08, "encoder": 0.4, "settling": 0.2}
CORRECTED_SHARES = SCORE_SHARES | {"corrector": 0.2}
"""Shares of the epochs that phases get; settled: DDVI's, where a warm start makes the map and what
comes after refines it."""


def wake_sleep_course(model: Any, plan: Plan) -> Iterator[Phase]:
    """Layout, warm start, clusters, dreaming, wake-sleep: algorithm 1 of DDVI.

    Without a sleep term this is the course of every variational auto-encoder.
    """
    yield layout(model, plan.layout, plan.n_epochs["layout"])
    warm = "warm start" in plan.n_epochs
    if warm:
        yield warm_start(
            model,
            plan.n_epochs["warm start"],
            plan.weights,
            plan.generator,
            plan.pairs,
            plan.layout,
        )
    plan.start_clusters()
    if "dreaming" in plan.n_epochs:
        n_epochs = plan.n_epochs["dreaming"]
        settled = plan.settled and not plan.n_labels
        yield dreaming(model, n_epochs, plan.weights, plan.generator, settled=settled)
    yield wake_sleep(
        model,
        plan.n_epochs["wake-sleep"],
        plan.weights,
        plan.generator,
        sleep=plan.sleep,
        n_sleep_steps=plan.n_sleep_steps,
        rate=SETTLED_RATE if warm and plan.settled else WAKE_SLEEP_RATE,
    )


def adversarial_course(model: Any, plan: Plan) -> Iterator[Phase]:
    """Layout, then against a critic: first towards one Gaussian, then towards the clusters."""
    yield layout(model, plan.layout, plan.n_epochs["layout"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        critic = Critic(model.n_latent, plan.n_labels).to(model.log_noise.device)

    def against_critic(name: str) -> Phase:
        n_epochs = plan.n_epochs[name]
        return adversarial(model, critic, name, n_epochs, plan.weights, plan.generator)

    yield against_critic("adversarial")
    plan.start_clusters()
    yield against_critic("settling")
    plan.start_clusters()  # no gradient reaches the prior, which the latents have moved away from


def decoder_course(model: DiffusionAutoencoder, plan: Plan) -> Iterator[Phase]:
    """Layout, then encoder and diffusion decoder together, before and after the clusters."""
    yield orient(model, plan.layout, plan.n_epochs["layout"])
    yield _encode_decode(model, "auto-encoder", [model.posterior, model.decoder], plan)
    plan.start_clusters()
    yield _encode_decode(model, "settling", [model.posterior, model.decoder, model.prior], plan)


def score_course(model: ScoreAutoencoder, plan: Plan) -> Iterator[Phase]:
    """The diffusion model of x, then the encoder, then the corrector if there is one.

    The three stages of Batzolis et al., sections 3.3, 3.4 and 3.6; clusters come in during the
    second.
    """
    decoder = model.decoder

    def prior_loss(x: Tensor, z: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        return decoder.prior_loss(x, time, noise)

    yield decoder_alone(
        model, "diffusion", decoder.prior, prior_loss, plan.n_epochs["diffusion"], plan.generator
    )
    yield orient(model, plan.layout, plan.n_epochs["layout"])
    yield _encode_decode(model, "encoder", [model.posterior], plan)
    plan.start_clusters()
    yield _encode_decode(model, "settling", [model.posterior, model.prior], plan)
    if decoder.corrector is not None:
        yield decoder_alone(
            model,
            "corrector",
            decoder.corrector,
            decoder.corrector_loss,
            plan.n_epochs["corrector"],
            plan.generator,
        )


def _encode_decode(
    model: DiffusionAutoencoder, name: str, parts: Sequence[nn.Module], plan: Plan
) -> Phase:
    """A phase that trains these parts; at a low rate after the clusters have come in."""
    parameters = [p for part in parts for p in part.parameters()]
    late = {"rate": DECODER_SETTLED_RATE, "warm_up": 0.0} if name == "settling" else {}
    beta = plan.weights.beta_reg
    return encode_decode(model, name, parameters, plan.n_epochs[name], beta, plan.generator, **late)
