"""How DDVI is trained from a matrix of features, start to finish."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ancestryvi.estimators.blueprint import Blueprint
from ancestryvi.estimators.calibration import calibrate_on_halves
from ancestryvi.estimators.discriminant import calibrate_on_labels
from ancestryvi.estimators.feature_mixture import choose_n_clusters, fit_feature_mixture
from ancestryvi.estimators.fitted import FittedModel
from ancestryvi.estimators.layout import flat_layout, mixture_layout
from ancestryvi.estimators.starts import (
    SMALLEST_NOISE,
    as_array,
    neighbour_pairs,
    start_clusters,
)
from ancestryvi.estimators.systems import SYSTEMS, System
from ancestryvi.models.diffusion_autoencoder import DiffusionAutoencoder
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.latent_class import LatentClassModel
from ancestryvi.models.latent_variable import Autoencoder
from ancestryvi.models.priors import KernelPrior, MixturePrior, Prior, Sampler, kernel_prior
from ancestryvi.models.reference import ReferenceDDVI
from ancestryvi.models.shapes import SHAPES
from ancestryvi.training import (
    History,
    Phase,
    one_blas_thread,
    one_thread,
    resolve_device,
    train_phase,
)
from ancestryvi.training.courses import Plan
from ancestryvi.training.loop import n_batches
from ancestryvi.training.reference import reference_phases
from ancestryvi.training.wake_sleep import Weights

REFERENCE_STEPS = 20
REFERENCE_EPOCHS = 200
REFERENCE_BATCH = 128
REFERENCE_REPEATS = 5
"""The authors' diffusion steps, epochs, batch size, and copies of the panel in an epoch."""

