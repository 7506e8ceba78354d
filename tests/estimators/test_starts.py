"""What training starts from, against sums written out sample by sample."""

import numpy as np
import pytest
import torch

from ancestryvi import AncestryDDVI
from ancestryvi.estimators.blueprint import Blueprint
from ancestryvi.estimators.starts import MIN_VARIANCE, SMALLEST_NOISE, start_clusters
from ancestryvi.estimators.tool_parts import Mixture

N_SAMPLES, N_FEATURES, N_CLUSTERS = 40, 3, 2


@pytest.fixture
def mixture():
    rng = np.random.default_rng(3)
    means = rng.normal(size=(N_CLUSTERS, N_FEATURES))
    return Mixture(np.array([0.3, 0.7]), means, np.full((N_CLUSTERS, N_FEATURES), 0.8))


def started(x, mixture):
    """A model with explicit classes, started from a mixture, and its belief before."""
    make = Blueprint(
        n_features=N_FEATURES, n_latent=2, n_clusters=N_CLUSTERS, n_steps=3, classes=True
    )
    model = make.build(noise_scale=torch.full((N_FEATURES,), 9.0))
    with torch.no_grad():
        mean, scale = model.posterior.encoder_belief(x)
    start_clusters(model, x, None, make, np.random.RandomState(0), mixture)
    return model, mean, scale


def test_components_are_weighted_moments_of_the_beliefs(mixture):
    x = torch.randn(N_SAMPLES, N_FEATURES, generator=torch.Generator().manual_seed(4))
    model, mean, scale = started(x, mixture)
    shares = mixture.at(x.double().numpy())
    mean, scale = mean.double().numpy(), scale.double().numpy()
    for k in range(N_CLUSTERS):
        size = sum(shares[i, k] for i in range(N_SAMPLES))
        centre = sum(shares[i, k] * mean[i] for i in range(N_SAMPLES)) / size
        np.testing.assert_allclose(model.prior.means[k].detach(), centre, rtol=1e-4, atol=1e-6)
        covariance = np.diag(np.mean(scale**2, axis=0) + MIN_VARIANCE)
        for i in range(N_SAMPLES):
            covariance += shares[i, k] * np.outer(mean[i] - centre, mean[i] - centre) / size
        factor = model.prior.precision_factors[k].detach().double()
        np.testing.assert_allclose(
            torch.linalg.inv(factor.T @ factor), covariance, rtol=1e-3, atol=1e-6
        )


def test_offsets_and_noise_are_the_best_for_the_beliefs(mixture, monkeypatch):
    """The expected squares of what is left, of z drawn from the belief of each sample."""
    monkeypatch.setattr("ancestryvi.estimators.starts.N_DRAWS", 2000)
    x = torch.randn(N_SAMPLES, N_FEATURES, generator=torch.Generator().manual_seed(4))
    model, mean, scale = started(x, mixture)
    shares = mixture.at(x.double().numpy())
    noise = torch.randn(5000, N_SAMPLES, 2, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        left = (x - model.decoder(mean + scale * noise)).double().numpy()
    squares = np.zeros(N_FEATURES)
    for k in range(N_CLUSTERS):
        size = sum(shares[i, k] for i in range(N_SAMPLES))
        offset = sum(shares[i, k] * left[:, i].mean(axis=0) for i in range(N_SAMPLES)) / size
        np.testing.assert_allclose(model.offsets[k].detach(), offset, rtol=0.02, atol=2e-3)
        for i in range(N_SAMPLES):
            squares += shares[i, k] * np.mean((left[:, i] - offset) ** 2, axis=0) / N_SAMPLES
    np.testing.assert_allclose(model.log_noise.detach().exp() ** 2, squares, rtol=0.02)


def test_noise_stays_positive_and_never_grows(mixture):
    model, *_ = started(torch.ones(N_SAMPLES, N_FEATURES), mixture)
    noise = model.log_noise.detach().exp().numpy()
    assert (noise >= 0.999 * SMALLEST_NOISE).all()
    model, *_ = started(100.0 * torch.randn(N_SAMPLES, N_FEATURES), mixture)
    np.testing.assert_allclose(model.log_noise.detach().exp(), 9.0, rtol=1e-5)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_waves_are_as_wide_as_neighbours_are_apart(spread):
    """In units of x; and not of no width where samples are repeated."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(4, 3)), 20, axis=0) + spread * rng.normal(size=(80, 3))
    model = AncestryDDVI(4, n_epochs=1, random_state=0).fit(x)
    apart = np.sort(np.linalg.norm(x[:, None] - x, axis=-1), axis=1)[:, 1:16]
    unit = np.sqrt(np.square(x - x.mean(axis=0)).mean())
    width = model._fitted.module.posterior.waves.width.item()
    assert width == pytest.approx(max(np.median(apart) / unit, 1e-3), rel=1e-4)
    assert np.isfinite(model.embedding_).all()
