"""Genotypes: what it accepts, what it selects, and AnnData both ways."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import Genotypes, read_genotypes
from ancestryvi.genotypes.container import VARIANT_COLUMNS, sample_frame


def random_genotypes(n_samples=7, n_variants=11, order="F"):
    rng = np.random.default_rng(5)
    dosages = np.asarray(rng.integers(-1, 3, (n_samples, n_variants)), dtype=np.int8, order=order)
    variants = pd.DataFrame(
        {
            "contig": [f"chr{i % 3}" for i in range(n_variants)],
            "position": 100 + np.arange(n_variants),
            "id": [f"rs{i}" for i in range(n_variants)],
            "ref": "A",
            "alt": "G",
        }
    )
    return Genotypes(dosages, sample_frame([f"s{i}" for i in range(n_samples)]), variants)


def test_counts_and_ids():
    genotypes = random_genotypes()
    assert (genotypes.n_samples, genotypes.n_variants) == (7, 11)
    assert genotypes.sample_ids == [f"s{i}" for i in range(7)]
    assert repr(genotypes) == "Genotypes(n_samples=7, n_variants=11)"
    assert genotypes.variant_keys()[4] == "chr1:104:A:G"


def test_missing_calls_are_counted_over_blocks(monkeypatch):
    monkeypatch.setattr("ancestryvi.genotypes.container._BLOCK_CALLS", 15)
    genotypes = random_genotypes()
    naive = sum(call == -1 for row in genotypes.dosages.tolist() for call in row)
    assert naive > 0
    assert genotypes.n_missing == naive


def test_an_array_is_kept_without_a_copy():
    by_variant = np.zeros((3, 2), dtype=np.int8)
    genotypes = Genotypes.from_dosages(by_variant.T)
    assert np.shares_memory(genotypes.dosages, by_variant)


@pytest.mark.parametrize("order", ["C", "F"])
def test_select_agrees_with_a_loop(order):
    genotypes = random_genotypes(order=order)
    rows, mask = [5, 0, 3], np.arange(11) % 2 == 1
    chosen = genotypes.select(samples=rows, variants=mask)
    columns = [i for i in range(11) if mask[i]]
    expected = [[int(genotypes.dosages[i, j]) for j in columns] for i in rows]
    assert chosen.dosages.tolist() == expected
    assert chosen.sample_ids == ["s5", "s0", "s3"]
    assert chosen.variants["id"].tolist() == [f"rs{j}" for j in columns]
    assert chosen.variants.index.tolist() == list(range(len(columns)))
    assert chosen.dosages.flags[f"{order}_CONTIGUOUS"]


def test_select_nothing_slices_and_wrong_masks():
    genotypes = random_genotypes()
    assert genotypes.select(variants=[]).n_variants == 0
    assert genotypes.select(samples=np.zeros(7, dtype=bool)).n_samples == 0
    assert genotypes.select(samples=slice(1, 3)).sample_ids == ["s1", "s2"]
    with pytest.raises(IndexError, match="mask"):
        genotypes.select(variants=[True, False])
    with pytest.raises(IndexError):
        genotypes.select(samples=[7])


def test_what_is_refused():
    table = random_genotypes().variants
    dosages = np.zeros((2, 11), dtype=np.int8)
    with pytest.raises(SampleError, match="'a' occurs twice"):
        Genotypes(dosages, sample_frame(["a", "a"]), table)
    with pytest.raises(InputFormatError, match=r"sample table of 3 rows"):
        Genotypes(dosages, sample_frame(["a", "b", "c"]), table)
    with pytest.raises(InputFormatError, match=r"lacks the columns \['alt'\]"):
        Genotypes(dosages, sample_frame(["a", "b"]), table.drop(columns="alt"))
    with pytest.raises(InputFormatError, match="int8"):
        Genotypes(dosages.astype(float), sample_frame(["a", "b"]), table)
    for value in (3, -2, -127):
        bad = dosages.copy()
        bad[1, 4] = value
        with pytest.raises(InputFormatError, match=f"dosage {value} is none of"):
            Genotypes(bad, sample_frame(["a", "b"]), table)
    with pytest.raises(SampleError, match="1 sample ids were given for the 2 rows"):
        Genotypes.from_dosages([[0], [1]], ["a"])


@pytest.mark.parametrize("order", ["C", "F"])
def test_anndata_round_trip_through_a_file(tmp_path, order):
    genotypes = random_genotypes(order=order)
    genotypes.samples["population"] = ["GBR", "YRI", None, "GBR", "CHB", "CHB", "YRI"]
    genotypes.variants["maf"] = np.linspace(0, 0.5, 11)
    path = tmp_path / "cohort.h5ad"
    genotypes.to_anndata().write_h5ad(path)
    stored = anndata.read_h5ad(path)
    assert stored.uns["ancestryvi"]["missing"] == -1
    assert stored.var_names[0] == "chr0:100:A:G"
    for back in (Genotypes.from_anndata(stored), read_genotypes(path)):
        np.testing.assert_array_equal(back.dosages, genotypes.dosages)
        assert back.sample_ids == genotypes.sample_ids
        columns = [*VARIANT_COLUMNS]
        pd.testing.assert_frame_equal(back.variants[columns], genotypes.variants[columns])
    back = Genotypes.from_anndata(stored)
    populations = back.samples["population"].astype(object)
    assert populations.where(populations.notna(), None).tolist()[:3] == ["GBR", "YRI", None]
    np.testing.assert_allclose(back.variants["maf"].to_numpy(float), np.linspace(0, 0.5, 11))


def test_repeated_variants_get_unique_names_in_anndata():
    twice = random_genotypes().select(variants=[0, 0, 1])
    names = twice.to_anndata().var_names
    assert names.is_unique
    assert names[0] == "chr0:100:A:G"


@pytest.mark.parametrize("kind", ["float", "csr", "csc"])
def test_anndata_of_others(kind):
    """Float or sparse X, and a var table with some columns or none."""
    values = np.array([[0, 1, 2], [2, 0, 1.0]])
    if kind == "float":
        values[1, 1] = np.nan
    matrix = values if kind == "float" else scipy.sparse.csr_matrix(values).asformat(kind)
    var = pd.DataFrame({"contig": [1, 1, 2], "position": [5.0, np.nan, 7]}, index=["x", "y", "z"])
    obs = pd.DataFrame({"sex": ["f", "m"]}, index=["ann", "bo"])
    genotypes = Genotypes.from_anndata(anndata.AnnData(matrix, obs=obs, var=var))
    np.testing.assert_array_equal(genotypes.dosages, np.nan_to_num(values, nan=-1))
    assert genotypes.samples["sex"].tolist() == ["f", "m"]
    assert genotypes.variants.values.tolist() == [
        ["1", 5, "x", ".", "."],
        ["1", 0, "y", ".", "."],
        ["2", 7, "z", ".", "."],
    ]


def test_anndata_that_holds_no_dosages():
    with pytest.raises(InputFormatError, match=r"row 0, column 1 .* 0\.25"):
        Genotypes.from_anndata(anndata.AnnData(np.array([[1.0, 0.25]])))
    with pytest.raises(InputFormatError, match="no X"):
        Genotypes.from_anndata(anndata.AnnData(obs=pd.DataFrame(index=["a"])))
