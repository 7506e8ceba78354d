import math

import numpy as np
import pytest
from scipy import stats

from ancestryvi.evaluate import assignment_entropy


def test_entropy_is_that_of_a_loop_and_of_scipy():
    p = np.random.default_rng(0).dirichlet(np.full(7, 0.3), size=50)
    entropy = assignment_entropy(p)
    assert entropy.shape == (50,)
    for row, value in zip(p, entropy, strict=True):
        assert value == pytest.approx(-sum(q * math.log(q) for q in row), rel=1e-12)
    np.testing.assert_allclose(entropy, stats.entropy(p, axis=1), rtol=1e-12)


@pytest.mark.parametrize("n_clusters", [1, 2, 14])
def test_a_certain_sample_has_none_and_a_guess_log_k(n_clusters):
    certain, guess = np.eye(n_clusters), np.full((1, n_clusters), 1 / n_clusters)
    assert (assignment_entropy(certain) == 0).all()
    assert not np.signbit(assignment_entropy(certain)).any()
    assert assignment_entropy(guess) == pytest.approx(math.log(n_clusters), abs=1e-15)


def test_the_order_and_number_of_empty_clusters_play_no_part():
    p = [[0.2, 0.5, 0.3], [0.5, 0.3, 0.2]]
    padded = np.pad(p, ((0, 0), (0, 4)))
    assert assignment_entropy(padded) == pytest.approx(np.full(2, assignment_entropy(p)[0]))


def test_samples_without_a_place_have_none():
    entropy = assignment_entropy([[np.nan, np.nan], [0.5, 0.5]])
    assert math.isnan(entropy[0])
    assert entropy[1] == pytest.approx(math.log(2))
