"""The torch code against the numpy code, on the CPU; and when a GPU is taken at all."""

import numpy as np
import pytest
import torch

from ancestryvi.exceptions import MemoryNeedError
from ancestryvi.genotypes import Genotypes
from ancestryvi.preprocess import GenotypePCA, decomposition, gpu, passes_on, where
from ancestryvi.preprocess.decomposition import ScaledDosages
from ancestryvi.preprocess.gpu import OnDevice
from ancestryvi.preprocess.scaling import patterson_parameters
from ancestryvi.preprocess.where import arithmetic

NO_THINNING = {"max_ld_r2": None, "max_kinship": None}
ON_CPU = OnDevice(torch.device("cpu"))


@pytest.fixture
def cohort(drifted, with_missing):
    """Six populations with gaps."""
    rng = np.random.default_rng(0)
    dosages = drifted(rng, [25] * 6, 3000, fst=0.03)[0]
    return Genotypes.from_dosages(with_missing(rng, dosages, 0.02))


@pytest.fixture
def matrix(cohort):
    """Some of its samples and variants."""
    rng = np.random.default_rng(1)
    columns, samples = (np.flatnonzero(rng.random(n) < 0.8) for n in (3000, 150))
    part = cohort.dosages[np.ix_(samples, columns)]
    frequency = np.maximum(part, 0).sum(axis=0) / (2 * (part >= 0).sum(axis=0))
    return ScaledDosages(columns, samples, *patterson_parameters(frequency))


@pytest.fixture(params=[2**16, 2**28], ids=["many blocks", "one block"])
def block_bytes(request, monkeypatch):
    monkeypatch.setattr(gpu, "BLOCK_BYTES", request.param)


def test_eigenpairs_are_those_of_numpy(cohort, matrix, block_bytes):
    values, vectors, square = ON_CPU.exact_eigenpairs(cohort, matrix, 10)
    expected = decomposition.exact_eigenpairs(cohort, matrix, 10)
    np.testing.assert_allclose(values, expected[0], rtol=1e-5)
    assert square == pytest.approx(expected[2], rel=1e-5)
    signs = np.sign((vectors * expected[1]).sum(axis=0))
    np.testing.assert_allclose((vectors * signs)[:, :5], expected[1][:, :5], atol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(10), atol=1e-9)


def test_products_are_those_of_numpy(cohort, matrix):
    factor = np.random.default_rng(2).normal(size=(len(matrix.samples), 7))
    blocks = matrix.blocks(2**18)[:-1]
    found = ON_CPU.product(cohort, matrix, factor, blocks)
    expected = decomposition.product(cohort, matrix, factor, blocks)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_loadings_are_those_of_numpy(cohort, matrix, block_bytes):
    basis = np.random.default_rng(3).normal(size=(len(matrix.samples), 7)).astype(np.float32)
    found, expected = (work.loadings(cohort, matrix, basis) for work in (ON_CPU, decomposition))
    np.testing.assert_allclose(found.components, expected.components, atol=1e-4)
    np.testing.assert_allclose(found.squares, expected.squares, rtol=1e-5)
    np.testing.assert_array_equal(found.fingerprints, expected.fingerprints)


@pytest.mark.parametrize("solver", ["exact", "randomized"])
def test_a_whole_fit_by_torch_gives_the_scores_of_numpy(cohort, solver, monkeypatch):
    model = GenotypePCA(5, solver=solver, **NO_THINNING)
    expected = model.fit_transform(cohort)
    shrinkage = model.shrinkage_
    monkeypatch.setattr("ancestryvi.preprocess.pca.arithmetic", lambda *_: ON_CPU)
    monkeypatch.setattr(decomposition, "map_reduce", None)  # nothing else computes
    scores = model.fit_transform(cohort)
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(model.shrinkage_, shrinkage, rtol=1e-5)


def test_products_are_in_full_precision_and_the_setting_of_the_program_stays(cohort, matrix):
    torch.set_float32_matmul_precision("high")
    try:
        with gpu._full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        ON_CPU.exact_eigenpairs(cohort, matrix, 3)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_matrix_that_cannot_fit_the_gpu_is_refused(cohort, matrix, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**29, 2**33))
    with pytest.raises(MemoryNeedError, match=r"takes 0.8 GiB on the GPU, and 0.5 are free; use"):
        OnDevice(torch.device("cuda")).exact_eigenpairs(cohort, matrix, 3)


# ---- when -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "work", "driver", "cuda", "taken"),
    [
        ("auto", 1e13, True, True, True),
        ("auto", 1e11, True, True, False),
        ("auto", 1e13, False, True, False),
        ("auto", 1e13, True, False, False),
        ("cpu", 1e13, True, True, False),
        ("mps", 1e13, True, True, False),
    ],
)
def test_auto_takes_a_gpu_for_large_work(monkeypatch, device, work, driver, cuda, taken):
    monkeypatch.setattr(where, "has_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert isinstance(arithmetic(device, work), OnDevice) == taken
    with passes_on(object()):  # workers of a cluster have their own machines
        assert arithmetic(device, work) is decomposition


def test_a_driver_is_looked_for_by_its_library(monkeypatch):
    monkeypatch.setattr(where, "DRIVER", "libno-such-driver.so.1")
    assert not where.has_driver()
    monkeypatch.setattr(where, "DRIVER", None)  # the program itself, which is always there
    assert where.has_driver()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_a_gpu_that_is_not_there_is_an_error(cohort):
    with pytest.raises(ValueError, match=r"device 'cuda' cannot be used.*'cpu'"):
        GenotypePCA(2, device="cuda", **NO_THINNING).fit(cohort)


def test_an_unknown_device_is_an_error_before_anything_is_read():
    with pytest.raises(ValueError, match=r"'device' parameter of GenotypePCA.*Got 'gpu'"):
        GenotypePCA(2, device="gpu").fit("no-such-file.bed")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
@pytest.mark.parametrize("solver", ["exact", "randomized"])
def test_a_gpu_gives_the_scores_of_the_cpu(cohort, solver):
    expected = GenotypePCA(5, solver=solver, device="cpu", **NO_THINNING).fit_transform(cohort)
    scores = GenotypePCA(5, solver=solver, device="cuda", **NO_THINNING).fit_transform(cohort)
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())
