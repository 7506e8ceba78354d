"""Tables of PC scores in the forms that programs write."""

import gzip

import numpy as np
import pandas as pd
import pytest

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import open_source, read_scores

EXPECTED = pd.DataFrame(
    [[0.5, -1e-3], [2.0, 0.0]],
    index=pd.Index(["ann", "bo"], name="sample_id", dtype=object),
    columns=["PC1", "PC2"],
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ours.tsv", "sample_id\tPC1\tPC2\nann\t0.5\t-1e-3\nbo\t2\t0\n"),
        ("table.csv", "Sample,PC1,PC2\nann,0.5,-0.001\nbo,2,0\n"),
        ("labels.csv", "population,s,PC1,PC2\nGBR,ann,0.5,-0.001\nYRI,bo,2,0\n"),
        ("excel.csv", "\ufeffid;PC1;PC2\r\nann;0.5;-0.001\r\nbo;2;0\r\n"),
        ("plink1.eigenvec", "f1 ann 0.5 -0.001\nf2 bo 2 0\n"),
        ("plink1h.eigenvec", "FID IID PC1 PC2\nf1 ann 0.5 -0.001\nf2 bo 2 0\n"),
        ("plink2.eigenvec", "#FID\tIID\tPC1\tPC2\nf1\tann\t0.5\t-0.001\nf2\tbo\t2\t0\n"),
        ("plink2s.eigenvec", "#IID\tPC1\tPC2\nann\t0.5\t-0.001\nbo\t2\t0\n"),
        ("aligned.txt", "  sample  PC1  PC2\n  ann  0.5  -0.001\n  bo  2  0\n"),
        ("packed.tsv.gz", "sample\tPC1\tPC2\nann\t0.5\t-0.001\nbo\t2\t0\n"),
        ("packed.eigenvec.gz", "0 ann 0.5 -0.001\n0 bo 2 0\n"),
    ],
)
def test_forms(tmp_path, name, text):
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    pd.testing.assert_frame_equal(read_scores(path), EXPECTED)
    source = open_source(path)
    (block,) = source.iter_blocks()
    assert source.content == "scores"
    assert block.columns["name"].tolist() == ["PC1", "PC2"]
    assert block.values.dtype == np.float64


def test_any_names_and_any_suffix(tmp_path):
    path = tmp_path / "scores.dat"
    path.write_text("sample x y\nann 1 2\n")
    assert read_scores(path).loc["ann"].to_dict() == {"x": 1.0, "y": 2.0}
    with pytest.raises(InputFormatError, match=r"scores\.dat begins with"):
        open_source(path)


def test_families_that_number_alike(tmp_path):
    path = tmp_path / "a.eigenvec"
    path.write_text("#FID IID PC1\nf1 1 0.5\nf2 1 0.7\n")
    assert read_scores(path).index.tolist() == ["f1_1", "f2_1"]


def test_real_scores(shared_data):
    scores = read_scores(shared_data / "1000g-pcs" / "pcs.tsv")
    assert scores.shape == (2504, 20)
    assert scores.loc["HG00097", "PC3"] == 6.96485


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "who\tPC1\nann\t1\n", r"no sample column: its header is \['who', 'PC1'\]"),
        ("a.tsv", "f1 ann 0.5\n", "no sample column"),
        ("a.tsv", "sample\nann\n", "no usable columns of scores"),
        ("a.tsv", "sample\tPC1\tPC1\nann\t1\t2\n", "no usable columns of scores"),
        ("a.tsv", "sample\tPC1\tPC2\nann\t1\t2\nbo\t1\tNA\n", "'bo', column 'PC2': 'NA'"),
        ("a.tsv", "sample\tPC1\nann\tinf\n", "'ann', column 'PC1': 'inf'"),
        ("a.tsv", "sample\tPC1\nann\t1\t2\n", "no regular table"),
        ("a.tsv", "sample\tPC1\n", "holds no samples"),
        ("a.tsv", "\n", "empty or begins with a blank line"),
        ("a.tsv", b"\xff\xfe\x00sample", "no UTF-8 text"),
    ],
)
def test_tables_that_are_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputFormatError, match=message):
        read_scores(path)


def test_repeated_sample(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("sample\tPC1\nann\t1\nann\t1\n")
    with pytest.raises(SampleError, match="'ann' occurs twice"):
        read_scores(path)
