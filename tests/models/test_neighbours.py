"""The neighbour term against naive loops, and what it pulls where."""

from __future__ import annotations

import math

import pytest
import torch

from ancestryvi.models import neighbours
from ancestryvi.models.neighbours import WIDTH, neighbour_loss


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    places = 0.1 * torch.randn(7, 2, generator=generator, dtype=torch.float64)
    return places, places + 0.03 * torch.randn(7, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("n_negatives", [3, 7, 50])
def test_the_loss_agrees_with_a_naive_loop(pairs, monkeypatch, n_negatives):
    monkeypatch.setattr(neighbours, "N_NEGATIVES", n_negatives)
    places, partners = pairs
    loss = neighbour_loss(places, partners)

    def similarity(a, b):
        return 1 / (1 + math.dist(a.tolist(), b.tolist()) ** 2 / WIDTH**2)

    n_others = min(n_negatives, 7)
    for i in range(7):
        near = similarity(places[i], partners[i])
        far = sum(similarity(places[i], places[k]) for k in range(n_others) if k != i)
        expected = -math.log(near / (near + far * 7 / n_others))
        assert loss[i].item() == pytest.approx(expected, rel=1e-9)


def test_its_gradient_agrees_with_finite_differences(pairs):
    places, partners = (points.requires_grad_(True) for points in pairs)
    assert torch.autograd.gradcheck(lambda a, b: neighbour_loss(a, b).sum(), (places, partners))


def test_it_ignores_where_the_map_lies_and_how_it_is_turned(pairs):
    places, partners = pairs
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    moved = neighbour_loss(places @ turn + 3.0, partners @ turn + 3.0)
    torch.testing.assert_close(moved, neighbour_loss(places, partners), rtol=1e-8, atol=1e-10)


def test_one_pair_alone_has_nothing_to_be_told_from(pairs):
    places, partners = pairs
    assert neighbour_loss(places[:1], partners[:1]).item() == pytest.approx(0.0, abs=1e-12)
