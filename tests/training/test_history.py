import json
import math

import pytest

from ancestryvi.training import History


@pytest.fixture
def history():
    history = History()
    history.append("warm start", {"wake/elbo": -3.0, "wake/loss": 3.0})
    history.append("dreaming", {"sleep/loss": 2.0})
    history.append("wake-sleep", {"wake/elbo": -1.0, "sleep/loss": 1.5})
    return history


def test_curves_are_as_long_as_the_training(history):
    """A term is NaN in the epochs of a phase that has no such term."""
    assert len(history) == 3
    assert history.phases == ["warm start", "dreaming", "wake-sleep"]
    first, second, third = history["wake/elbo"]
    assert (first, third) == (-3.0, -1.0)
    assert math.isnan(second)


def test_terms_are_listed_once_in_order_of_appearance(history):
    assert list(history) == ["wake/elbo", "wake/loss", "sleep/loss"]
    assert "sleep/loss" in history


def test_unknown_term_is_a_key_error(history):
    with pytest.raises(KeyError, match="sleep/elbo"):
        history["sleep/elbo"]
    with pytest.raises(KeyError):
        History()["wake/elbo"]


def test_round_trip_through_json(history):
    assert History.from_dict(json.loads(json.dumps(history.to_dict()))) == history


def test_a_history_made_of_a_record_grows_alone(history):
    again = History.from_dict(history.to_dict())
    again.append("wake-sleep", {"wake/elbo": 0.0})
    assert (len(again), len(history)) == (4, 3)
    assert len(history.phases) == 3


def test_an_epoch_is_a_copy_of_its_terms():
    terms = {"wake/loss": 1.0}
    history = History()
    history.append("warm start", terms)
    terms["wake/loss"] = 9.0
    assert history["wake/loss"] == [1.0]
