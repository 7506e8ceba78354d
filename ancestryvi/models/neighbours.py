"""The neighbour term: samples that are near in the features are to be near on the map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WIDTH = 0.05
"""Distance on the map at which the similarity of two samples is one half, in units in which the
prior starts as a standard normal: about the spread of the beliefs."""


def neighbour_loss(places: Tensor, partners: Tensor, others: Tensor) -> Tensor:
    """How badly pairs of neighbours are told from chance pairs, in nats, of shape (n_pairs,).

    -log of s_ij / (s_ij + sum_k s_ik), with the similarity s = 1 / (1 + (distance / width)^2) of
    t-SNE, where j is a neighbour of i and k runs over samples drawn at random.

    Parameters
    ----------
    places : Tensor of shape (n_pairs, n_latent)
        Where samples i are on the map.
    partners : Tensor of shape (n_pairs, n_latent)
        Where a neighbour j of each is.
    others : Tensor of shape (n_others, n_latent)
        Where samples k are.

    References
    ----------
    van der Maaten and Hinton (2008), Visualizing Data using t-SNE, JMLR 9. Damrich et al. (2023),
    From t-SNE to UMAP with contrastive learning, ICLR: InfoNC-t-SNE, equation 8. In a variational
    auto-encoder: Ding, Condon and Shah (2018), Nature Communications 9:2002.

    Examples
    --------
    >>> import torch
    >>> places = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    >>> near, far = (neighbour_loss(places, p, places) for p in (places, places.roll(1, 0)))
    >>> bool((near < far).all())
    True
    """
    chance = _TotalSimilarity.apply(places / WIDTH, others / WIDTH)
    apart = 1.0 + ((places - partners) / WIDTH).square().sum(-1)
    return (apart * chance).log1p()


class _TotalSimilarity(torch.autograd.Function):
    """sum_k 1 / (1 + |y_i - y_k|^2) of places y_i and others y_k, of shape (n_places,).

    The gradient by autograd would go through the matrix of all pairs eight times.
    """

    @staticmethod
    def forward(ctx: Any, places: Tensor, others: Tensor) -> Tensor:
        squared = 1.0 + places.square().sum(-1, keepdim=True) + others.square().sum(-1)
        apart = torch.addmm(squared, places, others.T, alpha=-2.0).clamp_(min=1.0)
        similarity = apart.reciprocal_()
        ctx.save_for_backward(places, others, similarity)
        return similarity.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        places, others, similarity = ctx.saved_tensors
        push = similarity.square().mul_(-2.0 * gradients[0].unsqueeze(-1))
        return (
            push.sum(1, keepdim=True) * places - push @ others,
            push.sum(0).unsqueeze(-1) * others - push.T @ places,
        )
