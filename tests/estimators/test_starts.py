"""What clusters start from, against sums written out sample by sample."""

import numpy as np
import pytest
import torch

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
    """A model with explicit classes, started from a mixture, and its decoded belief before."""
    make = Blueprint(
        n_features=N_FEATURES, n_latent=2, n_clusters=N_CLUSTERS, n_steps=3, classes=True
    )
    model = make.build()
    with torch.no_grad():
        mean, scale = model.posterior.encoder_belief(x)
        decoded = model.decoder(mean)
    start_clusters(model, x, None, make, np.random.RandomState(0), mixture)
    return model, mean.double().numpy(), scale.double().numpy(), decoded.double().numpy()


def test_offsets_noise_and_components_are_weighted_moments(mixture):
    x = torch.randn(N_SAMPLES, N_FEATURES, generator=torch.Generator().manual_seed(4))
    model, mean, scale, decoded = started(x, mixture)
    rows = x.double().numpy()
    shares = mixture.at(rows)
    spread = np.mean(scale**2, axis=0) + MIN_VARIANCE
    squares = np.zeros(N_FEATURES)
    for k in range(N_CLUSTERS):
        size = sum(shares[i, k] for i in range(N_SAMPLES))
        offset = sum(shares[i, k] * (rows[i] - decoded[i]) for i in range(N_SAMPLES)) / size
        np.testing.assert_allclose(model.offsets[k].detach(), offset, rtol=1e-4, atol=1e-6)
        centre = sum(shares[i, k] * mean[i] for i in range(N_SAMPLES)) / size
        np.testing.assert_allclose(model.prior.means[k].detach(), centre, rtol=1e-4, atol=1e-6)
        covariance = np.diag(spread)
        for i in range(N_SAMPLES):
            squares += shares[i, k] * (rows[i] - decoded[i] - offset) ** 2 / N_SAMPLES
            covariance += shares[i, k] * np.outer(mean[i] - centre, mean[i] - centre) / size
        factor = model.prior.precision_factors[k].detach().double()
        np.testing.assert_allclose(
            torch.linalg.inv(factor.T @ factor), covariance, rtol=1e-3, atol=1e-6
        )
    np.testing.assert_allclose(model.log_noise.detach().exp() ** 2, squares, rtol=1e-3)


def test_noise_stays_positive_where_nothing_is_left_over(mixture):
    model, *_ = started(torch.ones(N_SAMPLES, N_FEATURES), mixture)
    np.testing.assert_allclose(model.log_noise.detach().exp(), SMALLEST_NOISE, rtol=1e-5)
