"""The latent-variable models, each by what it is built of and how it is trained.

A new one is a file in `ancestryvi.models` and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ancestryvi.models.adversarial import PointPosterior
from ancestryvi.models.aevb import GaussianPosterior
from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_autoencoder import (
    CorrectedScoreAutoencoder,
    DiffDecoderAutoencoder,
    ScoreAutoencoder,
    ScorePosterior,
    VDMAutoencoder,
)
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.hierarchical import HierarchicalPosterior
from ancestryvi.models.iaf import FlowPosterior
from ancestryvi.models.latent_class import LatentClassDDVI, LatentClassModel
from ancestryvi.models.latent_variable import Autoencoder, LatentVariableModel
from ancestryvi.models.path_integral import PathIntegralPosterior
from ancestryvi.models.posterior import Posterior
from ancestryvi.models.priors import Prior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training.courses import (
    ADVERSARIAL_SHARES,
    CORRECTED_SHARES,
    DECODER_SHARES,
    SCORE_SHARES,
    SETTLED_SHARES,
    WAKE_SHARES,
    WAKE_SLEEP_SHARES,
    Course,
    adversarial_course,
    decoder_course,
    score_course,
    wake_sleep_course,
)

LATENT_FINAL = 0.95
"""abar_T where reverse steps do not see x: what z knows of x has to come through y_T. That of the
authors is 0.951 for their T = 5 and 0.904 for T = 10."""

HIDDEN, SETTLED_HIDDEN = 256, 128
"""Width of encoder and decoder, and that of DDVI under a prior that is learned: there a warm start
settles the map, and half the width does. Under a fixed prior wake-sleep has all to learn."""

SETTLED_SHARPNESS = 5.0
"""Sharpness of DDVI's encoder under a prior that is learned: close populations differ by about a
fifth of the features' overall standard deviation, the unit of x."""

SETTLED_WAVES = 128
"""Random Fourier features that DDVI's encoder sees under a prior that is learned, so that the map
can follow neighbours where they are near each other in many directions."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A latent-variable model of the literature.

    Attributes
    ----------
    title, summary : str
        Its name, and what it is in one line.
    posterior : callable
        From a `Blueprint` to an untrained q(z | x).
    models : tuple of two classes
        The model, and the same with explicit classes; None where there is no such form, and labels
        are then parts of the prior alone.
    course : Course
        The phases of its training.
    shares : mapping of str to float
        Shares of the epochs that the phases get.
    beta : float
        Default weight of the prior terms.
    bounded : bool
        Whether it has a lower bound of log p(x).
    width : callable
        From a `Blueprint` to the width of a decoder whose p(x | z) is a Gaussian.
    n_auto : tuple of three int
        With ``n_epochs="auto"``: the epochs, and the least and the largest number of batches in
        all, to which they are changed where needed.
    n_settled : int, optional
        Number of batches in all where a warm start settles the map; None: as `n_auto`.
    settled_shares : mapping of str to float, optional
        Shares of the epochs there, where later phases refine; None: as `shares`.
    """

    title: str
    summary: str
    posterior: Callable[[Any], Posterior]
    models: tuple[type[Any], type[Any] | None] = (
        LatentVariableModel,
        LatentClassModel,
    )
    course: Course = wake_sleep_course
    shares: Mapping[str, float] = field(default_factory=lambda: WAKE_SHARES)
    beta: float = 1.0
    bounded: bool = True
    width: Callable[[Any], int] = lambda make: HIDDEN
    n_auto: tuple[int, int, int] = (240, 2600, 6000)
    n_settled: int | None = None
    settled_shares: Mapping[str, float] | None = None

    def build(self, make: Any, prior: Prior, noise_scale: Tensor) -> Autoencoder:
        """The untrained model of a `Blueprint`."""
        kind: Any = self.models[1] if make.classes else self.models[0]
        if issubclass(kind, LatentVariableModel):
            return kind(
                make.n_features, prior, self.posterior(make), noise_scale, n_hidden=self.width(make)
            )
        return kind(make.n_features, prior, self.posterior(make))


