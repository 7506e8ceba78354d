"""How many threads `fit` takes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ancestryvi import AncestryDDVI
from ancestryvi.estimators import recipe
from ancestryvi.training.threads import one_blas_thread, one_thread


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


def test_calls_that_overlap_leave_the_threads_as_the_first_found_them():
    """In threads of Python, the first may be over before the second."""
    entered, left = threading.Event(), threading.Event()

    def second():
        with one_blas_thread(), one_thread():
            entered.set()
            left.wait(10)
            seen["second"] = torch.get_num_threads()

    seen = {}
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2, user_api="blas"):
            other = threading.Thread(target=second)
            with one_blas_thread(), one_thread():
                other.start()
                assert entered.wait(10)
            assert torch.get_num_threads() == 2
            left.set()
            other.join()
            assert seen["second"] == 1
            assert (blas_threads(), torch.get_num_threads()) == ({2}, 2)
            later = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()
            assert later == 2
    finally:
        torch.set_num_threads(torch_threads)


def test_the_read_out_takes_one_thread(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(60, 4))
    model = AncestryDDVI(2, n_epochs=1).fit(rows)
    place, seen = model._fitted.module.place, []

    def spy(x):
        seen.append(torch.get_num_threads())
        return place(x)

    monkeypatch.setattr(model._fitted.module, "place", spy)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model.transform(rows)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(torch_threads)
    assert seen == [1]
