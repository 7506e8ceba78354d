"""How many threads `fit` takes."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ancestryvi import AncestryDDVI
from ancestryvi.estimators import recipe


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("fails", [False, True])
def test_fit_takes_one_thread_and_gives_the_others_back(monkeypatch, fails):
    """Where two fits share two cores, threads of BLAS on small matrices waited for each other."""
    seen = {}

    def spy(function, name):
        def called(*given, **named):
            seen[name] = blas_threads(), torch.get_num_threads()
            if fails and name == "train_phase":
                raise ZeroDivisionError
            return function(*given, **named)

        monkeypatch.setattr(recipe, name, called)

    for name in ("fit_feature_mixture", "calibrate_on_halves", "train_phase"):
        spy(getattr(recipe, name), name)
    rows = np.random.default_rng(0).normal(size=(60, 4))
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2, user_api="blas"):
            if fails:
                with pytest.raises(ZeroDivisionError):
                    AncestryDDVI(2, n_epochs=1).fit(rows)
            else:
                AncestryDDVI(2, n_epochs=1).fit(rows)
                assert seen["calibrate_on_halves"] == ({1}, 2)
            assert (blas_threads(), torch.get_num_threads()) == ({2}, 2)
    finally:
        torch.set_num_threads(torch_threads)
    assert seen["fit_feature_mixture"] == ({1}, 2)
    assert seen["train_phase"] == ({1}, 1)
