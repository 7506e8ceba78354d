import allel
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform

from ancestryvi.genotypes import Genotypes
from ancestryvi.preprocess import ld
from ancestryvi.preprocess.ld import standardise


def locate_unlinked(dosages, variants, **options):
    """`ld.locate_unlinked` of a matrix and a table with contigs and positions."""
    bare = Genotypes.from_dosages(dosages)
    table = bare.variants.assign(
        contig=variants["contig"].to_numpy(), position=variants["position"].to_numpy(np.int64)
    )
    return ld.locate_unlinked(Genotypes(bare.dosages, bare.samples, table), **options)


MAX_R2 = 0.2003  # a value that no ratio of small counts takes


def mosaic(rng, n_samples, n_variants, switch=0.08, n_founders=5):
    """Dosages of people whose two haplotypes are patchworks of a few founders."""
    founders = rng.random((n_founders, n_variants)) < rng.uniform(0.2, 0.8, n_variants)
    founders[0], founders[1] = ~founders[2], founders[2]  # no variant is monomorphic
    haplotypes = []
    for _ in range(2 * n_samples):
        source, row = rng.integers(n_founders), []
        for variant in range(n_variants):
            if rng.random() < switch:
                source = rng.integers(n_founders)
            row.append(founders[source, variant])
        haplotypes.append(row)
    return np.array(haplotypes, np.int8).reshape(n_samples, 2, n_variants).sum(1, dtype=np.int8)


