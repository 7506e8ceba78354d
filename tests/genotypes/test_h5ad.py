"""The AnnData reader on files of others; files of ours are in test_container."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import Genotypes, open_source, read_genotypes


def write(path, matrix, obs_names=None):
    obs = None if obs_names is None else pd.DataFrame(index=obs_names)
    anndata.AnnData(matrix, obs=obs).write_h5ad(path)
    return path


def test_five_calls(tmp_path, five_calls):
    _, dosages = five_calls
    path = tmp_path / "cohort.h5ad"
    Genotypes.from_dosages([[dosage] for dosage in dosages]).to_anndata().write_h5ad(path)
    assert read_genotypes(path).dosages.ravel().tolist() == dosages


@pytest.mark.parametrize("kind", ["int", "float", "csr", "csc"])
def test_any_kind_of_matrix_by_blocks(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 20)
    dosages = np.random.default_rng(2).integers(-1 if kind in ("int", "float") else 0, 3, (6, 17))
    matrix = dosages.astype(np.float32)
    if kind == "int":
        matrix = dosages
    elif kind == "float":
        matrix[matrix == -1] = np.nan
    else:
        matrix = scipy.sparse.csr_matrix(matrix).asformat(kind)
    source = open_source(write(tmp_path / "cohort.h5ad", matrix, list("uvwxyz")))
    assert source.sample_ids == list("uvwxyz")
    blocks = list(source.iter_blocks())
    assert [len(block.columns) for block in blocks] == [3, 3, 3, 3, 3, 2]
    np.testing.assert_array_equal(np.hstack([block.values for block in blocks]), dosages)
    names = pd.concat([block.columns for block in blocks])["id"].tolist()
    assert names == [str(i) for i in range(17)]


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "cohort.h5ad"
    write(path, np.array([[0.0, 0.5]]))
    with pytest.raises(InputFormatError, match=r"cohort\.h5ad: X .* row 0, column 1 .* 0\.5"):
        read_genotypes(path)
    with pytest.warns(UserWarning, match="not unique"):
        write(path, np.zeros((2, 1)), ["a", "a"])
    with pytest.raises(SampleError, match=r"cohort\.h5ad: sample id 'a' occurs twice"):
        read_genotypes(path)
    anndata.AnnData(obs=pd.DataFrame(index=["a"])).write_h5ad(path)
    with pytest.raises(InputFormatError, match="no X"):
        read_genotypes(path)
    data = write(path, np.zeros((30, 20))).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputFormatError, match="cannot be read as AnnData"):
        read_genotypes(path)
