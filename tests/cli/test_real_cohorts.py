"""The command line on published genotypes."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from ancestryvi.genotypes import read_genotypes


@pytest.fixture
def folder(shared_data):
    """Return a function that finds a folder of genotypes, or skips."""

    def find(name):
        if not (shared_data / name).is_dir():
            pytest.skip(f"real genotypes are not at {shared_data / name}")
        return shared_data / name

    return find


def check_map(out, n_samples):
    table = pd.read_csv(out / "embedding.tsv", sep="\t")
    assert len(table) == n_samples
    assert table["sample_id"].is_unique
    assert table["population"].notna().all()
    assert np.isfinite(table[["ddvi1", "ddvi2"]].to_numpy()).all()
    assert (out / "report.html").stat().st_size > 100_000


def test_twenty_two_chromosomes(folder, run_quick, tmp_path):
    data = folder("1000g-12pop")
    files = [data / f"chr{i}.vcf.gz" for i in range(1, 23)]
    result = run_quick(*files, "--labels", data / "samples.tsv", "--out", tmp_path / "out")
    assert "Read 1,126 samples x 24,640 variants from 22 files" in result.stderr
    check_map(tmp_path / "out", 1126)
    read = pd.read_csv(tmp_path / "out" / "qc.tsv", sep="\t").query("step == 'read'")
    assert list(read["kept"]) == [24640, 1126]


def test_plink_file_set(folder, run_quick, tmp_path):
    data = folder("1000g-14pop-plink")
    run_quick(data / "phase1.bed", "--labels", data / "samples.tsv", "--out", tmp_path / "out")
    check_map(tmp_path / "out", 1092)


def test_samples_held_out_join_the_clusters_of_their_populations(folder, run, tmp_path):
    data = folder("1000g-26pop")
    genotypes = read_genotypes(data / "genotypes.vcf.gz")
    held_out = np.random.default_rng(0).random(genotypes.n_samples) < 0.1
    for name, rows in (("fitted", ~held_out), ("new", held_out)):
        genotypes.select(samples=rows).to_anndata().write_h5ad(tmp_path / f"{name}.h5ad")
    labels = ("--labels", data / "samples.tsv")
    for verb in (
        ("embed", tmp_path / "fitted.h5ad", *labels, "--n-epochs", 60, "--out", tmp_path / "map"),
        (
            "project",
            tmp_path / "map/model",
            tmp_path / "new.h5ad",
            *labels,
            "--out",
            tmp_path / "p",
        ),
    ):
        result = run(*verb)
        assert result.exit_code == 0, result.stderr
    fitted = pd.read_csv(tmp_path / "map" / "embedding.tsv", sep="\t")
    new = pd.read_csv(tmp_path / "p" / "embedding.tsv", sep="\t")
    assert len(new) == held_out.sum()
    home = {
        population: Counter(clusters).most_common(1)[0][0]
        for population, clusters in fitted.groupby("population")["cluster"]
    }
    at_home = [(t["cluster"] == t["population"].map(home)).mean() for t in (fitted, new)]
    assert at_home[0] > 0.5
    assert at_home[1] > at_home[0] - 0.1