def cohort(seed, missing=0.1, n_samples=40, n_variants=150):
    """Linked dosages on three contigs, the rows of the table in random order."""
    rng = np.random.default_rng(seed)
    dosages = mosaic(rng, n_samples, n_variants)
    contigs = np.repeat(["2", "10", "X"], n_variants // 3)
    positions = np.concatenate(
        [np.sort(rng.integers(1, 400_000, n_variants // 3)) for _ in range(3)]
    )
    dosages[rng.random(dosages.shape) < missing] = -1
    order = rng.permutation(n_variants)
    variants = pd.DataFrame({"contig": contigs[order], "position": positions[order]})
    return dosages[:, order], variants


def naive_r2(first, second):
    """Squared correlation of two variants, missing calls at the mean of their variant."""
    columns = []
    for column in (first, second):
        called = [call for call in column if call >= 0]
        mean = sum(called) / len(called) if called else 0.0
        columns.append([call if call >= 0 else mean for call in column])
    if min(np.ptp(column) for column in columns) == 0:
        return 0.0
    return np.corrcoef(columns)[0, 1] ** 2


def naive_unlinked(dosages, variants, max_r2, window_kb):
    contigs, positions = variants["contig"].to_numpy(), variants["position"].to_numpy()
    kept = []
    for j in sorted(range(len(positions)), key=lambda j: (positions[j], j)):
        near = [
            k
            for k in kept
            if contigs[k] == contigs[j] and positions[j] - positions[k] <= 1000 * window_kb
        ]
        if all(naive_r2(dosages[:, j], dosages[:, k]) <= max_r2 for k in near):
            kept.append(j)
    return np.isin(np.arange(len(positions)), kept)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("max_r2", "window_kb"), [(MAX_R2, 500), (MAX_R2, 20), (0.5003, 60)])
def test_locate_unlinked_is_the_greedy_loop(seed, max_r2, window_kb):
    dosages, variants = cohort(seed)
    keep = locate_unlinked(dosages, variants, max_r2=max_r2, window_kb=window_kb)
    expected = naive_unlinked(dosages, variants, max_r2, window_kb)
    assert keep.tolist() == expected.tolist()
    assert 0.1 < keep.mean() < 0.9


@pytest.mark.parametrize("chunk", [1, 2, 7, 49, 50, 51])
def test_chunks_change_nothing(monkeypatch, chunk):
    dosages, variants = cohort(4)
    whole = locate_unlinked(dosages, variants, max_r2=MAX_R2, window_kb=50)
    monkeypatch.setattr(ld, "CHUNK", chunk)
    in_chunks = locate_unlinked(dosages, variants, max_r2=MAX_R2, window_kb=50)
    assert in_chunks.tolist() == whole.tolist()


def test_no_linked_pair_is_left_within_the_window(monkeypatch):
    monkeypatch.setattr(ld, "CHUNK", 16)
    dosages, variants = cohort(5, n_variants=240)
    keep = np.flatnonzero(locate_unlinked(dosages, variants, max_r2=MAX_R2, window_kb=100))
    contigs, positions = variants["contig"].to_numpy(), variants["position"].to_numpy()
    n_linked_beyond = 0
    for a, j in enumerate(keep):
        for k in keep[:a]:
            linked = naive_r2(dosages[:, j], dosages[:, k]) > MAX_R2
            near = contigs[j] == contigs[k] and abs(positions[j] - positions[k]) <= 100_000
            assert not (linked and near)
            n_linked_beyond += linked
    assert n_linked_beyond > 0  # contigs and window did matter


def test_correlations_are_those_of_scikit_allel():
    dosages, variants = cohort(6, missing=0)
    variants = variants.assign(contig="1", position=np.arange(1, 151))
    r2 = squareform(allel.rogers_huff_r(dosages.T) ** 2)
    values = standardise(dosages)
    ours = np.square(values.T @ values)
    np.fill_diagonal(ours, 0)
    np.testing.assert_allclose(ours, r2, atol=1e-5)
    kept = []
    for j in range(150):
        if not kept or r2[j, kept].max() <= MAX_R2:
            kept.append(j)
    assert np.flatnonzero(locate_unlinked(dosages, variants, max_r2=MAX_R2)).tolist() == kept


def test_standardised_columns_are_centred_and_of_length_1():
    dosages, _ = cohort(7, missing=0.2)
    dosages[:, 0], dosages[:, 1], dosages[:5, 2] = 2, -1, 1
    values = standardise(dosages)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.sum(axis=0), 0, atol=1e-5)
    lengths = np.linalg.norm(values, axis=0)
    np.testing.assert_allclose(lengths, [0, 0] + [1] * 148, atol=1e-5)
    assert (values[dosages < 0] == 0).all()


def table(positions, contig="1"):
    return pd.DataFrame({"contig": contig, "position": positions})


RAMP = np.array([0, 0, 1, 1, 2, 2], np.int8)
OTHER = np.array([0, 2, 1, 1, 0, 2], np.int8)  # uncorrelated with RAMP


def test_the_first_by_position_stays_and_not_the_first_row():
    dosages = np.column_stack([RAMP, RAMP, OTHER])
    keep = locate_unlinked(dosages, table([300, 100, 200]))
    assert keep.tolist() == [False, True, True]


def test_at_one_position_the_first_row_stays():
    keep = locate_unlinked(np.column_stack([OTHER, RAMP, 2 - RAMP]), table([7, 7, 7]))
    assert keep.tolist() == [True, True, False]


@pytest.mark.parametrize("chunk", [1, 3, ld.CHUNK])
def test_the_window_includes_its_end_and_counts_from_kept_variants(monkeypatch, chunk):
    monkeypatch.setattr(ld, "CHUNK", chunk)
    dosages = np.column_stack([RAMP] * 4)
    positions = [1, 10_001, 10_002, 20_002]  # the third is out of reach of the first
    keep = locate_unlinked(dosages, table(positions), window_kb=10)
    assert keep.tolist() == [True, False, True, False]


def test_contigs_are_unlinked():
    keep = locate_unlinked(np.column_stack([RAMP] * 3), table([5, 5, 6], ["1", "2", "1"]))
    assert keep.tolist() == [True, True, False]


def test_constant_columns_are_kept_and_link_nothing():
    constant, missing = np.full(6, 1, np.int8), np.full(6, -1, np.int8)
    dosages = np.column_stack([constant, RAMP, missing, constant, RAMP])
    keep = locate_unlinked(dosages, table([1, 2, 3, 4, 5]))
    assert keep.tolist() == [True, True, True, True, False]


def test_a_pair_at_the_limit_is_kept():
    """Rounding must not decide: identical variants have an r2 of 1, which is at most 1."""
    rng = np.random.default_rng(0)
    dosages = np.repeat(rng.binomial(2, 0.3, size=(37, 200)).astype(np.int8), 2, axis=1)
    positions = 10_000_000 * np.repeat(np.arange(200), 2) + np.tile([1, 2], 200)
    assert locate_unlinked(dosages, table(positions), max_r2=1.0).all()
    assert locate_unlinked(dosages, table(positions), max_r2=0.999).sum() == 200


def test_unlinked_variants_stay():
    rng = np.random.default_rng(1)
    dosages = rng.binomial(2, 0.4, size=(2000, 60)).astype(np.int8)
    assert locate_unlinked(dosages, table(np.arange(1, 61)), max_r2=0.02).all()


def test_no_variants():
    assert locate_unlinked(np.zeros((4, 0), np.int8), table([])).tolist() == []
