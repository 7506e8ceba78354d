"""Small models in float64, every parameter random: no term of an equation is 0 by chance."""

from collections.abc import Callable, Iterator

import pytest
import torch

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.latent_class import LatentClassDDVI
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """New tensors, parameters and the buffers of a diffusion are float64 inside the test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On matrices this small, threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


@pytest.fixture
def random_ddvi() -> Callable[..., DDVI]:
    """A factory of DDVI models whose parameters, the zero-initialised heads too, are random.

    With `classes`, a `LatentClassDDVI` of one class for each component of its prior.
    """

    def make(
        *,
        n_features: int = 3,
        n_latent: int = 2,
        n_clusters: int = 3,
        n_steps: int = 3,
        seed: int = 0,
        spread: float = 0.4,
        classes: bool = False,
        conditional: bool = True,
        sharpness: float = 1.0,
    ) -> DDVI:
        generator = torch.Generator().manual_seed(seed)
        prior = MixturePrior(
            torch.ones(n_clusters),
            torch.zeros(n_clusters, n_latent),
            torch.eye(n_latent).repeat(n_clusters, 1, 1),
        )
        posterior = DiffusionPosterior(
            n_features,
            n_latent,
            GaussianDiffusion(cosine_alpha_bar(n_steps)),
            n_classes=n_clusters if classes else 0,
            conditional=conditional,
            n_hidden=6,
            n_hidden_denoiser=5,
            sharpness=sharpness,
        )
        kind = LatentClassDDVI if classes else DDVI
        model = kind(n_features, prior, posterior, torch.ones(n_features), n_hidden=6)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
            prior.means.mul_(3.0)
        return model

    return make
