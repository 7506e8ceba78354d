"""A model with an explicit class c: latent for clustering, partly observed for semi-supervision.

Generative model p(c) p(z | c) p(x | z, c) with p(x | z, c) = N(f(z) + b_c, diag s^2), posterior
q(c | x) q(y, z | x, c). The classes are the parts of the prior.

Clustering (section 4.2, second strategy, equation 11) has p(z') p(x | z', c) with a prior that
knows nothing of c. With p(z | c) = N(m_c, S_c) that is the same model in other coordinates: z' is
the standardised S_c^{-1/2} (z - m_c), from which f sees m_c + S_c^{1/2} z'. The map shows z. c is
one-hot, the limit of a Dirichlet prior Dir(eps pi) for eps to 0, whose mass then is at the corners
of the simplex, in shares pi.

Semi-supervised learning (section 4.1, equation 10) is this model with c observed for some samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.latent_variable import (
    ElboTerms,
    LatentVariableModel,
    normal,
    standardise,
)
from ancestryvi.models.posterior import EncoderPosterior
from ancestryvi.models.priors import Prior

MAX_ANALYTIC_CLASSES = 8
"""Expectations over more classes than this are estimated from one draw of c while training."""

MIN_PAIRS = 2
"""Mirrored pairs of posterior draws behind the bound of each class, at least."""

TEMPERATURE = 0.5
"""Of the relaxed draws of c (Jang, Gu and Poole 2017)."""

LOG_NEGLIGIBLE = -18.0
"""log q(c | x) of classes that the read-out leaves out: each has less than 2e-8 of a sample,
and most classes of most samples are such."""

LOG_IMPOSSIBLE = -1e4
"""log q(c | x) of the classes that a label excludes: finite, so that 0 log 0 is 0."""


class LatentClassModel(LatentVariableModel):
    """A model whose posterior names a class first; parameters as for `LatentVariableModel`.

    The posterior has as many classes as the prior has parts. Classes differ by their places on the
    map, and by offsets b_c, from 0 on, in directions that a map of few dimensions leaves out.
    """

    def __init__(
        self,
        n_features: int,
        prior: Prior,
        posterior: EncoderPosterior,
        noise_scale: Tensor,
        *,
        n_hidden: int = 256,
    ) -> None:
        super().__init__(n_features, prior, posterior, noise_scale, n_hidden=n_hidden)
        self.offsets = nn.Parameter(torch.zeros(posterior.n_classes, n_features))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.offsets)

    def generative_parameters(self) -> list[nn.Parameter]:
        """theta, with the offsets of the classes."""
        return [*super().generative_parameters(), self.offsets]

    def expectation(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Mean of p(x | z, c), or without c of p(x | z), of shape (..., n_features)."""
        weights = self.prior.responsibilities(z) if c is None else c
        return self.decoder(z) + weights @ self.offsets

    def class_log_probs(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log q(c | x) of shape (n_samples, n_classes); certain where a label is not -1."""
        log_q = self.posterior.class_log_probs(x)
        if labels is None:
            return log_q
        known = torch.nn.functional.one_hot(labels.clamp(min=0), self.n_classes)
        return torch.where(labels.unsqueeze(-1) < 0, log_q, LOG_IMPOSSIBLE * (1.0 - known))

    def class_elbo(self, x: Tensor, noise: Tensor, log_q: Tensor) -> ElboTerms:
        """The bound of equation 11, its expectation over c taken exactly.

        With the rows of `log_q` that have a label made certain, the bounds L and U of equation 10
        and below it.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
        noise : Tensor of shape (n_noise, ..., n_classes, n_samples, n_latent)
        log_q : Tensor of shape (n_samples, n_classes)
            log q(c | x).

        Returns
        -------
        terms : ElboTerms of shape (..., n_samples)
        """
        c = torch.eye(self.n_classes, dtype=x.dtype, device=x.device).unsqueeze(1)
        terms = self.elbo(x, noise, c)
        weights = log_q.exp().T

        def mean(term: Tensor) -> Tensor:
            return (weights * term).sum(-2)

        return ElboTerms(
            mean(terms.reconstruction),
            mean(terms.log_prior),
            mean(terms.log_forward),
            mean(terms.entropy),
            self._log_class(log_q).expand((*terms.entropy.shape[:-2], len(x))),
        )

    def relaxed_class_elbo(
        self, x: Tensor, noise: Tensor, log_q: Tensor, gumbel: Tensor
    ) -> ElboTerms:
        """The bound of equation 11 at one draw of c for each sample, by Gumbel-softmax.

        The draw is one-hot, so the value is an unbiased estimate of `class_elbo`; its gradient is
        that of the relaxed draw (straight-through; Jang, Gu and Poole 2017, section 2.2).

        Parameters
        ----------
        x, log_q : as for `class_elbo`
        noise : Tensor of shape (n_noise, n_samples, n_latent)
        gumbel : Tensor of shape (n_samples, n_classes)
            Standard Gumbel noise.
        """
        soft = ((log_q + gumbel) / TEMPERATURE).softmax(-1)
        hard = torch.nn.functional.one_hot(soft.argmax(-1), self.n_classes).to(soft.dtype)
        terms = self.elbo(x, noise, hard + soft - soft.detach())
        return ElboTerms(
            terms.reconstruction,
            terms.log_prior,
            terms.log_forward,
            terms.entropy,
            self._log_class(log_q),
        )

    def _log_class(self, log_q: Tensor) -> Tensor:
        """-KL(q(c | x) || p(c)), of shape (n_samples,); log p(c) for a known class."""
        return (log_q.exp() * (self.prior.log_weights - log_q)).sum(-1)

    def wake(self, x: Tensor, labels: Tensor | None, generator: torch.Generator) -> ElboTerms:
        """An estimate of the bound for training, labels -1 or None where there is none."""
        log_q = self.class_log_probs(x, labels)
        shape = (len(x), self.n_latent)
        if self.n_classes <= MAX_ANALYTIC_CLASSES:
            noise = normal((self.n_noise, self.n_classes, *shape), x, generator)
            return self.class_elbo(x, noise, log_q)
        noise = normal((self.n_noise, *shape), x, generator)
        uniform = torch.rand(log_q.shape, generator=generator, dtype=x.dtype, device=x.device)
        tiny = torch.finfo(x.dtype).tiny
        gumbel = -(-uniform.clamp(min=tiny).log()).clamp(min=tiny).log()
        return self.relaxed_class_elbo(x, noise, log_q, gumbel)

    # --------------------------------------------------------------------------- the read-out

    def place(self, x: Tensor) -> Tensor:
        """Mean over q(c | x) of the latents that the means of q lead to."""
        rows, c, weights = self._likely(self.class_log_probs(x))
        z = self.infer(x[rows], x.new_zeros(self.n_noise, 1, self.n_latent), c)
        return z.new_zeros(len(x), self.n_latent).index_add(0, rows, weights.unsqueeze(-1) * z)

    def _likely(self, log_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of a row and a class worth reading out: row, class as one-hot, q(c | x)."""
        rows, classes = (log_q > LOG_NEGLIGIBLE).nonzero(as_tuple=True)
        c = torch.nn.functional.one_hot(classes, self.n_classes).to(log_q.dtype)
        return rows, c, log_q[rows, classes].exp()

    def draw(self, x: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """As for `LatentVariableModel`; `uniform` chooses the class of each draw."""
        cumulative = self.class_log_probs(x).exp().cumsum(-1)
        index = (uniform.unsqueeze(-1) >= cumulative[..., :-1]).sum(-1)
        c = torch.nn.functional.one_hot(index, self.n_classes).to(x.dtype)
        return self.infer(x, noise, c)

    def probabilities(self, x: Tensor, noise: Tensor) -> Tensor:
        """q(c | x), of shape (n_samples, n_classes)."""
        return self.class_log_probs(x).exp()

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mean over draws of the bound of equation 11; classes share them, four each at least.

        As many are taken from the second half of the draws as from the first, which they mirror.
        """
        half = noise.shape[1] // 2
        n_pairs = min(half, max(MIN_PAIRS, half // self.n_classes))
        some = standardise(torch.cat([noise[:, :n_pairs], noise[:, half : half + n_pairs]], dim=1))
        log_q = self.class_log_probs(x)
        rows, c, weights = self._likely(log_q)
        some = some.expand(-1, -1, len(x), -1)[:, :, rows]
        by_pair = weights * self.elbo(x[rows], some, c).elbo.mean(0)
        return self._log_class(log_q).index_add(0, rows, by_pair)

    def keep_clusters(self, order: Tensor) -> None:
        """Keep these classes alone, in this order, in prior and posterior."""
        super().keep_clusters(order)
        self.posterior.keep_classes(order)
        self.offsets = nn.Parameter(self.offsets.detach()[order])


class LatentClassDDVI(LatentClassModel, DDVI):
    """DDVI whose posterior names a class first."""

    posterior: DiffusionPosterior

    def sleep(self, n_samples: int, generator: torch.Generator) -> Tensor:
        """As for `DDVI`, on dreams whose class is known: -log q(c | x) is part of the loss."""
        with torch.no_grad():
            z, part, x = self.dream(n_samples, generator)
        c = torch.nn.functional.one_hot(part, self.n_classes).to(x.dtype)
        noise = normal((self.n_steps, n_samples, self.n_latent), x, generator)
        log_q = self.class_log_probs(x)
        return self.denoising_loss(x, z, noise, c) - (c * log_q).sum(-1)
