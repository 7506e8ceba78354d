"""The engine of passes: threads, and a Dask cluster that loses a worker."""

import operator
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes import Genotypes
from ancestryvi.genotypes.plink import BedSource
from ancestryvi.preprocess import GenotypePCA, passes, passes_on
from ancestryvi.preprocess.passes import add, connected, map_reduce


def cohort(n_samples=6, n_variants=50, seed=0):
    rng = np.random.default_rng(seed)
    return Genotypes.from_dosages(rng.integers(-1, 3, size=(n_samples, n_variants)))


def names_of(source, place):
    """A result that shows in which order results were combined."""
    return [place]


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_places", [1, 2, 3, 40])
@pytest.mark.parametrize("most_threads", [1, 2, 8])
def test_results_are_combined_in_order(monkeypatch, n_places, most_threads):
    monkeypatch.setattr(passes, "MAX_THREADS", most_threads)

    def slow_at_first(source, place):
        time.sleep(0.01 * (place == 0))
        return [place]

    found = map_reduce(slow_at_first, cohort(), range(n_places), operator.iadd, name="")
    assert found == list(range(n_places))


def test_few_results_wait_at_once(monkeypatch):
    monkeypatch.setattr(passes, "PARTIAL_BYTES", 1000)
    running, most, lock = 0, 0, threading.Lock()

    def count(source, place):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return np.zeros(1)

    map_reduce(count, cohort(), range(20), add, name="", partial_bytes=1000)
    assert most == 1


def test_an_error_in_a_block_ends_the_pass():
    def fail(source, place):
        if place == 3:
            raise InputFormatError("block 3 is damaged")
        return [place]

    with pytest.raises(InputFormatError, match="block 3"):
        map_reduce(fail, cohort(), range(30), operator.iadd, name="")


def test_sums_are_of_double_precision():
    ones, tiny = np.ones(2, np.float32), np.full(2, 1e-9, np.float32)
    total = add(add(ones, tiny), tiny)
    assert total.dtype == np.float64
    np.testing.assert_allclose(total - 1, 2e-9, rtol=1e-6)
    first, second = add((ones, np.array([1])), (tiny, np.array([2])))
    assert (first.dtype, second.tolist()) == (np.float64, [3])


# ---- a cluster -----------------------------------------------------------------------------------


class SlowBed(BedSource):
    """A .bed whose blocks take a while, and leave a mark of the process that read them."""

    marks: Path

    def read_dosages(self, columns):
        (self.marks / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(0.01)
        return super().read_dosages(columns)


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread each."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def write_bed(folder, dosages):
    """A PLINK file set of complete dosages on two contigs."""
    n_samples, n_variants = dosages.shape
    codes = np.array([3, 2, 0], np.uint8)[dosages.T]
    codes = np.pad(codes, ((0, 0), (0, -n_samples % 4)))
    packed = sum(codes[:, k::4] << (2 * k) for k in range(4)).astype(np.uint8)
    path = folder / "cohort.bed"
    path.write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    path.with_suffix(".fam").write_text("".join(f"0 s{i} 0 0 0 -9\n" for i in range(n_samples)))
    path.with_suffix(".bim").write_text(
        "".join(
            f"{1 + 2 * j // n_variants} v{j} 0 {1000 * (j + 1)} A G\n" for j in range(n_variants)
        )
    )
    return path


@pytest.fixture
def bed(tmp_path, drifted):
    dosages, _ = drifted(np.random.default_rng(1), [30] * 4, 2400, fst=0.05)
    return write_bed(tmp_path, dosages)


@pytest.mark.parametrize("solver", ["exact", "randomized"])
def test_a_cluster_gives_what_one_machine_gives(client, bed, monkeypatch, solver):
    here = GenotypePCA(5, solver=solver).fit(bed)
    with passes_on(client):
        there = GenotypePCA(5, solver=solver).fit(bed)
        scores = there.transform(bed)
    np.testing.assert_array_equal(there.kept_variants_, here.kept_variants_)
    np.testing.assert_array_equal(there.fingerprints_, here.fingerprints_)
    expected = here.transform(bed)
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())


def test_a_worker_that_is_killed_costs_nothing_but_time(client, bed, monkeypatch, tmp_path):
    here = GenotypePCA(5, solver="randomized").fit_transform(bed)
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * 120 * 40)  # of the blocks, here; many of them
    source = SlowBed(bed)
    source.marks = tmp_path / "marks"
    source.marks.mkdir()
    victim = next(iter(client.run(os.getpid).values()))
    killed = threading.Event()

    def kill():
        while not any(source.marks.glob(f"{victim}-*")):
            time.sleep(0.005)
        os.kill(victim, signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill, daemon=True)
    with passes_on(client):
        killer.start()
        there = GenotypePCA(5, solver="randomized").fit(source)
    assert killed.is_set()
    readers = {int(mark.name.split("-")[0]) for mark in source.marks.iterdir()}
    assert len(readers) >= 2
    scores = there.transform(bed)
    np.testing.assert_allclose(scores, here, atol=1e-4 * np.abs(here).max())


def test_no_scheduler_at_an_address_is_one_clear_error():
    pytest.importorskip("distributed")
    with (
        pytest.raises(InputFormatError, match="No Dask scheduler answers at nonsense://nowhere"),
        connected("nonsense://nowhere"),
    ):
        pass
    with connected(None) as client:
        assert client is None