def _width(make: Any) -> int:
    """Width of DDVI's encoder and decoder, twice that of its denoiser."""
    return SETTLED_HIDDEN if make.learned else HIDDEN


def _diffusion(make: Any) -> DiffusionPosterior:
    final = {} if make.conditional else {"final": LATENT_FINAL}
    return DiffusionPosterior(
        make.n_features,
        make.n_latent,
        GaussianDiffusion(cosine_alpha_bar(make.n_steps, **final)),
        n_classes=make.n_classes,
        conditional=make.conditional,
        n_hidden=_width(make),
        n_hidden_denoiser=_width(make) // 2,
        sharpness=SETTLED_SHARPNESS if make.learned else 1.0,
        n_waves=SETTLED_WAVES if make.learned else 0,
    )


def _score(make: Any) -> ScorePosterior:
    return ScorePosterior(make.n_features, make.n_latent)


def _plain(kind: Callable[..., Posterior]) -> Callable[[Any], Posterior]:
    """A posterior that needs to know dimensions and classes only."""
    return lambda make: kind(make.n_features, make.n_latent, n_classes=make.n_classes)


SYSTEMS: dict[str, System] = {
    "ddvi": System(
        title="DDVI",
        summary="diffusion posterior, trained by wake-sleep",
        posterior=_diffusion,
        models=(DDVI, LatentClassDDVI),
        shares=WAKE_SLEEP_SHARES,
        width=_width,
        n_auto=(45, 750, 2000),
        n_settled=560,
        settled_shares=SETTLED_SHARES,
    ),
    "aevb": System(
        title="AEVB",
        summary="variational auto-encoder (beta-VAE), Gaussian posterior",
        posterior=_plain(GaussianPosterior),
    ),
    "aevb-iaf": System(
        title="AEVB-IAF",
        summary="variational auto-encoder, inverse autoregressive flow posterior",
        posterior=_plain(FlowPosterior),
    ),
    "h-aevb": System(
        title="H-AEVB",
        summary="variational auto-encoder, hierarchical posterior",
        posterior=_plain(HierarchicalPosterior),
    ),
    "pis": System(
        title="PIS",
        summary="variational auto-encoder, path integral sampler as posterior",
        posterior=_plain(PathIntegralPosterior),
    ),
    "aaeb": System(
        title="AAEB",
        summary="adversarial auto-encoder",
        posterior=_plain(PointPosterior),
        models=(LatentVariableModel, None),
        course=adversarial_course,
        shares=ADVERSARIAL_SHARES,
        bounded=False,
    ),
    "vdm": System(
        title="VDM",
        summary="auto-encoder, variational diffusion decoder",
        posterior=_plain(GaussianPosterior),
        models=(VDMAutoencoder, None),
        course=decoder_course,
        shares=DECODER_SHARES,
        beta=0.05,
    ),
    "diffdecoder": System(
        title="DiffDecoder",
        summary="auto-encoder, diffusion decoder trained on the plain error of the noise",
        posterior=_plain(GaussianPosterior),
        models=(DiffDecoderAutoencoder, None),
        course=decoder_course,
        shares=DECODER_SHARES,
        beta=0.01,
    ),
    "scorevae": System(
        title="ScoreVAE",
        summary="encoder of a diffusion model, decoder by Bayes' rule for scores",
        posterior=_score,
        models=(ScoreAutoencoder, None),
        course=score_course,
        shares=SCORE_SHARES,
        beta=0.01,
    ),
    "scorevae+": System(
        title="ScoreVAE+",
        summary="ScoreVAE with a corrector",
        posterior=_score,
        models=(CorrectedScoreAutoencoder, None),
        course=score_course,
        shares=CORRECTED_SHARES,
        beta=0.01,
    ),
}
"""By the name that `--method` takes."""
