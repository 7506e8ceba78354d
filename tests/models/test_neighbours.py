"""The neighbour term against naive loops, and what it pulls where."""

from __future__ import annotations

import math

import pytest
import torch

from ancestryvi.models.neighbours import WIDTH, neighbour_loss


@pytest.fixture
def points():
    """Places, partners near them, and others."""
    generator = torch.Generator().manual_seed(0)
    places, step, others = (
        0.1 * torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (7, 7, 4)
    )
    return places, places + 0.3 * step, others


def test_the_loss_agrees_with_a_naive_loop(points):
    places, partners, others = points
    loss = neighbour_loss(*points)

    def similarity(a, b):
        return 1 / (1 + math.dist(a.tolist(), b.tolist()) ** 2 / WIDTH**2)

    for i in range(7):
        near = similarity(places[i], partners[i])
        far = sum(similarity(places[i], other) for other in others)
        expected = -math.log(near / (near + far))
        assert loss[i].item() == pytest.approx(expected, rel=1e-9)


def test_its_gradient_agrees_with_finite_differences(points):
    points = tuple(part.requires_grad_(True) for part in points)
    assert torch.autograd.gradcheck(lambda *parts: neighbour_loss(*parts).sum(), points)


def test_it_ignores_where_the_map_lies_and_how_it_is_turned(points):
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    moved = neighbour_loss(*(part @ turn + 3.0 for part in points))
    torch.testing.assert_close(moved, neighbour_loss(*points), rtol=1e-8, atol=1e-10)


def test_one_pair_alone_has_nothing_to_be_told_from(points):
    places, partners, others = points
    loss = neighbour_loss(places[:1], partners[:1], others[:0])
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
