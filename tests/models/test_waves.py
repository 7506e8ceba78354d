"""Random Fourier features of the encoder, against their formula and the kernel they stand for."""

import numpy as np
import torch

from ancestryvi.models.networks import Waves


def test_inputs_come_first_and_waves_after():
    torch.manual_seed(0)
    waves = Waves(3, 7, 5.0)
    waves.width.fill_(0.4)
    x = torch.randn(2, 4, 3)
    out = waves(x).numpy()
    phase = x.numpy() @ waves.frequencies.numpy() / 0.4 + waves.phases.numpy()
    np.testing.assert_allclose(out, np.concatenate([5.0 * x, np.cos(phase)], -1), rtol=1e-5)


def test_products_of_waves_are_a_gaussian_kernel_of_their_width():
    """E[2 cos(w'x + p) cos(w'y + p)] = exp(-|x - y|^2 / (2 width^2)); Rahimi and Recht (2007)."""
    torch.manual_seed(0)
    waves = Waves(2, 200_000, 1.0)
    waves.width.fill_(1.5)
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, -1.0]])
    out = waves(x)[:, 2:].double()
    found = 2.0 * out @ out.T / out.shape[1]
    kernel = (-0.5 * torch.cdist(x, x).square() / 1.5**2).exp()
    np.testing.assert_allclose(found, kernel, atol=0.01)


def test_without_waves_the_encoder_sees_the_inputs_alone():
    x = torch.randn(4, 3)
    assert torch.equal(Waves(3, 0, 2.0)(x), 2.0 * x)
