import pytest
import torch

from ancestryvi.training import resolve_device


def test_cpu_is_cpu():
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_prefers_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "hpu", "meta"])
def test_what_is_no_device_to_train_on_is_named(name):
    """Also backends that torch knows and has not, and "meta", whose tensors hold no numbers."""
    with pytest.raises(ValueError, match=rf"device '{name}' cannot be used.*Choose 'auto'"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_where_there_is_none():
    with pytest.raises(ValueError, match=r"device 'cuda' cannot be used.*'cpu'"):
        resolve_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
def test_cuda_where_there_is_one():
    assert resolve_device("cuda").type == "cuda"
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used"):
        resolve_device("cuda:99")
