"""The approximate posterior q(z | x): what every variational method shares, and what it chooses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ancestryvi.models.networks import Waves, mlp, zero_init

LOG_SCALE_RANGE = (-10.0, 3.0)
"""Log standard deviations that the encoder may give, on a map of a few units. Networks extrapolate
linearly, so that far from the training data the exponential of their output would overflow."""

LEAST_LOGIT = -60.0
"""Classes are taken to be at least e^-60 as probable as the likeliest: less would change no digit,
and exponentials that underflow take many times as long."""

LogJoint = Callable[[Tensor], Tensor] | None
"""log p(x, z) in nats as a function of z of shape (..., n_samples, n_latent), of shape (...,
n_samples), for the rows of x at hand; None where p(x | z) has no closed form."""


@dataclass(frozen=True)
class Encoding:
    """What the encoder knows of x: a Gaussian belief about z, and features."""

    mean: Tensor
    log_scale: Tensor
    features: Tensor


class Trajectory(NamedTuple):
    """A draw from q(y, z | x), and what the bound needs to know of it.

    Attributes
    ----------
    z : Tensor of shape (..., n_samples, n_latent)
    log_auxiliary : Tensor of shape (..., n_samples)
        log r(y | z, x) of the auxiliary variables y that q goes through, in nats; 0 without any.
    entropy : Tensor of shape (..., n_samples)
        -log q(y, z | x) in nats, or its expectation where that is known.
    """

    z: Tensor
    log_auxiliary: Tensor
    entropy: Tensor


class Posterior(nn.Module, ABC):
    """q(z | x), by way of a Gaussian belief N(m(x), s^2(x)) about z.

    The belief alone is the posterior of AEVB; other posteriors refine it, and must agree with it
    before they are trained.
    """

    n_latent: int

    @property
    @abstractmethod
    def n_noise(self) -> int:
        """Number of standard normal vectors that a draw takes."""

    @abstractmethod
    def encode(self, x: Tensor, c: Tensor | None = None) -> Encoding:
        """Everything of q that depends on x and c alone.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        c : Tensor of shape (..., n_samples or 1, n_classes), optional
            Class of each sample as one-hot vectors, for a posterior that has classes; any axes
            before are several classes for each.
        """

    @abstractmethod
    def trajectory(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Trajectory:
        """Draw from q with the given noise.

        Parameters
        ----------
        encoding : Encoding
            Of n_samples rows of x.
        noise : Tensor of shape (n_noise, ..., n_samples or 1, n_latent)
            Standard normal; any axes between are several draws. Noise 0 follows the means.
        log_joint : LogJoint
            The target up to a constant, for a posterior that looks at it.
        """

    def infer(self, encoding: Encoding, noise: Tensor, log_joint: LogJoint) -> Tensor:
        """The z of `trajectory`, of shape (..., n_samples, n_latent)."""
        return self.trajectory(encoding, noise, log_joint).z

    def draw_belief(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z drawn from the belief with the given noise, and its standard deviations."""
        mean, scale = self.encoder_belief(x)
        return mean + scale * noise, scale

    def encoder_belief(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviations of the Gaussian belief about z."""
        encoding = self.encode(x)
        return encoding.mean, encoding.log_scale.exp()


class EncoderPosterior(Posterior):
    """A posterior whose belief comes from an encoder of its own, and that may name a class first.

    Parameters
    ----------
    n_features, n_latent : int
        Dimensions of x and z.
    n_classes : int, default=0
        Number of values of a class variable c that q depends on too; 0 for none.
    n_hidden : int, default=256
        Width of the encoder, which has two hidden layers.
    sharpness : float, default=1.0
        Factor of x on its way into the encoder: the larger, the shorter are the distances over
        which it learns places to change.
    n_waves : int, default=0
        Random Fourier features that the encoder sees beside x; see `networks.Waves`.
    """

    class_factor: Tensor

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        *,
        n_classes: int = 0,
        n_hidden: int = 256,
        sharpness: float = 1.0,
        n_waves: int = 0,
    ) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.n_classes = n_classes
        self.encoder = nn.Sequential(
            Waves(n_features, n_waves, sharpness),
            mlp(n_features + n_waves, n_hidden, 1, n_hidden),
            nn.SiLU(),
        )
        self.belief_head = nn.Linear(n_hidden, 2 * n_latent)
        if n_classes:
            self.class_head = zero_init(nn.Linear(2 * n_features, n_classes))
            self.class_correction = zero_init(nn.Linear(n_hidden, n_classes))
            self.register_buffer("class_factor", torch.ones(()))
            self.class_features = nn.Parameter(torch.zeros(n_classes, n_hidden))

    @property
    def waves(self) -> Waves:
        """The first layer of the encoder."""
        return cast(Waves, self.encoder[0])

    def encode(self, x: Tensor, c: Tensor | None = None) -> Encoding:
        """The belief, and the features it was read from; see `Posterior.encode`."""
        features = self.encoder(x)
        if c is not None:
            features = features + c @ self.class_features
        return Encoding(*gaussian(self.belief_head(features)), features)

    def encoder_belief(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviations of the Gaussian belief."""
        mean, log_scale = gaussian(self.belief_head(self.encoder(x)))
        return mean, log_scale.exp()

    # ---------------------------------------------------------------------------- the classes

    def class_log_probs(self, x: Tensor) -> Tensor:
        """log q(c | x), of shape (n_samples, n_classes): a quadratic discriminant, corrected.

        Linear in x and its squares, as for Gaussian classes with diagonal covariances.
        `class_factor` scales the logits; it is 1 while training, and may be set to calibrate them.
        """
        logits = self.class_head(torch.cat([x, x.square()], dim=-1)) + self.class_correction(
            self.encoder(x)
        )
        logits = self.class_factor * logits
        return (logits - logits.amax(-1, keepdim=True)).clamp(min=LEAST_LOGIT).log_softmax(-1)

    def keep_classes(self, order: Tensor) -> None:
        """Keep these classes alone, in this order."""
        self.class_head = linear(self.class_head.weight[order], self.class_head.bias[order])
        correction = self.class_correction
        self.class_correction = linear(correction.weight[order], correction.bias[order])
        self.class_features = nn.Parameter(self.class_features.detach()[order])


def gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation, within its range, from the output of a head."""
    mean, log_scale = output.chunk(2, dim=-1)
    return mean, log_scale.clamp(*LOG_SCALE_RANGE)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer with these parameters."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0]).to(weight)
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return layer
