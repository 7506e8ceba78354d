"""The neighbour term: samples that are near in the features are to be near on the map."""

from __future__ import annotations

from torch import Tensor

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
    squared = places.square().sum(-1, keepdim=True) + others.square().sum(-1)
    distances = (squared - 2.0 * places @ others.T).clamp(min=0.0) / WIDTH**2
    chance = (1.0 / (1.0 + distances)).sum(-1)
    apart = 1.0 + (places - partners).square().sum(-1) / WIDTH**2
    return apart.log() + (1.0 / apart + chance).log()
