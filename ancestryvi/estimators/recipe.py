"""How DDVI is trained from a matrix of features, start to finish."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor
from tqdm import tqdm

from ancestryvi.estimators.fitted import FittedDDVI
from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training import History, Phase, one_thread, resolve_device, train_phase
from ancestryvi.training.wake_sleep import dreaming, layout, wake_sleep, warm_start

PHASE_SHARES = (0.08, 0.6, 0.12, 0.2)
"""Shares of the epochs that go to layout, warm start, dreaming, and wake-sleep."""

AUTO_EPOCHS = 240
MIN_AUTO_STEPS = 2600
MAX_AUTO_STEPS = 6000
"""`n_epochs="auto"`: so many epochs, but at least and at most so many batches in all. With fewer
than about 1,500 steps of warm start the map, and with it the clusters, still differs by seed."""

SMALLEST_NOISE = 0.05
"""Least starting standard deviation of p(x | z), in units of the features' overall one."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The parameters of training; those of `AncestryDDVI` by the same names."""

    n_clusters: int
    n_components: int
    n_diffusion_steps: int
    beta_reg: float
    beta_diff: float
    n_epochs: int | str
    batch_size: int
    device: str
    progress: bool

    def fit(
        self, features: NDArray[np.float64], random: np.random.RandomState
    ) -> tuple[FittedDDVI, History]:
        """Train on all rows.

        The mixture that becomes the prior is fitted to the latents of the warm start: means that
        start at random lose most components.
        """
        device = resolve_device(self.device)
        seed = int(random.randint(2**31 - 1))
        centre = features.mean(axis=0)
        unit = float(np.sqrt(np.square(features - centre).mean())) or 1.0
        x = torch.as_tensor((features - centre) / unit, dtype=torch.float32, device=device)
        order = torch.Generator().manual_seed(seed)
        noise = torch.Generator(device=device).manual_seed(seed)
        model = self._untrained(x, seed).to(device)
        n_epochs = self.epochs(len(x))
        history = History()
        with (
            one_thread(),
            tqdm(
                total=sum(n_epochs),
                desc="training",
                unit="epoch",
                disable=None if self.progress else True,
            ) as bar,
        ):

            def run(phase: Phase) -> None:
                train_phase(
                    phase,
                    x,
                    batch_size=self.batch_size,
                    generator=order,
                    history=history,
                    progress=bar,
                )

            run(layout(model, leading_axes(x, self.n_components), n_epochs[0]))
            run(warm_start(model, n_epochs[1], self.beta_reg, noise))
            model.prior = self._mixture(model, x, random).to(device)
            run(dreaming(model, n_epochs[2], noise))
            run(wake_sleep(model, n_epochs[3], self.beta_reg, self.beta_diff, noise))
        return FittedDDVI(model.cpu().double().requires_grad_(False), centre, unit), history

    def epochs(self, n_samples: int) -> list[int]:
        """Epochs of each phase, at least one."""
        if isinstance(self.n_epochs, str):
            n_batches = math.ceil(n_samples / self.batch_size)
            n_steps = min(max(AUTO_EPOCHS * n_batches, MIN_AUTO_STEPS), MAX_AUTO_STEPS)
            total = math.ceil(n_steps / n_batches)
        else:
            total = int(self.n_epochs)
        return [max(1, round(total * share)) for share in PHASE_SHARES]

    def _untrained(self, x: Tensor, seed: int) -> DDVI:
        """The model before training, whose prior is one standard normal.

        The observation noise starts at the spread of the column that varies least: the last PCs
        are mostly noise, and starting too high would let the posterior collapse.
        """
        lowest = x.std(dim=0, correction=0).min().clamp(min=SMALLEST_NOISE).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return DDVI(
                x.shape[1],
                MixturePrior.standard_normal(self.n_components),
                GaussianDiffusion(cosine_alpha_bar(self.n_diffusion_steps)),
                lowest.repeat(x.shape[1]),
            )

    def _mixture(self, model: DDVI, x: Tensor, random: np.random.RandomState) -> MixturePrior:
        """A mixture fitted to the latents of the warm start, widened by their posterior spread."""
        with torch.no_grad():
            encoding = model.encode(x)
        latents = encoding.mean.double().cpu().numpy()
        spread = (2.0 * encoding.log_scale).exp().double().mean(0).cpu().numpy()
        n_clusters = min(self.n_clusters, len(latents))
        if n_clusters < self.n_clusters:
            warnings.warn(
                f"n_clusters={self.n_clusters} is more than the {n_clusters} samples to fit on; "
                f"fitting {n_clusters} clusters.",
                stacklevel=4,
            )
        mixture = GaussianMixture(
            n_clusters, reg_covar=1e-4, max_iter=500, n_init=5, random_state=random
        ).fit(latents)
        covariances = torch.as_tensor(mixture.covariances_ + np.diag(spread))
        factors = torch.linalg.inv(torch.linalg.cholesky(covariances))
        return MixturePrior(
            torch.as_tensor(mixture.weights_).float(),
            torch.as_tensor(mixture.means_).float(),
            factors.float(),
        )


def leading_axes(x: Tensor, n_latent: int) -> Tensor:
    """Matrix of shape (n_features, n_latent) that turns x into its first PCs, of unit variance.

    Columns beyond the rank are 0. The largest entry of each column is positive.
    """
    _, singular, vectors = torch.linalg.svd(x.double().cpu(), full_matrices=False)
    n_axes = min(n_latent, int((singular > 1e-6 * singular[0]).sum()))
    axes = vectors[:n_axes].T / singular[:n_axes] * math.sqrt(len(x))
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    padded = torch.zeros(x.shape[1], n_latent, dtype=torch.float64)
    padded[:, :n_axes] = axes
    return padded.to(x)