SMALLEST_WIDTH = 1e-3
"""Least width of the encoder's waves, in units of x. They are as wide as neighbours are apart, and
repeated samples are not; single precision resolves no less."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The parameters of training; those of the estimators by the same names.

    `method` is one of `SYSTEMS`; those with a default are of use to DDVI alone. `n_structure` is
    how many of the leading features show structure, None where that is not known.
    """

    method: str
    n_clusters: int | str
    n_components: int
    prior: str | Prior | Sampler
    clustering: str
    beta_reg: float
    alpha: float
    n_epochs: int | str
    batch_size: int
    device: str
    progress: bool
    sleep: str | None = None
    pretrain: bool = True
    n_diffusion_steps: int = 1
    n_sleep_steps: int = 1
    beta_diff: float = 1.0
    beta_neighbors: float = 0.0
    beta_layout: float = 0.0
    preset: str | None = None
    n_structure: int | None = None

    @property
    def system(self) -> System:
        """What is trained."""
        return SYSTEMS[self.method]

    @one_blas_thread()
    def fit(
        self,
        features: NDArray[np.float64],
        random: np.random.RandomState,
        labels: NDArray[np.int64] | None = None,
    ) -> tuple[FittedModel, History]:
        """Train on all rows; `labels` are class indices, -1 where there is none.

        The parts of the prior start from clusters that are there already, of the features where
        classes are explicit, else of the latents of the warm start: means that start at random lose
        most components.
        """
        if self.preset == "reference":
            return self._fit_reference(features, random)
        x, centre, unit = self._standardised(features)
        seed = int(random.randint(2**31 - 1))
        fixed = self._fixed_prior(seed, labels)
        blueprint = self._blueprint(x, fixed, labels)
        model = self._untrained(blueprint, fixed, x, seed).to(x.device)
        noise = torch.Generator(device=x.device).manual_seed(seed)
        settled = fixed is None and self.pretrain
        pairs = None
        if isinstance(model.posterior, DiffusionPosterior) and fixed is None:
            pairs, apart = neighbour_pairs(x, random)
            model.posterior.waves.width.fill_(max(apart, SMALLEST_WIDTH))
        n_epochs = self.epochs(len(x), settled)
        if settled and self.beta_layout:
            mixture = fit_feature_mixture(as_array(x), blueprint.n_clusters)
            layout = mixture_layout(x, self.n_components, mixture)
        else:
            mixture, layout = None, flat_layout(x, self.n_components)

        def start() -> None:
            if fixed is None or labels is not None:
                # the parts of a shape are nobody's yet; those of a user's own prior are in order
                free = fixed is not None and isinstance(self.prior, str)
                start_clusters(model, x, labels, blueprint, random, mixture, match_parts=free)

        plan = Plan(
            layout=layout,
            n_epochs=n_epochs,
            weights=Weights(
                beta_reg=self.beta_reg,
                beta_diff=self.beta_diff,
                alpha=self.alpha,
                beta_neighbors=self.beta_neighbors,
                beta_layout=self.beta_layout if settled else 0.0,
            ),
            generator=noise,
            seed=seed,
            start_clusters=start,
            settled=fixed is None,
            n_labels=0 if labels is None else blueprint.n_clusters,
            sleep=self.sleep,
            n_sleep_steps=self.n_sleep_steps,
            pairs=pairs if self.beta_neighbors and settled else None,
        )
        codes = None if labels is None else torch.as_tensor(labels, device=x.device)
        with self._training(x, codes, seed, sum(n_epochs.values())) as (run, history):
            for phase in self.system.course(model, plan):
                run(phase)
        if isinstance(model, LatentClassModel) and (labels is not None or fixed is None):
            model.posterior.class_factor.fill_(
                calibrate_on_halves(as_array(x), blueprint.n_clusters)
                if labels is None
                else calibrate_on_labels(as_array(x), labels)
            )
        return FittedModel(in_double(model), blueprint, centre, unit), history

    def _fit_reference(
        self, features: NDArray[np.float64], random: np.random.RandomState
    ) -> tuple[FittedModel, History]:
        """Train the authors' genotype model as their program does."""
        x, centre, unit = self._standardised(features)
        seed = int(random.randint(2**31 - 1))
        blueprint = Blueprint(
            n_features=x.shape[1],
            n_latent=self.n_components,
            n_clusters=self._affordable_clusters(x),
            n_steps=REFERENCE_STEPS,
            reference=True,
        )
        model = cast(ReferenceDDVI, blueprint.build(seed)).to(x.device)
        noise = torch.Generator(device=x.device).manual_seed(seed)
        n_epochs = REFERENCE_EPOCHS if isinstance(self.n_epochs, str) else int(self.n_epochs)
        phases = reference_phases(model, n_epochs, noise)
        panel = replace(self, batch_size=REFERENCE_BATCH)
        n_all = sum(phase.n_epochs for phase in phases)
        with panel._training(x.repeat(REFERENCE_REPEATS, 1), None, seed, n_all) as (run, history):
            for phase in phases:
                run(phase)
        model.set_noise(x)
        return FittedModel(in_double(model), blueprint, centre, unit), history

    def _standardised(
        self, features: NDArray[np.float64]
    ) -> tuple[Tensor, NDArray[np.float64], float]:
        """Features less their centre, in one unit for all, on the device; centre and unit."""
        centre = features.mean(axis=0)
        unit = float(np.sqrt(np.square(features - centre).mean())) or 1.0
        device = resolve_device(self.device)
        x = torch.as_tensor((features - centre) / unit, dtype=torch.float32, device=device)
        return x, centre, unit

    @contextmanager
    def _training(
        self, x: Tensor, labels: Tensor | None, seed: int, n_epochs: int
    ) -> Iterator[tuple[Callable[[Phase], None], History]]:
        """A function that runs a phase, and the history that it writes; one progress bar."""
        order = torch.Generator().manual_seed(seed)
        history = History()
        quiet = None if self.progress else True
        with (
            one_thread(),
            tqdm(total=n_epochs, desc="training", unit="epoch", disable=quiet) as bar,
        ):

            def run(phase: Phase) -> None:
                train_phase(
                    phase,
                    x,
                    labels,
                    batch_size=self.batch_size,
                    generator=order,
                    history=history,
                    progress=bar,
                )

            yield run, history

    def epochs(self, n_samples: int, settled: bool) -> dict[str, int]:
        """Epochs of each phase, at least one; `settled`: wake-sleep comes to refine."""
        if isinstance(self.n_epochs, str):
            per_epoch = n_batches(n_samples, self.batch_size)
            n_epochs, least, most = self.system.n_auto
            n_steps = min(max(n_epochs * per_epoch, least), most)
            if settled and self.system.n_settled:
                n_steps = self.system.n_settled
            total = math.ceil(n_steps / per_epoch)
        else:
            total = int(self.n_epochs)
        left_out = {
            "warm start": not self.pretrain,
            "dreaming": not self.pretrain or self.sleep is None,
        }
        of_phases = self.system.shares
        if settled and self.system.settled_shares:
            of_phases = self.system.settled_shares
        shares = {name: s for name, s in of_phases.items() if not left_out.get(name, False)}
        return {
            name: max(1, round(total * share / sum(shares.values())))
            for name, share in shares.items()
        }

    def _fixed_prior(self, seed: int, labels: NDArray[np.int64] | None) -> Prior | None:
        """The prior where it is not learned, with as many parts as there are labels, if any."""
        if isinstance(self.prior, Prior):
            prior = copy.deepcopy(self.prior).float().requires_grad_(False)
        elif callable(self.prior) or self.prior in SHAPES:
            sampler = SHAPES[self.prior] if isinstance(self.prior, str) else self.prior
            prior = kernel_prior(sampler, self.n_components, np.random.default_rng(seed)).float()
        elif self.prior == "normal" and self.clustering != "latent_class" and labels is None:
            prior = MixturePrior.standard_normal(self.n_components).requires_grad_(False)
        else:
            return None
        if prior.n_latent != self.n_components:
            raise ValueError(
                f"The prior has {prior.n_latent} dimensions, n_components is {self.n_components}."
            )
        if labels is not None:
            n_labels = labels.max() + 1
            if n_labels > prior.n_clusters:
                raise ValueError(
                    f"y has {n_labels} labels, and the prior {prior.n_clusters} parts to give "
                    "them; choose another prior."
                )
            prior = prior.keep(torch.arange(n_labels))
        return prior

    def _blueprint(
        self, x: Tensor, fixed: Prior | None, labels: NDArray[np.int64] | None
    ) -> Blueprint:
        """The make of the model."""
        if labels is not None:
            sizes = np.bincount(labels[labels >= 0])
            n_clusters = len(sizes)
            if n_clusters == 1 or (sizes == 1).any():
                what = (
                    "There is one label, and so one cluster."
                    if n_clusters == 1
                    else f"{np.count_nonzero(sizes == 1)} of {n_clusters} labels have a single "
                    "sample: too few to say how sure an assignment is."
                )
                warnings.warn(what, stacklevel=7)
        elif fixed is not None:
            n_clusters = fixed.n_clusters
        else:
            n_clusters = self._affordable_clusters(x)
        has_classes = self.system.models[1] is not None
        explicit = self._explicit_classes(fixed)
        if self.clustering == "latent_class" and not has_classes:
            raise ValueError(
                f"{self.system.title} has no explicit classes; leave clustering at 'mixture'."
            )
        return Blueprint(
            method=self.method,
            n_features=x.shape[1],
            n_latent=self.n_components,
            n_clusters=n_clusters,
            n_steps=self.n_diffusion_steps,
            classes=has_classes and (labels is not None or explicit),
            conditional=self.sleep != "latent",
            learned=fixed is None,
            n_points=len(fixed.points) if isinstance(fixed, KernelPrior) else 0,
        )

    def _explicit_classes(self, fixed: Prior | None) -> bool:
        """Whether clusters are explicit classes: where asked for, or for "auto" if learned."""
        if self.clustering == "auto":
            return fixed is None
        return self.clustering == "latent_class"

    def _affordable_clusters(self, x: Tensor) -> int:
        """As many clusters as asked for or found, or as there are samples."""
        n_samples = len(x)
        if isinstance(self.n_clusters, str):
            return choose_n_clusters(as_array(x[:, : self.n_structure]))
        if n_samples < self.n_clusters:
            warnings.warn(
                f"n_clusters={self.n_clusters} is more than the {n_samples} samples to fit on; "
                f"fitting {n_samples} clusters.",
                stacklevel=8,
            )
        return min(self.n_clusters, n_samples)

    def _untrained(
        self, blueprint: Blueprint, fixed: Prior | None, x: Tensor, seed: int
    ) -> Autoencoder:
        """The model before training; a prior that is to be learned is one standard normal yet.

        The observation noise starts at the spread of the column that varies least: the last PCs
        are mostly noise, and starting too high would let the posterior collapse.
        """
        lowest = x.std(dim=0, correction=0).min().clamp(min=SMALLEST_NOISE).cpu()
        prior = MixturePrior.standard_normal(self.n_components) if fixed is None else fixed
        model = cast(Autoencoder, blueprint.build(seed, prior, lowest.repeat(x.shape[1])))
        if isinstance(model, DiffusionAutoencoder):
            model.decoder.set_variance(
                x.var(dim=0, correction=0).clamp(min=SMALLEST_NOISE**2).cpu()
            )
        return model


def in_double(model: torch.nn.Module) -> Any:
    """A trained model for the read-out: in double precision, on its device if that has it."""
    device = next(model.parameters()).device
    return model.to("cpu" if device.type == "mps" else device).double().requires_grad_(False)
